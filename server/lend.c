/* SPDX-License-Identifier: MIT */
/*
 * Operations on slabs. Each one looks everything up under its borrower's lock before it changes
 * anything, and does what takes long (copying, zeroing) outside of it.
 */
#include "server/lend_table.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct srv_slab *slot_take(struct srv_lender *l)
{
	struct srv_slab *s;

	pthread_mutex_lock(&l->slots_lock);
	s = l->free_slots;
	if (!s)
		abort(); /* there are as many as reservations */
	l->free_slots = s->next;
	pthread_mutex_unlock(&l->slots_lock);
	return s;
}

static void slot_give(struct srv_lender *l, struct srv_slab *s)
{
	pthread_mutex_lock(&l->slots_lock);
	s->next = l->free_slots;
	l->free_slots = s;
	pthread_mutex_unlock(&l->slots_lock);
}

/* b's lock is held. */
static uint64_t slab_add(struct srv_lender *l, struct srv_borrower *b, struct srv_buffer *buf)
{
	struct srv_slab *s = slot_take(l);

	s->generation++;
	s->handle = (uint64_t)s->generation << 32 | (uint32_t)(s - l->slots);
	s->buf = buf;
	s->set_generation = 0;
	s->heat = 0;
	s->heat_tick = atomic_load_explicit(&l->tick, memory_order_relaxed);
	s->prev = NULL;
	s->next = b->slabs;
	if (b->slabs)
		b->slabs->prev = s;
	b->slabs = s;
	atomic_fetch_add_explicit(&b->count, 1, memory_order_relaxed);
	atomic_store_explicit(&s->owner, b, memory_order_relaxed);
	return s->handle;
}

/* One that was wanted. b's lock is held. */
static void given_back(struct srv_lender *l, struct srv_borrower *b, struct srv_slab *s)
{
	uint32_t ask = atomic_load(&l->ask);

	s->wanted = false;
	b->wanted -= b->wanted > 0;
	while (ask && !atomic_compare_exchange_weak(&l->ask, &ask, ask - 1))
		;
}

/* b's lock is held. The caller drops the buffer. */
static struct srv_buffer *slab_remove(struct srv_lender *l, struct srv_borrower *b,
				      struct srv_slab *s)
{
	struct srv_buffer *buf = s->buf;

	atomic_store_explicit(&s->owner, NULL, memory_order_relaxed);
	if (s->prev)
		s->prev->next = s->next;
	else
		b->slabs = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->buf = NULL;
	s->marked = false;
	if (s->wanted)
		given_back(l, b, s);
	atomic_fetch_sub_explicit(&b->count, 1, memory_order_relaxed);
	slot_give(l, s);
	return buf;
}

struct srv_slab *srv_slab_find(struct srv_lender *l, const struct srv_borrower *b, uint64_t handle)
{
	uint32_t i = (uint32_t)handle;
	struct srv_slab *s;

	if (i >= srv_arena_total(l->arena))
		return NULL;
	s = &l->slots[i];
	if (atomic_load_explicit(&s->owner, memory_order_relaxed) != b || s->handle != handle)
		return NULL;
	return s;
}

static uint64_t handle_at(const uint8_t *slabs, uint32_t i)
{
	struct wire_slab w;

	memcpy(&w, slabs + i * sizeof w, sizeof w);
	return le64toh(w.slab);
}

/*
 * Sets n slabs of the borrower's quota and of the arena's room aside; no lock is held. Clones are not refused
 * while a donor is emptied: a fork must not fail for that, and its slabs are asked back like others.
 */
static uint32_t promise(struct srv_lender *l, struct srv_borrower *b, uint32_t n)
{
	uint32_t quota = atomic_load(&b->quota), status = WIRE_OK;

	if (atomic_load_explicit(&l->draining, memory_order_relaxed) || atomic_load(&l->emptying))
		return WIRE_EDRAINING;
	pthread_mutex_lock(&b->lock);
	if ((uint64_t)atomic_load(&b->count) + b->promised + n > quota)
		status = WIRE_EQUOTA;
	else if (!srv_arena_reserve(l->arena, n))
		status = WIRE_ENOSPC;
	else
		b->promised += n;
	pthread_mutex_unlock(&b->lock);
	return status;
}

