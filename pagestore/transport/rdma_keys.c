/* SPDX-License-Identifier: MIT */
/*
 * Keys by slab. Handles are never used again, so nothing is ever removed: an old key gives way when
 * its place is needed, and one that is needed after all is asked for again.
 */
#include "pagestore/transport/rdma.h"

#define WAYS 8u

static struct rdma_key *set_of(const struct rdma *r, uint64_t handle)
{
	uint64_t h = handle * 0x9e3779b97f4a7c15ull;

	return &r->keys[(h >> 32) % (RDMA_KEYS / WAYS) * WAYS];
}

const struct rdma_key *rdma_keys_find(const struct rdma *r, uint64_t handle)
{
	const struct rdma_key *set = set_of(r, handle);

	for (unsigned i = 0; i < WAYS && handle; i++)
		if (set[i].handle == handle)
			return &set[i];
	return NULL;
}

/* The newest is first; the oldest falls off the end. */
void rdma_keys_put(struct rdma *r, const struct rdma_key *key)
{
	struct rdma_key *set = set_of(r, key->handle);
	unsigned i = 0;

	while (i < WAYS - 1 && set[i].handle && set[i].handle != key->handle)
		i++;
	for (; i > 0; i--)
		set[i] = set[i - 1];
	set[0] = *key;
}
