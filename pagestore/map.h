/* SPDX-License-Identifier: MIT */
/*
 * What a volume knows of its pages: where each slab lies (a list of replicas, one used for now) and
 * each page's hash. Read by every port without a lock. An entry's replicas are there before its
 * `live` count is (release, acquire); hashes belong to whoever owns the page at the moment.
 */
#ifndef PAGESTORE_MAP_H
#define PAGESTORE_MAP_H

#include "pagestore/hash.h"

#include <stdbool.h>
#include <stddef.h>

#define MAP_REPLICAS 3

struct seal;

struct map_slab {
	uint64_t handle[MAP_REPLICAS];
	uint8_t donor[MAP_REPLICAS];
	uint8_t live; /* replicas; 0: not granted */
};

struct map {
	uint64_t pages;
	uint32_t slab_shift; /* pages in a slab, as a power of two */
	uint64_t slabs;
	struct map_slab *slab;
	uint64_t *hash; /* by page; touched only where pages are used */
	struct seal *seal; /* how pages are encrypted; NULL: they are not */
};

int map_open(struct map *m, uint64_t pages, uint32_t slab_pages);
void map_close(struct map *m);

/* The pages of [first, first + count) read as zeros. Gives the hashes' memory back if it can. */
void map_clear(struct map *m, uint64_t first, uint64_t count);

static inline bool map_has(const struct map *m, uint64_t first, uint64_t count)
{
	return count <= m->pages && first <= m->pages - count;
}

/* NULL when it isn't granted. */
static inline const struct map_slab *map_find(const struct map *m, uint64_t page)
{
	const struct map_slab *s = &m->slab[page >> m->slab_shift];

	return __atomic_load_n(&s->live, __ATOMIC_ACQUIRE) ? s : NULL;
}

static inline uint64_t map_hash(const struct map *m, uint64_t page)
{
	return __atomic_load_n(&m->hash[page], __ATOMIC_RELAXED);
}

static inline void map_set_hash(struct map *m, uint64_t page, uint64_t hash)
{
	__atomic_store_n(&m->hash[page], hash, __ATOMIC_RELAXED);
}

/* Under the volume's lock. */
void map_put(struct map *m, uint64_t slab, unsigned donor, uint64_t handle);
void map_take(struct map *m, uint64_t slab);

#endif
