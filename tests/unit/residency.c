/* SPDX-License-Identifier: MIT */
/* Which pages are given up next. */
#include "libinject/residency.h"

#include <criterion/criterion.h>

#define PAGES 20000u

static uint32_t pick(struct residency *r)
{
	uint32_t page;

	return residency_pick(r, &page, 1) ? page : UINT32_MAX;
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