/* Of a promise that is not kept: the arena's part has been given back. */
static void promise_end(struct srv_borrower *b, uint32_t n)
{
	pthread_mutex_lock(&b->lock);
	b->promised -= n;
	pthread_mutex_unlock(&b->lock);
}

uint32_t srv_lend_grant(struct srv_lender *l, struct srv_borrower *b, uint32_t n,
			struct wire_slab *ret)
{
	struct srv_buffer *got[WIRE_MAX_SLABS];
	uint32_t status, i;

	if (n > WIRE_MAX_SLABS)
		return WIRE_ELIMIT;
	status = promise(l, b, n);
	if (status)
		return status;
	for (i = 0; i < n; i++) {
		got[i] = srv_arena_take(l->arena, true);
		if (!got[i])
			break;
	}
	if (i < n) {
		srv_arena_unreserve(l->arena, n - i);
		while (i-- > 0)
			srv_buffer_drop(got[i]);
		promise_end(b, n);
		return WIRE_EINTERNAL;
	}
	pthread_mutex_lock(&b->lock);
	b->promised -= n;
	for (i = 0; i < n; i++)
		ret[i].slab = htole64(slab_add(l, b, got[i]));
	pthread_mutex_unlock(&b->lock);
	return WIRE_OK;
}

uint32_t srv_lend_free(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		       uint32_t n)
{
	struct srv_buffer *got[WIRE_MAX_SLABS];
	struct srv_slab *s = NULL;
	uint32_t i;

	if (n > WIRE_MAX_SLABS)
		return WIRE_ELIMIT;
	pthread_mutex_lock(&b->lock);
	/* A slab named twice is found marked: the second one is no longer the borrower's. */
	for (i = 0; i < n; i++) {
		s = srv_slab_find(l, b, handle_at(slabs, i));
		if (!s || s->marked)
			break;
		s->marked = true;
	}
	if (i < n) {
		while (i-- > 0)
			srv_slab_find(l, b, handle_at(slabs, i))->marked = false;
		pthread_mutex_unlock(&b->lock);
		return WIRE_ESLAB;
	}
	for (i = 0; i < n; i++)
		got[i] = slab_remove(l, b, srv_slab_find(l, b, handle_at(slabs, i)));
	pthread_mutex_unlock(&b->lock);
	for (i = 0; i < n; i++)
		srv_buffer_drop(got[i]);
	return WIRE_OK;
}

/*
 * b's buffers for the clone, with reservations: shared ones are ready, the others come pinned and
 * are to be copied. ret[i] and pinned[i] are set for all or none.
 */
static uint32_t clone_sources(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
			      uint32_t n, struct srv_buffer **ret, bool *pinned)
{
	pthread_mutex_lock(&b->lock);
	for (uint32_t i = 0; i < n; i++) {
		struct srv_slab *s = srv_slab_find(l, b, handle_at(slabs, i));

		if (!s) {
			pthread_mutex_unlock(&b->lock);
			return WIRE_ESLAB;
		}
	}
	if (!srv_arena_reserve(l->arena, n)) {
		pthread_mutex_unlock(&b->lock);
		return WIRE_ENOSPC;
	}
	for (uint32_t i = 0; i < n; i++) {
		ret[i] = srv_slab_find(l, b, handle_at(slabs, i))->buf;
		pinned[i] = !srv_buffer_share(ret[i]);
		if (pinned[i])
			srv_buffer_pin(ret[i]);
	}
	pthread_mutex_unlock(&b->lock);
	return WIRE_OK;
}

/* Replaces the pinned sources by copies of them. */
static uint32_t clone_copies(struct srv_lender *l, uint32_t n, struct srv_buffer **buf,
			     bool *pinned)
{
	uint32_t status = WIRE_OK;

	for (uint32_t i = 0; i < n; i++) {
		struct srv_buffer *copy;

		if (!pinned[i])
			continue;
		copy = status ? NULL : srv_arena_take(l->arena, false);
		if (copy)
			memcpy(copy->mem, buf[i]->mem, srv_arena_slab_bytes(l->arena));
		else
			status = WIRE_EINTERNAL;
		srv_buffer_unpin(buf[i]);
		buf[i] = copy;
	}
	return status;
}

