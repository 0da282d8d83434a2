/* SPDX-License-Identifier: MIT */
/*
 * Batches in, messages out; see core.h. A batch is taken apart into runs of pages (cut at the
 * borders of slabs and around pages of zeros), and what is to be sent of them to each donor is put
 * together again into as few vectored messages as its limits allow.
 */
#include "pagestore/core.h"
#include "common/error.h"
#include "common/memory.h"
#include "pagestore/seal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define PROBE_TAG(c, donor) ((uint64_t)(c)->depth * (c)->per_slot + 1 + (donor))

static unsigned char zero_page[PS_PAGE_SIZE];

/* Where a slot's messages and segments begin. */
static size_t slot_base(const struct core *c, unsigned slot)
{
	return (size_t)(slot - 1) * c->per_slot;
}

/* --- memory --- */

static void take_limits(struct core *c, unsigned donor, const struct core_limits *l)
{
	c->donor[donor].limits = *l;
	if (l->max_pages < c->max_run)
		c->max_run = l->max_pages;
}

static size_t sealed_bytes(const struct core *c)
{
	return ((size_t)c->depth * PS_BATCH_PAGES + 1) * PS_PAGE_SIZE;
}

int core_open(struct core *c, const struct core_options *o)
{
	const struct map *m = o->map;
	size_t n;
	int r;

	assert(o->donors >= 1 && o->donors <= PS_MAX_DONORS && o->depth >= 1 &&
	       o->depth < UINT16_MAX);
	*c = (struct core){.map = o->map,
			   .depth = o->depth,
			   .deadline_ns = o->deadline_ns,
			   .suspect_ns = o->suspect_ns,
			   .redundant = m->members > m->need,
			   .era = UINT64_MAX,
			   .max_run = m->parts ? 1 : PS_BATCH_PAGES};
	/* Each member is read from and rewritten once, or written to once and told; and again. */
	c->per_slot = PS_BATCH_PAGES * (2 * m->members + 2);
	n = (size_t)c->depth * c->per_slot;
	c->zeros = ps_hash(zero_page);
	c->slot = mem_map((c->depth + 1) * sizeof *c->slot);
	c->msg = mem_map(n * sizeof *c->msg);
	c->seg = mem_map(n * sizeof *c->seg);
	c->ref = mem_map(n * sizeof *c->ref);
	c->run = mem_map((size_t)c->depth * CORE_RUNS * sizeof *c->run);
	c->piece = mem_map(c->per_slot * sizeof *c->piece);
	if (m->seal)
		c->sealed = mem_map(sealed_bytes(c));
	r = c->slot && (c->sealed || !m->seal) && c->msg && c->seg && c->ref && c->run && c->piece ? code_open(c) : -ENOMEM;
	if (r) {
		core_close(c);
		return err_fail(-ENOMEM, "no memory for %u batches in flight", o->depth);
	}
	for (unsigned i = 0; i < PS_MAX_DONORS; i++)
		if (i < o->donors && o->limits[i].max_pages)
			take_limits(c, i, &o->limits[i]);
		else
			c->donor[i].dead = true; /* until it joins: core_opened() */
	core_reset(c);
	return 0;
}

void core_close(struct core *c)
{
	size_t n = (size_t)c->depth * c->per_slot;

	code_close(c);
	mem_unmap(c->slot, (c->depth + 1) * sizeof *c->slot);
	mem_unmap(c->msg, n * sizeof *c->msg);
	mem_unmap(c->seg, n * sizeof *c->seg);
	mem_unmap(c->ref, n * sizeof *c->ref);
	mem_unmap(c->run, (size_t)c->depth * CORE_RUNS * sizeof *c->run);
	if (c->sealed)
		mem_unmap(c->sealed, sealed_bytes(c));
	mem_unmap(c->piece, c->per_slot * sizeof *c->piece);
	*c = (struct core){0};
}

