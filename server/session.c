/* SPDX-License-Identifier: MIT */
/*
 * The state machine of a connection: header, the fixed part of the body, pages. What each
 * operation wants in its body stands in one table (operations.c); this file only cuts the stream
 * into messages and checks that their shape fits.
 */
#include "server/session.h"
#include "server/operations.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(counter) atomic_fetch_add_explicit(&(counter), 1, memory_order_relaxed)

void srv_session_open(struct srv_session *s, struct srv_lender *l, struct srv_counters *c,
		      bool is_unix)
{
	memset(s, 0, sizeof *s);
	s->lender = l;
	s->counters = c;
	s->is_unix = is_unix;
	/* Without keys everybody is everything; TLS tells the connection, which tells us. */
	s->roles = is_unix || !srv_lender_gate(l) ? SRV_ROLE_ALL : 0;
	srv_lender_sessions(l, 1);
}

void srv_session_close(struct srv_session *s, uint64_t now_ns)
{
	if (s->runs)
		srv_lend_runs_end(s->runs, s->nruns);
	free(s->runs);
	free(s->body);
	free(s->asked);
	if (s->borrower)
		srv_lend_detach(s->lender, s->borrower, s->hung_up, now_ns);
	srv_lender_sessions(s->lender, -1);
	memset(s, 0, sizeof *s);
	s->phase = SRV_CLOSED;
}

static void message_end(struct srv_session *s)
{
	free(s->body);
	s->body = NULL;
	s->have = s->need = 0;
	s->skip = 0;
	if (s->phase != SRV_CLOSED)
		s->phase = SRV_HEADER;
}

static void answer_error(struct srv_session *s, uint32_t status, struct srv_out *out)
{
	COUNT(s->counters->errors);
	srv_out_head(out, &s->head, status, 0, 0);
	message_end(s);
}

void srv_session_end(struct srv_session *s, const char *reason)
{
	COUNT(s->counters->refused);
	s->reason = reason;
	s->phase = SRV_CLOSED;
}

void srv_session_deny(struct srv_session *s, const char *reason)
{
	COUNT(s->counters->denied);
	srv_session_end(s, reason);
}

/* The rest of the message is taken off the stream first, then the answer tells why. */
static void refuse(struct srv_session *s, uint32_t status, uint64_t rest, struct srv_out *out)
{
	if (!rest) {
		answer_error(s, status, out);
		return;
	}
	s->skip = rest;
	s->status = status;
	s->phase = SRV_SKIP;
}

static void refuse_and_end(struct srv_session *s, uint32_t status, const char *reason,
			   struct srv_out *out)
{
	answer_error(s, status, out);
	srv_session_end(s, reason);
}

/* The fixed part of the body is there. */
static void body_done(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	const struct srv_operation *op = srv_operation(le16toh(s->head.op));
	uint32_t status;

	if (s->borrower)
		srv_lend_touch(s->borrower, s->now_ns);
	if (op->borrower && !srv_lend_begin(s->borrower, s->epoch)) {
		refuse(s, WIRE_EEPOCH, s->skip, out);
		return;
	}
	status = op->run(s, body, out);
	if (op->borrower)
		srv_lend_end(s->borrower);
	if (status == WIRE_OK && s->nruns) {
		s->phase = SRV_DATA;
		return;
	}
	if (status != WIRE_OK && s->phase != SRV_CLOSED)
		refuse(s, status, s->skip, out);
	else
		message_end(s);
}

