/* SPDX-License-Identifier: MIT */
/* The simulated LRU does what one that looks at the time of every page's last touch does. */
#include "bench/lru.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>

#define PAGES 97u

/* Touches the page at time now; returns whether it was among the capacity newest. */
static bool touch_slowly(uint64_t *when, unsigned page, uint64_t now, unsigned capacity)
{
	unsigned newer = 0;
	bool hit;

	for (unsigned p = 0; p < PAGES; p++)
		newer += when[p] > when[page];
	hit = when[page] && newer < capacity;
	when[page] = now;
	return hit;
}

Test(lru, hits_what_a_search_by_time_hits)
{
	for (unsigned capacity = 1; capacity <= PAGES; capacity += 12) {
		uint64_t when[PAGES] = {0}, x = capacity, hits = 0;
		struct lru l;

		cr_assert_eq(lru_create(&l, PAGES, capacity), 0, "%s", err_text());
		for (uint64_t now = 1; now <= 20000; now++) {
			unsigned page;
			bool hit;

			x = x * 6364136223846793005ull + 1442695040888963407ull;
			/* Skewed: half of the touches go to an eighth of the pages. */
			page = (unsigned)(x >> 33) % (x >> 63 ? PAGES : PAGES / 8);
			hit = touch_slowly(when, page, now, capacity);
			hits += hit;
			cr_assert_eq(lru_touch(&l, page), hit, "touch %lu, %u pages",
				     (unsigned long)now, capacity);
		}
		cr_assert_eq(l.hits, hits);
		cr_assert_eq(l.touches, 20000);
		cr_assert_float_eq(lru_hit_ratio(&l), (double)hits / 20000, 1e-12);
		lru_free(&l);
	}
}

Test(lru, tells_which_page_went)
{
	struct lru l;

	cr_assert_eq(lru_create(&l, 10, 2), 0);
	lru_touch(&l, 3);
	cr_assert_eq(l.evicted, LRU_NONE);
	lru_touch(&l, 9);
	lru_touch(&l, 3);
	lru_touch(&l, 0);
	cr_assert_eq(l.evicted, 9);
	lru_touch(&l, 0);
	cr_assert_eq(l.evicted, LRU_NONE);
	lru_reset(&l);
	cr_assert(lru_touch(&l, 3), "the contents stay");
	cr_assert_eq(lru_hit_ratio(&l), 1);
	lru_free(&l);
	lru_free(&l);
}

Test(lru, of_nothing_is_refused)
{
	struct lru l;

	cr_assert_eq(lru_create(&l, 0, 1), -EINVAL);
	cr_assert_eq(lru_create(&l, 1, 0), -EINVAL);
	cr_assert_eq(lru_create(&l, 1ull << 32, 1), -EINVAL);
	cr_assert_eq(lru_hit_ratio(&l), 0);
}