void core_reset(struct core *c)
{
	c->inflight = 0;
	c->queued = c->busy = c->cut = c->cancel = c->ending = 0;
	c->era = UINT64_MAX;
	c->done_first = c->done_last = NULL;
	c->pieces = 0;
	for (unsigned i = 0; i < PS_MAX_DONORS; i++) {
		struct core_donor *d = &c->donor[i];

		d->sent = d->head = d->tail = d->sent_first = d->sent_last = 0;
		d->probe = PROBE_NONE;
		core_show(&d->slow, false);
	}
	c->slot[0] = (struct core_slot){0};
	for (unsigned i = 1; i <= c->depth; i++) {
		for (unsigned k = 0; c->slot[i].batch && k < c->slot[i].msgs; k++)
			c->msg[slot_base(c, i) + k].state = MSG_FREE;
		c->slot[i] = (struct core_slot){.next = (uint16_t)(i < c->depth ? i + 1 : 0)};
	}
	c->free = 1;
}

/* --- messages: their tag is their index and one --- */

static void list_add(struct core *c, uint32_t *first, uint32_t *last, struct core_msg *m)
{
	uint32_t tag = (uint32_t)m->op.tag;

	m->next = 0;
	m->prev = *last;
	if (*last)
		core_msg_of(c, *last)->next = tag;
	else
		*first = tag;
	*last = tag;
}

static void list_remove(struct core *c, uint32_t *first, uint32_t *last, struct core_msg *m)
{
	if (m->prev)
		core_msg_of(c, m->prev)->next = m->next;
	else
		*first = m->next;
	if (m->next)
		core_msg_of(c, m->next)->prev = m->prev;
	else
		*last = m->prev;
}

static void msg_flags(struct core *c, unsigned donor)
{
	const struct core_donor *d = &c->donor[donor];
	uint64_t bit = 1ull << donor;

	c->queued = d->head || d->probe == PROBE_QUEUED ? c->queued | bit : c->queued & ~bit;
	c->busy = d->sent || d->head || d->probe ? c->busy | bit : c->busy & ~bit;
}

void core_msg_queue(struct core *c, struct core_msg *m)
{
	struct core_donor *d = &c->donor[m->donor];

	m->state = MSG_QUEUED;
	m->since_ns = c->now_ns;
	list_add(c, &d->head, &d->tail, m);
	c->queued |= 1ull << m->donor;
	c->busy |= 1ull << m->donor;
}

void core_queue_probe(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];

	if (d->probe || d->dead)
		return;
	d->ping = (struct tp_op){.kind = TP_PING, .tag = PROBE_TAG(c, donor)};
	d->probe = PROBE_QUEUED;
	d->probe_ns = c->now_ns;
	msg_flags(c, donor);
}

struct tp_op *core_next(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];

	if (d->probe == PROBE_QUEUED)
		return &d->ping;
	return d->head ? &core_msg_of(c, d->head)->op : NULL;
}

void core_sent(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];
	struct core_msg *m;

	if (d->probe == PROBE_QUEUED) {
		d->probe = PROBE_SENT;
		msg_flags(c, donor);
		return;
	}
	assert(d->head);
	m = core_msg_of(c, d->head);
	assert(m->state == MSG_QUEUED);
	list_remove(c, &d->head, &d->tail, m);
	m->state = MSG_SENT;
	m->since_ns = c->now_ns;
	list_add(c, &d->sent_first, &d->sent_last, m);
	d->sent++;
	if (!d->head)
		msg_flags(c, donor);
	COUNT(c, messages, 1);
}

static void msg_unlink(struct core *c, struct core_msg *m)
{
	struct core_donor *d = &c->donor[m->donor];

	if (m->state == MSG_QUEUED) {
		list_remove(c, &d->head, &d->tail, m);
	} else {
		list_remove(c, &d->sent_first, &d->sent_last, m);
		d->sent--;
	}
	m->state = MSG_FREE;
	msg_flags(c, m->donor);
}

/* --- batches --- */

