/* SPDX-License-Identifier: MIT */
/*
 * Pages by Zipf's law, theta 0.99, as YCSB draws them: Gray et al., "Quickly Generating
 * Billion-Record Synthetic Databases" (SIGMOD 1994), section 3. Ranks are scattered over the area.
 * The order is drawn beforehand, so that the exact LRU that is simulated afterwards sees the same.
 *
 * A thread writes to a word of its own in each page, each time another value, and every touch
 * checks the thread's word: a lost write shows at the next touch, or at the end.
 */
#include "bench/bench.h"
#include "bench/lru.h"
#include "common/error.h"

#include <errno.h>
#include <math.h>

#define THETA        0.99
#define TOUCHES_EACH 8 /* most of them hit: the rest is to be enough for a figure */
#define VERSION      0xbf58476d1ce4e5b9ull /* odd: versions differ */

struct zipf {
	uint32_t *trace;   /* the page of each touch */
	uint16_t *version; /* of each thread's word in each page */
	uint64_t warm, timed;
};

static uint64_t zipf_shape(uint64_t size)
{
	uint64_t pages = size / BENCH_PAGE;

	return pages < UINT32_MAX ? pages * BENCH_PAGE : 0;
}

/* Draws a rank for each touch, and scatters it. */
static void draw(struct zipf *z, uint64_t pages)
{
	double n = (double)pages, zetan = 0, zeta2 = 1 + pow(0.5, THETA), alpha = 1 / (1 - THETA);
	double eta;

	for (uint64_t i = 1; i <= pages; i++)
		zetan += pow(1 / (double)i, THETA);
	eta = (1 - pow(2 / n, 1 - THETA)) / (1 - zeta2 / zetan);
	for (uint64_t i = 0; i < z->warm + z->timed; i++) {
		double u = (double)(page_mix(i + 1) >> 11) * 0x1p-53, uz = u * zetan;
		uint64_t rank = uz < 1       ? 0
				: uz < zeta2 ? 1
					     : (uint64_t)(n * pow(eta * u - eta + 1, alpha));

		z->trace[i] = (uint32_t)page_shuffle(rank < pages ? rank : pages - 1, pages);
	}
}

static int zipf_fill(struct work *w)
{
	struct zipf *z;
	int r = work_alloc(w, sizeof *z, &z);

	if (r)
		return r;
	w->priv = z;
	/* Many times the cache, so that its contents no longer tell of the fill. */
	z->warm = 8 * (w->local_pages < w->pages ? w->local_pages : w->pages);
	z->timed = TOUCHES_EACH * w->o->touches;
	r = work_alloc(w, (z->warm + z->timed) * sizeof *z->trace, &z->trace);
	if (!r)
		r = work_alloc(w, w->pages * w->threads * sizeof *z->version, &z->version);
	if (r)
		return r;
	draw(z, w->pages);
	return work_fill_pages(w);
}

static uint64_t expected(const struct work *w, uint64_t page, unsigned t)
{
	const struct zipf *z = w->priv;

	return page_word(page, t) + z->version[page * w->threads + t] * VERSION;
}

static void touch(struct work *w, uint64_t i, unsigned t)
{
	struct zipf *z = w->priv;
	uint64_t page = z->trace[i];
	volatile uint64_t *word = (volatile uint64_t *)(void *)(w->mem + page * BENCH_PAGE);

	if (word[t] != expected(w, page, t))
		work_bad(w, page);
	if (work_writes(w, i)) {
		z->version[page * w->threads + t]++;
		word[t] = expected(w, page, t);
	}
}

static int zipf_warm(struct work *w)
{
	const struct zipf *z = w->priv;

	for (uint64_t i = 0; i < z->warm; i++)
		touch(w, i, 0);
	return 0;
}

static int touch_share(struct work *w, unsigned t)
{
	const struct zipf *z = w->priv;

	for (uint64_t i = z->warm + t; i < z->warm + z->timed; i += w->threads)
		touch(w, i, t);
	return 0;
}

static int zipf_run(struct work *w)
{
	const struct zipf *z = w->priv;

	w->done_pages = w->touches = z->timed;
	return team_run(w, touch_share);
}

static int simulate(struct work *w)
{
	const struct zipf *z = w->priv;
	struct lru l;
	int r = lru_create(&l, w->pages, w->local_pages);

	if (r)
		return r;
	for (uint64_t i = 0; i < z->warm + z->timed; i++) {
		if (i == z->warm)
			lru_reset(&l);
		lru_touch(&l, z->trace[i]);
	}
	w->lru_hit_ratio = lru_hit_ratio(&l);
	w->misses = 1 - w->lru_hit_ratio;
	lru_free(&l);
	return 0;
}

static int zipf_check(struct work *w, uint64_t *digest)
{
	*digest = w->pages;
	for (uint64_t p = 0; p < w->pages; p++) {
		const uint64_t *word = (const uint64_t *)(const void *)(w->mem + p * BENCH_PAGE);

		for (unsigned i = 0; i < BENCH_WORDS; i++)
			if (word[i] != (i < w->threads ? expected(w, p, i) : page_word(p, i)))
				work_bad(w, p);
	}
	if (w->bad)
		return err_fail(-EILSEQ, "wrong contents in page %llu",
				(unsigned long long)(w->bad - 1));
	return simulate(w);
}

const struct workload workload_zipf = {
	.name = "zipf",
	.summary = "pages by Zipf's law, 0.99, beside an exact LRU (--write-percent: written)",
	.single = true,
	.writes = true,
	.shape = zipf_shape,
	.fill = zipf_fill,
	.warm = zipf_warm,
	.run = zipf_run,
	.check = zipf_check,
};
