/* SPDX-License-Identifier: MIT */
/*
 * The first words on a connection. Opening may block, within its deadline; nothing is believed
 * before the magic is seen, and the limits that a donor announces must keep the protocol's.
 */
#include "common/error.h"
#include "common/sys.h"
#include "pagestore/transport/stream.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static int all(struct stream *s, bool out, void *buf, size_t n, uint64_t until_ns)
{
	unsigned char *p = buf;

	while (n) {
		struct iovec iov = {p, n};
		long r;

		if (s->link)
			r = out ? link_send(s->link, &iov, 1) : link_receive(s->link, &iov, 1);
		else
			r = out ? sys_call6(SYS_sendto, s->fd, SYS_PTR(p), (long)n, MSG_NOSIGNAL, 0,
					    0)
				: sys_call6(SYS_recvfrom, s->fd, SYS_PTR(p), (long)n, 0, 0, 0);
		if (r == -EAGAIN)
			r = connect_wait(s->fd, out ? POLLOUT : POLLIN, until_ns);
		else if (r == 0)
			return -ECONNRESET;
		if (r < 0 && r != -EINTR)
			return (int)r;
		if (r > 0) {
			p += r;
			n -= (size_t)r;
		}
	}
	return 0;
}

/* "HOST" of "tcp:HOST:PORT". */
static void host_of(const struct tp_addr *a, char ret[128])
{
	const char *colon = strrchr(a->text, ':'), *from = strstr(a->text, "tcp:");
	size_t n;

	from = from ? from + 4 : a->text;
	n = colon > from ? (size_t)(colon - from) : 0;
	if (n >= 2 && *from == '[') {
		from++;
		n -= 2;
	}
	memcpy(ret, from, n);
	ret[n] = 0;
}

int stream_secure(struct stream *s, const struct tp_hello *h, uint64_t until_ns)
{
	char host[sizeof s->base.addr.text];
	short events;
	int r;

	host_of(&s->base.addr, host);
	r = link_open(h->tls, s->fd, host, &s->link);
	while (!r || r == -EAGAIN) {
		r = link_shake(s->link, &events);
		if (!r)
			return 0;
		if (r != -EAGAIN)
			break;
		r = connect_wait(s->fd, events, until_ns);
		if (r)
			err_fail(r, "TLS: %s", strerrordesc_np(-r));
	}
	return err_fail(r, "donor '%s' can't be trusted: %s", s->base.addr.text, err_text());
}

static bool fits(uint32_t announced, uint32_t limit)
{
	return announced >= 1 && announced <= limit;
}

int hello_check_welcome(const char *donor, struct wire_welcome *w)
{
	uint32_t slab = le32toh(w->slab_pages);

	if (le64toh(w->magic) != WIRE_MAGIC)
		return err_fail(-EPROTO, "donor '%s' is not a memory server", donor);
	if (le16toh(w->major) != WIRE_MAJOR || le16toh(w->minor) > WIRE_MINOR ||
	    le16toh(w->minor) + 1 < WIRE_MINOR)
		return err_fail(-EPROTONOSUPPORT,
				"donor '%s' speaks protocol %u.%u, this program %u.%u",
				donor, le16toh(w->major), le16toh(w->minor), WIRE_MAJOR,
				WIRE_MINOR);
	if (!slab || slab & (slab - 1) || slab > 1u << 20 ||
	    !fits(le32toh(w->max_segs), WIRE_MAX_SEGS) ||
	    !fits(le32toh(w->max_pages), WIRE_MAX_PAGES) ||
	    !fits(le32toh(w->max_slabs), WIRE_MAX_SLABS) ||
	    !fits(le32toh(w->max_inflight), WIRE_MAX_INFLIGHT) || w->page_extra)
		return err_fail(-EPROTO, "donor '%s' announces limits that the protocol forbids",
				donor);
	w->name[sizeof w->name - 1] = w->domain[sizeof w->domain - 1] = 0;
	return 0;
}

