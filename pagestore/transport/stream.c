/* SPDX-License-Identifier: MIT */
/*
 * The wire over a stream socket. A page's round trip costs one sendmsg and one recvmsg: the next
 * answer is most likely the oldest request's, so it is received straight into that one's buffers.
 * When the header turns out to be another one's, what landed is carried to where it belongs; it
 * only ever moves towards the start of the stream, so nothing is overwritten before it is read.
 */
#include "pagestore/transport/stream.h"
#include "common/clock.h"
#include "common/sys.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD       sizeof(struct wire_header)
#define IDLE_CHECK (100 * NSEC_PER_MSEC)
#define NOTICES    8   /* receives of an idle connection in one poll */
#define RECEIVES   512 /* of a busy one */

_Static_assert(WIRE_MAX_INFLIGHT <= UINT16_MAX, "slots are counted in 16 bits");

/* --- slots: the ops in flight, in order of sending --- */

static void slots_init(struct stream *s, uint32_t max)
{
	s->max_inflight = max;
	s->slot[0].next = s->slot[0].prev = 0;
	s->free = 1;
	for (uint32_t i = 1; i <= max; i++) {
		s->slot[i].op = NULL;
		s->slot[i].cancelled = 0;
		s->slot[i].next = (uint16_t)(i < max ? i + 1 : 0);
	}
}

static uint16_t slot_take(struct stream *s, struct tp_op *op)
{
	uint16_t i = s->free;
	struct stream_slot *slot = &s->slot[i];

	assert(i && !slot->op && !slot->cancelled);
	s->free = slot->next;
	slot->op = op;
	slot->generation++;
	slot->next = 0;
	slot->prev = s->slot[0].prev;
	s->slot[slot->prev].next = i;
	s->slot[0].prev = i;
	s->inflight++;
	return i;
}

static void slot_drop(struct stream *s, uint32_t i)
{
	struct stream_slot *slot = &s->slot[i];

	s->slot[slot->prev].next = slot->next;
	s->slot[slot->next].prev = slot->prev;
	slot->op = NULL;
	slot->cancelled = 0;
	slot->next = s->free;
	s->free = (uint16_t)i;
	s->inflight--;
}

bool stream_has_room(const struct stream *s)
{
	return s->inflight + s->done_count < s->max_inflight;
}

void stream_finish(struct stream *s, uint64_t tag, int status, uint32_t wire)
{
	assert(s->done_count < WIRE_MAX_INFLIGHT);
	s->done[(s->done_first + s->done_count++) % WIRE_MAX_INFLIGHT] =
		(struct tp_done){.tag = tag, .status = status, .wire = wire};
}

static void drop_fds(struct stream *s)
{
	for (uint32_t i = 0; i < s->fds_count; i++)
		sys_call1(SYS_close, s->fds[i]);
	s->fds_count = 0;
}

int stream_die(struct stream *s, int err)
{
	if (!s->error)
		s->error = err;
	if (s->up)
		sys_call1(SYS_close, s->fd);
	s->up = false;
	s->inflight = 0;
	s->tx_op = NULL;
	drop_fds(s);
	return s->error;
}

/* --- out --- */

static unsigned add_iov(struct stream *s, unsigned n, void *base, size_t len)
{
	if (!len)
		return n;
	if (n && (unsigned char *)s->iov[n - 1].iov_base + s->iov[n - 1].iov_len == base) {
		s->iov[n - 1].iov_len += len;
		return n;
	}
	s->iov[n] = (struct iovec){base, len};
	return n + 1;
}

/* The op's buffers from byte `at` on. */
static unsigned add_segs(struct stream *s, unsigned n, const struct tp_op *op, size_t at)
{
	for (uint32_t i = 0; i < op->count; i++) {
		size_t len = (size_t)op->seg[i].pages * tp_unit(op->kind);

		if (at < len)
			n = add_iov(s, n, (unsigned char *)op->seg[i].buf + at, len - at);
		at = at < len ? 0 : at - len;
	}
	return n;
}

