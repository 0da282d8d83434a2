/* SPDX-License-Identifier: MIT */
/* Which pages are given up next. */
#include "libinject/residency.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <string.h>

#define PAGES 20000u
#define LOCAL 2048u

static uint32_t pick(struct residency *r)
{
	uint32_t page;

	return residency_pick(r, &page, 1) ? page : UINT32_MAX;
}

/* A cache of LOCAL pages that does as it is told. */
struct cache {
	struct residency res;
	bool local[PAGES];
	unsigned count;
	uint64_t misses;
};

static struct cache cache;

static void cache_open(void)
{
	memset(&cache, 0, sizeof cache);
	cr_assert_eq(residency_init(&cache.res, PAGES), 0);
	residency_limit(&cache.res, LOCAL);
}

/* Whether it was there. */
static bool touch(uint32_t page, enum residency_why why)
{
	if (cache.local[page])
		return true;
	cache.misses++;
	if (cache.count == LOCAL) {
		uint32_t victim = pick(&cache.res);

		cr_assert_lt(victim, PAGES);
		cr_assert(cache.local[victim], "page %u is not there", victim);
		cache.local[victim] = false;
		cache.count--;
	}
	cache.local[page] = true;
	cache.count++;
	residency_add(&cache.res, &page, 1, why);
	return false;
}

/* Empties it: each page that is there comes out once. */
static void cache_close(void)
{
	for (; cache.count; cache.count--) {
		uint32_t page = pick(&cache.res);

		cr_assert_lt(page, PAGES);
		cr_assert(cache.local[page]);
		cache.local[page] = false;
	}
	cr_assert_eq(pick(&cache.res), UINT32_MAX);
	residency_free(&cache.res);
}

static uint32_t random_below(uint64_t *x, uint32_t n)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((*x >> 33) % n);
}

Test(residency, pages_come_out_once_however_often_they_were_added)
{
	struct residency r = {0};

	cr_assert_eq(residency_init(&r, PAGES), 0);
	for (uint32_t round = 0; round < 3; round++) {
		static unsigned char seen[PAGES];

		for (uint32_t p = 0; p < PAGES; p++) {
			seen[p] = 0;
			residency_add(&r, &p, 1, RESIDENCY_DEMAND);
			residency_add(&r, &p, 1, RESIDENCY_KEPT);
		}
		for (uint32_t i = 0; i < PAGES; i++) {
			uint32_t p = pick(&r);

			cr_assert_lt(p, PAGES);
			cr_assert_eq(seen[p]++, 0);
		}
		cr_assert_eq(pick(&r), UINT32_MAX);
	}
	residency_free(&r);
}

Test(residency, freed_pages_are_no_victims_and_do_not_fill_the_queue)
{
	struct residency r = {0};

	cr_assert_eq(residency_init(&r, PAGES), 0);
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t p = 0; p < PAGES; p++)
			residency_add(&r, &p, 1, RESIDENCY_DEMAND);
		residency_forget(&r, 0, PAGES / 2);
	}
	for (uint32_t i = 0; i < PAGES / 2; i++)
		cr_assert_geq(pick(&r), PAGES / 2);
	cr_assert_eq(pick(&r), UINT32_MAX);
	residency_free(&r);
}

Test(residency, a_page_that_was_freed_and_came_again_is_a_new_one)
{
	struct residency r = {0};
	uint32_t first = 0;

	cr_assert_eq(residency_init(&r, PAGES), 0);
	residency_limit(&r, LOCAL);
	for (uint32_t p = 0; p < LOCAL; p++)
		residency_add(&r, &p, 1, RESIDENCY_DEMAND);
	residency_forget(&r, 0, 1);
	residency_add(&r, &first, 1, RESIDENCY_DEMAND);
	for (uint32_t i = 0; i < LOCAL / 2; i++)
		cr_assert_neq(pick(&r), 0, "out as number %u", i);
	for (uint32_t i = LOCAL / 2; i < LOCAL; i++)
		cr_assert_neq(pick(&r), UINT32_MAX);
	cr_assert_eq(pick(&r), UINT32_MAX);
	residency_free(&r);
}

Test(residency, memory_does_not_grow_while_pages_come_and_are_freed)
{
	struct residency r = {0};

	cr_assert_eq(residency_init(&r, 1u << 20), 0);
	for (uint32_t p = 0; p < 1u << 20; p++) {
		residency_add(&r, &p, 1, RESIDENCY_DEMAND);
		if (p >= LOCAL)
			residency_forget(&r, p - LOCAL, 1);
	}
	cr_assert_leq(r.chunks * RESIDENCY_CHUNK, 2 * (LOCAL + 4096) + 200 * RESIDENCY_CHUNK,
		      "%u chunks", r.chunks);
	residency_free(&r);
}

