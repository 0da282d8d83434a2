/* SPDX-License-Identifier: MIT */
/*
 * Batches in, messages out; see core.h. A batch is taken apart into runs of pages (cut at the
 * borders of slabs and around pages of zeros), and the runs of each donor are put together again
 * into as few vectored messages as its limits allow.
 */
#include "pagestore/core.h"
#include "common/error.h"
#include "common/memory.h"
#include "pagestore/seal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { MSG_FREE, MSG_QUEUED, MSG_SENT };
enum { BATCH_RUNS = 1, BATCH_DONE };

struct core_run {
	struct tp_seg seg;
	uint64_t page;
	uint8_t donor;
};

#define COUNT(c, field, n)                                                                         \
	__atomic_store_n(&(c)->count.field, (c)->count.field + (n), __ATOMIC_RELAXED)

static unsigned char zero_page[PS_PAGE_SIZE];

/* Where a slot's messages and segments begin. */
static size_t slot_base(unsigned slot)
{
	return (size_t)(slot - 1) * PS_BATCH_PAGES;
}

/* --- memory --- */

int core_open(struct core *c, struct map *map, const struct core_limits *limits, unsigned donors,
	      unsigned depth, uint64_t deadline_ns)
{
	size_t n = (size_t)depth * PS_BATCH_PAGES;

	assert(donors >= 1 && donors <= PS_MAX_DONORS && depth >= 1 && depth < UINT16_MAX);
	*c = (struct core){
		.map = map, .donors = donors, .depth = depth, .deadline_ns = deadline_ns};
	c->zeros = ps_hash(zero_page);
	c->slot = mem_map((depth + 1) * sizeof *c->slot);
	c->msg = mem_map(n * sizeof *c->msg);
	c->seg = mem_map(n * sizeof *c->seg);
	c->page = mem_map(n * sizeof *c->page);
	c->run = mem_map(PS_BATCH_PAGES * sizeof *c->run);
	if (map->seal)
		c->sealed = mem_map(n * PS_PAGE_SIZE);
	if ((map->seal && !c->sealed) || !c->slot || !c->msg || !c->seg || !c->page || !c->run) {
		core_close(c);
		return err_fail(-ENOMEM, "no memory for %u batches in flight", depth);
	}
	for (unsigned i = 0; i < donors; i++)
		c->donor[i].limits = limits[i];
	core_reset(c);
	return 0;
}

void core_close(struct core *c)
{
	size_t n = (size_t)c->depth * PS_BATCH_PAGES;

	mem_unmap(c->slot, (c->depth + 1) * sizeof *c->slot);
	mem_unmap(c->msg, n * sizeof *c->msg);
	mem_unmap(c->seg, n * sizeof *c->seg);
	mem_unmap(c->page, n * sizeof *c->page);
	mem_unmap(c->sealed, n * PS_PAGE_SIZE);
	mem_unmap(c->run, PS_BATCH_PAGES * sizeof *c->run);
	*c = (struct core){0};
}

void core_reset(struct core *c)
{
	c->inflight = 0;
	c->queued = c->busy = c->cut = 0;
	c->done_first = c->done_last = NULL;
	for (unsigned i = 0; i < c->donors; i++)
		c->donor[i].sent = c->donor[i].head = c->donor[i].tail = 0;
	c->slot[0] = (struct core_slot){0};
	for (unsigned i = 1; i <= c->depth; i++) {
		for (unsigned k = 0; c->slot[i].batch && k < c->slot[i].msgs; k++)
			c->msg[slot_base(i) + k].state = MSG_FREE;
		c->slot[i] = (struct core_slot){.next = (uint16_t)(i < c->depth ? i + 1 : 0)};
	}
	c->free = 1;
}

/* --- messages: their tag is their index and one --- */

static struct core_msg *msg_of(struct core *c, uint64_t tag)
{
	return &c->msg[tag - 1];
}

static void msg_queue(struct core *c, struct core_msg *m)
{
	struct core_donor *d = &c->donor[m->donor];
	uint32_t tag = (uint32_t)m->op.tag;

	m->state = MSG_QUEUED;
	m->next = 0;
	if (d->tail)
		msg_of(c, d->tail)->next = tag;
	else
		d->head = tag;
	d->tail = tag;
	c->queued |= 1ull << m->donor;
	c->busy |= 1ull << m->donor;
}

struct tp_op *core_next(struct core *c, unsigned donor)
{
	uint32_t tag = c->donor[donor].head;