static void clone_undo(struct srv_lender *l, uint32_t n, struct srv_buffer **buf)
{
	for (uint32_t i = 0; i < n; i++) {
		if (buf[i])
			srv_buffer_drop(buf[i]);
		else
			srv_arena_unreserve(l->arena, 1);
	}
}

uint32_t srv_lend_clone(struct srv_lender *l, struct srv_borrower *b, const struct wire_clone *to,
			const uint8_t *slabs, uint32_t n, uint64_t now_ns, struct wire_slab *ret)
{
	struct srv_buffer *buf[WIRE_MAX_SLABS];
	bool pinned[WIRE_MAX_SLABS];
	struct srv_borrower *owner;
	uint32_t status;

	if (n > WIRE_MAX_SLABS)
		return WIRE_ELIMIT;
	if (atomic_load_explicit(&l->draining, memory_order_relaxed))
		return WIRE_EDRAINING;
	status = clone_sources(l, b, slabs, n, buf, pinned);
	if (status)
		return status;
	status = clone_copies(l, n, buf, pinned);
	owner = status ? NULL : srv_borrower_get(l, to->owner, to->name);
	if (!owner) {
		clone_undo(l, n, buf);
		return WIRE_EINTERNAL;
	}
	srv_lend_touch(owner, now_ns);
	pthread_mutex_lock(&owner->lock);
	if ((uint64_t)atomic_load(&owner->count) + owner->promised + n > atomic_load(&owner->quota))
		status = WIRE_EQUOTA;
	for (uint32_t i = 0; i < n && !status; i++)
		ret[i].slab = htole64(slab_add(l, owner, buf[i]));
	pthread_mutex_unlock(&owner->lock);
	if (status)
		clone_undo(l, n, buf);
	srv_borrower_put(l, owner, now_ns);
	return status;
}

/* Pins the slabs' memory, made each slab's own first. */
static uint32_t pin_slabs(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
			  uint32_t n, bool exported, struct srv_buffer **ret)
{
	uint32_t status = WIRE_OK, i;

	pthread_mutex_lock(&b->lock);
	for (i = 0; i < n && !status; i++)
		if (!srv_slab_find(l, b, handle_at(slabs, i)))
			status = WIRE_ESLAB;
	for (i = 0; i < n && !status; i++) {
		struct srv_slab *s = srv_slab_find(l, b, handle_at(slabs, i));

		if (srv_buffer_pin_own(&s->buf)) {
			status = WIRE_EINTERNAL;
			while (i-- > 0)
				srv_buffer_unpin(ret[i]);
			break;
		}
		s->buf->exported |= exported;
		ret[i] = s->buf;
	}
	pthread_mutex_unlock(&b->lock);
	return status;
}

uint32_t srv_lend_map(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		      uint32_t n, struct srv_buffer **ret)
{
	/* Its owner could punch holes and our own access would find no page there. */
	if (srv_arena_hugepages(l->arena))
		return WIRE_EDENIED;
	return pin_slabs(l, b, slabs, n, true, ret);
}

uint32_t srv_lend_pin(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		      uint32_t n, struct srv_buffer **ret)
{
	return pin_slabs(l, b, slabs, n, false, ret);
}

/*
 * Keys that RDMA devices know end here, and with them what an older writer has under way: it needs no
 * copy, since nothing can be written by them any more. Not under b's lock: devices have locks of their
 * own. Nobody makes new keys, as b's landing is held for writing.
 */
static void end_keys(struct srv_borrower *b)
{
	struct srv_buffer *got[256];
	unsigned n;

	do {
		n = 0;
		pthread_mutex_lock(&b->lock);
		for (struct srv_slab *s = b->slabs; s && n < 256; s = s->next) {
			if (!srv_buffer_is_exposed(s->buf))
				continue;
			srv_buffer_pin(s->buf);
			got[n++] = s->buf;
		}
		pthread_mutex_unlock(&b->lock);
		for (unsigned i = 0; i < n; i++) {
			srv_buffer_conceal_all(got[i]);
			srv_buffer_unpin(got[i]);
		}
	} while (n);
}

