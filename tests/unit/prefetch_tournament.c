/* SPDX-License-Identifier: MIT */
/* Who is chosen, when the gate is closed, and how large windows are. */
#include "prefetch_model.h"

#include <stdlib.h>
#include <unistd.h>

static const char *ruler(uint32_t page)
{
	return prefetch_table[region_of(&prefetch.state, page)->ruler]->name;
}

/* Steps of seven that break off every twelve pages and go on somewhere else. */
static void broken_walk(uint32_t walks, uint32_t from, uint32_t span)
{
	for (uint32_t w = 0; w < walks; w++) {
		uint32_t p = from + random_below(span);

		for (uint32_t k = 0; k < 12; k++)
			touch(p + 7 * k);
	}
}

Test(prefetch_tournament, random_faults_ask_for_next_to_nothing)
{
	start("auto");
	for (int i = 0; i < 60000; i++)
		touch(random_below(PAGES));
	cr_assert_leq(runs, 20, "%lu runs for 60000 random faults", runs);

	/* In a small heap some faults are neighbours by chance. */
	start("auto");
	fifo_limit = 1000;
	for (int i = 0; i < 60000; i++)
		touch(random_below(4000));
	cr_assert_leq(fetched, faults / 10, "%lu pages asked for %lu random faults", fetched,
		      faults);
}

Test(prefetch_tournament, a_noisy_trend_is_majoritys)
{
	uint64_t by_majority, by_stride;

	start("stride");
	fifo_limit = 3000;
	broken_walk(3000, 0, 200000);
	by_stride = misses;
	start("majority");
	fifo_limit = 3000;
	broken_walk(3000, 0, 200000);
	by_majority = misses;
	cr_assert_lt(by_majority, by_stride * 2 / 3, "majority %lu, stride %lu", by_majority,
		     by_stride);
	start("auto");
	fifo_limit = 3000;
	broken_walk(3000, 0, 200000);
	cr_assert_str_eq(ruler(50000), "majority");
	cr_assert_lt(misses, by_stride * 3 / 4, "auto %lu, stride %lu", misses, by_stride);
}

Test(prefetch_tournament, interleaved_scans_are_strides)
{
	uint64_t by_majority;

	start("majority");
	for (uint32_t i = 0; i < 8000; i++) {
		touch(i);
		touch(200000 + 3 * i);
		touch(400000 + 17 * i);
	}
	by_majority = misses;
	cr_assert_gt(by_majority, 1000);
	start("auto");
	for (uint32_t i = 0; i < 8000; i++) {
		touch(i);
		touch(200000 + 3 * i);
		touch(400000 + 17 * i);
	}
	cr_assert_str_eq(ruler(5000), "stride");
	cr_assert_leq(misses, 20);
}

Test(prefetch_tournament, the_choice_changes_with_the_program_and_is_per_region)
{
	start("auto");
	fifo_limit = 3000;
	broken_walk(3000, 0, 200000);
	cr_assert_str_eq(ruler(50000), "majority");
	for (uint32_t p = 500000; p < 510000; p++)
		touch(p);
	cr_assert_str_eq(ruler(505000), "stride");
	misses = 0;
	for (int round = 0; round < 4; round++)
		for (uint32_t i = 0; i < 30000; i++) {
			touch(i);
			touch(60000 + 2 * i);
			touch(150000 + i);
		}
	cr_assert_leq(misses, 4 * 90000 / 100, "%lu misses", misses);
}

/* Three pages in a row, which look like a scan, and no more. */
static void decoys(uint32_t n, uint32_t from, uint32_t span)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t p = from + random_below(span);

		for (uint32_t k = 0; k < 3; k++)
			touch(p + k);
	}
}

Test(prefetch_tournament, the_gate_closes_on_waste_and_opens_when_the_pattern_returns)
{
	struct prefetch_region *r;
	uint64_t before;

	start("stride");
	staging = 6;
	fifo_limit = 2000;
	decoys(4000, 0, 8000);
	r = region_of(&prefetch.state, 0);
	cr_assert(r->closed, "used %u, wasted %u", r->used, r->wasted);
	before = fetched;
	decoys(4000, 0, 8000);
	cr_assert_leq(fetched - before, 400, "%lu pages behind a closed gate", fetched - before);
	/* Its neighbour never closed. */
	cr_assert(!region_of(&prefetch.state, 8192)->closed);

	misses = 0;
	fifo_limit = 500;
	for (int round = 0; round < 4; round++)
		for (uint32_t p = 0; p < 8000; p++)
			touch(p);
	cr_assert(!r->closed);
	cr_assert_leq(misses, 1200, "%lu misses in four scans of 8000 pages", misses);
}

