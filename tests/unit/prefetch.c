/* SPDX-License-Identifier: MIT */
/* What the prefetchers decide, fault by fault. */
#include "libinject/prefetch.h"

#include <criterion/criterion.h>
#include <string.h>

#define PAGES 100000

static struct prefetch_state state;
static unsigned char asked[PAGES];
static unsigned long wasted, total;

static void start(void)
{
	prefetch_init(&state, 64);
	memset(asked, 0, sizeof asked);
	wasted = total = 0;
}

/* A touch of a page: a fault unless it was asked for before. Returns whether it faulted. */
static bool touch(const struct prefetcher *p, uint32_t page)
{
	struct prefetch_run run[PREFETCH_RUNS];
	unsigned n;
	bool miss = !asked[page];

	n = p->fault(&state, page, run);
	cr_assert_leq(n, PREFETCH_RUNS);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_neq(run[i].stride, 0);
		cr_assert_leq(run[i].count, 64);
		total += run[i].count;
		for (uint32_t k = 0; k < run[i].count; k++) {
			int64_t at = run[i].page + (int64_t)run[i].stride * k;

			cr_assert_geq(at, 0);
			if (at < PAGES)
				asked[at] = 1;
		}
	}
	return miss;
}

Test(prefetch, names_are_found_and_others_are_not)
{
	cr_assert_eq(prefetch_find("none"), &prefetch_none);
	cr_assert_eq(prefetch_find("sequential"), &prefetch_sequential);
	cr_assert_eq(prefetch_find("stride"), &prefetch_stride);
	cr_assert_null(prefetch_find("psychic"));
}

Test(prefetch, a_forward_scan_misses_only_at_its_start)
{
	const struct prefetcher *both[] = {&prefetch_sequential, &prefetch_stride};

	for (int i = 0; i < 2; i++) {
		unsigned misses = 0;

		start();
		for (uint32_t p = 500; p < 5500; p++)
			misses += touch(both[i], p);
		cr_assert_leq(misses, 3, "%s: %u misses", both[i]->name, misses);
		cr_assert_leq(total, 5000 + 3 * 64, "%s asked for %lu pages", both[i]->name, total);
	}
}

Test(prefetch, a_backward_scan_and_a_strided_one_are_followed)
{
	unsigned misses = 0;

	start();
	for (uint32_t p = 6000; p > 1000; p--)
		misses += touch(&prefetch_stride, p);
	cr_assert_leq(misses, 4, "backward: %u misses", misses);
	misses = 0;
	for (uint32_t p = 20000; p < 90000; p += 22)
		misses += touch(&prefetch_stride, p);
	cr_assert_leq(misses, 5, "stride 22: %u misses", misses);
}

Test(prefetch, interleaved_scans_are_told_apart)
{
	unsigned misses = 0;

	start();
	for (uint32_t i = 0; i < 2000; i++) {
		misses += touch(&prefetch_stride, 100 + i);
		misses += touch(&prefetch_stride, 30000 - 3 * i);
		misses += touch(&prefetch_stride, 40000 + 16 * i);
	}
	cr_assert_leq(misses, 20, "%u misses", misses);
}

Test(prefetch, random_faults_ask_for_next_to_nothing)
{
	uint64_t s = 88172645463325252ull;

	start();
	for (int i = 0; i < 20000; i++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		touch(&prefetch_stride, (uint32_t)(s % PAGES));
	}
	cr_assert_leq(total, 4000, "%lu pages asked for 20000 random faults", total);
}

Test(prefetch, a_hit_is_a_page_that_was_fetched_and_reached)
{
	struct prefetch_run run[PREFETCH_RUNS];
	uint64_t fetched = 0;

	start();
	for (uint32_t p = 0; p < 1000; p++) {
		unsigned n = prefetch_stride.fault(&state, p, run);

		for (unsigned i = 0; i < n; i++) {
			/* Every other window was local already. */
			uint32_t pages = i % 2 ? 0 : run[i].count;

			stream_fetched(&state, &run[i], pages);
			fetched += pages;
		}
	}
	cr_assert_leq(state.hits, fetched);
	cr_assert_geq(state.hits + 2 * 64, fetched);
}

Test(prefetch, streams_at_the_ends_of_the_page_numbers_stay_within_them)
{
	struct prefetch_run run[PREFETCH_RUNS];

	start();
	for (uint32_t p = 100; p-- > 0;)
		touch(&prefetch_stride, p);
	prefetch_init(&state, 64);
	for (uint32_t i = 0; i < 50; i++) {
		unsigned n = prefetch_stride.fault(&state, UINT32_MAX - 60 + i, run);

		for (unsigned k = 0; k < n; k++)
			cr_assert_leq((uint64_t)run[k].page + run[k].count - 1, UINT32_MAX);
	}
}
