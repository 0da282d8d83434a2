/* SPDX-License-Identifier: MIT */
/*
 * Byte streams as TCP gives them: in order, late, in pieces of any size, held up while the network
 * is cut, and gone when it loses a connection. What the client had sent before it closed still
 * arrives; so do a dead client's writes, after its successor's.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One direction. Bytes [read, arrived) may be received, [arrived, end) are under way. */
struct direction {
	unsigned char *buf;
	size_t read, arrived, end, room;
	size_t held;         /* arrived, but for the cut */
	uint64_t last_ns;    /* when the last byte arrives: streams stay in order */
	bool finished;       /* the sender closed; counts once all has arrived */
	bool fin_arrived;
};

struct sim_conn {
	struct sim_conn *next;
	struct sim_donor *donor;
	struct direction dir[2];
	unsigned number;
	int state; /* the client's view: 0 connecting, 1 up, or what went wrong */
	bool client_open, donor_open, reset_at_donor;
	bool serving; /* an event to serve it is under way */
	struct sim_serve *serve;
	struct sim_task *waiter;
};

struct sim_net sim_net;
static struct sim_conn *all;
static unsigned numbers;
static bool cut[SIM_MAX_DONORS];

void sim_net_open(void)
{
	all = NULL;
	numbers = 0;
	memset(cut, 0, sizeof cut);
}

void sim_net_close(void)
{
	struct sim_conn *c;

	while ((c = all)) {
		all = c->next;
		free(c->dir[0].buf);
		free(c->dir[1].buf);
		free(c);
	}
}

static bool is_cut(const struct sim_conn *c)
{
	return cut[sim_donor_index(c->donor)];
}

static uint64_t delay(void)
{
	uint64_t ns = sim_between(sim_net.delay_min_ns, sim_net.delay_max_ns);

	return sim_chance(sim_net.spike_ppm) ? ns + sim_below(sim_net.spike_ns) : ns;
}

static void wake_client(struct sim_conn *c)
{
	struct sim_task *t = c->waiter;

	c->waiter = NULL;
	if (t)
		sim_task_wake(t);
}

void sim_conn_wait(struct sim_conn *c, struct sim_task *t)
{
	c->waiter = t;
}

/* --- the donor's end --- */

static void wake_donor(struct sim_conn *c);

static void serve_now(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	(void)n;
	c->serving = false;
	if (c->donor_open && sim_serve(c->serve))
		wake_donor(c);
}

static void wake_donor(struct sim_conn *c)
{
	if (!c->donor_open || c->serving)
		return;
	c->serving = true;
	sim_at(sim_now() + sim_donor_pace(c->donor), serve_now, c, 0);
}

void sim_net_kick(struct sim_donor *d)
{
	for (struct sim_conn *c = all; c; c = c->next)
		if (c->donor == d)
			wake_donor(c);
}

/* --- arrivals --- */

static void notify(struct sim_conn *c, int dir)
{
	if (dir == SIM_TO_DONOR)
		wake_donor(c);
	else
		wake_client(c);
}

static void rst(void *arg, uint64_t n);

static void arrive(struct sim_conn *c, int dir, size_t n)
{
	struct direction *d = &c->dir[dir];

	if (n > d->end - d->arrived) /* a reset dropped some */
		n = d->end - d->arrived;
	d->arrived += n;
	if (n && dir == SIM_TO_CLIENT && !c->client_open)
		sim_at(sim_now() + delay(), rst, c, 0); /* nobody is there to take them */
	if (d->finished && d->arrived == d->end)
		d->fin_arrived = true;
	notify(c, dir);
}

static void arrive_to_donor(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	if (is_cut(c))
		c->dir[SIM_TO_DONOR].held += n;
	else
		arrive(c, SIM_TO_DONOR, n);
}

static void arrive_to_client(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	if (is_cut(c))
		c->dir[SIM_TO_CLIENT].held += n;
	else
		arrive(c, SIM_TO_CLIENT, n);
}

static void schedule(struct sim_conn *c, int dir, size_t n)
{
	struct direction *d = &c->dir[dir];
	uint64_t when = sim_now() + delay();

	if (when < d->last_ns)
		when = d->last_ns;
	d->last_ns = when;
	sim_at(when, dir == SIM_TO_DONOR ? arrive_to_donor : arrive_to_client, c, n);
}

