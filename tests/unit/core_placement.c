/* SPDX-License-Identifier: MIT */
/* Placement is a pure function: the same view of the donors and the same seed give the same plan.
 */
#include "pagestore/placement.h"

#include <criterion/criterion.h>
#include <string.h>

Test(placement, uses_every_donor_before_using_one_twice)
{
	struct place_donor donor[5] = {
		{10, false}, {10, true}, {3, false}, {10, false}, {0, false}};
	uint8_t plan[3];
	uint64_t rng = 7;
	unsigned seen[5] = {0};

	cr_assert(place_slabs(donor, 5, 3, &rng, plan));
	for (unsigned i = 0; i < 3; i++)
		seen[plan[i]]++;
	cr_expect_eq(seen[0], 1);
	cr_expect_eq(seen[1], 0, "it was used before");
	cr_expect_eq(seen[2], 1);
	cr_expect_eq(seen[3], 1);
	cr_expect_eq(seen[4], 0, "it has no room");
}

Test(placement, evens_out_what_is_free)
{
	struct place_donor donor[3] = {{1000, true}, {1000, true}, {1000, true}};
	static uint8_t plan[1500];
	uint64_t rng = 1;

	cr_assert(place_slabs(donor, 3, 1500, &rng, plan));
	for (unsigned i = 0; i < 3; i++)
		cr_expect(donor[i].free > 480 && donor[i].free < 520, "donor %u has %lu left", i,
			  (unsigned long)donor[i].free);
}

Test(placement, prefers_the_donor_with_more_free_memory)
{
	struct place_donor donor[2] = {{100, true}, {10000, true}};
	static uint8_t plan[1000];
	uint64_t rng = 3, first = 0;

	cr_assert(place_slabs(donor, 2, 1000, &rng, plan));
	for (unsigned i = 0; i < 1000; i++)
		first += plan[i] == 0;
	/* Only when both picks fall on it: a quarter. */
	cr_expect_eq(first, 100 - donor[0].free);
	cr_expect_lt(first, 101);
}

Test(placement, uses_the_last_slab_and_not_one_more)
{
	struct place_donor donor[2] = {{3, true}, {4, false}}, before[2];
	uint8_t plan[8] = {9, 9, 9, 9, 9, 9, 9, 9};
	uint64_t rng = 11;

	memcpy(before, donor, sizeof before);
	cr_assert(!place_slabs(donor, 2, 8, &rng, plan));
	cr_expect_eq(plan[0], 9, "a refused plan plans nothing");
	cr_expect(!memcmp(before, donor, sizeof before));
	cr_assert(place_slabs(donor, 2, 7, &rng, plan));
	cr_expect_eq(donor[0].free + donor[1].free, 0);
}

Test(placement, gives_the_same_plan_for_the_same_seed)
{
	uint8_t plan[2][200];

	for (unsigned i = 0; i < 2; i++) {
		struct place_donor donor[4] = {{90, true}, {80, false}, {70, true}, {60, true}};
		uint64_t rng = 42;

		cr_assert(place_slabs(donor, 4, 200, &rng, plan[i]));
	}
	cr_expect(!memcmp(plan[0], plan[1], sizeof plan[0]));
}
