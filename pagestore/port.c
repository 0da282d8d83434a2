/* SPDX-License-Identifier: MIT */
/*
 * A port: drives one core with real transports. It hands the core's messages to the donors'
 * connections, brings the answers back and closes what the core cuts off. One thread at a time.
 *
 * A port opens no connections, for that blocks: one that was closed stays closed until the
 * maintenance offers a new one.
 */
#include "common/clock.h"
#include "common/sys.h"
#include "pagestore/volume.h"

#include <errno.h>

#define POLL_CHUNK 32
#define LOOK_NS    (100 * NSEC_PER_MSEC) /* idle connections are polled this often */

/* The donor was lost and is back: the maintenance has opened a new connection. */
static bool take_offer(struct ps_port *p, unsigned d)
{
	struct tp_conn *c = __atomic_exchange_n(&p->offer[d], NULL, __ATOMIC_ACQ_REL);

	if (!c)
		return false;
	if (p->live >> d & 1) {
		p->conn[d]->t->close(p->conn[d]);
		p->core.donor[d].dead = true;
		core_end_messages(&p->core, d, 0);
	}
	__atomic_store_n(&p->retired[d], p->conn[d], __ATOMIC_RELEASE);
	__atomic_store_n(&p->conn[d], c, __ATOMIC_RELEASE);
	p->live |= 1ull << d;
	__atomic_fetch_and(&p->core.offered, ~(1ull << d), __ATOMIC_SEQ_CST);
	core_opened(&p->core, d, &p->offer_limits[d]);
	return true;
}

static void take_offers(struct ps_port *p)
{
	for (uint64_t m = __atomic_load_n(&p->core.offered, __ATOMIC_ACQUIRE); m; m &= m - 1)
		take_offer(p, (unsigned)__builtin_ctzll(m));
}

/* Reads whose answers nobody needs any more. */
static void cancel(struct ps_port *p)
{
	struct tp_op *op;

	for (uint64_t m = p->core.cancel; m; m &= m - 1) {
		unsigned d = (unsigned)__builtin_ctzll(m);
		struct tp_conn *c = p->conn[d];

		while ((op = core_next_cancel(&p->core, d)))
			core_cancelled(&p->core, op, c->t->cancel && !c->t->cancel(c, op));
	}
}

static void end_conn(struct ps_port *p, unsigned d, int error)
{
	if (p->live >> d & 1)
		p->conn[d]->t->close(p->conn[d]);
	p->live &= ~(1ull << d);
	volume_donor_error(p->v, d, error);
	core_closed(&p->core, d);
}

static void pull(struct ps_port *p, unsigned d, uint64_t now_ns)
{
	struct tp_conn *c = p->conn[d];
	struct tp_done done[POLL_CHUNK];
	int n, r = 0;

	do {
		n = c->t->poll(c, now_ns, done, POLL_CHUNK);
		if (n < 0)
			r = n;
		for (int i = 0; i < n && !r; i++) {
			if (done[i].wire == WIRE_EEPOCH && p->v->epoch)
				__atomic_store_n(&p->v->stale, true, __ATOMIC_RELAXED);
			r = core_answer(&p->core, d, &done[i]);
		}
	} while (n == POLL_CHUNK && !r);
	if (r)
		end_conn(p, d, r);
}

/* Hands out what the connections take. */
static void push(struct ps_port *p, uint64_t now_ns)
{
	for (uint64_t m = p->core.queued; m; m &= m - 1) {
		unsigned d = (unsigned)__builtin_ctzll(m);
		struct tp_conn *c;
		struct tp_op *op;
		bool read;

		if (!(p->live >> d & 1) && !take_offer(p, d)) {
			end_conn(p, d, -ENOTCONN);
			continue;
		}
		c = p->conn[d];
		while ((op = core_next(&p->core, d))) {
			int r = c->t->submit(c, op, now_ns);

			if (r == -EAGAIN)
				break;
			if (r) {
				end_conn(p, d, r);
				break;
			}
			read = c->t->instant && tp_reads(op->kind);
			core_sent(&p->core, d);
			if (read)
				pull(p, d, now_ns); /* is checked while the CPU's cache has it */
			if (!(p->live >> d & 1))
				break;
		}
	}
}

/*
 * The caller was busy elsewhere: that is no donor's fault. Nothing that begins now waited so long. A thread
 * that was kept from running after it looked at the clock tells an old time: nobody was idle since.
 */
static void forgive(struct ps_port *p, uint64_t now_ns)
{
	int64_t idle = (int64_t)(now_ns - p->driven_ns);

	if (idle <= 0)
		return;
	if ((p->core.inflight || p->core.busy) && idle > (int64_t)LOOK_NS)
		core_forgive(&p->core, (uint64_t)idle);
	p->driven_ns = now_ns;
}