Test(prefetch_tournament, a_closed_gate_lets_small_windows_through_ever_more_seldom)
{
	struct prefetch_region *r;
	uint64_t asked[3];

	start("stride");
	staging = 6;
	fifo_limit = 2000;
	decoys(4000, 0, 8000);
	r = region_of(&prefetch.state, 0);
	cr_assert(r->closed);
	for (int i = 0; i < 3; i++) {
		asked[i] = runs;
		decoys(20000, 0, 8000);
		asked[i] = runs - asked[i];
	}
	cr_assert_gt(asked[0], 0);
	cr_assert_lt(asked[2], 20, "%lu, %lu, %lu runs", asked[0], asked[1], asked[2]);
}

Test(prefetch_tournament, windows_grow_while_they_are_used_and_shrink_when_they_are_wasted)
{
	struct prefetch_run run[PREFETCH_RUNS];
	struct prefetch_stream *t = &prefetch.state.stream[0];
	uint32_t first;

	start("stride");
	for (uint32_t p = 0; p < 4; p++)
		touch(p);
	first = t->window;
	for (uint32_t p = 4; p < 1000; p++)
		touch(p);
	cr_assert_lt(first, 32);
	cr_assert_eq(t->window, 64);
	for (uint32_t i = 1; i < window_next; i++)
		if (windows[i].waiting)
			prefetch_event(&prefetch, PREFETCH_WASTED, windows[i].page[0], 0, run);
	cr_assert_lt(t->window, 64, "%u", t->window);
}

Test(prefetch_tournament, pages_that_are_local_anyway_close_the_gate)
{
	struct prefetch_run run[PREFETCH_RUNS];
	struct prefetch_region *r;
	uint32_t p = 0, asked = 0;

	start("stride");
	r = region_of(&prefetch.state, 0);
	for (int i = 0; i < 400 && !r->closed; i++, p += 20) {
		/* Somebody else brings all but each twentieth page. */
		unsigned n = prefetch_event(&prefetch, PREFETCH_MISS, p % 8000, 0, run);

		for (unsigned k = 0; k < n; k++) {
			prefetch_asked(&prefetch, &run[k], 0);
			asked++;
		}
	}
	cr_assert(r->closed, "asked %u runs, %u of %u pages were local", asked, r->local, r->asked);
}

Test(prefetch_tournament, late_windows_are_asked_further_ahead)
{
	struct prefetch_stream *t = &prefetch.state.stream[0];

	start("stride");
	touched = PREFETCH_LATE;
	for (uint32_t p = 0; p < 20000; p++)
		touch(p);
	cr_assert_gt(t->ahead, 2);
	cr_assert_eq(t->window, 64);
}

Test(prefetch_tournament, what_it_remembers_of_a_gigabyte_is_below_200_kib)
{
	cr_assert_leq(sizeof prefetch +
			      ((1u << 18 >> PREFETCH_REGION) + 1) * sizeof(struct prefetch_region),
		      200u << 10, "%zu", sizeof prefetch);
}

Test(prefetch_tournament, a_heap_of_eight_tebibytes_takes_memory_where_it_is_used_only)
{
	struct prefetch_run run[PREFETCH_RUNS];

	prefetch_free(&prefetch);
	cr_assert_eq(prefetch_init(&prefetch, NULL, 1u << 31, 64), 0);
	for (uint32_t p = (1u << 31) - 100; p < 1u << 31; p++) {
		unsigned n = prefetch_event(&prefetch, PREFETCH_MISS, p, 0, run);

		for (unsigned k = 0; k < n; k++)
			cr_assert_leq((uint64_t)run[k].page + run[k].count, UINT64_C(1) << 31);
	}
	for (uint32_t p = (1u << 31) - 1; p > (1u << 31) - 100; p--)
		prefetch_event(&prefetch, PREFETCH_MISS, p, 0, run);
	prefetch_free(&prefetch);
}
