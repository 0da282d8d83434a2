/* SPDX-License-Identifier: MIT */
/*
 * The operations of the protocol. session.c has checked the message's shape (lengths and counts);
 * here the contents are checked and the lender is asked.
 */
#include "server/operations.h"
#include "server/reclaim.h"
#include "secure/secret.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define STAT_RDMA                                                                                  \
	((WIRE_RDMA_BYTES - sizeof(struct wire_header) - sizeof(struct wire_stat)) /               \
	 sizeof(struct wire_borrower)) /* what one message holds */
#define STAT_MAX 4096u /* borrowers told at most: the answer is one piece of memory */

static bool all_zero(const uint8_t *p, size_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

static uint32_t count_of(const struct srv_session *s)
{
	return le32toh(s->head.count);
}

/* Answers with a body that the caller made. */
static uint32_t answer(struct srv_session *s, uint32_t count, void *body, size_t bytes,
		       struct srv_out *out)
{
	srv_out_head(out, &s->head, WIRE_OK, count, bytes);
	if (bytes)
		srv_out_body(out, body, bytes);
	return WIRE_OK;
}

/* The newest minor that both speak, or -1. */
static int common_minor(const struct wire_hello *h)
{
	int newest = le16toh(h->minor), oldest = le16toh(h->minor_min), minor;

	if (le16toh(h->major) != WIRE_MAJOR)
		return -1;
	minor = newest < WIRE_MINOR ? newest : WIRE_MINOR;
	return minor < oldest || minor < WIRE_MINOR - 1 ? -1 : minor;
}

static uint32_t attach(struct srv_session *s, const struct wire_hello *h)
{
	struct srv_hello who = {.id = h->borrower,
				.name = h->name,
				.pid = le32toh(h->pid),
				.epoch = le64toh(s->head.epoch),
				.transient = h->flags & htole16(WIRE_HELLO_F_TRANSIENT)};
	uint32_t status = WIRE_OK;

	if (!all_zero(h->borrower, sizeof h->borrower))
		status = srv_lend_attach(s->lender, &who, &s->borrower);
	if (s->borrower)
		srv_lend_touch(s->borrower, s->now_ns);
	s->epoch = who.epoch;
	return status;
}

/* The hello is answered with an error, and that was it. */
static uint32_t no_entry(struct srv_session *s, uint32_t status, const char *reason,
			 struct srv_out *out)
{
	srv_out_head(out, &s->head, status, 0, 0);
	srv_session_end(s, reason);
	return WIRE_OK;
}

static uint32_t no_key(struct srv_session *s, uint32_t status, const char *reason,
		       struct srv_out *out)
{
	atomic_fetch_add_explicit(&s->counters->denied, 1, memory_order_relaxed);
	return no_entry(s, status, reason, out);
}

/* The hello is good, and who says it may come in. */
static uint32_t welcome(struct srv_session *s, const struct wire_hello *h, struct srv_out *out)
{
	struct wire_welcome *w;
	uint32_t status;

	if (!all_zero(h->borrower, sizeof h->borrower) && !(s->roles & SRV_ROLE_BORROWER))
		return no_key(s, WIRE_EDENIED, "its key is not a borrower's", out);
	if (s->exposer && memcmp(h->borrower, s->exposer->borrower, sizeof h->borrower))
		return no_key(s, WIRE_EDENIED,
			      "says hello for another borrower than it connected for", out);
	if (s->exposer)
		s->exposer->shared = h->flags & htole16(WIRE_HELLO_F_SHARED_KEYS);
	w = malloc(sizeof *w);
	status = w ? attach(s, h) : WIRE_EINTERNAL;
	if (status) {
		free(w);
		return no_entry(s, status,
				status == WIRE_EEPOCH  ? "a newer writer has the volume"
				: status == WIRE_EBUSY ? "takes over slabs that are being read"
						       : "no memory for another session",
				out);
	}
	srv_lender_welcome(s->lender, w);
	s->minor = (uint8_t)common_minor(h);
	w->minor = htole16(s->minor);
	s->greeted = true;
	return answer(s, 0, w, sizeof *w, out);
}

/* Nobody knows yet who it is: a connection without TLS to a server that has keys. */
static uint32_t ask_for_proof(struct srv_session *s, const struct wire_hello *h,
			      struct srv_out *out)
{
	struct wire_auth *challenge;
	struct wire_header head = s->head;

	if (!srv_gate_allows_plain(srv_lender_gate(s->lender)))
		return no_key(s, WIRE_EPLAIN, "it did not come by TLS", out);
	if (common_minor(h) < 2 || all_zero(h->borrower, sizeof h->borrower))
		return no_key(s, WIRE_EAUTH, "it has no key to show", out);
	s->asked = calloc(1, sizeof *s->asked);
	challenge = malloc(sizeof *challenge);
	if (!s->asked || !challenge) {
		free(challenge);
		return no_entry(s, WIRE_EINTERNAL, "no memory for another session", out);
	}
	s->asked->head = s->head;
	s->asked->hello = *h;
	secret_random(s->asked->challenge.word, sizeof s->asked->challenge.word);
	*challenge = s->asked->challenge;
	head.op = htole16(WIRE_AUTH);
	srv_out_head(out, &head, WIRE_OK, 0, sizeof *challenge);
	srv_out_body(out, challenge, sizeof *challenge);
	return WIRE_OK;
}

static uint32_t run_hello(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct wire_hello h;
	int minor;

	memcpy(&h, body, sizeof h);
	if (le64toh(h.magic) != WIRE_MAGIC) {
		srv_session_end(s, "a hello with the wrong magic");
		return WIRE_OK;
	}
	minor = common_minor(&h);
	if (minor < 0)
		return no_entry(s, WIRE_EVERSION, "speaks other versions of the protocol only",
				out);
	if (h.flags & ~htole16(WIRE_HELLO_F_ALL) || h.reserved || (minor < 2 && s->head.epoch) ||
	    !all_zero(h.token, sizeof h.token))
		return no_entry(s, WIRE_EPROTO, "a hello with reserved fields set", out);
	return s->roles ? welcome(s, &h, out) : ask_for_proof(s, &h, out);
}

/* session.c has seen that it was asked for. */
static uint32_t run_auth(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_asked *asked = s->asked;
	struct wire_auth proof;
	uint32_t status;

	memcpy(&proof, body, sizeof proof);
	s->asked = NULL;
	s->head = asked->head;
	if (srv_gate_proof(srv_lender_gate(s->lender), &asked->hello, &asked->challenge, &proof)) {
		s->roles = SRV_ROLE_BORROWER;
		status = welcome(s, &asked->hello, out);
	} else {
		status = no_key(s, WIRE_EAUTH, "it showed the wrong key", out);
	}
	free(asked);
	return status;
}

/* Units (pages or sectors) in all segments, or 0 with *status set. */
static uint32_t segs_units(const uint8_t *body, uint32_t n, uint32_t unit, uint32_t *status)
{
	uint64_t units = 0;
	struct wire_seg seg; /* a wire_part looks the same */

	for (uint32_t i = 0; i < n; i++) {
		memcpy(&seg, body + i * sizeof seg, sizeof seg);
		if (!seg.pages) {
			*status = WIRE_EPROTO;
			return 0;
		}
		units += le32toh(seg.pages);
	}
	if (units > (uint64_t)WIRE_MAX_PAGES * (WIRE_PAGE_SIZE / unit)) {
		*status = WIRE_ELIMIT;
		return 0;
	}
	return (uint32_t)units;
}

static uint32_t unit_of(const struct srv_session *s)
{
	bool part = s->head.op == htole16(WIRE_READPART) || s->head.op == htole16(WIRE_WRITEPART);

	return part ? WIRE_SECTOR : WIRE_PAGE_SIZE;
}

static uint32_t run_read(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_run runs[WIRE_MAX_SEGS];
	uint32_t n = count_of(s), status = WIRE_OK, unit = unit_of(s);
	uint64_t bytes = (uint64_t)segs_units(body, n, unit, &status) * unit, pages;

	if (!status)
		status = srv_lend_runs(s->lender, s->borrower, body, n, unit, false, runs);
	if (status)
		return status;
	srv_out_head(out, &s->head, WIRE_OK, 0, bytes);
	srv_out_runs(out, runs, n);
	pages = (bytes + WIRE_PAGE_SIZE - 1) / WIRE_PAGE_SIZE;
	atomic_fetch_add_explicit(&s->counters->pages_read, pages, memory_order_relaxed);
	srv_lend_count(s->borrower, pages, 0);
	return WIRE_OK;
}

/* Leaves the runs in the session: the pages go there as they come. */
static uint32_t run_write(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t n = count_of(s), status = WIRE_OK, unit = unit_of(s);
	uint64_t bytes = (uint64_t)segs_units(body, n, unit, &status) * unit;
	struct srv_run *runs;

	(void)out;
	if (status)
		return status;
	if (s->skip != bytes)
		return WIRE_ELENGTH;
	runs = malloc(n * sizeof *runs);
	status = runs ? srv_lend_runs(s->lender, s->borrower, body, n, unit, true, runs)
		      : WIRE_EINTERNAL;
	if (status) {
		free(runs);
		return status;
	}
	s->runs = runs;
	s->nruns = n;
	s->run = 0;
	s->run_at = 0;
	return WIRE_OK;
}

static uint32_t run_trim(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_run runs[WIRE_MAX_SEGS];
	uint32_t n = count_of(s), status = WIRE_OK;

	segs_units(body, n, WIRE_PAGE_SIZE, &status);
	if (!status)
		status = srv_lend_runs(s->lender, s->borrower, body, n, WIRE_PAGE_SIZE, true, runs);
	if (status)
		return status;
	for (uint32_t i = 0; i < n; i++)
		srv_arena_clear(runs[i].buf, (uint64_t)(runs[i].mem - runs[i].buf->mem),
				runs[i].bytes);
	srv_lend_runs_end(runs, n);
	return answer(s, 0, NULL, 0, out);
}

static uint32_t run_grant(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct wire_slab *slabs;
	struct wire_grant g;
	uint32_t n, status;

	memcpy(&g, body, sizeof g);
	n = le32toh(g.slabs);
	if (!n || g.flags || g.volume || !all_zero(g.reserved, sizeof g.reserved))
		return WIRE_EPROTO;
	if (n > WIRE_MAX_SLABS)
		return WIRE_ELIMIT;
	slabs = malloc(n * sizeof *slabs);
	status = slabs ? srv_lend_grant(s->lender, s->borrower, n, slabs) : WIRE_EINTERNAL;
	if (status) {
		free(slabs);
		return status;
	}
	return answer(s, n, slabs, n * sizeof *slabs, out);
}

static uint32_t run_free(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t status = srv_lend_free(s->lender, s->borrower, body, count_of(s));

	return status ? status : answer(s, 0, NULL, 0, out);
}

static uint32_t run_clone(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t n = count_of(s), status;
	struct wire_slab *slabs;
	struct wire_clone to;

	memcpy(&to, body, sizeof to);
	if (all_zero(to.owner, sizeof to.owner))
		return WIRE_EPROTO; /* nobody could ever free them */
	slabs = malloc(n * sizeof *slabs);
	status = slabs ? srv_lend_clone(s->lender, s->borrower, &to, body + sizeof to, n, s->now_ns,
					slabs)
		       : WIRE_EINTERNAL;
	if (status) {
		free(slabs);
		return status;
	}
	return answer(s, n, slabs, n * sizeof *slabs, out);
}

static uint32_t run_map(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_buffer *bufs[WIRE_MAX_FDS];
	uint32_t n = count_of(s), status;

	if (!s->is_unix)
		return WIRE_ENOTUNIX;
	status = srv_lend_map(s->lender, s->borrower, body, n, bufs);
	if (status)
		return status;
	srv_out_head(out, &s->head, WIRE_OK, n, 0);
	srv_out_fds(out, bufs, n);
	return WIRE_OK;
}

static uint32_t run_fence(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_buffer *page = NULL;
	uint32_t status;

	(void)body;
	if (!s->is_unix)
		return WIRE_ENOTUNIX;
	status = srv_lend_fence(s->lender, s->borrower, &page);
	if (status)
		return status;
	srv_out_head(out, &s->head, WIRE_OK, 1, 0);
	srv_out_fds(out, &page, 1);
	return WIRE_OK;
}

static uint32_t run_rkeys(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct srv_buffer *bufs[WIRE_MAX_KEYS];
	uint32_t n = count_of(s), status;
	struct wire_rkey *keys;

	if (!s->exposer)
		return WIRE_ENOTRDMA;
	status = srv_lend_pin(s->lender, s->borrower, body, n, bufs);
	if (status)
		return status;
	keys = calloc(n, sizeof *keys);
	status = keys ? WIRE_OK : WIRE_EINTERNAL;
	for (uint32_t i = 0; i < n && !status; i++)
		status = s->exposer->expose(s->exposer, bufs[i], &keys[i]);
	for (uint32_t i = 0; i < n; i++)
		srv_buffer_unpin(bufs[i]);
	if (status) {
		free(keys);
		return status;
	}
	return answer(s, n, keys, n * sizeof *keys, out);
}

static uint32_t run_stat(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t most = s->exposer ? STAT_RDMA : STAT_MAX;
	uint32_t n = count_of(s) < most ? count_of(s) : most;
	struct wire_stat *st;
	uint64_t ever;
	unsigned have = srv_lend_borrowers(s->lender, &ever);

	(void)body;
	if (n > have)
		n = have;
	st = malloc(sizeof *st + n * sizeof(struct wire_borrower));
	if (!st)
		return WIRE_EINTERNAL;
	srv_lend_stat(s->lender, s->now_ns, st);
	if (s->minor < 2) {
		st->slabs_lent = st->slabs_wanted = st->slabs_away = 0;
		st->flags = 0;
	}
	n = srv_lend_stat_borrowers(s->lender, s->now_ns, (struct wire_borrower *)(st + 1), n);
	return answer(s, n, st, sizeof *st + n * sizeof(struct wire_borrower), out);
}

static uint32_t run_generation(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t n = count_of(s), status;
	struct wire_generation *ret = malloc(n * sizeof *ret);

	status = ret ? srv_lend_generations(s->lender, s->borrower, body, n, ret) : WIRE_EINTERNAL;
	if (status) {
		free(ret);
		return status;
	}
	return answer(s, n, ret, n * sizeof *ret, out);
}

static uint32_t run_ping(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	(void)body;
	return answer(s, 0, NULL, 0, out);
}

static uint32_t run_goodbye(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	(void)body;
	srv_lend_goodbye(s->lender, s->borrower);
	return answer(s, 0, NULL, 0, out);
}

static uint32_t run_token(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct wire_token *t = calloc(1, sizeof *t);
	uint32_t status;

	(void)body;
	if (!t)
		return WIRE_EINTERNAL;
	t->valid_ms = htole32((uint32_t)(SRV_TOKEN_NS / 1000000));
	status = srv_token_make(srv_lender_tokens(s->lender), srv_lend_id(s->borrower), s->roles,
				s->now_ns, t->token);
	if (status) {
		free(t);
		return status;
	}
	return answer(s, 0, t, sizeof *t, out);
}

static uint32_t run_drain(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	struct wire_drain d;

	memcpy(&d, body, sizeof d);
	if (!all_zero(d.reserved, sizeof d.reserved) ||
	    (d.slabs && d.what != htole32(WIRE_DRAIN_SOME)))
		return WIRE_EPROTO;
	switch (le32toh(d.what)) {
	case WIRE_DRAIN_UNDO:
		srv_reclaim_drain(s->lender, false);
		srv_reclaim_ask(s->lender, 0, s->now_ns);
		break;
	case WIRE_DRAIN_ALL:
		srv_reclaim_drain(s->lender, true);
		break;
	case WIRE_DRAIN_SOME:
		srv_reclaim_ask(s->lender, le32toh(d.slabs), s->now_ns);
		break;
	default:
		return WIRE_EPROTO;
	}
	return answer(s, 0, NULL, 0, out);
}

static uint32_t run_wanted(struct srv_session *s, const uint8_t *body, struct srv_out *out)
{
	uint32_t n = count_of(s), wanted, listed;
	struct wire_wanted *w = calloc(1, sizeof *w + n * sizeof(struct wire_slab));

	(void)body;
	if (!w)
		return WIRE_EINTERNAL;
	srv_lend_wanted(s->lender, s->borrower, n, (struct wire_slab *)(w + 1), &listed, &wanted);
	w->slabs = htole32(wanted);
	w->listed = htole32(listed);
	return answer(s, n, w, sizeof *w + n * sizeof(struct wire_slab), out);
}

/* RECLAIM is not in it: only the server sends that. */
static const struct srv_operation operations[] = {
	[WIRE_HELLO] = {.fixed = sizeof(struct wire_hello), .run = run_hello},
	[WIRE_READ] = {.stream = true,
		       .borrower = true,
		       .item = sizeof(struct wire_seg),
		       .min = 1,
		       .max = WIRE_MAX_SEGS,
		       .run = run_read},
	[WIRE_WRITE] = {.stream = true,
			.borrower = true,
			.unit = WIRE_PAGE_SIZE,
			.item = sizeof(struct wire_seg),
			.min = 1,
			.max = WIRE_MAX_SEGS,
			.run = run_write},
	[WIRE_TRIM] = {.borrower = true,
		       .item = sizeof(struct wire_seg),
		       .min = 1,
		       .max = WIRE_MAX_SEGS,
		       .run = run_trim},
	[WIRE_GRANT] = {.borrower = true,
			.fixed = sizeof(struct wire_grant),
			.min = 1,
			.max = 1,
			.run = run_grant},
	[WIRE_FREE] = {.borrower = true,
		       .item = sizeof(struct wire_slab),
		       .min = 1,
		       .max = WIRE_MAX_SLABS,
		       .run = run_free},
	[WIRE_CLONE] = {.borrower = true,
			.fixed = sizeof(struct wire_clone),
			.item = sizeof(struct wire_slab),
			.min = 1,
			.max = WIRE_MAX_SLABS,
			.run = run_clone},
	[WIRE_MAP] = {.borrower = true,
		      .item = sizeof(struct wire_slab),
		      .min = 1,
		      .max = WIRE_MAX_FDS,
		      .run = run_map},
	[WIRE_STAT] = {.max = UINT32_MAX, .run = run_stat},
	[WIRE_PING] = {.run = run_ping},
	[WIRE_GOODBYE] = {.minor = 1, .borrower = true, .run = run_goodbye},
	[WIRE_AUTH] = {.fixed = sizeof(struct wire_auth), .run = run_auth},
	[WIRE_FENCE] = {.minor = 2, .borrower = true, .run = run_fence},
	[WIRE_DRAIN] = {.minor = 2,
			.roles = SRV_ROLE_ADMIN,
			.fixed = sizeof(struct wire_drain),
			.min = 1,
			.max = 1,
			.run = run_drain},
	[WIRE_WANTED] = {.minor = 2, .borrower = true, .min = 1, .max = WIRE_MAX_SLABS, .run = run_wanted},
	[WIRE_TOKEN] = {.minor = 2, .borrower = true, .run = run_token},
	[WIRE_RKEYS] = {.minor = 2,
			.borrower = true,
			.item = sizeof(struct wire_slab),
			.min = 1,
			.max = WIRE_MAX_KEYS,
			.run = run_rkeys},
	[WIRE_GENERATION] = {.minor = 2,
			     .borrower = true,
			     .item = sizeof(struct wire_generation),
			     .min = 1,
			     .max = WIRE_MAX_SLABS,
			     .run = run_generation},
	[WIRE_READPART] = {.minor = 2,
			   .stream = true,
			   .borrower = true,
			   .item = sizeof(struct wire_part),
			   .min = 1,
			   .max = WIRE_MAX_SEGS,
			   .run = run_read},
	[WIRE_WRITEPART] = {.minor = 2,
			    .stream = true,
			    .borrower = true,
			    .unit = WIRE_SECTOR,
			    .item = sizeof(struct wire_part),
			    .min = 1,
			    .max = WIRE_MAX_SEGS,
			    .run = run_write},
};

const struct srv_operation *srv_operation(uint16_t op)
{
	if (op >= sizeof operations / sizeof *operations || !operations[op].run)
		return NULL;
	return &operations[op];
}