Test(residency, pages_wanted_again_and_again_outlive_a_scan)
{
	uint32_t hot = LOCAL / 2, lost = 0, at = 0;
	uint64_t x = 1;

	cache_open();
	/* The other half of the room, and more, is claimed by pages that come once in a while. */
	for (uint32_t i = 0; i < 100 * LOCAL; i++) {
		uint32_t p =
			random_below(&x, 4) ? random_below(&x, hot) : hot + at++ % (PAGES - hot);

		touch(p, RESIDENCY_DEMAND);
	}
	for (uint32_t i = 0; i < 4 * LOCAL; i++)
		touch(hot + at++ % (PAGES - hot), RESIDENCY_AHEAD);
	for (uint32_t p = 0; p < hot; p++)
		lost += !cache.local[p];
	/* Oldest first would have lost them all. */
	cr_assert_lt(lost, hot / 2, "%u of %u", lost, hot);
	cache_close();
}

Test(residency, a_loop_that_does_not_fit_keeps_a_part_of_itself)
{
	uint32_t n = LOCAL + LOCAL / 5;
	uint64_t hits = 0;

	cache_open();
	for (uint32_t i = 0; i < 60 * n; i++)
		hits += touch(i % n, RESIDENCY_DEMAND) && i >= 30 * n;
	/* Oldest first would have none. */
	cr_assert_gt(hits, 30 * n / 4, "%lu of %u", (unsigned long)hits, 30 * n);
	cache_close();
}

Test(residency, a_wandering_working_set_is_served_as_by_age)
{
	static uint32_t ring[LOCAL];
	static bool in_fifo[PAGES];
	uint64_t x = 7, came = 0, count = 400 * LOCAL, fifo = 0;

	cache_open();
	for (uint64_t i = 0; i < count; i++) {
		uint32_t p = (uint32_t)((i / 16 + random_below(&x, LOCAL / 3 * 2)) % PAGES);

		if (i == count / 2)
			fifo = cache.misses = 0;
		touch(p, RESIDENCY_DEMAND);
		if (in_fifo[p])
			continue;
		fifo++;
		in_fifo[ring[came % LOCAL]] = false;
		ring[came++ % LOCAL] = p;
		in_fifo[p] = true;
	}
	cr_assert_leq(cache.misses, fifo + fifo / 10, "%lu misses, %lu of a FIFO",
		      (unsigned long)cache.misses, (unsigned long)fifo);
	cache_close();
}

Test(residency, a_page_that_came_back_or_was_kept_is_not_next)
{
	cache_open();
	for (uint32_t p = 0; p < LOCAL; p++)
		touch(p, RESIDENCY_DEMAND);
	for (unsigned i = 0; i < 100; i++) {
		uint32_t page = pick(&cache.res), next;

		residency_add(&cache.res, &page, 1, i & 1 ? RESIDENCY_BACK : RESIDENCY_KEPT);
		next = pick(&cache.res);
		cr_assert_neq(next, page);
		residency_add(&cache.res, &next, 1, RESIDENCY_DEMAND);
	}
	cache_close();
}

Test(residency, pages_that_can_not_be_taken_do_not_hide_the_others)
{
	unsigned looks = 0;

	cache_open();
	for (uint32_t p = 0; p < LOCAL; p++)
		touch(p, RESIDENCY_DEMAND);
	/* Of the first 2000 pages none can be taken. */
	for (uint32_t found = 0; found < LOCAL - 2000; looks++) {
		uint32_t page = pick(&cache.res);

		cr_assert_lt(looks, 2 * LOCAL);
		if (page < 2000) {
			residency_add(&cache.res, &page, 1, RESIDENCY_KEPT);
			continue;
		}
		cache.local[page] = false;
		cache.count--;
		found++;
	}
	/* Nor later, but new ones go on coming and going. */
	for (uint32_t i = 0; i < 10 * LOCAL; i++) {
		uint32_t page = 2000 + i % 4000;

		residency_add(&cache.res, &page, 1, RESIDENCY_DEMAND);
		for (page = pick(&cache.res); page < 2000; page = pick(&cache.res), looks++)
			residency_add(&cache.res, &page, 1, RESIDENCY_KEPT);
	}
	cr_assert_lt(looks, 10 * LOCAL * 5, "%u", looks);
	cache_close();
}

Test(residency, the_limit_may_be_told_before_the_rest)
{
	struct residency r = {0};

	residency_limit(&r, LOCAL);
	cr_assert_eq(residency_init(&r, PAGES), 0);
	cr_assert_eq(r.limit, LOCAL);
	residency_limit(&r, 2ull * PAGES);
	cr_assert_eq(r.limit, PAGES);
	residency_free(&r);
}

Test(residency, nothing_is_lost_whatever_is_done)
{
	uint64_t x = 3;

	cache_open();
	for (uint32_t i = 0; i < 1000000; i++) {
		uint32_t p = random_below(&x, PAGES);

		switch (random_below(&x, 16)) {
		case 0:
			residency_limit(&cache.res, 1 + random_below(&x, PAGES));
			break;
		case 1:
			residency_forget(&cache.res, p, 1);
			cache.count -= cache.local[p];
			cache.local[p] = false;
			break;
		case 2:
			if (cache.count) {
				p = pick(&cache.res);
				cr_assert(cache.local[p]);
				residency_add(&cache.res, &p, 1, RESIDENCY_KEPT);
			}
			break;
		case 3:
			touch(p, RESIDENCY_AHEAD);
			break;
		default:
			touch(p, RESIDENCY_DEMAND);
		}
	}
	cache_close();
}
