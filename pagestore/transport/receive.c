/* SPDX-License-Identifier: MIT */
/*
 * Answers come in. The next one is most likely the oldest request's, so it is received straight
 * into that one's buffers. When the header turns out to be another one's, what landed is carried to
 * where it belongs; it only ever moves towards the start of the stream, so nothing is overwritten
 * before it is read.
 */
#include "pagestore/transport/stream.h"
#include "common/sys.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD sizeof(struct wire_header)

size_t stream_answer_bytes(const struct tp_op *op)
{
	size_t units = 0;

	if (!tp_reads(op->kind))
		return encode_answer_bytes(op);
	for (uint32_t i = 0; i < op->count; i++)
		units += op->seg[i].pages;
	return units * tp_unit(op->kind);
}

/* Where the answer to anything but a READ goes. */
static unsigned char *answer_at(const struct tp_op *op)
{
	return op->kind == TP_STAT         ? (unsigned char *)op->stat
	       : op->kind == TP_GENERATION ? (unsigned char *)op->generation
					   : (unsigned char *)op->slabs;
}

static unsigned add_answer(struct stream *s, unsigned n, struct tp_op *op, size_t at)
{
	if (tp_reads(op->kind))
		return stream_add_segs(s, n, op, at);
	return stream_add_iov(s, n, answer_at(op) + at, stream_answer_bytes(op) - at);
}

/* Bytes of an answer that landed elsewhere. */
static void carry(struct tp_op *op, size_t at, const unsigned char *from, size_t n)
{
	if (!tp_reads(op->kind)) {
		memmove(answer_at(op) + at, from, n);
		return;
	}
	for (uint32_t i = 0; n; i++) {
		size_t len = (size_t)op->seg[i].pages * tp_unit(op->kind);
		size_t part = at < len ? len - at : 0;

		if (part > n)
			part = n;
		if (part)
			memmove((unsigned char *)op->seg[i].buf + at, from, part);
		at = at < len ? 0 : at - len;
		from += part;
		n -= part;
	}
}

static bool refused(const struct stream *s)
{
	return s->rx.status != 0;
}

/* The answer to a READ that was forgotten. */
static int skip_answer(struct stream *s, uint32_t slot, uint32_t bytes)
{
	if (le16toh(s->rx.op) != s->slot[slot].wire_op ||
	    bytes != (refused(s) ? 0 : s->slot[slot].cancelled))
		return stream_die(s, -EPROTO);
	s->rx_skip = bytes;
	stream_drop_slot(s, slot);
	return 0;
}

/* The header is complete: whose is it? Nothing has been used yet. */
static int take_header(struct stream *s)
{
	uint64_t tag = le64toh(s->rx.tag);
	uint32_t bytes = le32toh(s->rx.bytes), slot = (uint32_t)tag;
	const struct tp_op *op;

	s->rx_at = 0;
	if (le16toh(s->rx.flags) & ~WIRE_F_ALL || s->rx.epoch)
		return stream_die(s, -EPROTO);
	if (!tag) {
		if (le16toh(s->rx.op) != WIRE_RECLAIM || bytes > WIRE_MAX_SLABS * 8)
			return stream_die(s, -EPROTO);
		s->rx_skip = bytes;
		return 0;
	}
	if (!(le16toh(s->rx.flags) & WIRE_F_REPLY) || !slot || slot > s->max_inflight ||
	    (!s->slot[slot].op && !s->slot[slot].cancelled) ||
	    s->slot[slot].generation != tag >> 32)
		return stream_die(s, -EPROTO);
	if (s->slot[slot].cancelled)
		return skip_answer(s, slot, bytes);
	op = s->slot[slot].op;
	/* An answer to a request that isn't wholly sent would leave us sending a reused buffer. */
	if (le16toh(s->rx.op) != stream_wire_op(op->kind) || s->tx_op == op)
		return stream_die(s, -EPROTO);
	if (refused(s) ? bytes != 0
		       : bytes != stream_answer_bytes(op) ||
				 !encode_count_fits(op, le32toh(s->rx.count)))
		return stream_die(s, -EPROTO);
	s->rx_slot = slot;
	return 0;
}

static void take_answer(struct stream *s)
{
	struct tp_op *op = s->slot[s->rx_slot].op;
	uint32_t wire = le32toh(s->rx.status);
	int status = tp_wire_errno(wire);

	if (!wire && (op->kind == TP_GRANT || op->kind == TP_CLONE))
		for (uint32_t i = 0; i < op->count; i++)
			op->slabs[i] = le64toh(op->slabs[i]);
	if (!wire && op->kind == TP_WANTED)
		for (uint32_t i = 0; i < op->count + 1; i++)
			op->slabs[i] = le64toh(op->slabs[i]);
	if (op->kind == TP_MAP || op->kind == TP_FENCE) {
		if (!wire)
			status = s->mapped(s, op);
		stream_drop_fds(s);
	}
	stream_drop_slot(s, s->rx_slot);
	stream_finish(s, op->tag, status, wire);
	s->rx_slot = 0;
	s->rx_head = 0;
}

