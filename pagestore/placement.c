/* SPDX-License-Identifier: MIT */
/* Placement of slabs on donors; see placement.h. */
#include "pagestore/placement.h"

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The k-th donor that has room. */
static unsigned kth(const struct place_donor *donor, uint64_t k)
{
	unsigned i = 0;

	while (!donor[i].free || k--)
		i++;
	return i;
}

static unsigned pick(const struct place_donor *donor, unsigned donors, uint64_t *rng)
{
	unsigned fresh = donors, open = 0, a, b;

	for (unsigned i = 0; i < donors; i++) {
		if (!donor[i].free)
			continue;
		open++;
		if (!donor[i].used && (fresh == donors || donor[i].free > donor[fresh].free))
			fresh = i;
	}
	if (fresh < donors)
		return fresh;
	a = kth(donor, next_random(rng) % open);
	b = kth(donor, next_random(rng) % open);
	return donor[b].free > donor[a].free ? b : a;
}

bool place_slabs(struct place_donor *donor, unsigned donors, uint64_t count, uint64_t *rng,
		 uint8_t *plan)
{
	uint64_t room = 0;

	for (unsigned i = 0; i < donors; i++)
		room += donor[i].free;
	if (room < count)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		unsigned d = pick(donor, donors, rng);

		donor[d].free--;
		donor[d].used = true;
		plan[i] = (uint8_t)d;
	}
	return true;
}