void core_batch_fail(struct core *c, struct ps_batch *b, int status, int donor, uint64_t page)
{
	if (b->status)
		return;
	b->status = status;
	b->donor = donor;
	b->page = page;
	/* The copier runs into pages that are being written: no error. */
	COUNT(c, errors, b->kind == PS_READ || b->kind == PS_WRITE);
}

static void batch_done(struct core *c, struct ps_batch *b)
{
	b->state = BATCH_DONE;
	b->next = NULL;
	if (c->done_last)
		c->done_last->next = b;
	else
		c->done_first = b;
	c->done_last = b;
}

static void era_update(struct core *c)
{
	uint64_t era = UINT64_MAX;

	for (unsigned i = c->slot[0].next; i; i = c->slot[i].next)
		if (c->slot[i].era < era)
			era = c->slot[i].era;
	__atomic_store_n(&c->era, era, __ATOMIC_RELEASE);
}

static void slot_unlist(struct core *c, unsigned i)
{
	struct core_slot *s = &c->slot[i];

	c->slot[s->prev].next = s->next;
	c->slot[s->next].prev = s->prev;
}

static void slot_enlist(struct core *c, unsigned i)
{
	struct core_slot *s = &c->slot[i];

	s->next = 0;
	s->prev = c->slot[0].prev;
	c->slot[s->prev].next = (uint16_t)i;
	c->slot[0].prev = (uint16_t)i;
}

static void slot_drop(struct core *c, unsigned i)
{
	struct core_slot *s = &c->slot[i];

	slot_unlist(c, i);
	s->batch = NULL;
	s->next = c->free;
	c->free = (uint16_t)i;
	era_update(c);
}

static unsigned slot_take(struct core *c, struct ps_batch *b)
{
	unsigned i = c->free;
	struct core_slot *s = &c->slot[i];
	uint64_t era = __atomic_load_n(&c->map->era, __ATOMIC_ACQUIRE);

	assert(i && !s->batch);
	c->free = s->next;
	/* Before any handle is looked at: whoever frees them sees it. */
	if (!c->slot[0].next)
		__atomic_store_n(&c->era, era, __ATOMIC_SEQ_CST);
	*s = (struct core_slot){.batch = b, .era = era};
	slot_enlist(c, i);
	return i;
}

unsigned core_reap(struct core *c, struct ps_batch **done, unsigned n)
{
	unsigned i = 0;

	assert(!c->cut);
	while (i < n && c->done_first) {
		done[i] = c->done_first;
		c->done_first = done[i]->next;
		done[i++]->next = NULL;
	}
	if (!c->done_first)
		c->done_last = NULL;
	c->inflight -= i;
	return i;
}

uint64_t core_due(const struct core *c)
{
	const struct ps_batch *first = c->slot[c->slot[0].next].batch;
	uint64_t due = first ? first->deadline_ns : UINT64_MAX;
	uint64_t suspect = c->redundant && c->busy ? suspect_due(c) : UINT64_MAX;

	return suspect < due ? suspect : due;
}

/* --- taking a batch apart --- */

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
	return seal_check(c->map->seal, page, buf, c->sealed + sealed_bytes(c) - PS_PAGE_SIZE);
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
	slot = slot_take(c, b);
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

/* --- putting messages together --- */

void core_piece_add(struct core *c, unsigned run, unsigned place, unsigned frag, unsigned donor,
		    uint64_t handle, bool write)
{
	assert(c->pieces < c->per_slot);
	c->piece[c->pieces++] = (struct core_piece){.handle = handle,
						    .run = (uint16_t)run,
						    .place = (uint8_t)place,
						    .frag = (uint8_t)frag,
						    .donor = (uint8_t)donor,
						    .write = write};
}

struct core_msg *core_msg_new(struct core *c, unsigned slot, unsigned donor, enum tp_kind kind)
{
	struct core_slot *s = &c->slot[slot];
	size_t base = slot_base(c, slot), i = base + s->msgs;
	struct core_msg *m = &c->msg[i];

