/* SPDX-License-Identifier: MIT */
/*
 * A scan that turns around at either end, --steps times: what a prefetcher fetched beyond the end
 * is lost, and what an evictor took last is wanted first. A pass misses what is more than the cache
 * holds.
 */
#include "bench/bench.h"

static uint64_t turn_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static void pass(struct work *w, uint64_t from, uint64_t to, uint64_t leg)
{
	for (uint64_t i = from; i < to; i++)
		work_touch(w, leg % 2 ? from + to - 1 - i : i, leg * w->pages + i);
}

static int turn_warm(struct work *w)
{
	pass(w, 0, w->pages, 0);
	return 0;
}

/* Each thread turns within a share of its own. */
static int turn_share(struct work *w, unsigned t)
{
	uint64_t from, to;

	team_share(w, t, w->pages, 64, &from, &to);
	for (uint64_t leg = 1; leg <= w->o->steps; leg++)
		pass(w, from, to, leg);
	return 0;
}

static int turn_run(struct work *w)
{
	uint64_t kept = w->local_pages < w->pages ? w->local_pages : w->pages;

	w->done_pages = w->pages * w->o->steps;
	w->misses = (double)(w->pages - kept) / (double)w->pages;
	return team_run(w, turn_share);
}

const struct workload workload_turn = {
	.name = "turn",
	.summary = "a scan that turns around --steps times (--write-percent: written)",
	.writes = true,
	.shape = turn_shape,
	.fill = work_fill_pages,
	.warm = turn_warm,
	.run = turn_run,
	.check = work_check_pages,
};
