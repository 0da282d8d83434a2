/* SPDX-License-Identifier: MIT */
/* Free ranges of a heap against a plain bitmap, under random use. */
#include "libinject/heap.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define PAGES 5000u

static unsigned char used[PAGES];

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* The free list must be the bitmap's free runs, sorted and merged. */
static void same(struct ranges *r)
{
	uint32_t at = 0, e = 0;

	while (at < PAGES) {
		uint32_t from = at;

		while (at < PAGES && !used[at])
			at++;
		if (at > from) {
			cr_assert_lt(e, r->count);
			cr_assert_eq(r->free[e].page, from);
			cr_assert_eq(r->free[e].count, at - from);
			e++;
		}
		while (at < PAGES && used[at])
			at++;
	}
	cr_assert_eq(e, r->count);
}

Test(heap_ranges, random_takes_and_puts_match_a_bitmap)
{
	struct { uint32_t page, count; } own[200] = {{0}};
	struct ranges r = {0};
	struct extent around;
	uint64_t s = 42;

	cr_assert_eq(ranges_init(&r, PAGES), 0);
	for (int step = 0; step < 20000; step++) {
		unsigned i = rnd(&s) % 200;

		if (!own[i].count) {
			uint32_t count = 1 + rnd(&s) % 60, align = 1u << rnd(&s) % 5;
			uint32_t page = ranges_take(&r, count, align);

			if (page == NO_PAGE)
				continue;
			cr_assert_eq(page % align, 0);
			for (uint32_t k = 0; k < count; k++)
				cr_assert_eq(used[page + k]++, 0);
			own[i].page = page;
			own[i].count = count;
		} else if (rnd(&s) % 4 == 0) {
			uint32_t behind = own[i].page + own[i].count;
			bool free = behind + 3 <= PAGES && !used[behind] && !used[behind + 1] &&
				    !used[behind + 2];

			cr_assert_eq(ranges_take_at(&r, behind, 3), free);
			if (free) {
				memset(used + behind, 1, 3);
				own[i].count += 3;
			}
		} else {
			memset(used + own[i].page, 0, own[i].count);
			ranges_put(&r, own[i].page, own[i].count, &around);
			cr_assert_leq(around.page, own[i].page);
			cr_assert_geq(around.page + around.count, own[i].page + own[i].count);
			own[i].count = 0;
		}
		if (step % 50 == 0)
			same(&r);
	}
	same(&r);
}

Test(heap_ranges, what_is_too_large_is_not_taken)
{
	struct ranges r = {0};

	cr_assert_eq(ranges_init(&r, 100), 0);
	cr_assert_eq(ranges_take(&r, 101, 1), NO_PAGE);
	cr_assert_eq(ranges_take(&r, 100, 1), 0);
	cr_assert_eq(ranges_take(&r, 1, 1), NO_PAGE);
	cr_assert_eq(r.count, 0);
}
