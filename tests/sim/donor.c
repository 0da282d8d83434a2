/* SPDX-License-Identifier: MIT */
/*
 * Donors: a lender each, a session for each connection, and what connection.c and worker.c do with
 * real sockets: bytes in, pages of a WRITE to their places, answers out as the peer takes them.
 */
#define SIM_OWN_MEMORY
#include "sim.h"
#include "server/lend_table.h"
#include "server/session.h"
#include "server_env.h"
#include "common/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAP_NS  (500 * SIM_MSEC)
#define GRACE_NS (10 * SIM_SEC)
#define PIECE    (64u * 1024)

struct sim_serve {
	struct srv_session session;
	struct srv_out *out;
	struct sim_conn *conn;
	struct sim_donor *donor;
	struct sim_serve *next, *prev;
	unsigned char *saved; /* input that there was no room to answer: [saved_at, saved_end) */
	size_t saved_at, saved_end;
};

struct sim_donor {
	unsigned index, boots;
	struct srv_lender *lender; /* NULL: dead */
	struct sim_serve *serves;
	bool frozen, silent;
	uint64_t slow; /* times the usual service time */
	enum sim_hurt hurt;
	bool spoilt; /* bits of what it holds have turned over */
};

static struct sim_donor donor[SIM_MAX_DONORS];
static struct sim_donor_options opt;
static unsigned donors, hurt_most;
static struct srv_out *spare[64];
static unsigned spares;
static struct sim_donor *busy;

struct sim_donor *sim_donor_busy(void)
{
	return busy;
}

ssize_t sim_server_random(void *p, size_t n)
{
	unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		b[i] = (unsigned char)sim_random();
	return (ssize_t)n;
}

int sim_server_thread(pthread_t *t, void *(*fn)(void *), void *arg)
{
	(void)t;
	(void)fn;
	(void)arg;
	return 0;
}

unsigned sim_donors(void)
{
	return donors;
}

struct sim_donor *sim_donor(unsigned i)
{
	return &donor[i];
}

unsigned sim_donor_index(const struct sim_donor *d)
{
	return d->index;
}

bool sim_donor_up(const struct sim_donor *d)
{
	return d->lender;
}

bool sim_donor_silent(const struct sim_donor *d)
{
	return !d->lender && d->silent;
}

enum sim_hurt sim_donor_hurt(unsigned i)
{
	return donor[i].hurt;
}

const char *sim_donors_hurt_text(void)
{
	static char text[128];
	int n = 0;

	for (unsigned i = 0; i < donors; i++)
		if (donor[i].hurt)
			n += snprintf(text + n, sizeof text - (size_t)n, " %u", i);
	return n ? text : "no donor was hurt";
}

unsigned sim_donors_hurt_most(void)
{
	return hurt_most;
}

void sim_donor_hurts(struct sim_donor *d, enum sim_hurt how)
{
	unsigned n = 0;

	if (how > d->hurt)
		d->hurt = how;
	for (unsigned i = 0; i < donors; i++)
		n += donor[i].hurt != SIM_HURT_NOT;
	if (n > hurt_most)
		hurt_most = n;
}

void sim_donors_heal(void)
{
	for (unsigned i = 0; i < donors; i++) {
		struct sim_donor *d = &donor[i];

		if (!d->hurt || d->spoilt || !d->lender)
			continue;
		d->hurt = SIM_HURT_NOT;
		sim_say("donor %u is as good as new", i);
	}
}

static void reap(void *arg, uint64_t boot)
{
	struct sim_donor *d = arg;

	if (!d->lender || d->boots != boot)
		return;
	if (!d->frozen)
		srv_lend_reap(d->lender, sim_now(), false);
	sim_at(sim_now() + REAP_NS, reap, d, boot);
}

/* There is memory again. */
static void try_again(void *arg, uint64_t n)
{
	struct sim_donor *d = arg;

	(void)n;
	if (!d->lender)
		sim_donor_start(d);
}

