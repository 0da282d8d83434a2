/* SPDX-License-Identifier: MIT */
/*
 * Single pages in random order, each once before any comes again: every touch misses. The bare cost
 * of a fault. Enough touches go before that nothing of the fill is left in the cache: some of them
 * find their page there, so it takes more of them than the cache has pages.
 */
#include "bench/bench.h"
#include "common/clock.h"

static uint64_t random_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static void touch(struct work *w, uint64_t i)
{
	work_touch(w, page_shuffle(i % w->pages, w->pages), i);
}

static uint64_t warm_touches(const struct work *w)
{
	return w->local_pages * 2 + 1024;
}

static int random_warm(struct work *w)
{
	for (uint64_t i = 0; i < warm_touches(w); i++)
		touch(w, i);
	return 0;
}

static int touch_share(struct work *w, unsigned t)
{
	/* Stretches of samples, as neighbours would share cache lines; the first ones are longer by
	 * one. */
	uint64_t longer = w->done_pages % w->threads;
	uint32_t *sample =
		w->sample_ns + w->done_pages / w->threads * t + (t < longer ? t : longer);
	uint64_t then = clock_ns();

	/* Taken in turns: threads with halves of it could meet on the same pages. */
	for (uint64_t i = t; i < w->done_pages; i += w->threads) {
		uint64_t now;

		touch(w, warm_touches(w) + i);
		now = clock_ns();
		*sample++ = now - then > UINT32_MAX ? UINT32_MAX : (uint32_t)(now - then);
		then = now;
	}
	return 0;
}

static int random_run(struct work *w)
{
	w->done_pages = w->samples;
	return team_run(w, touch_share);
}

static int random_fill(struct work *w)
{
	int r;

	w->samples = w->o->touches;
	r = work_alloc(w, w->samples * sizeof *w->sample_ns, &w->sample_ns);
	if (r)
		return r;
	return work_fill_pages(w);
}

const struct workload workload_random = {
	.name = "random",
	.summary = "single pages in random order, all of them misses (--write-percent: written)",
	.single = true,
	.writes = true,
	.shape = random_shape,
	.fill = random_fill,
	.warm = random_warm,
	.run = random_run,
	.check = work_check_pages,
};
