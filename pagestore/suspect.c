/* SPDX-License-Identifier: MIT */
/*
 * Slow donors: how long each one's reads take, reads that are sent to a second member because the
 * first is slower than it uses to be, and donors that don't answer a PING either (rule 12). Only where
 * there are members to spare.
 */
#include "pagestore/core.h"

#include <errno.h>

#define HEDGE_MIN_NS  300000ull  /* below that a second request costs more than it brings */
#define HEDGE_NEW_NS  5000000ull /* before anything is known of a donor */
#define PAGE_NS       4000ull    /* what a further page of a request may take */

/* A moving estimate of the 99th percentile: 99 small steps down for each large one up. */
static void learn(struct core_donor *d, uint64_t ns)
{
	uint64_t mean = d->mean_ns, high = d->high_ns;

	if (!mean) {
		mean = ns + 1;
		high = 4 * ns + HEDGE_MIN_NS;
	} else {
		mean = mean - mean / 8 + ns / 8 + 1;
		high = ns > high ? high + high / 20 + 1 : high - high / 2048;
	}
	core_show(&d->mean_ns, mean);
	core_show(&d->high_ns, high);
}

static uint64_t allowance(const struct core_msg *m)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < m->op.count; i++)
		pages += m->op.seg[i].pages;
	return pages * tp_unit(m->op.kind) / PS_PAGE_SIZE * PAGE_NS;
}

static uint64_t hedge_ns(const struct core_donor *d)
{
	uint64_t ns = d->high_ns ? d->high_ns : HEDGE_NEW_NS;

	return ns > HEDGE_MIN_NS ? ns : HEDGE_MIN_NS;
}

void suspect_answer(struct core *c, struct core_msg *m, int status)
{
	struct core_donor *d = &c->donor[m->donor];
	uint64_t ns = core_since(c, m->since_ns), less;

	d->heard_ns = c->now_ns;
	if (status || !tp_reads(m->op.kind))
		return;
	less = allowance(m);
	learn(d, ns > less ? ns - less : 1);
}

void suspect_probe_answer(struct core *c, unsigned donor)
{
	c->donor[donor].heard_ns = c->now_ns;
	core_show(&c->donor[donor].slow, false);
}

void suspect_given_up(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];

	if (!c->redundant || d->dead || core_since(c, d->heard_ns) < hedge_ns(d))
		return;
	core_show(&d->slow, true);
	core_queue_probe(c, donor);
}

/*
 * While a slab hangs on its last members a donor that is slow only may be the last one of some data:
 * nobody is suspected before the deadline.
 */
static uint64_t bound_ns(const struct core *c)
{
	return map_hangs(c->map) ? c->deadline_ns : c->suspect_ns;
}

/* After that everybody has all of the bound: what stood still goes on, but not at the same moment. */
static uint64_t floor_ns(const struct core *c, uint64_t bound)
{
	return bound < c->deadline_ns && c->hung_ns ? c->hung_ns + bound : 0;
}

static void hedge(struct core *c, struct core_msg *m)
{
	uint64_t any = 0, done = 0;

	m->hedged = true;
	for (uint32_t i = 0; i < m->op.count; i++) {
		struct core_run *r = core_run_of(c, m->slot, m->ref[i].run);

		/* What came of its fragments is enough? */
		if (c->map->parts && r->state == RUN_READ && code_hurry(c, m->slot, m->ref[i].run)) {
			done++;
			continue;
		}

		/* One that is read anew had its trouble with late answers. */
		if (r->state != RUN_READ || r->tries || !run_read_more(c, m->slot, m->ref[i].run))
			continue;
		r->hedged = true;
		any++;
	}
	if (!any && !done)
		return;
	c->slot[m->slot].hedged = true;
	COUNT(c, hedges, any);
	core_pack(c, m->slot);
	core_show(&c->donor[m->donor].slow, true);
	core_queue_probe(c, m->donor);
	if (done)
		core_settle(c, m->slot);
}

static void fail(struct core *c, unsigned donor)
{
	c->donor[donor].dead = true;
	c->cut |= 1ull << donor;
	COUNT(c, timeouts, 1);
	core_end_messages(c, donor, 0);
}

static bool overdue(const struct core *c, const struct core_donor *d, uint64_t bound)
{
	const struct core_msg *first = d->sent_first ? &c->msg[d->sent_first - 1] : NULL;

	if (d->probe && core_since(c, d->probe_ns) >= bound)
		return true;
	/* Reads that can go elsewhere have been sent elsewhere; the PING says the rest. */
	return first && tp_writes(first->op.kind) && core_since(c, first->since_ns) >= bound;
}

static void look(struct core *c, unsigned donor)
{
	struct core_donor *d = &c->donor[donor];
	uint64_t after = hedge_ns(d);
	uint32_t next;

	for (uint32_t tag = d->sent_first; tag; tag = next) {
		struct core_msg *m = core_msg_of(c, tag);

		next = m->next;
		if (core_since(c, m->since_ns) < after)
			break;
		if (m->hedged)
			continue;
		if (m->state == MSG_SENT && tp_reads(m->op.kind)) {
			if (core_since(c, m->since_ns) >= after + allowance(m))
				hedge(c, m);
			continue;
		}
		/* Looked at once; or suspect_due() would name a time that is past, again and again. */
		m->hedged = true;
		if (m->state == MSG_SENT && tp_writes(m->op.kind)) {
			/* It need not be awaited to know that others are faster. */
			core_show(&d->slow, true);
			core_queue_probe(c, donor);
		}
	}
}

/*
 * Of several donors that are slow at once (a switch between, this machine itself) one is given up,
 * whichever threads look at them: the next one is what is left of some data then.
 */
static bool give_up(const struct core *c, unsigned donor)
{
	uint64_t gone = map_gone(c->map), bound;

	do {
		bound = bound_ns(c);
		if (!overdue(c, &c->donor[donor], bound) || floor_ns(c, bound) > c->now_ns)
			return false;
	} while (!__atomic_compare_exchange_n(&c->map->gone, &gone, gone | 1ull << donor, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return true;
}

void suspect_tick(struct core *c)
{
	if (map_hangs(c->map))
		c->hung_ns = c->now_ns;

	for (uint64_t m = c->busy; m; m &= m - 1) {
		unsigned donor = (unsigned)__builtin_ctzll(m);
		struct core_donor *d = &c->donor[donor];

		if (d->dead)
			continue;
		/* Rule 14: another port found out. */
		if (map_gone(c->map) >> donor & 1 || give_up(c, donor))
			fail(c, donor);
		else
			look(c, donor);
	}
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t suspect_due(const struct core *c)
{
	uint64_t due = UINT64_MAX, bound = bound_ns(c), floor = floor_ns(c, bound);

	for (uint64_t m = c->busy; m; m &= m - 1) {
		const struct core_donor *d = &c->donor[__builtin_ctzll(m)];

		if (d->probe && later(d->probe_ns + bound, floor) < due)
			due = later(d->probe_ns + bound, floor);
		for (uint32_t tag = d->sent_first; tag; tag = c->msg[tag - 1].next) {
			const struct core_msg *s = &c->msg[tag - 1];
			bool fails = tag == d->sent_first && tp_writes(s->op.kind); /* see overdue() */
			uint64_t at = s->since_ns + (s->hedged ? bound : hedge_ns(d) + allowance(s));

			if (s->hedged)
				at = later(at, floor);
			if (at < due && (!s->hedged || fails))
				due = at;
			if (!s->hedged)
				break;
		}
	}
	return due;
}
