/* SPDX-License-Identifier: MIT */
/*
 * What a volume knows of its pages: where each slab lies (its replica set) and each page's hash. All
 * ports read it without a lock. docs/replication.md has the rules.
 *
 * A set is one word, changed by compare-and-swap only: which of the entry's places are live or
 * filling, and the generation, which rises with every change. Whoever reads a place's donor and handle
 * looks at the word again afterwards (map_view): unchanged, they belong together. A place is given
 * away anew only under the volume's lock. Hashes belong to whoever owns the page at the moment.
 */
#ifndef PAGESTORE_MAP_H
#define PAGESTORE_MAP_H

#include "pagestore/hash.h"
#include <infuse/pagestore.h>

#include <stdbool.h>
#include <stddef.h>

#define MAP_MEMBERS (PS_MAX_MEMBERS + 2u) /* and places for those that join */
#define MAP_PLACES  ((1u << MAP_MEMBERS) - 1)

/* The word: generation, granted, filling, live. */
#define SET_FILL_SHIFT    MAP_MEMBERS
#define SET_GRANTED       (1ull << 2 * MAP_MEMBERS)
#define SET_GENERATION    (1ull << 32) /* one more */
#define SET_LIVE(m)       (1ull << (m))
#define SET_FILLING(m)    (1ull << ((m) + SET_FILL_SHIFT))

static inline uint32_t set_live(uint64_t set)
{
	return (uint32_t)set & MAP_PLACES;
}

static inline uint32_t set_filling(uint64_t set)
{
	return (uint32_t)(set >> SET_FILL_SHIFT) & MAP_PLACES;
}

static inline uint32_t set_generation(uint64_t set)
{
	return (uint32_t)(set >> 32);
}

struct seal;

struct map_slab {
	uint64_t set;
	uint32_t told; /* the generation that the members have acknowledged */
	uint32_t reserved;
	uint8_t donor[MAP_MEMBERS];
	uint8_t frag[MAP_MEMBERS]; /* of coded slabs: which fragment */
	uint64_t handle[MAP_MEMBERS];
};

struct map {
	uint64_t pages;
	uint32_t slab_shift;       /* the volume's pages in a slab, as a power of two */
	uint64_t slabs;
	unsigned need, members;    /* as many must live; as many there should be */
	unsigned parts;            /* k, or 0: copies */
	struct map_slab *slab;
	uint64_t *hash;            /* by page; touched only where pages are used */
	struct seal *seal;         /* how pages are encrypted; NULL: they are not */
	uint64_t gone;             /* bit a donor: it has failed, for all ports */
	uint64_t swept;            /* of these, those that are in no set any more */
	uint64_t thin;             /* slabs without a member to spare; only with members > need */
	bool durable;              /* other writers come: zeros are sent, for only donors remember them */
	uint64_t changes;          /* of any set */
	uint64_t dropped;          /* members that failed */
	uint64_t era;              /* counts changes after which old handles are freed; see core.h */
};

/* need and members of copies are 1 and the number of copies; parts > 0: of fragments. */
int map_open(struct map *m, uint64_t pages, uint32_t slab_pages, unsigned need, unsigned members,
	     unsigned parts);
void map_close(struct map *m);

/* The pages of [first, first + count) read as zeros. Gives the hashes' memory back if it can. */
void map_clear(struct map *m, uint64_t first, uint64_t count);

static inline bool map_has(const struct map *m, uint64_t first, uint64_t count)
{
	return count <= m->pages && first <= m->pages - count;
}

static inline uint64_t map_set(const struct map_slab *s)
{
	return __atomic_load_n(&s->set, __ATOMIC_ACQUIRE);
}

static inline bool map_granted(const struct map *m, uint64_t slab)
{
	return map_set(&m->slab[slab]) & SET_GRANTED;
}

static inline struct map_slab *map_slab_of(const struct map *m, uint64_t page)
{
	return &m->slab[page >> m->slab_shift];
}

static inline uint64_t map_hash(const struct map *m, uint64_t page)
{
	return __atomic_load_n(&m->hash[page], __ATOMIC_RELAXED);
}

static inline void map_set_hash(struct map *m, uint64_t page, uint64_t hash)
{
	__atomic_store_n(&m->hash[page], hash, __ATOMIC_RELAXED);
}

static inline uint64_t map_gone(const struct map *m)
{
	return __atomic_load_n(&m->gone, __ATOMIC_ACQUIRE);
}

/* A wrong answer, when the place was given to another meanwhile, is no harm: then its handle is no member's,
 * and the hash proves what is read. */
static inline unsigned map_frag(const struct map_slab *s, unsigned place)
{
	return __atomic_load_n(&s->frag[place], __ATOMIC_RELAXED);
}

/* A place's donor and handle; false when the set is not `set` any more: read it again. */
static inline bool map_place(const struct map_slab *s, uint64_t set, unsigned place, uint8_t *donor,
			     uint64_t *handle)
{
	*donor = __atomic_load_n(&s->donor[place], __ATOMIC_RELAXED);
	*handle = __atomic_load_n(&s->handle[place], __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&s->set, __ATOMIC_RELAXED) == set;
}

static inline unsigned map_count(uint32_t places)
{
	return (unsigned)__builtin_popcount(places);
}

/* A donor has failed and its members have not left yet, or some slab has none to spare. */
bool map_hangs(const struct map *m);
/*
 * The donor is gone, because it is slow: false while that may be the end of some data (the set hangs). Of
 * several that are slow at once (the network stood still, or this machine) one is, whoever asks.
 */
bool map_give_up(struct map *m, unsigned donor);
/*
 * Any thread: the member in this place (if it is the one with this handle still) leaves the set.
 * False: the set needs it (rule 4), it stays. true when it wasn't there any more, too.
 */
bool map_drop(struct map *m, struct map_slab *s, unsigned place, uint64_t handle);

/* The same for one whose time is over: it has not failed. */
bool map_retire(struct map *m, struct map_slab *s, unsigned place, uint64_t handle);

/* The same for a member that has lost its contents: whether the set needs it or not. */
void map_lose(struct map *m, struct map_slab *s, unsigned place, uint64_t handle);

/* --- under the volume's lock --- */

/* A new slab with n live members, in places 0 .. n - 1; fragment i in place i. */
void map_put(struct map *m, uint64_t slab, unsigned n, const uint8_t *donor, const uint64_t *handle);
/* The slab is not granted any more. What it had. */
uint64_t map_take(struct map *m, uint64_t slab);
/* A slab that is not granted becomes one with these live places, which are filled in already. */
void map_restore(struct map *m, uint64_t slab, uint32_t live);
/* A filling member joins; returns its place or -ENOSPC. */
int map_join(struct map *m, struct map_slab *s, unsigned frag, uint8_t donor, uint64_t handle);
/*
 * The filling member becomes live; in the same step `leaves` (or -1) leaves. False: it is not
 * filling any more, or the leaving one is not live (then nothing changed).
 */
bool map_promote(struct map *m, struct map_slab *s, unsigned place, int leaves);

#endif