void sim_donor_start(struct sim_donor *d)
{
	struct srv_lender_options o = {
		.arena = {.slab_bytes = (uint64_t)opt.slab_pages * WIRE_PAGE_SIZE,
			  .slabs = opt.slabs,
			  .lazy = true},
		.name = "sim",
		.domain = "",
		.threads = 1,
		.now_ns = sim_now(),
	};

	sim_must(!d->lender);
	busy = d;
	if (srv_lender_open(&o, &d->lender)) {
		if (!sim_memory_donor_failed(d))
			sim_fail("donor %u does not start: %s", d->index, err_text());
		sim_say("donor %u does not start: %s", d->index, err_text());
		sim_must(!d->lender);
		sim_at(sim_now() + SIM_SEC, try_again, d, 0);
		return;
	}
	srv_lender_set_grace(d->lender, GRACE_NS);
	d->boots++;
	d->silent = d->frozen = d->spoilt = false;
	sim_say("donor %u starts (%u)", d->index, d->boots);
	sim_at(sim_now() + REAP_NS, reap, d, d->boots);
}

void sim_donors_open(unsigned n, const struct sim_donor_options *o)
{
	opt = *o;
	donors = n;
	hurt_most = 0;
	memset(donor, 0, sizeof donor);
	for (unsigned i = 0; i < n; i++) {
		donor[i].index = i;
		donor[i].slow = 1;
		sim_donor_start(&donor[i]);
	}
}

void sim_donor_crash(struct sim_donor *d, bool silent)
{
	if (!d->lender)
		return;
	sim_say("donor %u %s", d->index, silent ? "vanishes" : "is killed");
	sim_donor_hurts(d, SIM_HURT_MEMORY);
	sim_net_drop(d, silent);
	sim_must(!d->serves);
	srv_lender_close(d->lender);
	d->lender = NULL;
	d->silent = silent;
}

void sim_donors_close(void)
{
	for (unsigned i = 0; i < donors; i++) {
		if (!donor[i].lender)
			continue;
		sim_net_drop(&donor[i], true);
		srv_lender_close(donor[i].lender);
		donor[i].lender = NULL;
	}
	donors = 0;
}

void sim_donor_freeze(struct sim_donor *d, bool frozen)
{
	if (d->frozen == frozen)
		return;
	d->frozen = frozen;
	sim_say("donor %u %s", d->index, frozen ? "stops" : "goes on");
	if (!frozen)
		sim_net_kick(d);
}

void sim_donor_slow(struct sim_donor *d, uint64_t factor)
{
	d->slow = factor;
	sim_say("donor %u takes %llu times as long", d->index, (unsigned long long)factor);
}

void sim_donor_flip(struct sim_donor *d)
{
	struct srv_lender *l = d->lender;
	uint32_t total, first;

	if (!l)
		return;
	total = srv_arena_total(l->arena);
	first = (uint32_t)sim_below(total);
	for (uint32_t k = 0; k < total; k++) {
		struct srv_slab *s = &l->slots[(first + k) % total];
		uint64_t at = sim_below(srv_arena_slab_bytes(l->arena));
		unsigned bit = (unsigned)sim_below(8);

		if (!atomic_load(&s->owner) || !s->buf || !s->buf->mem)
			continue;
		s->buf->mem[at] ^= (uint8_t)(1u << bit);
		d->spoilt = true;
		sim_donor_hurts(d, SIM_HURT_MEMORY);
		sim_say("donor %u: bit %u of byte %llu of slab %u turns over", d->index, bit,
			(unsigned long long)at, (first + k) % total);
		return;
	}
}

void sim_donors_check_empty(void)
{
	for (unsigned i = 0; i < donors; i++) {
		struct srv_lender *l = donor[i].lender;
		uint64_t ever;

		if (!l)
			continue;
		srv_lend_reap(l, sim_now() + GRACE_NS, false);
		if (donor[i].serves)
			sim_fail("donor %u still has sessions after the borrower's end", i);
		if (srv_lend_borrowers(l, &ever))
			sim_fail("donor %u still has a borrower after the grace", i);
		if (srv_arena_room(l->arena) != opt.slabs)
			sim_fail("donor %u has room for %u slabs of %u when all is given back", i,
				 srv_arena_room(l->arena), opt.slabs);
	}
}

/* --- sessions --- */

struct sim_serve *sim_serve_open(struct sim_donor *d, struct sim_conn *c)
{
	struct sim_serve *s = calloc(1, sizeof *s);