int ps_submit(struct ps_port *p, struct ps_batch *b, uint64_t now_ns)
{
	int r;

	forgive(p, now_ns);
	if (__atomic_load_n(&p->core.offered, __ATOMIC_RELAXED))
		take_offers(p);
	r = core_submit(&p->core, b, now_ns);
	if (r)
		return r;
	b->port = p;
	push(p, now_ns);
	return 0;
}

int port_read_raw(struct ps_port *p, struct ps_batch *b, uint64_t now_ns)
{
	int r;

	forgive(p, now_ns);
	r = core_read_raw(&p->core, b, now_ns);
	if (!r)
		push(p, now_ns);
	return r;
}

int port_fill(struct ps_port *p, struct ps_batch *b, unsigned place, uint64_t now_ns)
{
	int r;

	forgive(p, now_ns);
	r = core_fill(&p->core, b, place, now_ns);
	if (!r)
		push(p, now_ns);
	return r;
}

struct tp_conn *port_offer(struct ps_port *p, unsigned donor, struct tp_conn *c,
			   const struct core_limits *limits)
{
	struct tp_conn *before = __atomic_exchange_n(&p->offer[donor], NULL, __ATOMIC_ACQ_REL);

	p->offer_limits[donor] = *limits;
	__atomic_store_n(&p->offer[donor], c, __ATOMIC_RELEASE);
	__atomic_fetch_or(&p->core.offered, 1ull << donor, __ATOMIC_SEQ_CST);
	return before;
}

/* Once a newer writer is known of nothing succeeds, not even what needs no donor. */
static unsigned end_stale(const struct ps_port *p, struct ps_batch **done, unsigned n)
{
	if (__atomic_load_n(&p->v->stale, __ATOMIC_RELAXED))
		for (unsigned i = 0; i < n; i++)
			done[i]->status = -ESTALE;
	return n;
}

unsigned ps_poll(struct ps_port *p, uint64_t now_ns, struct ps_batch **done, unsigned n)
{
	uint64_t mask = p->core.busy;

	forgive(p, now_ns);
	core_time(&p->core, now_ns);
	if (__atomic_load_n(&p->core.offered, __ATOMIC_RELAXED))
		take_offers(p);

	if (now_ns - p->looked_ns >= LOOK_NS) {
		p->looked_ns = now_ns;
		mask = p->live;
	}
	for (mask &= p->live; mask; mask &= mask - 1)
		pull(p, (unsigned)__builtin_ctzll(mask), now_ns);
	push(p, now_ns);
	core_tick(&p->core, now_ns);
	for (uint64_t cut = core_cut(&p->core); cut; cut &= cut - 1)
		end_conn(p, (unsigned)__builtin_ctzll(cut), -ETIMEDOUT);
	if (p->core.cancel)
		cancel(p);
	/* What failed there is sent elsewhere. */
	if (p->core.queued)
		push(p, now_ns);
	return end_stale(p, done, core_reap(&p->core, done, n));
}

unsigned ps_inflight(const struct ps_port *p)
{
	return p->core.inflight;
}

void ps_wait_for(struct ps_port *p, uint64_t timeout_ns, struct ps_wait *w)
{
	uint64_t now = clock_ns(), most = now + timeout_ns;

	w->until_ns = core_due(&p->core);
	w->count = 0;
	if (most >= now && most < w->until_ns)
		w->until_ns = most;
	if (p->core.done_first)
		w->until_ns = 0;
	for (uint64_t m = p->live & p->core.busy; m; m &= m - 1) {
		struct tp_conn *c = p->conn[__builtin_ctzll(m)];
		uint64_t due = c->t->due ? c->t->due(c) : UINT64_MAX;
		struct pollfd *f = &w->fds[w->count];

		f->fd = c->t->fd(c, &f->events);
		w->count += f->fd >= 0;
		if (due < w->until_ns)
			w->until_ns = due;
	}
}

void ps_wait_sleep(const struct ps_wait *w)
{
	uint64_t now = clock_ns();
	struct timespec t;

	if (w->until_ns <= now)
		return;
	t.tv_sec = (time_t)((w->until_ns - now) / NSEC_PER_SEC);
	t.tv_nsec = (long)((w->until_ns - now) % NSEC_PER_SEC);
	sys_call5(SYS_ppoll, SYS_PTR(w->fds), w->count, SYS_PTR(&t), 0, 0);
}

void ps_wait(struct ps_port *p, uint64_t timeout_ns)
{
	struct ps_wait w;

	ps_wait_for(p, timeout_ns, &w);
	ps_wait_sleep(&w);
	p->driven_ns = clock_ns();
}
