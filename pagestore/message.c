/* SPDX-License-Identifier: MIT */
/*
 * The core's messages: what is to be read and written of a slot's runs is put together, for each
 * donor, into as few vectored messages as its limits allow; they wait in the donor's queue, then
 * in the list of those it has.
 */
#include "pagestore/core.h"

#include <assert.h>
#include <errno.h>

/* --- queues of messages, whose tag is their index and one --- */

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

void core_msg_flags(struct core *c, unsigned donor)
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
	core_msg_flags(c, donor);
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
		core_msg_flags(c, donor);
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
		core_msg_flags(c, donor);
	COUNT(c, messages, 1);
}

void core_msg_unlink(struct core *c, struct core_msg *m)
{
	struct core_donor *d = &c->donor[m->donor];

	if (m->state == MSG_QUEUED) {
		list_remove(c, &d->head, &d->tail, m);
	} else {
		list_remove(c, &d->sent_first, &d->sent_last, m);
		d->sent--;
	}
	m->state = MSG_FREE;
	core_msg_flags(c, m->donor);
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
	size_t base = core_slot_base(c, slot), i = base + s->msgs;
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
