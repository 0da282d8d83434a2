/* SPDX-License-Identifier: MIT */
/*
 * A batch's life: it takes a slot, answers and donors' ends come in, it is done when nothing of it is
 * left; see core.h. batch.c takes it apart, message.c sends it.
 */
#include "pagestore/core.h"
#include "common/error.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>

static unsigned char zero_page[PS_PAGE_SIZE];

/* --- memory --- */

static void take_limits(struct core *c, unsigned donor, const struct core_limits *l)
{
	c->donor[donor].limits = *l;
	if (l->max_pages < c->max_run)
		c->max_run = l->max_pages;
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
		c->sealed = mem_map(core_sealed_bytes(c));
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
		mem_unmap(c->sealed, core_sealed_bytes(c));
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
			c->msg[core_slot_base(c, i) + k].state = MSG_FREE;
		c->slot[i] = (struct core_slot){.next = (uint16_t)(i < c->depth ? i + 1 : 0)};
	}
	c->free = 1;
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

unsigned core_slot_take(struct core *c, struct ps_batch *b)
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

/* --- answers --- */

/* What is still under way for a batch that needs no more answers. */
static void cancel_rest(struct core *c, unsigned slot)
{
	struct ps_batch *b = c->slot[slot].batch;

	for (unsigned i = 0; i < c->slot[slot].msgs; i++) {
		struct core_msg *m = &c->msg[core_slot_base(c, slot) + i];

		if (m->state == MSG_QUEUED) {
			core_msg_unlink(c, m);
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
	core_msg_unlink(c, m);
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
		core_msg_flags(c, donor);
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
	core_msg_unlink(c, m);
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
			struct core_msg *m = &c->msg[core_slot_base(c, i) + k];

			if (m->donor == donor && m->state != MSG_FREE)
				msg_done(c, m, overdue ? -ETIMEDOUT : -EIO);
		}
	}
	assert(!c->donor[donor].sent && !c->donor[donor].head);
	c->ending &= ~(1ull << donor);
	c->cancel &= ~(1ull << donor);
	core_msg_flags(c, donor);
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
		const struct core_msg *m = &c->msg[core_slot_base(c, slot) + i];

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