/* Checks that every message must pass before its operation is looked at. */
static uint32_t header_check(const struct srv_session *s, const struct srv_operation *op,
			     uint32_t *need)
{
	uint32_t count = le32toh(s->head.count);
	uint64_t bytes = le32toh(s->head.bytes), fixed;

	if (!op || s->minor < op->minor || (op->stream && s->exposer) ||
	    (s->greeted && s->head.op == htole16(WIRE_AUTH)))
		return WIRE_EOP;
	if (count > op->max && op->item)
		return WIRE_ELIMIT;
	/* A client that mixes two writers up must not have the wrong one's request done. */
	if (count < op->min || count > op->max ||
	    (s->greeted && s->head.epoch && s->head.epoch != htole64(s->epoch)))
		return WIRE_EPROTO;
	fixed = op->fixed + (uint64_t)op->item * count;
	if (op->unit ? bytes < fixed || (bytes - fixed) % op->unit : bytes != fixed)
		return WIRE_ELENGTH;
	if ((op->borrower && !s->borrower) || (op->roles && !(op->roles & s->roles)))
		return WIRE_EDENIED;
	*need = (uint32_t)fixed;
	return WIRE_OK;
}

/* The first message; and the second, if the first was answered with a challenge. */
static bool hello_shape(const struct srv_session *s)
{
	const struct wire_header *h = &s->head;

	if (h->flags || h->status || h->count || !h->tag)
		return false;
	if (s->asked)
		return h->op == htole16(WIRE_AUTH) && h->tag == s->asked->head.tag &&
		       h->bytes == htole32(sizeof(struct wire_auth));
	return h->op == htole16(WIRE_HELLO) && h->bytes == htole32(sizeof(struct wire_hello));
}

static void header_done(struct srv_session *s, struct srv_out *out)
{
	uint32_t bytes = le32toh(s->head.bytes), status;

	s->have = 0;
	COUNT(s->counters->requests);
	if (!s->greeted) {
		if (!hello_shape(s)) {
			srv_session_end(s, "does not begin with a hello of this protocol");
			return;
		}
	} else if (s->head.flags || s->head.status || !s->head.tag) {
		refuse_and_end(s, WIRE_EPROTO, "a header with reserved fields set", out);
		return;
	} else if (s->head.op == htole16(WIRE_HELLO)) {
		refuse_and_end(s, WIRE_EPROTO, "a second hello", out);
		return;
	} else if (bytes > WIRE_MAX_BODY) {
		refuse_and_end(s, WIRE_ELIMIT, "a message longer than the limit", out);
		return;
	}
	status = header_check(s, srv_operation(le16toh(s->head.op)), &s->need);
	if (status) {
		refuse(s, status, bytes, out);
		return;
	}
	s->skip = bytes - s->need;
	s->phase = SRV_BODY;
	if (!s->need)
		body_done(s, NULL, out);
}

static size_t take_header(struct srv_session *s, const uint8_t *p, size_t n, struct srv_out *out)
{
	size_t k = sizeof s->head - s->have;

	if (k > n)
		k = n;
	memcpy((uint8_t *)&s->head + s->have, p, k);
	s->have += (uint32_t)k;
	if (s->have == sizeof s->head)
		header_done(s, out);
	return k;
}

static size_t take_body(struct srv_session *s, const uint8_t *p, size_t n, struct srv_out *out)
{
	size_t k = s->need - s->have;

	if (!s->have && n >= s->need) { /* whole: no copy */
		k = s->need;
		body_done(s, p, out);
		return k;
	}
	if (!s->body) {
		s->body = malloc(s->need);
		if (!s->body) {
			refuse(s, WIRE_EINTERNAL, s->need + s->skip, out);
			return 0;
		}
	}
	if (k > n)
		k = n;
	memcpy(s->body + s->have, p, k);
	s->have += (uint32_t)k;
	if (s->have == s->need)
		body_done(s, s->body, out);
	return k;
}

static size_t take_skip(struct srv_session *s, size_t n, struct srv_out *out)
{
	size_t k = s->skip < n ? s->skip : n;

	s->skip -= k;
	if (!s->skip)
		answer_error(s, s->status, out);
	return k;
}

