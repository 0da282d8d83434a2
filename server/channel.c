/* SPDX-License-Identifier: MIT */
/* See channel.h. */
#include "server/channel.h"
#include "common/error.h"
#include "secure/secret.h"
#include "secure/tls.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct srv_channel {
	int fd;
	struct tls *tls; /* NULL: the handshake is over, or was ended */
	unsigned place;  /* in scratch.shaking */
	bool open;       /* records may be read and written */
	uint8_t roles;
	unsigned char *rest;    /* the beginning of a record, */
	size_t rest_bytes;      /* between two calls */
	unsigned char *pending; /* what the socket didn't take: [pending_at, pending_bytes) */
	size_t pending_at, pending_bytes;
	struct record_key in, out;
	char reason[160];
};

bool srv_channel_speaks(uint8_t first)
{
	return first == 22; /* a handshake record */
}

/* --- the handshake --- */

static void handshake_end(struct srv_channel *c, struct srv_channel_scratch *t)
{
	if (c->tls && t->shaking[c->place] == c)
		t->shaking[c->place] = NULL;
	tls_close(c->tls);
	c->tls = NULL;
}

static void say(struct srv_channel *c, const char *words)
{
	if (!*c->reason)
		strncpy(c->reason, words, sizeof c->reason - 1);
}

/* Takes a place among the thread's handshakes; whoever had it was slower than all others. */
static void take_place(struct srv_channel *c, struct srv_channel_scratch *t)
{
	struct srv_channel *old = t->shaking[t->next];

	if (old) {
		say(old, "TLS: other handshakes were faster");
		handshake_end(old, t);
		shutdown(old->fd, SHUT_RDWR); /* its connection ends by that */
	}
	c->place = t->next;
	t->shaking[c->place] = c;
	t->next = (t->next + 1) % SRV_HANDSHAKES;
}

struct srv_channel *srv_channel_open(struct srv_gate *g, int fd, struct srv_channel_scratch *t)
{
	struct srv_channel *c = secret_map(sizeof *c);

	if (!c)
		return NULL;
	c->fd = fd;
	if (srv_gate_handshake(g, &c->tls)) {
		secret_unmap(c, sizeof *c);
		return NULL;
	}
	take_place(c, t);
	return c;
}

void srv_channel_close(struct srv_channel *c, struct srv_channel_scratch *t)
{
	if (!c)
		return;
	handshake_end(c, t);
	record_close(&c->in);
	record_close(&c->out);
	free(c->rest);
	free(c->pending);
	secret_unmap(c, sizeof *c);
}

