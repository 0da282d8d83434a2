/* SPDX-License-Identifier: MIT */
/*
 * Pages written for the first time, first to last: each goes out once and none comes in. What a
 * write alone costs, to one donor or to several. As much as the cache holds is written before the
 * clock runs.
 */
#include "bench/bench.h"

static uint64_t fresh_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static int fresh_fill(struct work *w)
{
	(void)w;
	return 0;
}

static void write_pages(struct work *w, uint64_t from, uint64_t to)
{
	for (uint64_t p = from; p < to; p++)
		page_fill(w->mem + p * BENCH_PAGE, p);
}

static int fresh_warm(struct work *w)
{
	write_pages(w, 0, work_warm_pages(w));
	return 0;
}

static int write_share(struct work *w, unsigned t)
{
	uint64_t warm = work_warm_pages(w), from, to;

	team_share(w, t, w->pages - warm, 64, &from, &to);
	write_pages(w, warm + from, warm + to);
	return 0;
}

static int fresh_run(struct work *w)
{
	w->done_pages = w->pages - work_warm_pages(w);
	return team_run(w, write_share);
}

const struct workload workload_fresh = {
	.name = "fresh",
	.summary = "all of each page written for the first time, first to last",
	.shape = fresh_shape,
	.fill = fresh_fill,
	.warm = fresh_warm,
	.run = fresh_run,
	.check = work_check_pages,
};