	return tag ? &msg_of(c, tag)->op : NULL;
}

void core_sent(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];
	struct core_msg *m = msg_of(c, d->head);

	assert(d->head && m->state == MSG_QUEUED);
	m->state = MSG_SENT;
	d->sent++;
	d->head = m->next;
	if (!d->head) {
		d->tail = 0;
		c->queued &= ~(1ull << donor);
	}
	COUNT(c, messages, 1);
}

/* --- batches --- */

static void batch_fail(struct core *c, struct ps_batch *b, int status, int donor, uint64_t page)
{
	if (b->status)
		return;
	b->status = status;
	b->donor = donor;
	b->page = page;
	COUNT(c, errors, 1);
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

static void slot_drop(struct core *c, unsigned i)
{
	struct core_slot *s = &c->slot[i];

	c->slot[s->prev].next = s->next;
	c->slot[s->next].prev = s->prev;
	s->batch = NULL;
	s->next = c->free;
	c->free = (uint16_t)i;
}

static unsigned slot_take(struct core *c, struct ps_batch *b)
{
	unsigned i = c->free;
	struct core_slot *s = &c->slot[i];

	assert(i && !s->batch);
	c->free = s->next;
	s->batch = b;
	s->msgs = 0;
	s->next = 0;
	s->prev = c->slot[0].prev;
	c->slot[s->prev].next = (uint16_t)i;
	c->slot[0].prev = (uint16_t)i;
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

	return first ? first->deadline_ns : UINT64_MAX;
}

/* --- taking a batch apart --- */

static bool well_formed(const struct core *c, const struct ps_batch *b)
{
	uint64_t pages = 0;

	if (b->vecs < 1 || b->vecs > PS_MAX_VECS || !b->vec ||
	    (b->kind != PS_READ && b->kind != PS_WRITE))
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
		return HASH_ZEROS;
	return have ? *given : ps_hash(page);
}

/* One page of a run: it joins the last one if it follows it. */
static void add_page(struct core *c, const struct map_slab *slab, uint64_t page, void *buf)
{
	uint32_t in_slab = (uint32_t)(page & ((1ull << c->map->slab_shift) - 1));
	struct core_run *r = c->runs ? &c->run[c->runs - 1] : NULL;

	if (r && in_slab && page == r->page + r->seg.pages &&
	    buf == (unsigned char *)r->seg.buf + (size_t)r->seg.pages * PS_PAGE_SIZE) {
		r->seg.pages++;
		return;
	}
	assert(c->runs < PS_BATCH_PAGES);
	c->run[c->runs++] = (struct core_run){
		.seg = {.slab = slab->handle[0], .page = in_slab, .pages = 1, .buf = buf},
		.page = page,
		.donor = slab->donor[0],
	};
}

static void take_read(struct core *c, struct ps_batch *b, const struct ps_vec *v, uint32_t i)
{
	uint64_t page = v->page + i, hash = map_hash(c->map, page);
	const struct map_slab *slab = map_find(c->map, page);
	void *buf = (unsigned char *)v->buf + (size_t)i * PS_PAGE_SIZE;

	if (!slab) {
		batch_fail(c, b, -ENXIO, -1, page);
	} else if (hash == HASH_ZEROS) {
		memset(buf, 0, PS_PAGE_SIZE);
		COUNT(c, zero_reads, 1);
	} else if (hash == HASH_LOST || c->donor[slab->donor[0]].dead) {
		batch_fail(c, b, -EIO, slab->donor[0], page);
	} else {
		add_page(c, slab, page, buf);
	}
}

/*
 * What goes to donors in place of the caller's page. It stays until the batch is done, in the memory of
 * the slot that the batch will have.
 */
static void *sealed_page(struct core *c, uint64_t page, void *buf)
{
	unsigned char *to;

	if (!c->map->seal)
		return buf;
	to = c->sealed + (slot_base(c->free) + c->sealed_used++) * PS_PAGE_SIZE;
	seal_page(c->map->seal, page, buf, to);
	return to;
}

static void take_write(struct core *c, struct ps_batch *b, const struct ps_vec *v, uint32_t i)
{
	uint64_t page = v->page + i, hash;
	const struct map_slab *slab = map_find(c->map, page);
	void *buf = (unsigned char *)v->buf + (size_t)i * PS_PAGE_SIZE;

	if (!slab) {
		batch_fail(c, b, -ENXIO, -1, page);
		return;
	}
	hash = hash_for(c, buf, v->hashes ? &v->hashes[i] : NULL);
	if (hash == HASH_ZEROS) {
		COUNT(c, zero_writes, 1);
	} else if (c->donor[slab->donor[0]].dead) {
		batch_fail(c, b, -EIO, slab->donor[0], page);
		hash = HASH_LOST;
	} else {
		add_page(c, slab, page, sealed_page(c, page, buf));
	}
	map_set_hash(c->map, page, hash);
}

/* --- putting messages together --- */

struct packer {
	struct core *c;
	struct ps_batch *batch;
	unsigned slot, segs; /* segments used of the slot's */
	struct core_msg *msg;
	uint32_t pages; /* in msg */
};

static struct core_msg *new_msg(struct packer *p, unsigned donor)
{
	struct core_slot *s = &p->c->slot[p->slot];
	size_t base = slot_base(p->slot), i = base + s->msgs++;
	struct core_msg *m = &p->c->msg[i];

	assert(s->msgs <= PS_BATCH_PAGES);
	*m = (struct core_msg){
		.op = {.kind = p->batch->kind == PS_READ ? TP_READ : TP_WRITE,
		       .tag = i + 1,
		       .seg = &p->c->seg[base + p->segs]},
		.page = &p->c->page[base + p->segs],
		.slot = (uint16_t)p->slot,
		.donor = (uint8_t)donor,
	};
	p->batch->pending++;
	p->pages = 0;
	return m;
}

static void flush_msg(struct packer *p)
{
	if (p->msg)
		msg_queue(p->c, p->msg);
	p->msg = NULL;
}

static void pack_run(struct packer *p, const struct core_run *r)
{
	const struct core_limits *l = &p->c->donor[r->donor].limits;
	size_t base = slot_base(p->slot);

	for (uint32_t at = 0; at < r->seg.pages;) {
		uint32_t n = r->seg.pages - at;

		if (p->msg && (p->pages == l->max_pages || p->msg->op.count == l->max_segs))
			flush_msg(p);
		if (!p->msg)
			p->msg = new_msg(p, r->donor);
		if (n > l->max_pages - p->pages)
			n = l->max_pages - p->pages;
		assert(p->segs < PS_BATCH_PAGES);
		p->c->page[base + p->segs] = r->page + at;
		p->c->seg[base + p->segs++] = (struct tp_seg){
			.slab = r->seg.slab,
			.page = r->seg.page + at,
			.pages = n,
			.buf = (unsigned char *)r->seg.buf + (size_t)at * PS_PAGE_SIZE,
		};
		p->msg->op.count++;
		p->pages += n;
		at += n;
	}
}

static void pack(struct core *c, struct ps_batch *b)
{
	struct packer p = {.c = c, .batch = b, .slot = slot_take(c, b)};
	uint64_t donors = 0;

	for (unsigned i = 0; i < c->runs; i++)
		donors |= 1ull << c->run[i].donor;
	for (; donors; donors &= donors - 1) {
		unsigned d = (unsigned)__builtin_ctzll(donors);

		for (unsigned i = 0; i < c->runs; i++)
			if (c->run[i].donor == d)
				pack_run(&p, &c->run[i]);
		flush_msg(&p);
	}
}

int core_submit(struct core *c, struct ps_batch *b, uint64_t now_ns)
{
	if (!well_formed(c, b))
		return -EINVAL;
	if (c->inflight == c->depth)
		return -EBUSY;
	b->status = 0;
	b->donor = -1;
	b->page = 0;
	b->next = NULL;
	b->pending = 0;
	b->state = BATCH_RUNS;
	b->deadline_ns = now_ns + c->deadline_ns;
	c->inflight++;
	c->runs = 0;
	c->sealed_used = 0;
	COUNT(c, batches, 1);
	for (unsigned i = 0; i < b->vecs; i++)
		for (uint32_t k = 0; k < b->vec[i].count; k++)
			(b->kind == PS_READ ? take_read : take_write)(c, b, &b->vec[i], k);
	if (c->runs)
		pack(c, b);
	else
		batch_done(c, b);
	return 0;
}

/* --- answers --- */

/* Is it what was written last? A sealed page is opened in place; its tag is its hash. */
static bool page_good(const struct core *c, uint64_t page, void *buf)
{
	return c->map->seal ? seal_unseal(c->map->seal, page, buf)
			    : ps_hash(buf) == map_hash(c->map, page);
}

/* Verifies what came, in place. */
static void check_pages(struct core *c, const struct core_msg *m, struct ps_batch *b)
{
	for (uint32_t i = 0; i < m->op.count; i++) {
		const struct tp_seg *s = &m->op.seg[i];

		for (uint32_t k = 0; k < s->pages; k++) {
			unsigned char *p = (unsigned char *)s->buf + (size_t)k * PS_PAGE_SIZE;

			if (page_good(c, m->page[i] + k, p))
				continue;
			COUNT(c, bad_hashes, 1);
			batch_fail(c, b, -EBADMSG, m->donor, m->page[i] + k);
		}
	}
}

static uint64_t msg_pages(const struct core_msg *m)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < m->op.count; i++)
		pages += m->op.seg[i].pages;
	return pages;
}