uint32_t srv_lend_renew(struct srv_lender *l, struct srv_borrower *b)
{
	uint32_t status = WIRE_OK;

	(void)l;
	end_keys(b);
	pthread_mutex_lock(&b->lock);
	for (struct srv_slab *s = b->slabs; s && !status; s = s->next) {
		int r = srv_buffer_renew(&s->buf);

		status = r == -ENOSPC ? WIRE_EBUSY : r ? WIRE_EINTERNAL : WIRE_OK;
	}
	pthread_mutex_unlock(&b->lock);
	return status;
}

/* b's lock is held. */
static uint32_t run_one(struct srv_lender *l, struct srv_borrower *b, const struct wire_seg *seg,
			uint32_t unit, bool write, struct srv_run *ret)
{
	struct srv_slab *s = srv_slab_find(l, b, le64toh(seg->slab));
	size_t at = (size_t)le32toh(seg->page) * unit;
	void *copy = NULL;

	srv_slab_touch(l, s);
	ret->bytes = (size_t)le32toh(seg->pages) * unit;
	if (write ? !srv_buffer_pin_own(&s->buf)
		  : srv_buffer_pin_read(s->buf, at, ret->bytes, &copy)) {
		ret->buf = s->buf;
		ret->mem = s->buf->mem + at;
		return WIRE_OK;
	}
	ret->buf = NULL;
	ret->mem = copy;
	return copy ? WIRE_OK : WIRE_EINTERNAL;
}

uint32_t srv_lend_runs(struct srv_lender *l, struct srv_borrower *b, const uint8_t *segs,
		       uint32_t n, uint32_t unit, bool write, struct srv_run *ret)
{
	uint64_t most = (uint64_t)l->slab_pages * (WIRE_PAGE_SIZE / unit);
	uint32_t status = WIRE_OK, i;
	struct wire_seg seg; /* a wire_part looks the same */

	_Static_assert(sizeof(struct wire_seg) == sizeof(struct wire_part), "one reader");

	pthread_mutex_lock(&b->lock);
	for (i = 0; i < n && !status; i++) {
		memcpy(&seg, segs + i * sizeof seg, sizeof seg);
		if (!srv_slab_find(l, b, le64toh(seg.slab)))
			status = WIRE_ESLAB;
		else if ((uint64_t)le32toh(seg.page) + le32toh(seg.pages) > most)
			status = WIRE_ERANGE;
	}
	for (i = 0; i < n && !status; i++) {
		memcpy(&seg, segs + i * sizeof seg, sizeof seg);
		status = run_one(l, b, &seg, unit, write, &ret[i]);
	}
	pthread_mutex_unlock(&b->lock);
	if (status == WIRE_EINTERNAL)
		srv_lend_runs_end(ret, i - 1);
	return status;
}

uint32_t srv_lend_generations(struct srv_lender *l, struct srv_borrower *b, const uint8_t *items,
			      uint32_t n, struct wire_generation *ret)
{
	struct wire_generation g;

	memcpy(ret, items, n * sizeof *ret);
	pthread_mutex_lock(&b->lock);
	for (uint32_t i = 0; i < n; i++) {
		if (srv_slab_find(l, b, le64toh(ret[i].slab)))
			continue;
		pthread_mutex_unlock(&b->lock);
		return WIRE_ESLAB;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct srv_slab *s = srv_slab_find(l, b, le64toh(ret[i].slab));

		memcpy(&g, items + i * sizeof g, sizeof g);
		if (le64toh(g.generation) > s->set_generation)
			s->set_generation = le64toh(g.generation);
		ret[i].generation = htole64(s->set_generation);
	}
	pthread_mutex_unlock(&b->lock);
	return WIRE_OK;
}

void srv_lend_runs_end(struct srv_run *runs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (runs[i].buf)
			srv_buffer_unpin(runs[i].buf);
		else
			free(runs[i].mem);
	}
}

void srv_lend_goodbye(struct srv_lender *l, struct srv_borrower *b)
{
	struct srv_buffer *got[64];
	unsigned n;

	do {
		pthread_mutex_lock(&b->lock);
		for (n = 0; n < 64 && b->slabs; n++)
			got[n] = slab_remove(l, b, b->slabs);
		pthread_mutex_unlock(&b->lock);
		for (unsigned i = 0; i < n; i++)
			srv_buffer_drop(got[i]);
	} while (n);
}
