/* SPDX-License-Identifier: MIT */
/* See link.h. */
#include "secure/link.h"
#include "common/error.h"
#include "common/sys.h"
#include "secure/secret.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define RECORDS  4u /* sealed at a time */
#define TX_BYTES (RECORDS * RECORD_ROOM)
#define RX_BYTES (RECORDS * RECORD_INPUT)

struct link {
	int fd;
	struct tls *tls; /* the handshake; NULL: it is over */
	bool shaken;     /* the handshake is over but for bytes of it to send */
	struct record_key in, out;
	/* records that came: [rx_at, rx_have), behind `plain_bytes` of an opened one */
	size_t rx_at, rx_have;
	unsigned char *plain;
	size_t plain_bytes;
	size_t tx_at, tx_have; /* bytes to send */
	unsigned char rx[RX_BYTES];
	unsigned char tx[TX_BYTES];
};

int link_open(struct tls_config *c, int fd, const char *name, struct link **ret)
{
	struct link *l = secret_map(sizeof *l);
	int r = l ? tls_open(c, name, &l->tls) : err_fail(-ENOMEM, "no memory for TLS");

	if (!r)
		r = tls_input(l->tls, NULL, 0);
	if (r && r != -EAGAIN) {
		link_close(l);
		return r;
	}
	l->fd = fd;
	*ret = l;
	return 0;
}

void link_close(struct link *l)
{
	if (!l)
		return;
	tls_close(l->tls);
	record_close(&l->in);
	record_close(&l->out);
	secret_unmap(l, sizeof *l);
}

/* --- out --- */

bool link_pending(const struct link *l)
{
	return l->tx_at < l->tx_have;
}

static int push(struct link *l)
{
	while (link_pending(l)) {
		long r = sys_call6(SYS_sendto, l->fd, SYS_PTR(l->tx + l->tx_at),
				   (long)(l->tx_have - l->tx_at), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);

		if (r == -EINTR)
			continue;
		if (r < 0)
			return (int)r;
		l->tx_at += (size_t)r;
	}
	l->tx_at = l->tx_have = 0;
	return 0;
}

/* Up to n bytes from byte `at` of the pieces on. Returns how many. */
static size_t gather(const struct iovec *iov, unsigned pieces, size_t at, unsigned char *to, size_t n)
{
	size_t got = 0;

	for (unsigned i = 0; i < pieces && got < n; i++) {
		size_t len = iov[i].iov_len, part;

		if (at >= len) {
			at -= len;
			continue;
		}
		part = len - at < n - got ? len - at : n - got;
		memcpy(to + got, (const unsigned char *)iov[i].iov_base + at, part);
		got += part;
		at = 0;
	}
	return got;
}

long link_send(struct link *l, const struct iovec *iov, unsigned n)
{
	size_t taken = 0;
	int r = push(l);

	if (r)
		return r;
	for (unsigned i = 0; i < RECORDS; i++) {
		unsigned char *at = l->tx + l->tx_have;
		size_t part = gather(iov, n, taken, at + RECORD_HEAD, RECORD_PLAIN);

		if (!part)
			break;
		l->tx_have += record_seal(&l->out, at, part);
		taken += part;
	}
	r = push(l);
	/* What is sealed is taken: -EAGAIN is for the next one. */
	return r && r != -EAGAIN ? r : (long)taken;
}

/* --- in --- */

/* 0: a record was opened, or there was one that is nothing to us; -EAGAIN: none is whole. */
static int open_one(struct link *l)
{
	long r = record_unseal(&l->in, l->rx + l->rx_at, l->rx_have - l->rx_at, &l->plain,
			       &l->plain_bytes);

	if (r <= 0)
		return r ? (int)r : -EAGAIN;
	l->rx_at += (size_t)r;
	return 0;
}

static size_t scatter(struct link *l, const struct iovec *iov, unsigned pieces, size_t at)
{
	size_t put = 0;

	for (unsigned i = 0; i < pieces && l->plain_bytes; i++) {
		size_t len = iov[i].iov_len, part;

		if (at >= len) {
			at -= len;
			continue;
		}
		part = len - at < l->plain_bytes ? len - at : l->plain_bytes;
		memcpy((unsigned char *)iov[i].iov_base + at, l->plain, part);
		l->plain += part;
		l->plain_bytes -= part;
		put += part;
		at = 0;
	}
	return put;
}

static long fill(struct link *l)
{
	long r;

	if (l->rx_at) {
		memmove(l->rx, l->rx + l->rx_at, l->rx_have - l->rx_at);
		l->rx_have -= l->rx_at;
		l->rx_at = 0;
	}
	do
		r = sys_call6(SYS_recvfrom, l->fd, SYS_PTR(l->rx + l->rx_have),
			      (long)(sizeof l->rx - l->rx_have), MSG_DONTWAIT, 0, 0);
	while (r == -EINTR);
	if (r > 0)
		l->rx_have += (size_t)r;
	return r ? r : -ECONNRESET;
}

long link_receive(struct link *l, const struct iovec *iov, unsigned n)
{
	size_t got = 0;

	for (;;) {
		long r;

		got += scatter(l, iov, n, got);
		if (l->plain_bytes)
			return (long)got; /* no more room */
		r = open_one(l);
		if (!r)
			continue;
		if (got && r == -EAGAIN)
			return (long)got;
		if (r == -EAGAIN)
			r = fill(l);
		if (r < 0)
			return r;
	}
}

bool link_ready(const struct link *l)
{
	size_t have = l->rx_have - l->rx_at;
	const unsigned char *p = l->rx + l->rx_at;

	return l->plain_bytes ||
	       (have >= RECORD_HEAD && have - RECORD_HEAD >= ((size_t)p[3] << 8 | p[4]));
}

/* --- the handshake --- */

static int send_words(struct link *l)
{
	size_t n;
	int r;

	for (;;) {
		r = push(l);
		if (r)
			return r;
		n = tls_output(l->tls, l->tx, sizeof l->tx);
		if (!n)
			return 0;
		l->tx_have = n;
	}
}

static int finish(struct link *l)
{
	int r = tls_keys(l->tls, &l->in, &l->out);

	if (r)
		return err_fail(r, "no memory for TLS");
	l->rx_have = tls_rest(l->tls, l->rx, sizeof l->rx);
	tls_close(l->tls);
	l->tls = NULL;
	return 0;
}

int link_shake(struct link *l, short *events)
{
	long r;

	for (;;) {
		r = send_words(l);
		*events = POLLOUT;
		if (r == -EAGAIN)
			return -EAGAIN;
		if (!r && l->shaken)
			return finish(l);
		if (r)
			break;
		do
			r = sys_call6(SYS_recvfrom, l->fd, SYS_PTR(l->rx), sizeof l->rx,
				      MSG_DONTWAIT, 0, 0);
		while (r == -EINTR);
		*events = POLLIN;
		if (r == -EAGAIN)
			return -EAGAIN;
		if (r <= 0) {
			r = r ? r : -ECONNRESET;
			break;
		}
		r = tls_input(l->tls, l->rx, (size_t)r);
		if (r && r != -EAGAIN) {
			send_words(l); /* the alert: why we leave */
			return (int)r;
		}
		l->shaken = !r;
	}
	return err_fail((int)r, "TLS: the other end closed the connection (has it no key?)");
}
