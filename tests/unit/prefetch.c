/* SPDX-License-Identifier: MIT */
/* What prefetchers foresee, shape by shape, over a model of the fault path. */
#include "prefetch_model.h"

#define NAMES(...) ((const char *[]){__VA_ARGS__, NULL})

Test(prefetch, names_are_found_and_others_are_refused_by_name)
{
	cr_assert_eq(prefetch_find("none"), &prefetch_none);
	cr_assert_eq(prefetch_find("sequential"), &prefetch_sequential);
	cr_assert_eq(prefetch_find("stride"), &prefetch_stride);
	cr_assert_eq(prefetch_find("majority"), &prefetch_majority);
	cr_assert_null(prefetch_find("psychic"));
	cr_assert_eq(prefetch_init(&prefetch, "psychic", PAGES, 64), -22);
	cr_assert(strstr(err_text(), "psychic") && strstr(err_text(), prefetch_names()));
	cr_assert_eq(prefetch_init(&prefetch, "replay", PAGES, 64), -22);
	cr_assert_eq(prefetch_init(&prefetch, "replay:", PAGES, 64), -22);
}

Test(prefetch, none_asks_for_nothing)
{
	start("none");
	for (uint32_t p = 0; p < 5000; p++)
		touch(p);
	cr_assert_eq(runs, 0);
	cr_assert_eq(misses, 5000);
}

Test(prefetch, a_forward_scan_misses_only_at_its_start_and_faults_once_a_window)
{
	for (const char **name = NAMES("sequential", "stride", "auto"); *name; name++) {
		start(*name);
		for (uint32_t p = 500; p < 20500; p++)
			touch(p);
		cr_assert_leq(misses, 3, "%s: %lu misses", *name, misses);
		cr_assert_leq(fetched, 20000 + 3 * 64, "%s: %lu pages", *name, fetched);
		cr_assert_leq(faults, 20000 / 64 + 12, "%s: %lu faults", *name, faults);
	}
}

Test(prefetch, a_scan_of_any_stride_faults_once_a_window)
{
	static const int32_t strides[] = {-1, 2, -3, 16, 22, -64, 127, 1000, -4096};

	for (unsigned i = 0; i < sizeof strides / sizeof *strides; i++) {
		uint32_t p = strides[i] > 0 ? 7 : PAGES - 7;
		uint32_t steps = 0;

		start("auto");
		for (; p < PAGES && steps < 6000; p += (uint32_t)strides[i], steps++)
			touch(p);
		cr_assert_leq(misses, 5, "stride %d: %lu misses", strides[i], misses);
		cr_assert_leq(faults, steps / 64 + 16, "stride %d: %lu faults for %u steps",
			      strides[i], faults, steps);
		cr_assert_leq(fetched, steps + 3 * 64);
	}
}

Test(prefetch, interleaved_scans_are_told_apart)
{
	start("auto");
	for (uint32_t i = 0; i < 4000; i++) {
		touch(100 + i);
		touch(300000 - 3 * i);
		touch(400000 + 16 * i);
		touch(900000 - i);
	}
	cr_assert_leq(misses, 24, "%lu misses", misses);

	/* A walk in steps of four that begins beside an old fault is no scan page by page. */
	start("auto");
	touch(8191);
	touch(8192);
	for (uint32_t p = 8193; p < 80000; p += 4)
		touch(p);
	cr_assert_leq(fetched, 80000 / 4 + 200, "%lu pages asked for a walk of %u", fetched,
		      (80000 - 8193) / 4);
}

Test(prefetch, scans_of_several_threads_do_not_hide_each_other)
{
	start("auto");
	for (uint32_t i = 0; i < 2000; i++)
		for (thread = 1; thread <= 6; thread++)
			touch(thread * 160000 + (thread % 3 * 5 + 1) * i);
	cr_assert_leq(misses, 6 * 5, "%lu misses of %u touches", misses, 6 * 2000);

	/* Too many for two windows each: then each gets one, after a while. */
	start("auto");
	for (uint32_t i = 0; i < 4000; i++) {
		if (i == 1000)
			misses = 0;
		for (thread = 1; thread <= 12; thread++)
			touch(thread * 80000 + (thread % 3 * 5 + 1) * i);
	}
	cr_assert_leq(misses, 24, "%lu misses of %u touches", misses, 12 * 3000);
}

Test(prefetch, a_scan_that_turns_around_is_followed_back)
{
	uint32_t p;

	start("auto");
	fifo_limit = 4096;
	for (p = 10000; p < 40000; p++)
		touch(p);
	misses = 0;
	while (p-- > 10000)
		touch(p);
	cr_assert_leq(misses, 4, "%lu misses on the way back", misses);
}

Test(prefetch, columns_of_a_matrix_miss_at_their_tops_only)
{
	uint64_t touches = 0;

	/* 4000 rows of 23 pages, and a cache that does not hold a column. */
	start("auto");
	fifo_limit = 2000;
	for (uint32_t column = 0; column < 20; column++)
		for (uint32_t row = 0; row < 4000; row++, touches++)
			touch(row * 23 + column % 23);
	cr_assert_leq(misses, 20 * 6, "%lu misses in 20 columns", misses);
	cr_assert_leq(fetched, touches + 20 * 3 * 64);

	/* Now one that holds it: 512 columns lie in the same pages. */
	start("auto");
	fifo_limit = 8000;
	for (uint32_t column = 0; column < 512; column++)
		for (uint32_t row = 0; row < 4000; row++)
			touch(row * 23);
	cr_assert_leq(misses, 5);
	cr_assert_leq(fetched, 4000 + 3 * 64);
}

