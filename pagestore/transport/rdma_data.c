/* SPDX-License-Identifier: MIT */
/*
 * Pages by one-sided READ and WRITE: an op is a chain of work requests, one a segment, handed over
 * with one doorbell; only the last one's completion is reported. A page costs a copy between the
 * pool and where the caller has it.
 */
#include "pagestore/transport/rdma.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static unsigned char *pool_at(const struct rdma *r, uint32_t at)
{
	return r->memory + (size_t)(at % RDMA_SECTORS) * WIRE_SECTOR;
}

/* How many of n sectors, the first at `at`, lie side by side in the pool. */
static uint32_t pool_run(uint32_t at, uint32_t n)
{
	uint32_t left = RDMA_SECTORS - at % RDMA_SECTORS;

	return n < left ? n : left;
}

static void pool_copy(const struct rdma *r, uint32_t at, void *buf, uint32_t sectors, bool in)
{
	unsigned char *p = buf;

	while (sectors) {
		uint32_t part = pool_run(at, sectors);
		size_t bytes = (size_t)part * WIRE_SECTOR;

		memcpy(in ? pool_at(r, at) : p, in ? p : pool_at(r, at), bytes);
		p += bytes;
		at += part;
		sectors -= part;
	}
}

static uint32_t sectors_of(const struct tp_op *op, const struct tp_seg *seg)
{
	return seg->pages * (tp_unit(op->kind) / WIRE_SECTOR);
}

/* A segment's work requests, from n on. Returns the next n. */
static uint32_t add_wrs(struct rdma *r, uint32_t n, uint64_t remote, uint32_t rkey, uint32_t at,
			uint32_t sectors, bool write)
{
	while (sectors) {
		uint32_t part = pool_run(at, sectors), bytes = part * WIRE_SECTOR;

		assert(n < RDMA_OP_WRS);
		r->sge[n] = (struct ibv_sge){.addr = (uintptr_t)pool_at(r, at),
					     .length = bytes,
					     .lkey = r->mr->lkey};
		r->wr[n] = (struct ibv_send_wr){
			.next = &r->wr[n + 1],
			.sg_list = &r->sge[n],
			.num_sge = 1,
			.opcode = write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
			.wr.rdma = {.remote_addr = remote, .rkey = rkey},
		};
		n++;
		remote += bytes;
		at += part;
		sectors -= part;
	}
	return n;
}

static int post(struct rdma *r, struct tp_op *op, uint32_t wrs, uint32_t sectors)
{
	struct ibv_send_wr *bad;

	r->wr[wrs - 1].next = NULL;
	r->wr[wrs - 1].send_flags = IBV_SEND_SIGNALED;
	if (ibv_post_send(r->qp, r->wr, &bad))
		return rdma_die(r, -EIO);
	r->sent[(r->sent_first + r->sent_count++) % RDMA_SENDS] =
		(struct rdma_sent){.op = op, .wrs = wrs, .sectors = sectors};
	r->sq_free -= wrs;
	r->pool_used += sectors;
	return 0;
}

/* All its segments together, or more than RDMA_OP_SECTORS; 0 for an op that can't be. */
static uint32_t op_sectors(const struct tp_op *op)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < op->count; i++) {
		if (!op->seg[i].pages)
			return 0;
		sum += (uint64_t)op->seg[i].pages * (tp_unit(op->kind) / WIRE_SECTOR);
	}
	return sum > RDMA_OP_SECTORS ? RDMA_OP_SECTORS + 1 : (uint32_t)sum;
}

static bool has_room(const struct rdma *r, uint32_t sectors)
{
	return r->pool_used + sectors <= RDMA_SECTORS && r->sq_free >= RDMA_OP_WRS &&
	       r->sent_count < RDMA_SENDS;
}

static bool has_keys(const struct rdma *r, const struct tp_op *op)
{
	for (uint32_t i = 0; i < op->count; i++)
		if (!rdma_keys_find(r, op->seg[i].slab))
			return false;
	return true;
}

/* The donor's device would refuse the others by ending the connection. */
static bool is_within(const struct rdma *r, const struct tp_op *op)
{
	uint32_t most = r->slab_pages * (WIRE_PAGE_SIZE / tp_unit(op->kind));

	for (uint32_t i = 0; i < op->count; i++)
		if (op->seg[i].page >= most || op->seg[i].pages > most - op->seg[i].page)
			return false;
	return true;
}

