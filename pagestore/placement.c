/* SPDX-License-Identifier: MIT */
/* Placement of slabs on donors; see placement.h. */
#include "pagestore/placement.h"

#include <string.h>

#define MAX_DONORS 65u

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The k-th donor of a mask. */
static unsigned kth(uint64_t mask, uint64_t k)
{
	while (k--)
		mask &= mask - 1;
	return (unsigned)__builtin_ctzll(mask);
}

static unsigned fullest(const struct place_donor *donor, uint64_t mask)
{
	unsigned most = (unsigned)__builtin_ctzll(mask);

	for (; mask; mask &= mask - 1)
		if (donor[__builtin_ctzll(mask)].free > donor[most].free)
			most = (unsigned)__builtin_ctzll(mask);
	return most;
}

/* Those that are memory, of them those in domains that are not used yet, as long as there are any. */
static uint64_t prefer(const struct place_donor *donor, unsigned donors, uint64_t mask,
		       uint64_t domains)
{
	uint64_t apart = 0, memory = 0;

	for (unsigned i = 0; i < donors; i++)
		if (mask >> i & 1 && !donor[i].last)
			memory |= 1ull << i;
	mask = memory ? memory : mask;
	for (unsigned i = 0; i < donors; i++)
		if (mask >> i & 1 && !(domains >> donor[i].domain & 1))
			apart |= 1ull << i;
	return apart ? apart : mask;
}

int place_one(const struct place_donor *donor, unsigned donors, uint64_t taken, uint64_t domains,
	      uint64_t *rng)
{
	uint64_t mask = 0, fresh = 0;
	unsigned n, a, b;

	for (unsigned i = 0; i < donors; i++)
		if (donor[i].free && !(taken >> i & 1))
			mask |= 1ull << i;
	if (!mask)
		return -1;
	mask = prefer(donor, donors, mask, domains);
	for (unsigned i = 0; i < donors; i++)
		if (mask >> i & 1 && !donor[i].used)
			fresh |= 1ull << i;
	if (fresh)
		return (int)fullest(donor, fresh);
	if (!rng)
		return (int)fullest(donor, mask);
	n = (unsigned)__builtin_popcountll(mask);
	a = kth(mask, next_random(rng) % n);
	b = kth(mask, next_random(rng) % n);
	return (int)(donor[b].free > donor[a].free ? b : a);
}

/* rng NULL: always where most is free, which fits whenever anything does. */
static bool plan_slab(struct place_donor *donor, unsigned donors, unsigned members, bool spill,
		      uint64_t *rng, uint8_t *plan)
{
	uint64_t taken = 0, domains = 0;
	unsigned spilled = 0;
	bool enough = false;

	for (unsigned i = 0; i < donors && !spill; i++)
		if (donor[i].last)
			taken |= 1ull << i;
	for (unsigned k = 0; k < members; k++) {
		int d = place_one(donor, donors, taken, domains, rng);

		if (d < 0 && !enough)
			return false;
		plan[k] = d < 0 ? PLACE_NONE : (uint8_t)d;
		if (d < 0)
			continue;
		donor[d].free--;
		donor[d].used = true;
		domains |= 1ull << donor[d].domain;
		if (donor[d].last)
			enough = ++spilled == donor[d].last;
		if (!donor[d].last || enough)
			taken |= 1ull << d;
	}
	return true;
}

static bool plan_all(struct place_donor *donor, unsigned donors, uint64_t count, unsigned members,
		     bool spill, uint64_t *rng, uint8_t *plan)
{
	for (uint64_t i = 0; i < count; i++)
		if (!plan_slab(donor, donors, members, spill, rng, plan + i * members))
			return false;
	return true;
}

bool place_slabs(struct place_donor *donor, unsigned donors, uint64_t count, unsigned members,
		 uint64_t *rng, uint8_t *plan)
{
	struct place_donor before[MAX_DONORS];
	uint64_t room = 0;
	bool spill = false;

	for (unsigned i = 0; i < donors; i++) {
		room += donor[i].last ? 0 : donor[i].free < count ? donor[i].free : count;
		spill = spill || (donor[i].last && donor[i].free);
	}
	if (room < count * members && !spill)
		return false;
	memcpy(before, donor, donors * sizeof *donor);
	if (room >= count * members) {
		if (plan_all(donor, donors, count, members, false, rng, plan))
			return true;
		memcpy(donor, before, donors * sizeof *donor);
		for (unsigned i = 0; i < donors; i++)
			donor[i].used = true;
		if (plan_all(donor, donors, count, members, false, NULL, plan))
			return true;
	}
	/* Even where all is spread evenly the memory is not enough. */
	memcpy(donor, before, donors * sizeof *donor);
	for (unsigned i = 0; i < donors; i++)
		donor[i].used = true;
	if (spill && plan_all(donor, donors, count, members, true, NULL, plan))
		return true;
	memcpy(donor, before, donors * sizeof *donor);
	return false;
}
