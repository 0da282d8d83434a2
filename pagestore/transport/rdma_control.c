/* SPDX-License-Identifier: MIT */
/*
 * Control messages: the wire's, one SEND each. The donor has as many receives posted as there are
 * slots here, so none is ever turned away. One slot is kept for the transport's own question,
 * RKEYS, on behalf of ops whose slabs it has no keys for yet.
 */
#include "pagestore/transport/rdma.h"
#include "pagestore/transport/stream.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define HEAD  sizeof(struct wire_header)
#define TRIES 4u /* for one op's keys: others may push them out of the cache */

_Static_assert(STREAM_HEAD_BYTES <= WIRE_RDMA_BYTES, "every request fits");
_Static_assert(HEAD + STREAM_GENERATIONS * sizeof(struct wire_generation) <= WIRE_RDMA_BYTES, "");
_Static_assert(HEAD + WIRE_MAX_KEYS * sizeof(struct wire_rkey) <= WIRE_RDMA_BYTES, "so do keys");

void rdma_control_init(struct rdma *r)
{
	for (uint32_t i = 0; i < RDMA_CONTROLS; i++)
		r->control[i] = (struct rdma_control){.generation = r->control[i].generation};
}

static bool is_free(const struct rdma *r, uint32_t slot)
{
	return !r->control[slot].waits && !r->control[slot].sending && r->sq_free &&
	       r->sent_count < RDMA_SENDS;
}

static uint16_t wire_op(const struct rdma *r, uint32_t slot)
{
	const struct tp_op *op = r->control[slot].op;

	/* RKEYS is what MAP is elsewhere: the memory is made ready where nobody waits for it. */
	return slot == RDMA_ASK || op->kind == TP_MAP ? WIRE_RKEYS : stream_wire_op(op->kind);
}

static uint64_t next_tag(struct rdma *r, uint32_t slot)
{
	return (uint64_t)++r->control[slot].generation << 32 | (slot + 1);
}

static int post(struct rdma *r, uint32_t slot, size_t bytes)
{
	struct ibv_sge sge = {.addr = (uintptr_t)rdma_message_out(r, slot),
			      .length = (uint32_t)bytes,
			      .lkey = r->mr->lkey};
	struct ibv_send_wr *bad, wr = {.sg_list = &sge,
				       .num_sge = 1,
				       .opcode = IBV_WR_SEND,
				       .send_flags = IBV_SEND_SIGNALED};

	if (ibv_post_send(r->qp, &wr, &bad))
		return rdma_die(r, -EIO);
	r->sent[(r->sent_first + r->sent_count++) % RDMA_SENDS] =
		(struct rdma_sent){.wrs = 1, .control = slot};
	r->sq_free--;
	r->control[slot].waits = r->control[slot].sending = true;
	return 0;
}

int rdma_control_send(struct rdma *r, struct tp_op *op)
{
	struct wire_header *h;
	size_t bytes, data;
	unsigned char *to;

	if (stream_too_long(op))
		return -E2BIG;
	for (uint32_t i = 0; i < RDMA_ASK; i++) {
		if (!is_free(r, i))
			continue;
		r->control[i].op = op;
		r->inflight++;
		to = rdma_message_out(r, i);
		bytes = encode_request(to, op, next_tag(r, i), r->epoch, &data);
		h = (struct wire_header *)(void *)to;
		h->op = htole16(wire_op(r, i));
		return post(r, i, bytes);
	}
	return -EAGAIN;
}

static bool is_asked(const struct rdma *r, uint64_t handle)
{
	for (uint32_t i = 0; i < r->asked_count; i++)
		if (r->asked[i] == handle)
			return true;
	return false;
}

int rdma_control_ask(struct rdma *r)
{
	const struct tp_op *op = r->parked[r->parked_first];
	unsigned char *to = rdma_message_out(r, RDMA_ASK);
	struct wire_header h = {.op = htole16(WIRE_RKEYS), .epoch = htole64(r->epoch)};

	if (!is_free(r, RDMA_ASK))
		return 0;
	if (r->tries++ == TRIES) {
		rdma_data_refused(r, WIRE_EINTERNAL);
		return 0;
	}
	r->asked_for = op;
	r->asked_count = 0;
	for (uint32_t i = 0; i < op->count && r->asked_count < WIRE_MAX_KEYS; i++) {
		uint64_t handle = op->seg[i].slab;
		struct wire_slab slab = {htole64(handle)};

		if (rdma_keys_find(r, handle) || is_asked(r, handle))
			continue;
		memcpy(to + HEAD + r->asked_count * sizeof slab, &slab, sizeof slab);
		r->asked[r->asked_count++] = handle;
	}
	h.tag = htole64(next_tag(r, RDMA_ASK));
	h.count = htole32(r->asked_count);
	h.bytes = htole32(r->asked_count * (uint32_t)sizeof(struct wire_slab));
	memcpy(to, &h, sizeof h);
	return post(r, RDMA_ASK, HEAD + le32toh(h.bytes));
}

