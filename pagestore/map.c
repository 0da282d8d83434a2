/* SPDX-License-Identifier: MIT */
/* The slab map and the page hashes; see map.h. */
#include "pagestore/map.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <errno.h>
#include <sys/mman.h>

#define OS_PAGE     4096u
#define CLEAR_PAGES 8192u /* 64 KiB of hashes: dropping them is cheaper than writing */

int map_open(struct map *m, uint64_t pages, uint32_t slab_pages)
{
	*m = (struct map){.pages = pages, .slab_shift = (uint32_t)__builtin_ctz(slab_pages)};
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

void map_put(struct map *m, uint64_t slab, unsigned donor, uint64_t handle)
{
	struct map_slab *s = &m->slab[slab];

	s->donor[0] = (uint8_t)donor;
	s->handle[0] = handle;
	__atomic_store_n(&s->live, 1, __ATOMIC_RELEASE);
}

void map_take(struct map *m, uint64_t slab)
{
	__atomic_store_n(&m->slab[slab].live, 0, __ATOMIC_RELEASE);
}
