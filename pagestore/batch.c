/* SPDX-License-Identifier: MIT */
/*
 * Taking a batch apart into runs of pages, cut at the borders of slabs and around pages of zeros;
 * what is written is hashed (and sealed) before.
 */
#include "pagestore/core.h"
#include "pagestore/seal.h"

#include <errno.h>
#include <string.h>

static bool well_formed(const struct core *c, const struct ps_batch *b)
{
	uint64_t pages = 0;

	if (b->vecs < 1 || b->vecs > PS_MAX_VECS || !b->vec)
		return false;
	for (unsigned i = 0; i < b->vecs; i++) {
		const struct ps_vec *v = &b->vec[i];

		if (!v->count || !v->buf || v->reserved || !map_has(c->map, v->page, v->count))
			return false;
		pages += v->count;
	}
	return pages <= PS_BATCH_PAGES;
}

/* A page's hash as it is to be stored; HASH_ZEROS for a page of zeros. */
static uint64_t hash_for(const struct core *c, const void *page, const uint64_t *given)
{
	bool have = given && *given > HASH_LOST;

	if (have ? *given == c->zeros && ps_page_is_zero(page) : ps_page_is_zero(page))
		return c->map->durable ? c->zeros : HASH_ZEROS;
	return have ? *given : ps_hash(page);
}

unsigned char *core_sealed(struct core *c, unsigned slot, uint32_t n)
{
	struct core_slot *s = &c->slot[slot];

	if (s->sealed + n > PS_BATCH_PAGES)
		return NULL;
	s->sealed = (uint16_t)(s->sealed + n);
	return c->sealed + ((size_t)slot * PS_BATCH_PAGES - PS_BATCH_PAGES + s->sealed - n) *
				   PS_PAGE_SIZE;
}

/* What is known of the pages from now on; sealed they wait in the slot's memory, in this order. */
static void store_hashes(struct core *c, unsigned slot, const struct ps_vec *v)
{
	for (uint32_t i = 0; i < v->count; i++) {
		const unsigned char *p = (unsigned char *)v->buf + (size_t)i * PS_PAGE_SIZE;
		uint64_t hash;

		if (!(map_set(map_slab_of(c->map, v->page + i)) & SET_GRANTED))
			continue;
		hash = hash_for(c, p, v->hashes ? &v->hashes[i] : NULL);
		if (c->map->seal && hash != HASH_ZEROS)
			seal_page(c->map->seal, v->page + i, p, core_sealed(c, slot, 1));
		map_set_hash(c->map, v->page + i, hash);
	}
}

bool core_page_fits(const struct core *c, uint64_t page, const void *buf)
{
	if (!c->map->seal)
		return ps_hash(buf) == map_hash(c->map, page);
	return seal_check(c->map->seal, page, buf, c->sealed + core_sealed_bytes(c) - PS_PAGE_SIZE);
}

struct core_run *core_run_new(struct core *c, unsigned slot, uint64_t page, uint32_t pages,
			      void *buf, unsigned state)
{
	struct core_slot *s = &c->slot[slot];
	struct core_run *r;

	if (s->runs == CORE_RUNS)
		return NULL;
	r = core_run_of(c, slot, s->runs++);
	*r = (struct core_run){
		.page = page, .pages = pages, .buf = buf, .wire = buf, .state = (uint8_t)state};
	s->left++;
	return r;
}

/* One page of a batch: it joins the last run if it follows it. */
static void add_page(struct core *c, unsigned slot, unsigned state, uint64_t page, void *buf,
		     void *wire)
{
	struct core_slot *s = &c->slot[slot];
	struct core_run *r = s->runs ? core_run_of(c, slot, s->runs - 1u) : NULL;
	bool begins = !(page & ((1ull << c->map->slab_shift) - 1));

	if (r && !begins && r->pages < c->max_run && page == r->page + r->pages &&
	    buf == r->buf + (size_t)r->pages * PS_PAGE_SIZE &&
	    wire == r->wire + (size_t)r->pages * PS_PAGE_SIZE) {
		r->pages++;
		return;
	}
	r = core_run_new(c, slot, page, 1, buf, state);
	r->wire = wire;
}

static void take_page(struct core *c, unsigned slot, struct ps_batch *b, uint64_t page, void *buf)
{
	const struct map_slab *s = map_slab_of(c->map, page);
	uint64_t hash = map_hash(c->map, page);

	if (!(map_set(s) & SET_GRANTED)) {
		core_batch_fail(c, b, -ENXIO, -1, page);
	} else if (!core_reads(b)) {
		if (hash == HASH_ZEROS)
			COUNT(c, zero_writes, 1);
		else if (b->kind == PS_WRITE && c->map->seal)
			add_page(c, slot, RUN_WRITE, page, buf, core_sealed(c, slot, 1));
		else
			add_page(c, slot, RUN_WRITE, page, buf, buf);
	} else if (hash == HASH_ZEROS) {
		memset(buf, 0, PS_PAGE_SIZE);
		COUNT(c, zero_reads, 1);
	} else if (hash == HASH_LOST) {
		core_batch_fail(c, b, -EIO, s->donor[0], page);
	} else {
		if (c->map->seal)
			seal_prefetch(c->map->seal, page);
		add_page(c, slot, RUN_READ, page, buf,
			 c->map->seal && b->kind == PS_READ ? core_sealed(c, slot, 1) : buf);
	}
}

static int submit(struct core *c, struct ps_batch *b, unsigned place, uint64_t now_ns)
{
	unsigned slot;

	if (!well_formed(c, b))
		return -EINVAL;
	if (c->inflight == c->depth)
		return -EBUSY;
	core_time(c, now_ns);
	b->status = 0;
	b->donor = -1;
	b->page = 0;
	b->next = NULL;
	b->pending = 0;
	b->state = BATCH_RUNS;
	b->deadline_ns = now_ns + c->deadline_ns;
	c->inflight++;
	COUNT(c, batches, 1);
	slot = core_slot_take(c, b);
	c->slot[slot].place = (uint16_t)place;
	if (b->kind == PS_WRITE) {
		for (unsigned i = 0; i < b->vecs; i++)
			store_hashes(c, slot, &b->vec[i]);
		c->slot[slot].sealed = 0; /* they are counted again as they are used */
		/* Hashes before sets: docs/replication.md, 18. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	for (unsigned i = 0; i < b->vecs; i++)
		for (uint32_t k = 0; k < b->vec[i].count; k++)
			take_page(c, slot, b, b->vec[i].page + k,
				  (unsigned char *)b->vec[i].buf + (size_t)k * PS_PAGE_SIZE);
	for (unsigned i = 0, n = c->slot[slot].runs; i < n; i++)
		run_start(c, slot, i);
	core_pack(c, slot);
	core_settle(c, slot);
	return 0;
}

int core_submit(struct core *c, struct ps_batch *b, uint64_t now_ns)
{
	if (b->kind != PS_READ && b->kind != PS_WRITE)
		return -EINVAL;
	return submit(c, b, 0, now_ns);
}

int core_read_raw(struct core *c, struct ps_batch *b, uint64_t now_ns)
{
	b->kind = CORE_RAW;
	return submit(c, b, 0, now_ns);
}

int core_fill(struct core *c, struct ps_batch *b, unsigned place, uint64_t now_ns)
{
	b->kind = CORE_FILL;
	return submit(c, b, place, now_ns);
}
