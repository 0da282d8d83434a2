/* SPDX-License-Identifier: MIT */
/* The slab map and the page hashes; see map.h. */
#include "pagestore/map.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#define OS_PAGE     4096u
#define CLEAR_PAGES 8192u /* 64 KiB of hashes: dropping them is cheaper than writing */

int map_open(struct map *m, uint64_t pages, uint32_t slab_pages, unsigned need, unsigned members,
	     unsigned parts)
{
	assert(need >= 1 && need <= members && members < MAP_MEMBERS);
	*m = (struct map){.pages = pages,
			  .slab_shift = (uint32_t)__builtin_ctz(slab_pages),
			  .need = need,
			  .members = members,
			  .parts = parts};
	m->slabs = (pages + slab_pages - 1) >> m->slab_shift;
	m->slab = mem_map(m->slabs * sizeof *m->slab);
	m->hash = mem_map(pages * sizeof *m->hash);
	if (!m->slab || !m->hash) {
		map_close(m);
		return err_fail(-ENOMEM, "no memory for the hashes of %llu pages",
				(unsigned long long)pages);
	}
	return 0;
}

void map_close(struct map *m)
{
	mem_unmap(m->slab, m->slabs * sizeof *m->slab);
	mem_unmap(m->hash, m->pages * sizeof *m->hash);
	*m = (struct map){0};
}

void map_clear(struct map *m, uint64_t first, uint64_t count)
{
	const uint64_t per = OS_PAGE / sizeof *m->hash;
	uint64_t end = first + count, from = (first + per - 1) / per * per, to = end / per * per;

	if (count >= CLEAR_PAGES &&
	    !sys_call3(SYS_madvise, SYS_PTR(m->hash + from), (long)((to - from) * sizeof *m->hash),
		       MADV_DONTNEED)) {
		for (uint64_t i = first; i < from; i++)
			map_set_hash(m, i, HASH_ZEROS);
		for (uint64_t i = to; i < end; i++)
			map_set_hash(m, i, HASH_ZEROS);
		return;
	}
	for (uint64_t i = first; i < end; i++)
		if (map_hash(m, i) != HASH_ZEROS)
			map_set_hash(m, i, HASH_ZEROS);
}

static bool thin(const struct map *m, uint64_t set)
{
	return m->members > m->need && set & SET_GRANTED && map_count(set_live(set)) <= m->need;
}

bool map_hangs(const struct map *m)
{
	/* In this order: the sweep counts what is thin first. */
	uint64_t gone = map_gone(m) & ~__atomic_load_n(&m->swept, __ATOMIC_ACQUIRE);

	return gone || __atomic_load_n(&m->thin, __ATOMIC_RELAXED);
}

bool map_give_up(struct map *m, unsigned donor)
{
	uint64_t gone = map_gone(m);

	do
		if (map_hangs(m))
			return gone >> donor & 1;
	while (!__atomic_compare_exchange_n(&m->gone, &gone, gone | 1ull << donor, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return true;
}

/* One step; false: another thread was faster, *set is what it is now. */
static bool change(struct map *m, struct map_slab *s, uint64_t *set, uint64_t to)
{
	bool was = thin(m, *set), is = thin(m, to);

	if (!__atomic_compare_exchange_n(&s->set, set, to, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return false;
	__atomic_fetch_add(&m->changes, 1, __ATOMIC_RELEASE);
	if (is && !was)
		__atomic_fetch_add(&m->thin, 1, __ATOMIC_RELAXED);
	if (was && !is)
		__atomic_fetch_sub(&m->thin, 1, __ATOMIC_RELAXED);
	return true;
}

static bool leave(struct map *m, struct map_slab *s, unsigned place, uint64_t handle, bool force,
		  unsigned failed)
{
	uint64_t set = map_set(s), without;
	uint8_t donor;
	uint64_t here;

	for (;;) {
		without = set & ~(SET_LIVE(place) | SET_FILLING(place));
		if (without == set)
			return true;
		if (!map_place(s, set, place, &donor, &here)) {
			set = map_set(s);
			continue;
		}
		if (here != handle)
			return true;
		if (!force && set & SET_LIVE(place) && map_count(set_live(without)) < m->need)
			return false;
		if (!change(m, s, &set, without + SET_GENERATION))
			continue;
		__atomic_fetch_add(&m->dropped, failed, __ATOMIC_RELAXED);
		return true;
	}
}

bool map_retire(struct map *m, struct map_slab *s, unsigned place, uint64_t handle)
{
	return leave(m, s, place, handle, false, 0);
}

bool map_drop(struct map *m, struct map_slab *s, unsigned place, uint64_t handle)
{
	return leave(m, s, place, handle, false, 1);
}

void map_lose(struct map *m, struct map_slab *s, unsigned place, uint64_t handle)
{
	leave(m, s, place, handle, true, 1);
}

void map_put(struct map *m, uint64_t slab, unsigned n, const uint8_t *donor, const uint64_t *handle)
{
	struct map_slab *s = &m->slab[slab];
	uint64_t set = map_set(s);

	assert(n >= m->need && n <= m->members && !(set & SET_GRANTED));
	for (unsigned i = 0; i < n; i++) {
		__atomic_store_n(&s->donor[i], donor[i], __ATOMIC_RELAXED);
		__atomic_store_n(&s->handle[i], handle[i], __ATOMIC_RELAXED);
		s->frag[i] = (uint8_t)i;
	}
	map_restore(m, slab, (1u << n) - 1);
}

void map_restore(struct map *m, uint64_t slab, uint32_t live)
{
	struct map_slab *s = &m->slab[slab];
	uint64_t set = map_set(s);

	/* Donors know a new slab as of generation 0: there is nobody to tell yet. */
	__atomic_store_n(&s->told, set_generation(set) + 1, __ATOMIC_RELAXED);
	while (!change(m, s, &set,
		       ((set & ~(SET_GENERATION - 1)) + SET_GENERATION) | SET_GRANTED | live))
		;
}

uint64_t map_take(struct map *m, uint64_t slab)
{
	struct map_slab *s = &m->slab[slab];
	uint64_t set = map_set(s);

	while (!change(m, s, &set, (set & ~(SET_GENERATION - 1)) + SET_GENERATION))
		;
	return set;
}

int map_join(struct map *m, struct map_slab *s, unsigned frag, uint8_t donor, uint64_t handle)
{
	uint64_t set = map_set(s);
	uint32_t used = set_live(set) | set_filling(set);
	unsigned place = 0;

	/* Nobody but us gives places away, so a free one stays free. */
	while (place < MAP_MEMBERS && used >> place & 1)
		place++;
	if (place == MAP_MEMBERS)
		return -ENOSPC;
	__atomic_store_n(&s->donor[place], donor, __ATOMIC_RELAXED);
	__atomic_store_n(&s->handle[place], handle, __ATOMIC_RELAXED);
	__atomic_store_n(&s->frag[place], (uint8_t)frag, __ATOMIC_RELAXED);
	while (!change(m, s, &set, (set | SET_FILLING(place)) + SET_GENERATION))
		;
	return (int)place;
}

bool map_promote(struct map *m, struct map_slab *s, unsigned place, int leaves)
{
	uint64_t set = map_set(s), to;

	do {
		if (!(set & SET_FILLING(place)) || (leaves >= 0 && !(set & SET_LIVE(leaves))))
			return false;
		to = (set & ~SET_FILLING(place)) | SET_LIVE(place);
		if (leaves >= 0)
			to &= ~SET_LIVE(leaves);
	} while (!change(m, s, &set, to + SET_GENERATION));
	return true;
}
