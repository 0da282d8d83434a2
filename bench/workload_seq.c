/* SPDX-License-Identifier: MIT */
/*
 * A scan: one word of each page, first to last. What prefetching and aggregation are for. The part
 * that passes the cache's size once is not timed: only then each page in is a page out.
 */
#include "bench/bench.h"

static uint64_t seq_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static void scan(struct work *w, uint64_t from, uint64_t to)
{
	for (uint64_t p = from; p < to; p++)
		work_touch(w, p, p);
}

static int seq_warm(struct work *w)
{
	scan(w, 0, work_warm_pages(w));
	return 0;
}

static int scan_share(struct work *w, unsigned t)
{
	uint64_t warm = work_warm_pages(w), from, to;

	team_share(w, t, w->pages - warm, 64, &from, &to);
	scan(w, warm + from, warm + to);
	return 0;
}

static int seq_run(struct work *w)
{
	w->done_pages = w->pages - work_warm_pages(w);
	return team_run(w, scan_share);
}

const struct workload workload_seq = {
	.name = "seq",
	.summary = "one word of each page, first to last (--write-percent: written)",
	.writes = true,
	.shape = seq_shape,
	.fill = work_fill_pages,
	.warm = seq_warm,
	.run = seq_run,
	.check = work_check_pages,
};