	if (s->msgs == c->per_slot || s->segs == c->per_slot)
		return NULL;
	s->msgs++;
	*m = (struct core_msg){
		.op = {.kind = kind, .tag = i + 1, .seg = &c->seg[base + s->segs]},
		.ref = &c->ref[base + s->segs],
		.slot = (uint16_t)slot,
		.donor = (uint8_t)donor,
	};
	s->batch->pending++;
	return m;
}

/* Where a piece's bytes are, in its donor's slab and here. */
static struct tp_seg piece_seg(struct core *c, unsigned slot, const struct core_piece *p)
{
	const struct core_run *r = core_run_of(c, slot, p->run);
	uint32_t in_slab = (uint32_t)(r->page & ((1ull << c->map->slab_shift) - 1));
	uint32_t sectors;

	if (!c->map->parts)
		return (struct tp_seg){p->handle, in_slab, r->pages, r->wire};
	sectors = PS_PAGE_SIZE / WIRE_SECTOR / c->map->parts;
	return (struct tp_seg){p->handle, in_slab * sectors, sectors,
			       code_buf(c, slot, p->run, p->frag)};
}

/* All pieces of a donor and direction; returns how many found no room. */
static unsigned pack_donor(struct core *c, unsigned slot, unsigned donor, bool write)
{
	static const enum tp_kind kinds[2][2] = {{TP_READ, TP_WRITE}, {TP_READ_PART, TP_WRITE_PART}};
	const struct core_limits *l = &c->donor[donor].limits;
	enum tp_kind kind = kinds[c->map->parts > 0][write];
	uint32_t units = 0, most = l->max_pages * (PS_PAGE_SIZE / tp_unit(kind));
	struct core_msg *m = NULL;
	unsigned homeless = 0;

	for (unsigned i = 0; i < c->pieces; i++) {
		struct core_piece *p = &c->piece[i];
		struct tp_seg seg;

		if (p->donor != donor || p->write != write)
			continue;
		seg = piece_seg(c, slot, p);
		if (m && (m->op.count == l->max_segs || units + seg.pages > most ||
			  c->slot[slot].segs == c->per_slot)) {
			core_msg_queue(c, m);
			m = NULL;
		}
		if (!m) {
			m = core_msg_new(c, slot, donor, kind);
			units = 0;
		}
		if (!m) {
			homeless++;
			run_fail(c, slot, core_run_of(c, slot, p->run), -EIO, (int)donor);
			continue;
		}
		m->op.seg[m->op.count] = seg;
		m->ref[m->op.count++] = (struct core_ref){p->run, p->place, p->frag};
		c->slot[slot].segs++;
		units += seg.pages;
		core_run_of(c, slot, p->run)->out++;
	}
	if (m)
		core_msg_queue(c, m);
	return homeless;
}

void core_pack(struct core *c, unsigned slot)
{
	uint64_t donors[2] = {0};

	for (unsigned i = 0; i < c->pieces; i++)
		donors[c->piece[i].write] |= 1ull << c->piece[i].donor;
	for (unsigned write = 0; write < 2; write++)
		for (uint64_t m = donors[write]; m; m &= m - 1)
			pack_donor(c, slot, (unsigned)__builtin_ctzll(m), write);
	c->pieces = 0;
}

/* --- answers --- */

/* What is still under way for a batch that needs no more answers. */
static void cancel_rest(struct core *c, unsigned slot)
{
	struct ps_batch *b = c->slot[slot].batch;

	for (unsigned i = 0; i < c->slot[slot].msgs; i++) {
		struct core_msg *m = &c->msg[slot_base(c, slot) + i];

		if (m->state == MSG_QUEUED) {
			msg_unlink(c, m);
			b->pending--;
		} else if (m->state == MSG_SENT && tp_reads(m->op.kind)) {
			m->state = MSG_CANCEL;
			/* Part of it may have landed. (Late parities harm nobody.) */
			for (uint32_t k = 0; k < m->op.count; k++)
				if (!c->map->parts || m->ref[k].frag < c->map->parts)
					c->slot[slot].hedged = true;
			c->cancel |= 1ull << m->donor;
			suspect_given_up(c, m->donor);
		}
	}
}