void hello_fill(struct hello_message *m, const struct tp_hello *h)
{
	*m = (struct hello_message){
		.head = {.op = htole16(WIRE_HELLO),
			 .bytes = htole32(sizeof m->hello),
			 .tag = htole64(1),
			 .epoch = htole64(h->epoch)},
		.hello = {.magic = htole64(WIRE_MAGIC),
			  .major = htole16(WIRE_MAJOR),
			  .minor = htole16(WIRE_MINOR),
			  .minor_min = htole16(h->epoch ? 2 : WIRE_MINOR - 1),
			  .flags = htole16(h->transient ? WIRE_HELLO_F_TRANSIENT : 0),
			  .pid = htole32((uint32_t)sys_call0(SYS_getpid))},
	};
	memcpy(m->hello.borrower, h->borrower, sizeof m->hello.borrower);
	memcpy(m->hello.name, h->name, sizeof m->hello.name);
}

int hello_check_answer(const char *donor, const struct wire_header *answer)
{
	if (le16toh(answer->op) == WIRE_AUTH || le32toh(answer->status) == WIRE_EPLAIN)
		return err_fail(-EACCES,
				"donor '%s' lets in only who has its key: name its file (--key, "
				"INFUSE_KEY_FILE)",
				donor);
	if (le16toh(answer->op) != WIRE_HELLO || le64toh(answer->tag) != 1 ||
	    le16toh(answer->flags) != WIRE_F_REPLY)
		return err_fail(-EPROTO, "donor '%s' is not a memory server", donor);
	if (answer->status)
		return err_fail(tp_wire_errno(le32toh(answer->status)), "donor '%s' refused: %s",
				donor, tp_wire_text(le32toh(answer->status)));
	if (le32toh(answer->bytes) != sizeof(struct wire_welcome))
		return err_fail(-EPROTO, "donor '%s' is not a memory server", donor);
	return 0;
}

int stream_hello(struct stream *s, struct tp_hello *h, uint64_t until_ns)
{
	const char *donor = s->base.addr.text;
	struct hello_message m;
	struct wire_header answer;
	int r;

	hello_fill(&m, h);
	r = all(s, true, &m, sizeof m, until_ns);
	if (!r)
		r = all(s, false, &answer, sizeof answer, until_ns);
	if (r)
		goto fail;
	r = hello_check_answer(donor, &answer);
	if (r)
		return r;
	r = all(s, false, &h->welcome, sizeof h->welcome, until_ns);
	s->epoch = h->epoch;
	if (!r)
		return hello_check_welcome(donor, &h->welcome);
fail:
	return err_fail(r, "donor '%s' did not answer the hello: %s", donor, strerrordesc_np(-r));
}

int stream_token(struct stream *s, unsigned char token[WIRE_TOKEN_BYTES], uint64_t until_ns)
{
	struct wire_header m = {.op = htole16(WIRE_TOKEN), .tag = htole64(2)}, answer;
	struct wire_token t;
	int r = all(s, true, &m, sizeof m, until_ns);

	if (!r)
		r = all(s, false, &answer, sizeof answer, until_ns);
	if (!r && (answer.op != m.op || answer.tag != m.tag))
		r = -EPROTO;
	if (!r && answer.status)
		return err_fail(tp_wire_errno(le32toh(answer.status)),
				"donor '%s' gives no token: %s", s->base.addr.text,
				tp_wire_text(le32toh(answer.status)));
	if (!r && le32toh(answer.bytes) != sizeof t)
		r = -EPROTO;
	if (!r)
		r = all(s, false, &t, sizeof t, until_ns);
	if (r)
		return err_fail(r, "donor '%s' gives no token: %s", s->base.addr.text,
				strerrordesc_np(-r));
	memcpy(token, t.token, sizeof t.token);
	return 0;
}
