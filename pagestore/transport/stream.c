/* SPDX-License-Identifier: MIT */
/*
 * The wire over a stream socket: the requests in flight, and how they go out. What comes in is
 * receive.c's. A page's round trip costs one sendmsg and one recvmsg.
 */
#include "pagestore/transport/stream.h"
#include "common/clock.h"
#include "common/sys.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

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

void stream_drop_slot(struct stream *s, uint32_t i)
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

void stream_drop_fds(struct stream *s)
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
	stream_drop_fds(s);
	return s->error;
}

/* --- out --- */

unsigned stream_add_iov(struct stream *s, unsigned n, void *base, size_t len)
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
unsigned stream_add_segs(struct stream *s, unsigned n, const struct tp_op *op, size_t at)
{
	for (uint32_t i = 0; i < op->count; i++) {
		size_t len = (size_t)op->seg[i].pages * tp_unit(op->kind);

		if (at < len)
			n = stream_add_iov(s, n, (unsigned char *)op->seg[i].buf + at, len - at);
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
		n = stream_add_iov(s, n, s->head + at, s->tx_head - at);
	if (tp_writes(s->tx_op->kind))
		n = stream_add_segs(s, n, s->tx_op, at < s->tx_head ? 0 : at - s->tx_head);
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

/* --- in: receive.c --- */

int stream_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct stream *s = stream_of(c);
	unsigned i = 0;

	if (s->up && !s->error)
		flush(s);
	/* Notices and a donor's end are noticed without a request too, if later. */
	if (s->up && !s->inflight && now_ns - s->idle_ns > IDLE_CHECK) {
		s->idle_ns = now_ns;
		for (int k = 0; k < NOTICES && stream_receive(s) > 0; k++)
			;
	}
	/* Bounded: a donor may send notices without end. */
	for (int k = 0; k < RECEIVES && s->up && s->inflight && s->done_count < n; k++)
		if (stream_receive(s) <= 0)
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
		s->rx_skip = stream_answer_bytes(op) - s->rx_at;
		s->rx_slot = 0;
		stream_drop_slot(s, i);
		return 0;
	}
	s->slot[i].op = NULL;
	s->slot[i].cancelled = (uint32_t)stream_answer_bytes(op);
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
	stream_drop_fds(s);
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