/* Is that all? Then the batch is done. */
void core_settle(struct core *c, unsigned slot)
{
	struct core_slot *s = &c->slot[slot];

	while (!s->left) {
		if (s->batch->pending)
			cancel_rest(c, slot);
		if (s->batch->pending)
			return;
		if (!s->hedged) {
			struct ps_batch *b = s->batch;

			slot_drop(c, slot);
			batch_done(c, b);
			return;
		}
		s->hedged = false;
		for (unsigned i = 0, n = s->runs; i < n; i++)
			run_recheck(c, slot, i);
		core_pack(c, slot);
	}
}

static void count_msg(struct core *c, const struct core_msg *m)
{
	uint64_t units = 0, bytes;

	for (uint32_t i = 0; i < m->op.count; i++)
		units += m->op.seg[i].pages;
	bytes = units * tp_unit(m->op.kind);
	if (tp_reads(m->op.kind)) {
		COUNT(c, bytes_in, bytes);
		COUNT(c, pages_read, (bytes + PS_PAGE_SIZE - 1) / PS_PAGE_SIZE);
	} else {
		COUNT(c, bytes_out, bytes);
		COUNT(c, pages_written, (bytes + PS_PAGE_SIZE - 1) / PS_PAGE_SIZE);
	}
}

/* The message has its answer, or its donor's end. */
static void msg_done(struct core *c, struct core_msg *m, int status)
{
	unsigned slot = m->slot;
	struct ps_batch *b = c->slot[slot].batch;

	assert(b && b->pending);
	msg_unlink(c, m);
	if (m->op.kind == TP_GENERATION) {
		run_told(c, slot, m->ref, m, status);
	} else {
		if (!status)
			count_msg(c, m);
		for (uint32_t i = 0; i < m->op.count; i++)
			run_answer(c, slot, &m->ref[i], m->donor, m->op.seg[i].slab, status);
	}
	core_pack(c, slot);
	b->pending--;
	core_settle(c, slot);
}

int core_answer(struct core *c, unsigned donor, const struct tp_done *done)
{
	struct core_msg *m;

	if (done->tag == PROBE_TAG(c, donor) && c->donor[donor].probe == PROBE_SENT) {
		c->donor[donor].probe = PROBE_NONE;
		msg_flags(c, donor);
		suspect_probe_answer(c, donor);
		return 0;
	}
	if (!done->tag || done->tag > (uint64_t)c->depth * c->per_slot)
		return -EPROTO;
	m = core_msg_of(c, done->tag);
	if ((m->state != MSG_SENT && m->state != MSG_KEEP && m->state != MSG_CANCEL) ||
	    m->donor != donor)
		return -EPROTO;
	if (c->redundant)
		suspect_answer(c, m, done->status);
	msg_done(c, m, done->status ? -EIO : 0);
	return 0;
}

struct tp_op *core_next_cancel(struct core *c, unsigned donor)
{
	for (uint32_t tag = c->donor[donor].sent_first; tag; tag = core_msg_of(c, tag)->next)
		if (core_msg_of(c, tag)->state == MSG_CANCEL)
			return &core_msg_of(c, tag)->op;
	c->cancel &= ~(1ull << donor);
	return NULL;
}

void core_cancelled(struct core *c, struct tp_op *op, bool worked)
{
	struct core_msg *m = core_msg_of(c, op->tag);
	unsigned slot = m->slot;

	assert(m->state == MSG_CANCEL);
	if (!worked) {
		m->state = MSG_KEEP;
		return;
	}
	msg_unlink(c, m);
	c->slot[slot].batch->pending--;
	core_settle(c, slot);
}

/* --- ends --- */