/* After more bytes of a header. */
static int step(struct stream *s)
{
	int r = s->rx_head < HEAD ? 0 : take_header(s);

	if (!r && s->rx_head == HEAD && !s->rx_slot && !s->rx_skip)
		s->rx_head = 0; /* a notice without a body */
	return r;
}

/* After more bytes of a body. */
static void settle(struct stream *s)
{
	if (s->rx_slot && (refused(s) || s->rx_at == stream_answer_bytes(s->slot[s->rx_slot].op)))
		take_answer(s);
}

/* Bytes that landed somewhere else than where they belong. */
static int feed(struct stream *s, const unsigned char *p, size_t n)
{
	while (n) {
		size_t part;
		int r;

		if (s->rx_head < HEAD) {
			part = HEAD - s->rx_head < n ? HEAD - s->rx_head : n;
			memcpy((unsigned char *)&s->rx + s->rx_head, p, part);
			s->rx_head += part;
			r = step(s);
			if (r)
				return r;
		} else if (s->rx_skip) {
			part = s->rx_skip < n ? s->rx_skip : n;
			s->rx_skip -= part;
			if (!s->rx_skip)
				s->rx_head = 0;
		} else {
			struct tp_op *op = s->slot[s->rx_slot].op;
			size_t left = stream_answer_bytes(op) - s->rx_at;

			part = left < n ? left : n;
			carry(op, s->rx_at, p, part);
			s->rx_at += part;
		}
		settle(s);
		p += part;
		n -= part;
	}
	return 0;
}

/* What was received into op's buffers in the belief that it is op's answer. */
static int feed_from(struct stream *s, const struct tp_op *op, size_t n)
{
	if (!tp_reads(op->kind))
		return feed(s, answer_at(op), n);
	for (uint32_t i = 0; n; i++) {
		size_t len = (size_t)op->seg[i].pages * tp_unit(op->kind);
		size_t part = len < n ? len : n;
		int r = feed(s, op->seg[i].buf, part);

		if (r)
			return r;
		n -= part;
	}
	return 0;
}

static void keep_fds(struct stream *s, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		const int *fd = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fd; n; n--, fd++) {
			if (s->fds_count < WIRE_MAX_FDS)
				s->fds[s->fds_count++] = *fd;
			else
				sys_call1(SYS_close, *fd);
		}
	}
}

/* Bytes received into s->iov; -EAGAIN; another error when the connection is dead. */
static long receive(struct stream *s, unsigned iovs)
{
	struct msghdr m = {.msg_iov = s->iov, .msg_iovlen = iovs};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
	} control;
	long r;

	if (s->link) {
		r = link_receive(s->link, s->iov, iovs);
		return r < 0 && r != -EAGAIN ? stream_die(s, (int)r) : r;
	}
	do {
		if (s->mapped) {
			m.msg_control = control.bytes;
			m.msg_controllen = sizeof control.bytes;
		}
		r = sys_call3(SYS_recvmsg, s->fd, SYS_PTR(&m), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (r == -EINTR);
	if (r > 0 && s->mapped)
		keep_fds(s, &m);
	if (r == 0)
		return stream_die(s, -ECONNRESET);
	return r < 0 && r != -EAGAIN ? stream_die(s, (int)r) : r;
}

/* The header isn't complete: bet on the oldest request in flight. */
static long receive_head(struct stream *s)
{
	struct tp_op *bet = s->slot[s->slot[0].next].op;
	size_t body = bet && bet != s->tx_op ? stream_answer_bytes(bet) : 0;
	uint32_t slot = s->slot[0].next;
	size_t had = s->rx_head, landed;
	unsigned n = stream_add_iov(s, 0, (unsigned char *)&s->rx + had, HEAD - had);
	long got;
	int r;

	n = body ? add_answer(s, n, bet, 0) : stream_add_iov(s, n, s->spare, sizeof s->spare);
	got = receive(s, n);
	if (got <= 0)
		return got;
	if ((size_t)got <= HEAD - had) {
		s->rx_head = had + (size_t)got;
		landed = 0;
	} else {
		s->rx_head = HEAD;
		landed = (size_t)got - (HEAD - had);
	}
	r = step(s);
	if (r)
		return r;
	if (landed && body && s->rx_slot == slot && !refused(s)) {
		s->rx_at = landed; /* the bet was right: it lies where it belongs */
		landed = 0;
	}
	settle(s);
	r = landed ? body ? feed_from(s, bet, landed) : feed(s, s->spare, landed) : 0;
	return r ? r : got;
}

static long receive_body(struct stream *s)
{
	long got;
	int r;

	if (s->rx_skip) {
		size_t part = s->rx_skip < sizeof s->spare ? s->rx_skip : sizeof s->spare;

		got = receive(s, stream_add_iov(s, 0, s->spare, part));
		r = got > 0 ? feed(s, s->spare, (size_t)got) : 0;
		return r ? r : got;
	}
	got = receive(s, add_answer(s, 0, s->slot[s->rx_slot].op, s->rx_at));
	if (got > 0)
		s->rx_at += (size_t)got;
	settle(s);
	return got;
}

long stream_receive(struct stream *s)
{
	return s->rx_head < HEAD ? receive_head(s) : receive_body(s);
}
