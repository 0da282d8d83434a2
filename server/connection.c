/* SPDX-License-Identifier: MIT */
/*
 * Moves a session's bytes: one recv takes as many requests as are there, one sendmsg carries all
 * their answers. Pages of a large WRITE are received where they belong. A peer that does not read
 * is not read from: what it can make us hold is one list of answers and one buffer of input.
 */
#include "server/connection.h"
#include "common/error.h"
#include "secure/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRECT_PARTS 256u
#define UNIX_BUFFER  (1024 * 1024)

static void socket_options(const struct srv_conn *c)
{
	int one = 1, idle = 15, interval = 5, count = 3, size = UNIX_BUFFER;

	if (c->is_unix) {
		/* The default holds 50 pages; a larger one saves wake-ups. Forcing needs a
		 * privilege. */
		if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
			setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	/* A borrower's machine that vanished must not hold memory for ever. */
	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

struct srv_conn *srv_conn_open(int fd, bool is_unix, struct srv_lender *l, struct srv_counters *cn,
			       uint64_t now_ns)
{
	struct srv_conn *c = calloc(1, sizeof *c);
	socklen_t len;

	if (!c) {
		close(fd);
		return NULL;
	}
	c->fd = fd;
	c->is_unix = is_unix;
	c->active_ns = now_ns;
	/* Asked now: after a reset nobody knows any more. */
	if (is_unix) {
		len = sizeof c->peer.cred;
		(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer.cred, &len);
	} else {
		len = sizeof c->peer;
		(void)getpeername(fd, (struct sockaddr *)&c->peer, &len);
	}
	socket_options(c);
	srv_session_open(&c->session, l, cn, is_unix);
	/* Who may open the socket may borrow; who runs the server may also change it. */
	if (is_unix && c->peer.cred.uid && c->peer.cred.uid != geteuid())
		c->session.roles &= (uint8_t)~SRV_ROLE_ADMIN;
	return c;
}

/* Closing with bytes unread resets the connection, and our last answer would be lost with it. */
static void let_answer_arrive(const struct srv_conn *c)
{
	uint8_t waste[4096];
	unsigned tries = 64;

	shutdown(c->fd, SHUT_WR);
	while (tries-- && recv(c->fd, waste, sizeof waste, MSG_DONTWAIT) > 0)
		;
}

void srv_conn_close(struct srv_conn *c, struct srv_scratch *t, uint64_t now_ns)
{
	if (c->session.reason)
		let_answer_arrive(c);
	srv_out_free(c->out);
	free(c->saved);
	srv_session_close(&c->session, now_ns);
	srv_channel_close(c->channel, t->channel);
	close(c->fd);
	free(c);
}

const char *srv_conn_peer(const struct srv_conn *c, char *buf, size_t len)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (c->is_unix) {
		snprintf(buf, len, "pid %d (uid %u)", c->peer.cred.pid, c->peer.cred.uid);
	} else if (c->peer.in.sin_family == AF_INET6) {
		inet_ntop(AF_INET6, &c->peer.in6.sin6_addr, host, sizeof host);
		snprintf(buf, len, "[%s]:%u", host, ntohs(c->peer.in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &c->peer.in.sin_addr, host, sizeof host);
		snprintf(buf, len, "%s:%u", host, ntohs(c->peer.in.sin_port));
	}
	return buf;
}

/* Cuts a list of pieces down to max bytes. Returns how many are left of them. */
static unsigned cut(struct iovec *iov, unsigned n, size_t max, size_t *last_len)
{
	for (unsigned i = 0; i < n; i++) {
		*last_len = iov[i].iov_len;
		if (iov[i].iov_len >= max) {
			iov[i].iov_len = max;
			return i + 1;
		}
		max -= iov[i].iov_len;
	}
	return n;
}

static ssize_t send_parts(const struct srv_conn *c, struct srv_scratch *t, struct srv_out *out,
			  size_t max)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
	} control;
	struct msghdr m = {0};
	unsigned count, fds;
	size_t last_len = 0;
	ssize_t n;

	m.msg_iov = srv_out_next(out, &count, &fds);
	if (c->channel) {
		n = srv_channel_send(c->channel, t->channel, m.msg_iov, count, max);
		errno = n < 0 ? (int)-n : 0;
		return n < 0 ? -1 : n;
	}
	m.msg_iovlen = cut(m.msg_iov, count, max, &last_len);
	if (fds) {
		struct cmsghdr *cm = &control.align;
		int *fd = (int *)(void *)CMSG_DATA(cm);

		memset(&control, 0, sizeof control);
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * fds);
		for (unsigned i = 0; i < fds; i++)
			fd[i] = out->fd_buf[i]->fd;
	}
	n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	m.msg_iov[m.msg_iovlen - 1].iov_len = last_len;
	return n;
}