static long send_once(struct stream *s)
{
	unsigned n = 0;
	size_t at = s->tx_at;
	struct msghdr m = {.msg_iov = s->iov};
	long r;

	if (at < s->tx_head)
		n = add_iov(s, n, s->head + at, s->tx_head - at);
	if (tp_writes(s->tx_op->kind))
		n = add_segs(s, n, s->tx_op, at < s->tx_head ? 0 : at - s->tx_head);
	if (s->link)
		return link_send(s->link, s->iov, n);
	m.msg_iovlen = n;
	do
		r = sys_call3(SYS_sendmsg, s->fd, SYS_PTR(&m), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r == -EINTR);
	return r;
}

static int flush(struct stream *s)
{
	if (s->link && link_pending(s->link) && !s->tx_op) {
		long r = link_send(s->link, NULL, 0);

		return r < 0 && r != -EAGAIN ? stream_die(s, (int)r) : 0;
	}
	while (s->tx_op) {
		long r = send_once(s);

		if (r == -EAGAIN)
			return 0;
		if (r < 0)
			return stream_die(s, (int)r);
		s->tx_at += (size_t)r;
		assert(s->tx_at <= s->tx_bytes);
		if (s->tx_at == s->tx_bytes)
			s->tx_op = NULL;
	}
	return 0;
}

int stream_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct stream *s = stream_of(c);

	(void)now_ns;
	if (s->error)
		return s->error;
	if (!s->up)
		return -ENOTCONN;
	if (stream_too_long(op))
		return -E2BIG;
	if (s->tx_op || !stream_has_room(s))
		return -EAGAIN;
	if ((op->kind == TP_MAP || op->kind == TP_FENCE) && !s->mapped) {
		stream_finish(s, op->tag, 0, 0);
		return 0;
	}
	stream_encode(s, op, slot_take(s, op));
	return flush(s);
}

/* --- in --- */

/* How long the body of a good answer to op is. */
static size_t answer_bytes(const struct tp_op *op)
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
	return op->kind == TP_STAT	   ? (unsigned char *)op->stat
	       : op->kind == TP_GENERATION ? (unsigned char *)op->generation
					   : (unsigned char *)op->slabs;
}

static unsigned add_answer(struct stream *s, unsigned n, struct tp_op *op, size_t at)
{
	if (tp_reads(op->kind))
		return add_segs(s, n, op, at);
	return add_iov(s, n, answer_at(op) + at, answer_bytes(op) - at);
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
	slot_drop(s, slot);
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
		       : bytes != answer_bytes(op) || !encode_count_fits(op, le32toh(s->rx.count)))
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
		drop_fds(s);
	}
	slot_drop(s, s->rx_slot);
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
	if (s->rx_slot && (refused(s) || s->rx_at == answer_bytes(s->slot[s->rx_slot].op)))
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
			size_t left = answer_bytes(op) - s->rx_at;

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
	size_t body = bet && bet != s->tx_op ? answer_bytes(bet) : 0;
	uint32_t slot = s->slot[0].next;
	size_t had = s->rx_head, landed;
	unsigned n = add_iov(s, 0, (unsigned char *)&s->rx + had, HEAD - had);
	long got;
	int r;

	n = body ? add_answer(s, n, bet, 0) : add_iov(s, n, s->spare, sizeof s->spare);
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

		got = receive(s, add_iov(s, 0, s->spare, part));
		r = got > 0 ? feed(s, s->spare, (size_t)got) : 0;
		return r ? r : got;
	}
	got = receive(s, add_answer(s, 0, s->slot[s->rx_slot].op, s->rx_at));
	if (got > 0)
		s->rx_at += (size_t)got;
	settle(s);
	return got;
}

static long receive_more(struct stream *s)
{
	return s->rx_head < HEAD ? receive_head(s) : receive_body(s);
}