/* There is room, and there are keys. */
static int start(struct rdma *r, struct tp_op *op, uint32_t sectors)
{
	uint32_t at = r->pool_first + r->pool_used, n = 0;
	bool write = tp_writes(op->kind);

	for (uint32_t i = 0; i < op->count; i++) {
		const struct tp_seg *seg = &op->seg[i];
		const struct rdma_key *key = rdma_keys_find(r, seg->slab);
		uint64_t remote = key->addr + (uint64_t)seg->page * tp_unit(op->kind);
		uint32_t part = sectors_of(op, seg);

		if (write)
			pool_copy(r, at, seg->buf, part, true);
		n = add_wrs(r, n, remote, key->rkey, at, part, write);
		at += part;
	}
	return post(r, op, n, sectors);
}

int rdma_data_submit(struct rdma *r, struct tp_op *op)
{
	uint32_t sectors = op_sectors(op);

	if (!sectors || sectors > RDMA_OP_SECTORS || op->count > RDMA_OP_PAGES)
		return -E2BIG;
	if (!is_within(r, op)) {
		r->inflight++;
		rdma_finish(r, op, -EIO, WIRE_ERANGE);
		return 0;
	}
	/* What waits goes first. */
	if (!r->parked_count && has_keys(r, op)) {
		if (!has_room(r, sectors))
			return -EAGAIN;
		r->inflight++;
		return start(r, op, sectors);
	}
	r->inflight++;
	r->parked[(r->parked_first + r->parked_count++) % RDMA_MAX_OPS] = op;
	return rdma_data_resume(r);
}

static struct tp_op *unpark(struct rdma *r)
{
	struct tp_op *op = r->parked[r->parked_first];

	r->parked_first = (r->parked_first + 1) % RDMA_MAX_OPS;
	r->parked_count--;
	r->tries = 0;
	return op;
}

int rdma_data_resume(struct rdma *r)
{
	while (r->parked_count && !r->error) {
		struct tp_op *op = r->parked[r->parked_first];
		uint32_t sectors = op_sectors(op);

		if (!has_keys(r, op))
			return rdma_control_ask(r);
		if (!has_room(r, sectors))
			return 0;
		start(r, unpark(r), sectors);
	}
	return r->error;
}

void rdma_data_refused(struct rdma *r, uint32_t wire)
{
	if (r->parked_count)
		rdma_finish(r, unpark(r), tp_wire_errno(wire), wire);
}

static bool unpark_one(struct rdma *r, const struct tp_op *op)
{
	for (uint32_t i = 0; i < r->parked_count; i++) {
		if (r->parked[(r->parked_first + i) % RDMA_MAX_OPS] != op)
			continue;
		for (; i + 1 < r->parked_count; i++)
			r->parked[(r->parked_first + i) % RDMA_MAX_OPS] =
				r->parked[(r->parked_first + i + 1) % RDMA_MAX_OPS];
		r->parked_count--;
		if (r->asked_for == op)
			r->asked_for = NULL;
		return true;
	}
	return false;
}

int rdma_data_cancel(struct rdma *r, struct tp_op *op)
{
	if (unpark_one(r, op)) {
		r->inflight--;
		return 0;
	}
	for (uint32_t i = 0; i < r->sent_count; i++) {
		struct rdma_sent *s = &r->sent[(r->sent_first + i) % RDMA_SENDS];

		if (s->op != op)
			continue;
		s->op = NULL;
		r->inflight--;
		return 0;
	}
	return -EBUSY;
}

void rdma_data_done(struct rdma *r)
{
	struct rdma_sent s = r->sent[r->sent_first];
	uint32_t at = r->pool_first;

	r->sent_first = (r->sent_first + 1) % RDMA_SENDS;
	r->sent_count--;
	r->sq_free += s.wrs;
	if (!s.sectors) {
		r->control[s.control].sending = false;
		return;
	}
	for (uint32_t i = 0; s.op && tp_reads(s.op->kind) && i < s.op->count; i++) {
		uint32_t part = sectors_of(s.op, &s.op->seg[i]);

		pool_copy(r, at, s.op->seg[i].buf, part, false);
		at += part;
	}
	r->pool_first = (r->pool_first + s.sectors) % RDMA_SECTORS;
	r->pool_used -= s.sectors;
	if (s.op)
		rdma_finish(r, s.op, 0, 0);
}