void core_end_messages(struct core *c, unsigned donor, uint64_t now_ns)
{
	c->donor[donor].probe = PROBE_NONE;
	c->ending |= 1ull << donor;
	for (unsigned i = c->slot[0].next, next; i; i = next) {
		unsigned msgs = c->slot[i].msgs;
		bool overdue = c->slot[i].batch->deadline_ns <= now_ns;

		next = c->slot[i].next;
		/* Ending the last one gives the slot back; msgs says when to stop. */
		for (unsigned k = 0; k < msgs; k++) {
			struct core_msg *m = &c->msg[slot_base(c, i) + k];

			if (m->donor == donor && m->state != MSG_FREE)
				msg_done(c, m, overdue ? -ETIMEDOUT : -EIO);
		}
	}
	assert(!c->donor[donor].sent && !c->donor[donor].head);
	c->ending &= ~(1ull << donor);
	c->cancel &= ~(1ull << donor);
	msg_flags(c, donor);
}

void core_closed(struct core *c, unsigned donor)
{
	c->donor[donor].dead = true;
	c->cut &= ~(1ull << donor);
	if (c->redundant)
		__atomic_fetch_or(&c->map->gone, 1ull << donor, __ATOMIC_SEQ_CST);
	core_end_messages(c, donor, 0);
}

void core_opened(struct core *c, unsigned donor, const struct core_limits *limits)
{
	struct core_donor *d = &c->donor[donor];

	assert(!d->sent);
	take_limits(c, donor, limits);
	d->dead = false;
	core_show(&d->slow, false);
	core_show(&d->mean_ns, 0);
	core_show(&d->high_ns, 0);
	d->heard_ns = c->now_ns;
}

void core_forgive(struct core *c, uint64_t ns)
{
	for (unsigned i = c->slot[0].next; i; i = c->slot[i].next)
		c->slot[i].batch->deadline_ns += ns;
	for (uint64_t m = c->redundant ? c->busy : 0; m; m &= m - 1) {
		struct core_donor *d = &c->donor[__builtin_ctzll(m)];

		d->probe_ns += ns;
		for (uint32_t tag = d->sent_first; tag; tag = core_msg_of(c, tag)->next)
			core_msg_of(c, tag)->since_ns += ns;
		for (uint32_t tag = d->head; tag; tag = core_msg_of(c, tag)->next)
			core_msg_of(c, tag)->since_ns += ns;
	}
}

/*
 * The donors that a batch has waited for too long. Where others can do it, one that was asked a
 * moment ago (because another one failed) is not to blame.
 */
static uint64_t waits_for(const struct core *c, unsigned slot)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < c->slot[slot].msgs; i++) {
		const struct core_msg *m = &c->msg[slot_base(c, slot) + i];

		if (m->state != MSG_FREE &&
		    (!c->redundant || core_since(c, m->since_ns) >= c->suspect_ns))
			mask |= 1ull << m->donor;
	}
	return mask;
}

void core_tick(struct core *c, uint64_t now_ns)
{
	unsigned i;

	core_time(c, now_ns);
	now_ns = c->now_ns;
	while ((i = c->slot[0].next) && c->slot[i].batch->deadline_ns <= now_ns) {
		struct ps_batch *b = c->slot[i].batch;

		COUNT(c, timeouts, 1);
		for (uint64_t m = waits_for(c, i); m; m &= m - 1) {
			unsigned d = (unsigned)__builtin_ctzll(m);

			c->donor[d].dead = true;
			c->cut |= 1ull << d;
			if (c->redundant)
				__atomic_fetch_or(&c->map->gone, 1ull << d, __ATOMIC_SEQ_CST);
			core_end_messages(c, d, now_ns);
		}
		if (c->slot[i].batch != b)
			continue;
		/* Other members are to answer now. */
		b->deadline_ns = now_ns + c->deadline_ns;
		slot_unlist(c, i);
		slot_enlist(c, i);
	}
	if (c->redundant)
		suspect_tick(c);
}