static void write_done(struct srv_session *s, struct srv_out *out)
{
	uint64_t pages = (s->skip + WIRE_PAGE_SIZE - 1) / WIRE_PAGE_SIZE;

	srv_lend_runs_end(s->runs, s->nruns);
	free(s->runs);
	s->runs = NULL;
	s->run = s->nruns = 0;
	atomic_fetch_add_explicit(&s->counters->pages_written, pages, memory_order_relaxed);
	srv_lend_count(s->borrower, 0, pages);
	srv_out_head(out, &s->head, WIRE_OK, 0, 0);
	message_end(s);
}

/* A newer writer has taken over: what is still to come of the pages goes nowhere. */
static void data_stale(struct srv_session *s)
{
	uint64_t left = s->skip;

	for (uint32_t i = 0; i < s->run; i++)
		left -= s->runs[i].bytes;
	left -= s->run_at;
	srv_lend_runs_end(s->runs, s->nruns);
	free(s->runs);
	s->runs = NULL;
	s->run = s->nruns = 0;
	s->skip = left;
	s->status = WIRE_EEPOCH;
	s->phase = SRV_SKIP;
}

static size_t take_data(struct srv_session *s, const uint8_t *p, size_t n, struct srv_out *out)
{
	size_t used = 0;

	if (!srv_lend_begin(s->borrower, s->epoch)) {
		data_stale(s);
		return 0;
	}
	while (used < n && s->run < s->nruns) {
		struct srv_run *r = &s->runs[s->run];
		size_t k = r->bytes - s->run_at;

		if (k > n - used)
			k = n - used;
		memcpy(r->mem + s->run_at, p + used, k);
		used += k;
		s->run_at += k;
		if (s->run_at == r->bytes) {
			s->run++;
			s->run_at = 0;
		}
	}
	srv_lend_end(s->borrower);
	if (s->run == s->nruns)
		write_done(s, out);
	return used;
}

size_t srv_session_input(struct srv_session *s, const uint8_t *p, size_t n, uint64_t now_ns,
			 struct srv_out *out)
{
	size_t used = 0;

	s->now_ns = now_ns;
	while (used < n) {
		/* A message that has begun always has room for its answer. */
		if (s->phase == SRV_HEADER && !s->have && !srv_out_has_room(out))
			break;
		switch ((enum srv_phase)s->phase) {
		case SRV_HEADER:
			used += take_header(s, p + used, n - used, out);
			break;
		case SRV_BODY:
			used += take_body(s, p + used, n - used, out);
			break;
		case SRV_DATA:
			used += take_data(s, p + used, n - used, out);
			break;
		case SRV_SKIP:
			used += take_skip(s, n - used, out);
			break;
		case SRV_CLOSED:
			return used;
		}
	}
	return used;
}

unsigned srv_session_direct(struct srv_session *s, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	if (s->phase != SRV_DATA)
		return 0;
	if (!srv_lend_begin(s->borrower, s->epoch)) {
		data_stale(s);
		return 0;
	}
	for (uint32_t i = s->run; i < s->nruns && n < max; i++) {
		size_t at = i == s->run ? s->run_at : 0;

		iov[n++] = (struct iovec){s->runs[i].mem + at, s->runs[i].bytes - at};
	}
	return n;
}

size_t srv_session_direct_bytes(const struct srv_session *s)
{
	size_t n = 0;

	if (s->phase != SRV_DATA)
		return 0;
	for (uint32_t i = s->run; i < s->nruns; i++)
		n += s->runs[i].bytes;
	return n - s->run_at;
}

void srv_session_direct_done(struct srv_session *s, size_t n, uint64_t now_ns, struct srv_out *out)
{
	srv_lend_end(s->borrower);
	s->now_ns = now_ns;
	while (n) {
		size_t k = s->runs[s->run].bytes - s->run_at;

		if (k > n)
			k = n;
		n -= k;
		s->run_at += k;
		if (s->run_at == s->runs[s->run].bytes) {
			s->run++;
			s->run_at = 0;
		}
	}
	if (s->run == s->nruns)
		write_done(s, out);
}
