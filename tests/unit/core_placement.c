/* SPDX-License-Identifier: MIT */
/* Placement is a pure function: the same view of the donors and the same seed give the same plan.
 */
#include "pagestore/placement.h"

#include <criterion/criterion.h>
#include <string.h>

Test(placement, uses_every_donor_before_using_one_twice)
{
	struct place_donor donor[5] = {
		{.free = 10, .used = false}, {.free = 10, .used = true}, {.free = 3, .used = false}, {.free = 10, .used = false}, {.free = 0, .used = false}};
	uint8_t plan[3];
	uint64_t rng = 7;
	unsigned seen[5] = {0};

	cr_assert(place_slabs(donor, 5, 3, 1, &rng, plan));
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
	struct place_donor donor[3] = {{.free = 1000, .used = true}, {.free = 1000, .used = true}, {.free = 1000, .used = true}};
	static uint8_t plan[1500];
	uint64_t rng = 1;

	cr_assert(place_slabs(donor, 3, 1500, 1, &rng, plan));
	for (unsigned i = 0; i < 3; i++)
		cr_expect(donor[i].free > 480 && donor[i].free < 520, "donor %u has %lu left", i,
			  (unsigned long)donor[i].free);
}

Test(placement, prefers_the_donor_with_more_free_memory)
{
	struct place_donor donor[2] = {{.free = 100, .used = true}, {.free = 10000, .used = true}};
	static uint8_t plan[1000];
	uint64_t rng = 3, first = 0;

	cr_assert(place_slabs(donor, 2, 1000, 1, &rng, plan));
	for (unsigned i = 0; i < 1000; i++)
		first += plan[i] == 0;
	/* Only when both picks fall on it: a quarter. */
	cr_expect_eq(first, 100 - donor[0].free);
	cr_expect_lt(first, 101);
}

Test(placement, uses_the_last_slab_and_not_one_more)
{
	struct place_donor donor[2] = {{.free = 3, .used = true}, {.free = 4, .used = false}}, before[2];
	uint8_t plan[8] = {9, 9, 9, 9, 9, 9, 9, 9};
	uint64_t rng = 11;

	memcpy(before, donor, sizeof before);
	cr_assert(!place_slabs(donor, 2, 8, 1, &rng, plan));
	cr_expect_eq(plan[0], 9, "a refused plan plans nothing");
	cr_expect(!memcmp(before, donor, sizeof before));
	cr_assert(place_slabs(donor, 2, 7, 1, &rng, plan));
	cr_expect_eq(donor[0].free + donor[1].free, 0);
}

Test(placement, gives_the_same_plan_for_the_same_seed)
{
	uint8_t plan[2][200];

	for (unsigned i = 0; i < 2; i++) {
		struct place_donor donor[4] = {{.free = 90, .used = true}, {.free = 80, .used = false}, {.free = 70, .used = true}, {.free = 60, .used = true}};
		uint64_t rng = 42;

		cr_assert(place_slabs(donor, 4, 200, 1, &rng, plan[i]));
	}
	cr_expect(!memcmp(plan[0], plan[1], sizeof plan[0]));
}

Test(placement, puts_the_members_of_a_slab_on_different_donors_and_domains)
{
	/* Two racks: 0, 1, 2 in one, 3 in the other. */
	struct place_donor donor[4] = {{.free = 100, .domain = 0},
				       {.free = 100, .domain = 0},
				       {.free = 100, .domain = 0},
				       {.free = 60, .domain = 1}};
	static uint8_t plan[200];
	uint64_t rng = 5;

	cr_assert(place_slabs(donor, 4, 60, 2, &rng, plan));
	for (unsigned i = 0; i < 60; i++)
		cr_expect((plan[2 * i] == 3) != (plan[2 * i + 1] == 3), "slab %u", i);
	/* The second rack is full: different donors will have to do. */
	cr_assert(place_slabs(donor, 4, 80, 2, &rng, plan));
	for (unsigned i = 0; i < 80; i++)
		cr_expect_neq(plan[2 * i], plan[2 * i + 1]);
	cr_expect(!place_slabs(donor, 4, 50, 2, &rng, plan));
}

Test(placement, fits_what_can_be_fitted)
{
	struct place_donor donor[3] = {{.free = 10, .used = true, .domain = 0},
				       {.free = 5, .used = true, .domain = 1},
				       {.free = 5, .used = true, .domain = 2}};
	uint8_t plan[20];
	uint64_t rng = 3;

	cr_assert(place_slabs(donor, 3, 10, 2, &rng, plan));
	for (unsigned i = 0; i < 10; i++)
		cr_expect(plan[2 * i] == 0 || plan[2 * i + 1] == 0);
	cr_expect_eq(place_one(donor, 3, 1, 1, &rng), -1);
}