void sim_net_cut(struct sim_donor *donor, bool now)
{
	cut[sim_donor_index(donor)] = now;
	for (struct sim_conn *c = all; c && !now; c = c->next) {
		if (c->donor != donor)
			continue;
		for (int dir = 0; dir < 2; dir++) {
			schedule(c, dir, c->dir[dir].held);
			c->dir[dir].held = 0;
		}
	}
}

/* --- sending and receiving --- */

size_t sim_conn_room(const struct sim_conn *c, int dir)
{
	const struct direction *d = &c->dir[dir];
	size_t used = d->end - d->read;

	return used < sim_net.window ? sim_net.window - used : 0;
}

static void make_room(struct direction *d, size_t n)
{
	if (d->read) {
		memmove(d->buf, d->buf + d->read, d->end - d->read);
		d->arrived -= d->read;
		d->end -= d->read;
		d->read = 0;
	}
	if (d->end + n > d->room) {
		d->room = 2 * (d->end + n);
		d->buf = realloc(d->buf, d->room);
		if (!d->buf)
			abort();
	}
}

static void flip(struct sim_conn *c, struct direction *d, size_t n)
{
	size_t at = d->end - 1 - sim_below(n);
	unsigned bit = (unsigned)sim_below(8);

	d->buf[at] ^= (unsigned char)(1u << bit);
	sim_donor_hurts(c->donor, SIM_HURT_MEMORY);
	sim_say("connection %u: a bit of %zu bytes turns over", c->number, n);
}

static int may_send(const struct sim_conn *c, int dir)
{
	if (dir == SIM_TO_DONOR)
		return c->state == 1 ? 0 : c->state < 0 ? c->state : -ENOTCONN;
	return c->reset_at_donor || !c->donor_open ? -EPIPE : 0;
}

long sim_conn_send(struct sim_conn *c, int dir, const struct iovec *iov, size_t n, size_t most)
{
	struct direction *d = &c->dir[dir];
	size_t room = sim_conn_room(c, dir), sent = 0;
	int r = may_send(c, dir);

	if (r)
		return r;
	if (room > most)
		room = most;
	if (room && sim_net.choppy && sim_chance(300000))
		room = 1 + sim_below(room);
	for (size_t i = 0; i < n && sent < room; i++) {
		size_t k = iov[i].iov_len < room - sent ? iov[i].iov_len : room - sent;

		make_room(d, k);
		memcpy(d->buf + d->end, iov[i].iov_base, k);
		d->end += k;
		sent += k;
	}
	if (!sent)
		return 0;
	if (sim_chance(sim_net.flip_ppm))
		flip(c, d, sent);
	schedule(c, dir, sent);
	return (long)sent;
}

size_t sim_conn_waiting(const struct sim_conn *c, int dir)
{
	const struct direction *d = &c->dir[dir];

	return d->arrived - d->read;
}

bool sim_conn_ended(const struct sim_conn *c, int dir)
{
	const struct direction *d = &c->dir[dir];

	if (dir == SIM_TO_DONOR && c->reset_at_donor)
		return true;
	return d->fin_arrived && d->read == d->arrived;
}

long sim_conn_receive(struct sim_conn *c, int dir, const struct iovec *iov, size_t n)
{
	struct direction *d = &c->dir[dir];
	size_t have = sim_conn_waiting(c, dir), got = 0;
	bool was_full = !sim_conn_room(c, dir);

	if (dir == SIM_TO_CLIENT && c->state != 1)
		return c->state ? c->state : -EAGAIN;
	if (!have)
		return sim_conn_ended(c, dir) ? 0 : -EAGAIN;
	if (sim_net.choppy && sim_chance(200000))
		have = 1 + sim_below(have);
	for (size_t i = 0; i < n && got < have; i++) {
		size_t k = iov[i].iov_len < have - got ? iov[i].iov_len : have - got;

		memcpy(iov[i].iov_base, d->buf + d->read, k);
		d->read += k;
		got += k;
	}
	if (was_full) /* the sender may go on */
		notify(c, !dir);
	return (long)got;
}

/* --- beginnings and ends --- */

static void connected(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	(void)n;
	if (!c->client_open || c->state)
		return;
	c->state = c->donor_open ? 1 : -ECONNREFUSED;
	wake_client(c);
}