	if (!s)
		abort();
	sim_memory_pause(true);
	s->out = spares ? spare[--spares] : srv_out_create();
	sim_memory_pause(false);
	if (!s->out)
		abort();
	s->conn = c;
	s->donor = d;
	s->next = d->serves;
	if (s->next)
		s->next->prev = s;
	d->serves = s;
	srv_session_open(&s->session, d->lender, srv_lender_counters(d->lender, 0), false);
	return s;
}

/* (Some are kept from one play to the next.) */
static void out_free(struct srv_out *o)
{
	sim_memory_pause(true);
	srv_out_free(o);
	sim_memory_pause(false);
}

void sim_serve_close(struct sim_serve *s, bool hung_up)
{
	struct sim_donor *d = s->donor;

	s->session.hung_up = hung_up;
	srv_out_clear(s->out);
	srv_session_close(&s->session, sim_now());
	if (spares < sizeof spare / sizeof *spare)
		spare[spares++] = s->out;
	else
		out_free(s->out);
	free(s->saved);
	if (s->prev)
		s->prev->next = s->next;
	else
		d->serves = s->next;
	if (s->next)
		s->next->prev = s->prev;
	free(s);
}

/* True: all sent. */
static bool flush(struct sim_serve *s)
{
	while (!srv_out_empty(s->out)) {
		unsigned count, fds;
		struct iovec *iov = srv_out_next(s->out, &count, &fds);
		long r = sim_conn_send(s->conn, SIM_TO_CLIENT, iov, count, SIZE_MAX);

		if (r < 0) { /* nobody will read it */
			srv_out_clear(s->out);
			return true;
		}
		if (!r)
			return false;
		srv_out_sent(s->out, (size_t)r);
	}
	return true;
}

static void input(struct sim_serve *s, const unsigned char *p, size_t n)
{
	size_t used = srv_session_input(&s->session, p, n, sim_now(), s->out);

	if (used == n || s->session.phase == SRV_CLOSED)
		return;
	if (!s->saved && !(s->saved = malloc(PIECE)))
		abort();
	memmove(s->saved, p + used, n - used);
	s->saved_at = 0;
	s->saved_end = n - used;
}

/* A piece of what has arrived. Returns its bytes. */
static size_t take(struct sim_serve *s)
{
	static unsigned char piece[PIECE];
	struct iovec iov[8], one = {piece, sizeof piece};
	unsigned parts;
	long n;

	if (s->saved_at < s->saved_end) {
		n = (long)(s->saved_end - s->saved_at);
		s->saved_end = 0;
		input(s, s->saved, (size_t)n);
		return (size_t)n;
	}
	/* The real loop takes small rests along with what follows them. */
	parts = sim_chance(700000) ? srv_session_direct(&s->session, iov, 8) : 0;
	n = sim_conn_receive(s->conn, SIM_TO_DONOR, parts ? iov : &one, parts ? parts : 1);
	if (n <= 0)
		return 0;
	if (parts)
		srv_session_direct_done(&s->session, (size_t)n, sim_now(), s->out);
	else
		input(s, piece, (size_t)n);
	return (size_t)n;
}

static void over(struct sim_serve *s, bool hung_up)
{
	struct sim_conn *c = s->conn;

	if (s->session.reason)
		sim_say("donor %u closes a session: %s", s->donor->index, s->session.reason);
	sim_serve_close(s, hung_up);
	sim_conn_close(c, SIM_TO_CLIENT);
}

bool sim_serve(struct sim_serve *s)
{
	size_t moved = 0, n;

	busy = s->donor;
	while (!s->donor->frozen && flush(s)) {
		if (s->session.phase == SRV_CLOSED) {
			over(s, false);
			return false;
		}
		if (moved >= PIECE)
			return true;
		n = take(s);
		moved += n;
		if (n)
			continue;
		if (sim_conn_ended(s->conn, SIM_TO_DONOR))
			over(s, true);
		return false;
	}
	return false;
}

uint64_t sim_donor_pace(const struct sim_donor *d)
{
	return sim_between(opt.service_ns / 2, opt.service_ns) * d->slow;
}