/* Nobody knows what the donor holds now: reads fail until the pages are written again. */
static void poison(struct core *c, const struct core_msg *m)
{
	for (uint32_t i = 0; i < m->op.count; i++)
		for (uint32_t k = 0; k < m->op.seg[i].pages; k++)
			map_set_hash(c->map, m->page[i] + k, HASH_LOST);
}

static void msg_done(struct core *c, struct core_msg *m, int status)
{
	struct ps_batch *b = c->slot[m->slot].batch;
	uint64_t pages = msg_pages(m);

	assert(b && b->pending);
	if (status) {
		batch_fail(c, b, status, m->donor, m->page[0]);
		if (m->op.kind == TP_WRITE)
			poison(c, m);
	} else if (m->op.kind == TP_READ) {
		check_pages(c, m, b);
		COUNT(c, pages_read, pages);
		COUNT(c, bytes_in, pages * PS_PAGE_SIZE);
	} else {
		COUNT(c, pages_written, pages);
		COUNT(c, bytes_out, pages * PS_PAGE_SIZE);
	}
	m->state = MSG_FREE;
	if (!--b->pending) {
		slot_drop(c, m->slot);
		batch_done(c, b);
	}
}

int core_answer(struct core *c, unsigned donor, const struct tp_done *done)
{
	struct core_donor *d = &c->donor[donor];
	struct core_msg *m;

	if (!done->tag || done->tag > (uint64_t)c->depth * PS_BATCH_PAGES)
		return -EPROTO;
	m = msg_of(c, done->tag);
	if (m->state != MSG_SENT || m->donor != donor)
		return -EPROTO;
	d->sent--;
	if (!d->sent && !d->head)
		c->busy &= ~(1ull << donor);
	msg_done(c, m, done->status ? -EIO : 0);
	return 0;
}