static void knock(void *arg, uint64_t tries)
{
	struct sim_conn *c = arg;

	if (!c->client_open)
		return;
	if (is_cut(c) || sim_donor_silent(c->donor)) {
		if (tries < 20) /* as TCP: a lost SYN is sent again */
			sim_at(sim_now() + (200 + 100 * tries) * SIM_MSEC, knock, c, tries + 1);
		return;
	}
	if (sim_donor_up(c->donor)) {
		c->donor_open = true;
		c->serve = sim_serve_open(c->donor, c);
	}
	sim_at(sim_now() + delay(), connected, c, 0);
}

struct sim_conn *sim_conn_connect(struct sim_donor *d)
{
	struct sim_conn *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->donor = d;
	c->number = ++numbers;
	c->client_open = true;
	c->next = all;
	all = c;
	sim_say("connection %u to donor %u", c->number, sim_donor_index(d));
	sim_at(sim_now() + delay(), knock, c, 0);
	return c;
}

int sim_conn_state(const struct sim_conn *c)
{
	return c->state;
}

static void donor_end(struct sim_conn *c, bool hung_up)
{
	if (c->donor_open)
		sim_serve_close(c->serve, hung_up);
	c->serve = NULL;
	c->donor_open = false;
}

static void fin(void *arg, uint64_t dir)
{
	struct sim_conn *c = arg;
	struct direction *d = &c->dir[dir];

	/* What waits behind a cut comes first; then it is looked at again. */
	if (is_cut(c) || d->arrived < d->end) {
		sim_at(sim_now() + 5 * SIM_MSEC, fin, c, dir);
		return;
	}
	d->fin_arrived = true;
	notify(c, (int)dir);
}

/* What the donor has not read yet may be lost to it. */
static void donor_resets(struct sim_conn *c)
{
	struct direction *d = &c->dir[SIM_TO_DONOR];

	c->reset_at_donor = true;
	if (sim_chance(500000))
		d->read = d->arrived;
	wake_donor(c);
}

static void rst(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	(void)n;
	if (is_cut(c)) {
		sim_at(sim_now() + 5 * SIM_MSEC, rst, c, 0);
		return;
	}
	donor_resets(c);
}

void sim_conn_close(struct sim_conn *c, int from)
{
	struct direction *d = &c->dir[from];
	uint64_t when = sim_now() + delay();

	if (from == SIM_TO_CLIENT) {
		c->serve = NULL;
		c->donor_open = false;
	} else {
		c->client_open = false;
		c->waiter = NULL;
		if (c->state == 1)
			c->state = -EBADF;
	}
	d->finished = true;
	if (when < d->last_ns)
		when = d->last_ns;
	/* Closing with bytes unread is a reset; else it depends on what comes first. */
	if (from == SIM_TO_DONOR &&
	    (sim_conn_waiting(c, SIM_TO_CLIENT) || sim_chance(200000)))
		sim_at(when, rst, c, 0);
	else
		sim_at(when, fin, c, (uint64_t)from);
}

static void lose(struct sim_conn *c)
{
	for (int dir = 0; dir < 2; dir++) {
		struct direction *d = &c->dir[dir];

		/* Some of what was under way may have come through. */
		if (!sim_chance(500000))
			d->end = d->arrived;
		d->held = 0;
	}
	if (c->state >= 0 && c->client_open) {
		c->state = -ECONNRESET;
		wake_client(c);
	}
}

void sim_conn_reset(struct sim_conn *c)
{
	sim_say("connection %u is lost", c->number);
	lose(c);
	donor_resets(c);
}

void sim_net_drop(struct sim_donor *d, bool silent)
{
	for (struct sim_conn *c = all; c; c = c->next) {
		if (c->donor != d)
			continue;
		donor_end(c, false);
		if (silent) {
			c->dir[SIM_TO_CLIENT].end = c->dir[SIM_TO_CLIENT].arrived;
			c->dir[SIM_TO_CLIENT].held = 0;
		} else if (!is_cut(c)) {
			lose(c);
		}
	}
}

bool sim_net_sound(void)
{
	for (struct sim_conn *c = all; c; c = c->next)
		if (c->client_open && (c->state != 1 || !c->donor_open || c->reset_at_donor))
			return false;
	return true;
}

struct sim_conn *sim_net_pick(struct sim_donor *d)
{
	unsigned n = 0;

	for (struct sim_conn *c = all; c; c = c->next)
		n += c->donor == d && c->client_open && c->donor_open;
	if (!n)
		return NULL;
	n = (unsigned)sim_below(n);
	for (struct sim_conn *c = all; c; c = c->next)
		if (c->donor == d && c->client_open && c->donor_open && !n--)
			return c;
	return NULL;
}
