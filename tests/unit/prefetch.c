/* SPDX-License-Identifier: MIT */
/* What the prefetchers decide, fault by fault. */
#include "libinject/prefetch.h"

#include <criterion/criterion.h>
#include <string.h>

#define PAGES 100000

static struct prefetch_state state;
/* A page is absent (0), in the window of that number, on its way, or here (INSTALLED). */
#define INSTALLED UINT32_MAX
static uint32_t at[PAGES], windows;
static unsigned long total;

static void start(void)
{
	prefetch_state_init(&state, 64);
	memset(at, 0, sizeof at);
	windows = 0;
	total = 0;
}

/* As the fault path does it: only pages that are not here fault, and a window comes as a whole. */
static bool touch(const struct prefetcher *p, uint32_t page)
{
	struct prefetch_run run[PREFETCH_RUNS];
	uint32_t window = at[page];
	unsigned n;

	if (window == INSTALLED)
		return false;
	n = p->fault(&state, page, run);
	cr_assert_leq(n, PREFETCH_RUNS);
	at[page] = INSTALLED;
	for (uint32_t k = 0; window && k < PAGES; k++)
		if (at[k] == window)
			at[k] = INSTALLED;
	for (unsigned i = 0; i < n; i++) {
		uint32_t got = 0;

		cr_assert_neq(run[i].stride, 0);
		cr_assert_leq(run[i].count, 64);
		windows++;
		for (uint32_t k = 0; k < run[i].count; k++) {
			int64_t to = run[i].page + (int64_t)run[i].stride * k;

			cr_assert_geq(to, 0);
			if (to < PAGES && !at[to]) {
				at[to] = windows;
				got++;
			}
		}
		total += got;
		stream_fetched(&state, &run[i], got);
	}
	return !window;
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

	/* A walk in steps of four that begins beside an old fault is no scan page by page. */
	start();
	touch(&prefetch_stride, 8191);
	touch(&prefetch_stride, 8192);
	for (uint32_t p = 8193; p < 80000; p += 4)
		touch(&prefetch_stride, p);
	cr_assert_leq(total, 80000 / 4 + 200, "%lu pages asked for a walk of %u", total,
		      (80000 - 8193) / 4);
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
	start();
	for (uint32_t p = 0; p < 20000; p++)
		touch(&prefetch_stride, p);
	cr_assert_leq(state.hits, total);
	cr_assert_geq(state.hits + 2 * 64, total);
	/* Pages that were here already are not fetched, so they are no hits. */
	start();
	for (uint32_t p = 0; p < 20000; p++)
		at[p] = p % 3 ? 0 : INSTALLED;
	for (uint32_t p = 0; p < 20000; p++)
		touch(&prefetch_stride, p);
	cr_assert_leq(state.hits, total);
}

Test(prefetch, streams_at_the_ends_of_the_page_numbers_stay_within_them)
{
	struct prefetch_run run[PREFETCH_RUNS];

	start();
	for (uint32_t p = 100; p-- > 0;)
		touch(&prefetch_stride, p);
	prefetch_state_init(&state, 64);
	for (uint32_t i = 0; i < 50; i++) {
		unsigned n = prefetch_stride.fault(&state, UINT32_MAX - 60 + i, run);

		for (unsigned k = 0; k < n; k++)
			cr_assert_leq((uint64_t)run[k].page + run[k].count - 1, UINT32_MAX);
	}
}