/*
 * 0: all sent; -EAGAIN: the peer does not read; -EBUSY: the share is used up; other: it is gone. A
 * rest of half a share goes out with the share: not for few bytes a message of their own.
 */
static int flush(struct srv_conn *c, struct srv_scratch *t, struct srv_out *out, size_t share,
		 size_t *moved)
{
	while (!srv_out_empty(out)) {
		size_t left = share > *moved ? share - *moved : 0;
		ssize_t n;

		if (!left && out->bytes > share / 2)
			return -EBUSY;
		n = send_parts(c, t, out, out->bytes <= left + share / 2 ? out->bytes : left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->session.hung_up = errno == EPIPE || errno == ECONNRESET;
			return -errno;
		}
		*moved += (size_t)n;
		srv_out_sent(out, (size_t)n);
	}
	return c->channel ? srv_channel_push(c->channel) : 0;
}

/* The out list that is in use: the connection's own if it keeps one. */
static struct srv_out *out_of(struct srv_conn *c, struct srv_scratch *t)
{
	return c->out ? c->out : t->out;
}

/* Lends the answers that could not be sent to the connection, and gets the thread a new list. */
static int keep_out(struct srv_conn *c, struct srv_scratch *t)
{
	struct srv_out *fresh;

	if (c->out || srv_out_empty(t->out))
		return 0;
	fresh = t->spares ? t->spare[--t->spares] : srv_out_create();
	if (!fresh)
		return -ENOMEM;
	c->out = t->out;
	t->out = fresh;
	return 0;
}

/* Takes the list back, which is empty. */
static void return_out(struct srv_conn *c, struct srv_scratch *t)
{
	if (t->spares < SRV_SPARE_OUTS)
		t->spare[t->spares++] = c->out;
	else
		srv_out_free(c->out);
	c->out = NULL;
}

int srv_scratch_open(struct srv_scratch *t, bool keys)
{
	t->out = srv_out_create();
	if (keys)
		t->channel = secret_map(sizeof *t->channel);
	return t->out && (t->channel || !keys) ? 0 : -ENOMEM;
}

void srv_scratch_free(struct srv_scratch *t)
{
	secret_unmap(t->channel, sizeof *t->channel);
	t->channel = NULL;
	srv_out_free(t->out);
	while (t->spares)
		srv_out_free(t->spare[--t->spares]);
}

/* p may be what is left of c->saved. */
static int keep_input(struct srv_conn *c, const uint8_t *p, size_t n)
{
	if (n && c->saved) {
		c->saved_at = c->saved_bytes - (uint32_t)n;
		return 0;
	}
	free(c->saved);
	c->saved = NULL;
	if (n) {
		c->saved = malloc(n);
		if (!c->saved)
			return -ENOMEM;
		memcpy(c->saved, p, n);
		c->saved_at = 0;
		c->saved_bytes = (uint32_t)n;
	}
	return 0;
}

/* Feeds the session and sends what it answers. p may be what is left of c->saved. */
static enum srv_turn feed(struct srv_conn *c, struct srv_scratch *t, const uint8_t *p, size_t n,
			  uint64_t now_ns, size_t share, size_t *moved)
{
	struct srv_out *out = out_of(c, t);
	int r;

	for (;;) {
		size_t left = share > *moved ? share - *moved : 0, used;

		out->limit = left < SRV_OUT_BYTES ? left + 1 : SRV_OUT_BYTES;
		used = srv_session_input(&c->session, p, n, now_ns, out);
		p += used;
		n -= used;
		/* Last words are not split: there is no other turn. */
		r = flush(c, t, out, c->session.phase == SRV_CLOSED ? SIZE_MAX / 4 : share, moved);
		if (c->session.phase == SRV_CLOSED || (r && r != -EAGAIN && r != -EBUSY))
			return SRV_TURN_OVER;
		if (r || !n || *moved >= share)
			break;
	}
	if (keep_out(c, t) || keep_input(c, p, n))
		return SRV_TURN_OVER;
	return r == -EAGAIN ? SRV_TURN_BLOCKED : SRV_TURN_SERVED;
}

/* One recvmsg: first the slabs' share of the bytes, then what follows into the scratch buffer. */
static ssize_t receive(struct srv_conn *c, struct srv_scratch *t, size_t max, size_t *direct)
{
	struct iovec iov[DIRECT_PARTS + 1];
	struct msghdr m = {.msg_iov = iov};
	unsigned n = srv_session_direct(&c->session, iov, DIRECT_PARTS);
	size_t last_len;

	*direct = 0;
	if (!n)
		return recv(c->fd, t->input, sizeof t->input, MSG_DONTWAIT);
	n = cut(iov, n, max, &last_len);
	for (unsigned i = 0; i < n; i++)
		*direct += iov[i].iov_len;
	if (*direct == srv_session_direct_bytes(&c->session))
		iov[n++] = (struct iovec){t->input, sizeof t->input};
	m.msg_iovlen = n;
	return recvmsg(c->fd, &m, MSG_DONTWAIT);
}