/* --- ends --- */

/* Ends each message that the donor hasn't answered: -ETIMEDOUT those of overdue batches. */
static void end_messages(struct core *c, unsigned donor, uint64_t now_ns)
{
	for (unsigned i = c->slot[0].next, next; i; i = next) {
		struct ps_batch *b = c->slot[i].batch;
		unsigned msgs = c->slot[i].msgs;
		bool overdue = b->deadline_ns <= now_ns;

		next = c->slot[i].next;
		/* Ending the last one gives the slot back; msgs says when to stop. */
		for (unsigned k = 0; k < msgs; k++) {
			struct core_msg *m = &c->msg[slot_base(i) + k];

			if (m->donor == donor && m->state != MSG_FREE)
				msg_done(c, m, overdue ? -ETIMEDOUT : -EIO);
		}
	}
	c->donor[donor].sent = c->donor[donor].head = c->donor[donor].tail = 0;
	c->queued &= ~(1ull << donor);
	c->busy &= ~(1ull << donor);
}

void core_closed(struct core *c, unsigned donor)
{
	c->donor[donor].dead = true;
	c->cut &= ~(1ull << donor);
	end_messages(c, donor, 0);
}

void core_forgive(struct core *c, uint64_t ns)
{
	for (unsigned i = c->slot[0].next; i; i = c->slot[i].next)
		c->slot[i].batch->deadline_ns += ns;
}

void core_tick(struct core *c, uint64_t now_ns)
{
	unsigned i;

	while ((i = c->slot[0].next) && c->slot[i].batch->deadline_ns <= now_ns) {
		const struct core_msg *m = &c->msg[slot_base(i)];

		COUNT(c, timeouts, 1);
		while (m->state == MSG_FREE)
			m++;
		c->donor[m->donor].dead = true;
		c->cut |= 1ull << m->donor;
		end_messages(c, m->donor, now_ns);
	}
}
