/* SPDX-License-Identifier: MIT */
/* A request's bytes, but for the pages of a WRITE: those go out from where they are. */
#include "pagestore/transport/stream.h"

#include <endian.h>
#include <string.h>

#define HEAD sizeof(struct wire_header)

_Static_assert(sizeof(struct wire_clone) + WIRE_MAX_SLABS * sizeof(struct wire_slab) + HEAD <=
		       STREAM_HEAD_BYTES,
	       "a CLONE's request fits");

static const uint16_t wire_ops[] = {
	[TP_READ] = WIRE_READ, [TP_WRITE] = WIRE_WRITE, [TP_GRANT] = WIRE_GRANT,
	[TP_FREE] = WIRE_FREE, [TP_CLONE] = WIRE_CLONE, [TP_MAP] = WIRE_MAP,
	[TP_STAT] = WIRE_STAT, [TP_PING] = WIRE_PING,   [TP_GOODBYE] = WIRE_GOODBYE,
	[TP_READ_PART] = WIRE_READPART, [TP_WRITE_PART] = WIRE_WRITEPART,
	[TP_GENERATION] = WIRE_GENERATION, [TP_WANTED] = WIRE_WANTED, [TP_FENCE] = WIRE_FENCE,
};

uint16_t stream_wire_op(enum tp_kind kind)
{
	return wire_ops[kind];
}

static void put_slabs(unsigned char *to, const struct tp_op *op)
{
	for (uint32_t i = 0; i < op->count; i++) {
		struct wire_slab slab = {htole64(op->slabs[i])};

		memcpy(to + i * sizeof slab, &slab, sizeof slab);
	}
}

/* The fixed part of the body, after the header. Returns its length, or 0 for one that's too long.
 */
static size_t put_body(unsigned char *to, const struct tp_op *op, size_t *units)
{
	struct wire_grant grant = {.slabs = htole32(op->count)};

	switch (op->kind) {
	case TP_READ:
	case TP_WRITE:
	case TP_READ_PART: /* a wire_part looks the same */
	case TP_WRITE_PART:
		for (uint32_t i = 0; i < op->count; i++) {
			struct wire_seg seg = {.slab = htole64(op->seg[i].slab),
					       .page = htole32(op->seg[i].page),
					       .pages = htole32(op->seg[i].pages)};

			memcpy(to + i * sizeof seg, &seg, sizeof seg);
			*units += op->seg[i].pages;
		}
		return op->count * sizeof(struct wire_seg);
	case TP_GRANT:
		memcpy(to, &grant, sizeof grant);
		return sizeof grant;
	case TP_CLONE:
		memcpy(to, op->clone, sizeof *op->clone);
		put_slabs(to + sizeof *op->clone, op);
		return sizeof *op->clone + op->count * sizeof(struct wire_slab);
	case TP_GENERATION:
		memcpy(to, op->generation, op->count * sizeof *op->generation);
		return op->count * sizeof *op->generation;
	case TP_FREE:
	case TP_MAP:
		put_slabs(to, op);
		return op->count * sizeof(struct wire_slab);
	default:
		return 0;
	}
}

size_t encode_answer_bytes(const struct tp_op *op)
{
	switch (op->kind) {
	case TP_GRANT:
	case TP_CLONE:
		return op->count * sizeof(struct wire_slab);
	case TP_STAT:
		return sizeof(struct wire_stat);
	case TP_GENERATION:
		return op->count * sizeof(struct wire_generation);
	case TP_WANTED:
		return sizeof(struct wire_wanted) + op->count * sizeof(struct wire_slab);
	default:
		return 0;
	}
}

bool encode_count_fits(const struct tp_op *op, uint32_t count)
{
	switch (op->kind) {
	case TP_GRANT:
	case TP_CLONE:
	case TP_GENERATION:
	case TP_WANTED:
		return count == op->count;
	case TP_STAT:
		return !count;
	default:
		return true;
	}
}

bool stream_too_long(const struct tp_op *op)
{
	bool data = tp_reads(op->kind) || tp_writes(op->kind);
	uint32_t most = data			   ? WIRE_MAX_SEGS
			: op->kind == TP_MAP	   ? WIRE_MAX_FDS
			: op->kind == TP_GENERATION ? STREAM_GENERATIONS
						   : WIRE_MAX_SLABS;

	return op->count > most;
}

size_t encode_request(unsigned char *to, const struct tp_op *op, uint64_t tag, uint64_t epoch,
		      size_t *data)
{
	struct wire_header h = {.op = htole16(wire_ops[op->kind]),
				.tag = htole64(tag),
				.epoch = htole64(epoch)};
	size_t units = 0, body = put_body(to + HEAD, op, &units);
	bool one = op->kind == TP_GRANT;
	bool none = op->kind == TP_STAT || op->kind == TP_PING || op->kind == TP_GOODBYE ||
		    op->kind == TP_FENCE;

	*data = tp_writes(op->kind) ? units * tp_unit(op->kind) : 0;
	h.bytes = htole32((uint32_t)(body + *data));
	h.count = htole32(one ? 1 : none ? 0 : op->count);
	memcpy(to, &h, HEAD);
	return HEAD + body;
}

void stream_encode(struct stream *s, struct tp_op *op, uint16_t slot)
{
	uint64_t tag = (uint64_t)s->slot[slot].generation << 32 | slot;
	size_t data;

	s->tx_op = op;
	s->tx_at = 0;
	s->tx_head = encode_request(s->head, op, tag, s->epoch, &data);
	s->tx_bytes = s->tx_head + data;
}
