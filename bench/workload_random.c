/* SPDX-License-Identifier: MIT */
/*
 * Single pages in random order, each once before any comes again: every touch misses. The bare cost
 * of a fault. As many touches as the cache holds go before, so that it is full of clean pages in
 * the same order.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdlib.h>

#define WARM_MORE 1024

static uint64_t random_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static void touch(struct work *w, uint64_t i)
{
	uint64_t p = page_shuffle(i % w->pages, w->pages);
	volatile uint64_t *word = (volatile uint64_t *)(void *)(w->mem + p * BENCH_PAGE);

	if (w->o->write) {
		word[0] = page_marked(p);
		w->written[p] = 1;
	} else if (word[page_probe(p)] != page_word(p, page_probe(p))) {
		work_bad(w, p);
	}
}

static int random_warm(struct work *w)
{
	for (uint64_t i = 0; i < w->local_pages + WARM_MORE; i++)
		touch(w, i);
	return 0;
}

static int touch_share(struct work *w, unsigned t)
{
	uint64_t then = clock_ns();

	/* Taken in turns: threads with halves of it could meet on the same pages. */
	for (uint64_t i = t; i < w->done_pages; i += w->threads) {
		uint64_t now;

		touch(w, w->local_pages + WARM_MORE + i);
		now = clock_ns();
		w->sample_ns[i] = now - then > UINT32_MAX ? UINT32_MAX : (uint32_t)(now - then);
		then = now;
	}
	return 0;
}

static int random_run(struct work *w)
{
	w->done_pages = w->o->touches;
	return team_run(w, touch_share);
}

static int random_fill(struct work *w)
{
	w->samples = w->o->touches;
	w->sample_ns = calloc(w->samples, sizeof *w->sample_ns);
	if (!w->sample_ns)
		return err_fail(-ENOMEM, "no memory for %llu times",
				(unsigned long long)w->o->touches);
	return work_fill_pages(w);
}

const struct workload workload_random = {
	.name = "random",
	.summary = "single pages in random order, all of them misses (--write: written)",
	.shape = random_shape,
	.fill = random_fill,
	.warm = random_warm,
	.run = random_run,
	.check = work_check_pages,
};
