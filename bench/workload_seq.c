/* SPDX-License-Identifier: MIT */
/*
 * A scan: one word of each page, first to last. What prefetching and aggregation are for. The part
 * that passes the cache's size once is not timed: only then each page in is a page out.
 */
#include "bench/bench.h"

#define WARM_MORE 1024

static uint64_t seq_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static uint64_t warm_pages(const struct work *w)
{
	uint64_t warm = w->local_pages + WARM_MORE;

	/* A cache as big as the area evicts nothing: then the whole of it is timed. */
	return warm < w->pages * 3 / 4 ? warm : 0;
}

static void scan(struct work *w, uint64_t from, uint64_t to)
{
	for (uint64_t p = from; p < to; p++) {
		volatile uint64_t *word = (volatile uint64_t *)(void *)(w->mem + p * BENCH_PAGE);

		if (w->o->write) {
			word[0] = page_marked(p);
			w->written[p] = 1;
		} else if (word[page_probe(p)] != page_word(p, page_probe(p))) {
			work_bad(w, p);
		}
	}
}

static int seq_warm(struct work *w)
{
	scan(w, 0, warm_pages(w));
	return 0;
}

static int scan_share(struct work *w, unsigned t)
{
	uint64_t warm = warm_pages(w), from, to;

	team_share(w, t, w->pages - warm, 64, &from, &to);
	scan(w, warm + from, warm + to);
	return 0;
}

static int seq_run(struct work *w)
{
	w->done_pages = w->pages - warm_pages(w);
	return team_run(w, scan_share);
}

const struct workload workload_seq = {
	.name = "seq",
	.summary = "one word of each page, first to last (--write: written)",
	.shape = seq_shape,
	.fill = work_fill_pages,
	.warm = seq_warm,
	.run = seq_run,
	.check = work_check_pages,
};