/* Answers and input of an earlier turn go first. */
static enum srv_turn resume(struct srv_conn *c, struct srv_scratch *t, uint64_t now_ns,
			    size_t share, size_t *moved)
{
	if (c->out) {
		int r = flush(c, t, c->out, share, moved);

		if (r == -EBUSY)
			return SRV_TURN_SERVED;
		if (r)
			return r == -EAGAIN ? SRV_TURN_BLOCKED : SRV_TURN_OVER;
		return_out(c, t);
	}
	if (c->channel && srv_channel_pending(c->channel)) {
		int r = srv_channel_push(c->channel);

		if (r)
			return r == -EAGAIN ? SRV_TURN_BLOCKED : SRV_TURN_OVER;
	}
	if (c->saved && *moved < share)
		return feed(c, t, c->saved + c->saved_at, c->saved_bytes - c->saved_at, now_ns,
			    share, moved);
	return SRV_TURN_SERVED;
}

/* The first bytes say whether it is TLS; then those are its first. */
static bool begins_tls(struct srv_conn *c, struct srv_scratch *t, size_t n)
{
	struct srv_gate *gate = srv_lender_gate(c->session.lender);

	if (c->begun || !n)
		return false;
	c->begun = true;
	if (!gate || c->is_unix || !srv_channel_speaks(t->input[0]))
		return false;
	c->channel = srv_channel_open(gate, c->fd, t->channel);
	return c->channel;
}

/* Takes bytes by TLS: those that are there, or the first `had`, which are in t->input. */
static enum srv_turn turn_tls(struct srv_conn *c, struct srv_scratch *t, size_t had, uint64_t now_ns,
			      size_t share, size_t *moved)
{
	uint8_t *plain;
	ssize_t n = srv_channel_receive(c->channel, t->channel, had ? t->input : NULL, had, &plain);

	if (n == -EAGAIN && had)
		return SRV_TURN_SERVED;
	if (n == -EAGAIN)
		return *moved ? SRV_TURN_EMPTY : SRV_TURN_IDLE;
	if (n <= 0) {
		c->session.hung_up = !n || n == -ECONNRESET;
		if (!c->session.greeted && srv_channel_reason(c->channel))
			srv_session_deny(&c->session, srv_channel_reason(c->channel));
		return SRV_TURN_OVER;
	}
	c->session.roles = srv_channel_roles(c->channel);
	*moved += (size_t)n;
	return feed(c, t, plain, (size_t)n, now_ns, share, moved);
}

enum srv_turn srv_conn_turn(struct srv_conn *c, struct srv_scratch *t, uint64_t now_ns,
			    size_t share, size_t *moved)
{
	enum srv_turn turn;
	size_t direct;

	*moved = 0;
	turn = resume(c, t, now_ns, share, moved);
	while (turn == SRV_TURN_SERVED && !c->out && !c->saved && *moved < share) {
		size_t in_place;
		ssize_t n;
		int error;

		if (c->channel) {
			turn = turn_tls(c, t, 0, now_ns, share, moved);
			continue;
		}
		n = receive(c, t, share - *moved, &direct);
		error = errno;
		in_place = n < 0 ? 0 : (size_t)n < direct ? (size_t)n : direct;
		if (direct)
			srv_session_direct_done(&c->session, in_place, now_ns, out_of(c, t));
		if (n < 0 && error == EINTR)
			continue;
		if (n < 0 && error == EAGAIN) {
			turn = *moved ? SRV_TURN_EMPTY : SRV_TURN_IDLE;
			break;
		}
		if (n <= 0) {
			c->session.hung_up = !n || error == ECONNRESET;
			turn = SRV_TURN_OVER;
			break;
		}
		if (begins_tls(c, t, (size_t)n)) {
			turn = turn_tls(c, t, (size_t)n, now_ns, share, moved);
			continue;
		}
		*moved += (size_t)n;
		turn = feed(c, t, t->input, (size_t)n - in_place, now_ns, share, moved);
		/* A short read emptied the socket: do not ask again. */
		if (!direct && (size_t)n < sizeof t->input && turn == SRV_TURN_SERVED && !c->out &&
		    !c->saved && !srv_session_direct_bytes(&c->session))
			turn = SRV_TURN_EMPTY;
	}
	if (*moved)
		c->active_ns = now_ns;
	/* Its unsent answers must not reach the next connection that uses the list. */
	if (turn == SRV_TURN_OVER)
		srv_out_clear(t->out);
	return turn;
}
