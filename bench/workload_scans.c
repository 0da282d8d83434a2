/* SPDX-License-Identifier: MIT */
/*
 * Two scans in turns: one over the first half, page by page, one over the second half with a stride
 * of 7 pages, 7 times with another begin. Each page is touched once. A prefetcher that knows one
 * stream sees neither.
 */
#include "bench/bench.h"

#define STRIDE 7u
#define GRAIN  (64u * STRIDE)

static uint64_t scans_shape(uint64_t size)
{
	return size / (2 * GRAIN * BENCH_PAGE) * (2 * GRAIN * BENCH_PAGE);
}

static void touch_pair(struct work *w, uint64_t k)
{
	uint64_t half = w->pages / 2, rows = half / STRIDE;

	work_touch(w, k, 2 * k);
	work_touch(w, half + k % rows * STRIDE + k / rows, 2 * k + 1);
}

/* Pairs that are not timed. */
static uint64_t first_pair(const struct work *w)
{
	return work_warm_pages(w) / 2;
}

static int scans_warm(struct work *w)
{
	for (uint64_t k = 0; k < first_pair(w); k++)
		touch_pair(w, k);
	return 0;
}

static int scan_share(struct work *w, unsigned t)
{
	uint64_t first = first_pair(w), from, to;

	team_share(w, t, w->pages / 2 - first, 64, &from, &to);
	for (uint64_t k = first + from; k < first + to; k++)
		touch_pair(w, k);
	return 0;
}

static int scans_run(struct work *w)
{
	w->done_pages = w->pages - 2 * first_pair(w);
	return team_run(w, scan_share);
}

const struct workload workload_scans = {
	.name = "scans",
	.summary = "two scans in turns, with strides of 1 and 7 pages (--write-percent: written)",
	.writes = true,
	.shape = scans_shape,
	.fill = work_fill_pages,
	.warm = scans_warm,
	.run = scans_run,
	.check = work_check_pages,
};