/* The handshake's words are few: a peer for whom the socket has no room does not read. */
static int send_words(const struct srv_channel *c, struct srv_channel_scratch *t)
{
	size_t n;

	while ((n = tls_output(c->tls, t->tx, sizeof t->tx)))
		if (send(c->fd, t->tx, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
			return -EPROTO;
	return 0;
}

/* Returns the bytes behind the handshake's, now in t->rx; or an error. */
static ssize_t shake(struct srv_channel *c, struct srv_channel_scratch *t, const void *p, size_t n)
{
	int r = tls_input(c->tls, p, n), sent = send_words(c, t);
	size_t rest;

	if (r && r != -EAGAIN)
		say(c, err_text());
	if (r || sent)
		return r ? r : sent;
	r = tls_keys(c->tls, &c->in, &c->out);
	if (r)
		return r;
	c->open = true;
	c->roles = srv_gate_roles(tls_roles(c->tls));
	rest = tls_rest(c->tls, t->rx, sizeof t->rx);
	handshake_end(c, t);
	return (ssize_t)rest;
}

/* --- in --- */

static int keep_rest(struct srv_channel *c, const unsigned char *p, size_t n)
{
	free(c->rest);
	c->rest = NULL;
	c->rest_bytes = 0;
	if (!n)
		return 0;
	c->rest = malloc(n);
	if (!c->rest)
		return -ENOMEM;
	memcpy(c->rest, p, n);
	c->rest_bytes = n;
	return 0;
}

/* Opens all whole records of t->rx; what is in them comes to stand one behind the other. */
static ssize_t open_all(struct srv_channel *c, struct srv_channel_scratch *t, size_t have)
{
	size_t at = 0, got = 0, n;
	unsigned char *plain;
	long r;

	while ((r = record_unseal(&c->in, t->rx + at, have - at, &plain, &n)) > 0) {
		if (n)
			memmove(t->rx + got, plain, n);
		got += n;
		at += (size_t)r;
	}
	if (r == -ECONNRESET)
		return got ? (ssize_t)got : 0; /* the next call sees the socket's end */
	if (r < 0) {
		say(c, r == -EBADMSG ? "TLS: a record that was changed" : "TLS: a strange record");
		return r;
	}
	r = keep_rest(c, t->rx + at, have - at);
	return r ? r : got ? (ssize_t)got : -EAGAIN;
}

static ssize_t more(struct srv_channel *c, struct srv_channel_scratch *t, size_t *have)
{
	ssize_t n;

	*have = c->rest_bytes;
	if (*have)
		memcpy(t->rx, c->rest, *have);
	do
		n = recv(c->fd, t->rx + *have, sizeof t->rx - *have, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		*have += (size_t)n;
	return n < 0 ? -errno : n;
}

ssize_t srv_channel_receive(struct srv_channel *c, struct srv_channel_scratch *t, const void *p,
			    size_t n, uint8_t **plain)
{
	ssize_t r = (ssize_t)n;
	size_t have;

	*plain = t->rx;
	if (!c->open && !c->tls)
		return -EPROTO; /* it was ended */
	if (!p) {
		r = more(c, t, &have);
		if (r <= 0)
			return r;
		n = have;
		p = t->rx;
	}
	if (!c->open) {
		r = shake(c, t, p, n);
		if (r <= 0)
			return r ? r : -EAGAIN;
		n = (size_t)r;
	}
	return open_all(c, t, n);
}

/* --- out --- */

bool srv_channel_pending(const struct srv_channel *c)
{
	return c->pending;
}

int srv_channel_push(struct srv_channel *c)
{
	while (c->pending) {
		ssize_t n = send(c->fd, c->pending + c->pending_at, c->pending_bytes - c->pending_at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		c->pending_at += (size_t)n;
		if (c->pending_at == c->pending_bytes) {
			free(c->pending);
			c->pending = NULL;
		}
	}
	return 0;
}

static int send_all(struct srv_channel *c, const unsigned char *p, size_t n)
{
	ssize_t sent;

	do
		sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return -errno;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent == n)
		return 0;
	c->pending = malloc(n - (size_t)sent);
	if (!c->pending)
		return -ENOMEM;
	c->pending_at = 0;
	c->pending_bytes = n - (size_t)sent;
	memcpy(c->pending, p + sent, c->pending_bytes);
	return 0;
}

ssize_t srv_channel_send(struct srv_channel *c, struct srv_channel_scratch *t,
			 const struct iovec *iov, unsigned n, size_t max)
{
	size_t taken = 0, bytes = 0, at = 0;
	int r = srv_channel_push(c);

	assert(c->open);
	if (r)
		return r;
	for (unsigned record = 0; record < SRV_RECORDS && n && taken < max; record++) {
		unsigned char *to = t->tx + bytes + RECORD_HEAD;
		size_t room = max - taken < RECORD_PLAIN ? max - taken : RECORD_PLAIN, got = 0;

		while (n && got < room) {
			size_t part = iov->iov_len - at;

			if (part > room - got)
				part = room - got;
			memcpy(to + got, (const char *)iov->iov_base + at, part);
			got += part;
			at += part;
			if (at == iov->iov_len) {
				iov++;
				n--;
				at = 0;
			}
		}
		if (got)
			bytes += record_seal(&c->out, t->tx + bytes, got);
		taken += got;
	}
	r = bytes ? send_all(c, t->tx, bytes) : 0;
	return r ? r : (ssize_t)taken;
}

uint8_t srv_channel_roles(const struct srv_channel *c)
{
	return c->roles;
}

const char *srv_channel_reason(const struct srv_channel *c)
{
	return *c->reason ? c->reason : NULL;
}