/* --- answers --- */

static int take_keys(struct rdma *r, const struct wire_header *h, const unsigned char *body)
{
	if (h->status) {
		/* Unless it was cancelled meanwhile. */
		if (r->parked_count && r->parked[r->parked_first] == r->asked_for)
			rdma_data_refused(r, le32toh(h->status));
		return rdma_data_resume(r);
	}
	for (uint32_t i = 0; i < r->asked_count; i++) {
		struct wire_rkey k;
		struct rdma_key key;

		memcpy(&k, body + i * sizeof k, sizeof k);
		key = (struct rdma_key){.handle = r->asked[i],
					.addr = le64toh(k.addr),
					.bytes = le64toh(k.bytes),
					.rkey = le32toh(k.rkey)};
		if (key.bytes != (uint64_t)r->slab_pages * WIRE_PAGE_SIZE || k.reserved)
			return rdma_die(r, -EPROTO);
		rdma_keys_put(r, &key);
	}
	return rdma_data_resume(r);
}

static size_t answer_bytes(const struct rdma *r, uint32_t slot)
{
	const struct tp_op *op = r->control[slot].op;

	if (slot == RDMA_ASK)
		return r->asked_count * sizeof(struct wire_rkey);
	if (op->kind == TP_MAP)
		return op->count * sizeof(struct wire_rkey);
	return encode_answer_bytes(op);
}

static bool count_fits(const struct rdma *r, uint32_t slot, uint32_t count)
{
	const struct tp_op *op = r->control[slot].op;

	if (slot == RDMA_ASK)
		return count == r->asked_count;
	return op->kind == TP_MAP ? count == op->count : encode_count_fits(op, count);
}

/* Whose answer is it? Nothing has been used yet. */
static int check(const struct rdma *r, const struct wire_header *h, size_t n, uint32_t *ret)
{
	uint64_t tag = le64toh(h->tag);
	uint32_t bytes = le32toh(h->bytes), slot = (uint32_t)tag - 1;

	if (le16toh(h->flags) != WIRE_F_REPLY || h->epoch || n != HEAD + bytes ||
	    slot >= RDMA_CONTROLS || !r->control[slot].waits ||
	    r->control[slot].generation != tag >> 32 || le16toh(h->op) != wire_op(r, slot))
		return -EPROTO;
	if (h->status ? bytes != 0
		      : bytes != answer_bytes(r, slot) || !count_fits(r, slot, le32toh(h->count)))
		return -EPROTO;
	*ret = slot;
	return 0;
}

static void take_answer(struct tp_op *op, const unsigned char *body)
{
	bool slabs = op->kind == TP_GRANT || op->kind == TP_CLONE || op->kind == TP_WANTED;
	uint32_t words = slabs ? op->count + (op->kind == TP_WANTED) : 0;

	_Static_assert(sizeof(struct wire_wanted) == sizeof(struct wire_slab), "a word before them");
	if (op->kind == TP_STAT)
		memcpy(op->stat, body, sizeof *op->stat);
	if (op->kind == TP_GENERATION)
		memcpy(op->generation, body, op->count * sizeof *op->generation);
	for (uint32_t i = 0; i < words; i++) {
		struct wire_slab slab;

		memcpy(&slab, body + i * sizeof slab, sizeof slab);
		op->slabs[i] = le64toh(slab.slab);
	}
}

int rdma_control_take(struct rdma *r, const unsigned char *p, size_t n)
{
	struct wire_header h;
	struct tp_op *op;
	uint32_t slot;

	if (n < HEAD)
		return rdma_die(r, -EPROTO);
	memcpy(&h, p, sizeof h);
	if (!h.tag && !h.flags && n == HEAD + le32toh(h.bytes))
		return 0; /* a notice */
	if (check(r, &h, n, &slot))
		return rdma_die(r, -EPROTO);
	r->control[slot].waits = false;
	if (slot == RDMA_ASK)
		return take_keys(r, &h, p + HEAD);
	op = r->control[slot].op;
	r->control[slot].op = NULL;
	if (!h.status)
		take_answer(op, p + HEAD);
	rdma_finish(r, op, tp_wire_errno(le32toh(h.status)), le32toh(h.status));
	return 0;
}