int stream_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct stream *s = stream_of(c);
	unsigned i = 0;

	if (s->up && !s->error)
		flush(s);
	/* Notices and a donor's end are noticed without a request too, if later. */
	if (s->up && !s->inflight && now_ns - s->idle_ns > IDLE_CHECK) {
		s->idle_ns = now_ns;
		for (int k = 0; k < NOTICES && receive_more(s) > 0; k++)
			;
	}
	/* Bounded: a donor may send notices without end. */
	for (int k = 0; k < RECEIVES && s->up && s->inflight && s->done_count < n; k++)
		if (receive_more(s) <= 0)
			break;
	for (; i < n && s->done_count; i++, s->done_count--) {
		done[i] = s->done[s->done_first];
		s->done_first = (s->done_first + 1) % WIRE_MAX_INFLIGHT;
	}
	return i ? (int)i : s->error;
}

/* An answer that is here already, but was not given out. */
static bool done_remove(struct stream *s, uint64_t tag)
{
	for (uint32_t i = 0; i < s->done_count; i++) {
		if (s->done[(s->done_first + i) % WIRE_MAX_INFLIGHT].tag != tag)
			continue;
		for (; i + 1 < s->done_count; i++)
			s->done[(s->done_first + i) % WIRE_MAX_INFLIGHT] =
				s->done[(s->done_first + i + 1) % WIRE_MAX_INFLIGHT];
		s->done_count--;
		return true;
	}
	return false;
}

int stream_cancel(struct tp_conn *c, struct tp_op *op)
{
	struct stream *s = stream_of(c);
	uint32_t i = s->slot[0].next;

	if (!tp_reads(op->kind))
		return -EBUSY;
	if (done_remove(s, op->tag) || !s->up)
		return 0;
	while (i && s->slot[i].op != op)
		i = s->slot[i].next;
	if (!i || s->tx_op == op)
		return -EBUSY;
	if (s->rx_slot == i) {
		s->rx_skip = answer_bytes(op) - s->rx_at;
		s->rx_slot = 0;
		slot_drop(s, i);
		return 0;
	}
	s->slot[i].op = NULL;
	s->slot[i].cancelled = (uint32_t)answer_bytes(op);
	s->slot[i].wire_op = stream_wire_op(op->kind);
	return 0;
}

int stream_fd(struct tp_conn *c, short *events)
{
	struct stream *s = stream_of(c);

	*events = (short)((s->inflight ? POLLIN : 0) |
			  (s->tx_op || (s->link && link_pending(s->link)) ? POLLOUT : 0));
	return s->up && *events ? s->fd : -1;
}

/* Answers that came along with earlier ones make no event. */
uint64_t stream_due(struct tp_conn *c)
{
	const struct stream *s = stream_of(c);

	return s->done_count || (s->up && s->link && s->inflight && link_ready(s->link)) ? 0
											 : UINT64_MAX;
}

static void reset(struct stream *s)
{
	link_close(s->link);
	s->link = NULL;
	s->up = false;
	s->error = 0;
	s->inflight = 0;
	s->tx_op = NULL;
	s->rx_head = s->rx_at = s->rx_skip = 0;
	s->rx_slot = 0;
	s->done_count = 0;
	s->fds_count = 0;
}

void stream_close(struct tp_conn *c)
{
	struct stream *s = stream_of(c);

	if (s->up)
		sys_call1(SYS_close, s->fd);
	drop_fds(s);
	reset(s);
}

void stream_forget(struct tp_conn *c, bool inherited)
{
	if (inherited)
		stream_close(c);
	else
		reset(stream_of(c));
}

int stream_open(struct stream *s, int fd, struct tp_hello *h, uint64_t until_ns)
{
	int r;

	reset(s);
	s->fd = fd;
	s->up = true;
	r = h->tls && s->base.addr.family != AF_UNIX ? stream_secure(s, h, until_ns) : 0;
	if (!r)
		r = stream_hello(s, h, until_ns);
	if (r) {
		stream_close(&s->base);
		return r;
	}
	slots_init(s, le32toh(h->welcome.max_inflight));
	return 0;
}