Test(prefetch, a_stencil_of_three_planes_runs_on_windows)
{
	const uint32_t plane = 1000;

	start("auto");
	fifo_limit = 2500; /* less than three planes, so each plane comes several times */
	for (uint32_t p = plane; p < 60 * plane; p++) {
		touch(p - plane);
		touch(p);
		touch(p + plane);
		touch(200000 + p);
	}
	cr_assert_leq(misses, 40, "%lu misses of %u touches", misses, 4 * 59 * plane);
	cr_assert_leq(wasted, fetched / 50, "%lu of %lu pages wasted", wasted, fetched);
}

Test(prefetch, a_random_gather_beside_three_scans_neither_stops_them_nor_is_foreseen)
{
	uint64_t scanned = 0, gathered = 0, before;

	start("auto");
	fifo_limit = 30000;
	for (uint32_t i = 0; i < 20000; i++) {
		scanned += touch(i);
		scanned += touch(100000 + i);
		scanned += touch(200000 + i);
		for (int k = 0; k < 4; k++)
			gathered += touch(300000 + random_below(200000));
	}
	cr_assert_leq(scanned, 60, "%lu misses in the scans", scanned);
	before = fetched;
	cr_assert_leq(before, 60000 + 3000, "%lu pages asked, 60000 scanned", before);
	cr_assert_gt(gathered, 50000);
}

Test(prefetch, a_hit_is_a_page_of_a_window_that_was_touched)
{
	start("stride");
	for (uint32_t p = 0; p < 20000; p++)
		touch(p);
	cr_assert_leq(prefetch.state.hits, fetched);
	cr_assert_geq(prefetch.state.hits + 3 * 64, fetched);
	/* Pages that were here already are not fetched, so they are no hits. */
	start("stride");
	for (uint32_t p = 0; p < 20000; p++)
		at[p] = p % 3 ? 0 : MODEL_LOCAL;
	for (uint32_t p = 0; p < 20000; p++)
		touch(p);
	cr_assert_leq(prefetch.state.hits, fetched);
	cr_assert_leq(misses, 40, "%lu misses", misses);
}

Test(prefetch, an_expected_scan_is_fetched_from_its_first_fault_on)
{
	start("auto");
	prefetch_expect_scan(&prefetch, 5000, 10000);
	for (uint32_t p = 5000; p < 15000; p++)
		touch(p);
	cr_assert_leq(misses, 1);
	start("auto");
	prefetch_expect_scan(&prefetch, 0, 10000);
	for (uint32_t p = 0; p < 10000; p++)
		touch(p);
	cr_assert_leq(misses, 1);
	prefetch_expect_scan(&prefetch, PAGES - 10, UINT32_MAX);
	prefetch_expect_scan(&prefetch, PAGES, 1);
}

Test(prefetch, windows_are_as_small_as_the_pressure_wants)
{
	struct prefetch_run run[PREFETCH_RUNS];

	for (const char **name = NAMES("stride", "majority", "auto"); *name; name++) {
		start(*name);
		prefetch_pressure(&prefetch, 3);
		for (uint32_t p = 0; p < 2000; p++) {
			unsigned n = prefetch_event(&prefetch, PREFETCH_MISS, p, 0, run);

			for (unsigned i = 0; i < n; i++) {
				cr_assert_leq(run[i].count, 3);
				prefetch_asked(&prefetch, &run[i], run[i].count);
			}
		}
		prefetch_pressure(&prefetch, 0);
		for (uint32_t p = 5000; p < 15000; p++)
			touch(p);
		cr_assert_leq(faults, 10000 / 32);
	}
}

Test(prefetch, no_events_whatever_lead_out_of_the_heap)
{
	struct prefetch_run run[PREFETCH_RUNS];
	const uint32_t pages = 70001;

	for (const char **name = NAMES("sequential", "stride", "majority", "auto"); *name; name++) {
		uint32_t page = 0;

		prefetch_free(&prefetch);
		cr_assert_eq(prefetch_init(&prefetch, *name, pages, 50), 0);
		for (int i = 0; i < 400000; i++) {
			uint32_t what = random_below(100);
			unsigned n;

			/* Mostly walks at the edges, now and then a jump or a page that is not
			 * there. */
			if (what < 5)
				page = random_below(2) ? random_below(300)
						       : pages - 1 - random_below(300);
			else if (what < 6)
				page = random_below(UINT32_MAX);
			else
				page += (uint32_t)((int)random_below(3) - 1) * (1 + i / 5000 % 40);
			n = prefetch_event(&prefetch, (enum prefetch_event)random_below(4), page,
					   random_below(20), run);
			cr_assert_leq(n, PREFETCH_RUNS);
			for (unsigned k = 0; k < n; k++) {
				int64_t last =
					run[k].page + (int64_t)run[k].stride * (run[k].count - 1);

				cr_assert(run[k].count > 0 && run[k].count <= 50);
				cr_assert_lt(run[k].page, pages);
				cr_assert(last >= 0 && last < pages && run[k].stride);
				if (random_below(8))
					prefetch_asked(&prefetch, &run[k],
						       random_below(run[k].count + 1));
				else
					prefetch_refused(&prefetch, &run[k]);
			}
			if (!random_below(1000))
				prefetch_pressure(&prefetch, random_below(60));
			if (!random_below(1000))
				prefetch_expect_scan(&prefetch, random_below(pages),
						     random_below(pages));
		}
	}
}
