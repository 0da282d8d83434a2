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

/* Those in domains that are not used yet, as long as there are any. */
static uint64_t prefer(const struct place_donor *donor, unsigned donors, uint64_t mask,
		       uint64_t domains)
{
	uint64_t apart = 0;

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
static bool plan_all(struct place_donor *donor, unsigned donors, uint64_t count, unsigned members,
		     uint64_t *rng, uint8_t *plan)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t taken = 0, domains = 0;

		for (unsigned k = 0; k < members; k++) {
			int d = place_one(donor, donors, taken, domains, rng);

			if (d < 0)
				return false;
			donor[d].free--;
			donor[d].used = true;
			taken |= 1ull << d;
			domains |= 1ull << donor[d].domain;
			plan[i * members + k] = (uint8_t)d;
		}
	}
	return true;
}

bool place_slabs(struct place_donor *donor, unsigned donors, uint64_t count, unsigned members,
		 uint64_t *rng, uint8_t *plan)
{
	struct place_donor before[MAX_DONORS];
	uint64_t room = 0;

	for (unsigned i = 0; i < donors; i++)
		room += donor[i].free < count ? donor[i].free : count;
	if (room < count * members)
		return false;
	memcpy(before, donor, donors * sizeof *donor);
	if (plan_all(donor, donors, count, members, rng, plan))
		return true;
	memcpy(donor, before, donors * sizeof *donor);
	for (unsigned i = 0; i < donors; i++)
		donor[i].used = true;
	if (plan_all(donor, donors, count, members, NULL, plan))
		return true;
	memcpy(donor, before, donors * sizeof *donor);
	return false;
}
