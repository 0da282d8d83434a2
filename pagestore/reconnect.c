/* SPDX-License-Identifier: MIT */
/*
 * Connections that the maintenance opens: its own port's, and those of donors that were lost. It
 * opens all of a donor's without the volume's lock (that blocks), then hands each port its one: the
 * port exchanges it for the dead one when it looks next (port.c). docs/replication.md, 15.
 */
#include "pagestore/maintain.h"
#include "common/clock.h"
#include "common/error.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define TRY_NS   (250 * NSEC_PER_MSEC) /* for one connection */
#define FIRST_NS (50 * NSEC_PER_MSEC)  /* to the second attempt */
#define MOST_NS  (5 * NSEC_PER_SEC)

/* --- what ports have left --- */

static bool uses(const struct tp_conn *c, const struct tp_conn *control)
{
	return c && c->peer == control;
}

static bool is_used(const struct ps_volume *v, unsigned d, const struct tp_conn *control)
{
	for (unsigned i = 0; i <= v->ports; i++) {
		const struct ps_port *p = &v->port[i];

		/* In the order in which a connection moves through them. */
		if (uses(__atomic_load_n(&p->offer[d], __ATOMIC_ACQUIRE), control) ||
		    uses(__atomic_load_n(&p->conn[d], __ATOMIC_ACQUIRE), control) ||
		    uses(__atomic_load_n(&p->retired[d], __ATOMIC_ACQUIRE), control))
			return true;
	}
	return false;
}

void reconnect_collect(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++) {
		struct donor *donor = &v->donor[d];

		for (unsigned i = 0; i <= v->ports; i++)
			if (__atomic_load_n(&v->port[i].retired[d], __ATOMIC_RELAXED))
				tp_free(__atomic_exchange_n(&v->port[i].retired[d], NULL,
							    __ATOMIC_ACQ_REL));
		for (unsigned i = 0; i < OLD_CONTROLS; i++)
			if (donor->old[i] && !is_used(v, d, donor->old[i])) {
				tp_free(donor->old[i]);
				donor->old[i] = NULL;
			}
	}
}

/* --- new ones --- */

static int open_one(struct ps_volume *v, struct tp_conn *c, struct tp_hello *h)
{
	*h = (struct tp_hello){0};
	memcpy(h->borrower, v->borrower, sizeof h->borrower);
	return volume_hello(v, c, h, TRY_NS < v->connect_ns ? TRY_NS : v->connect_ns);
}

/* One port's new connection, which uses the slabs that control maps. */
static struct tp_conn *open_port(struct ps_volume *v, unsigned i, struct tp_conn *control,
				 const struct tp_hello *known)
{
	struct tp_conn *c;
	struct tp_hello h;

	if (tp_clone(control, i + 1, &c))
		return NULL;
	tp_share(c, control);
	if (!open_one(v, c, &h) && !memcmp(h.welcome.boot, known->welcome.boot, 16))
		return c;
	tp_free(c);
	return NULL;
}

/* The members that have not left their sets are there still, and are mapped again. */
static void map_members(struct ps_volume *v, unsigned d)
{
	uint64_t n = 0;

	memset(v->lists.count, 0, sizeof v->lists.count);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint64_t i = 0; i < v->map.slabs; i++) {
			const struct map_slab *s = &v->map.slab[i];
			uint64_t set = map_set(s);

			for (uint32_t m = set_live(set); m; m &= m - 1) {
				unsigned p = (unsigned)__builtin_ctz(m);

				if (s->donor[p] != d)
					continue;
				if (pass)
					v->lists.slabs[v->lists.first[d] + n++] = s->handle[p];
				else
					v->lists.count[d]++;
			}
		}
		if (!pass)
			lists_lay_out(&v->lists, v->donors);
	}
	if (n)
		control_lists(v, TP_MAP, NULL);
}

/* Handles of the donor that were to be freed: they may mean others' slabs, now. */
static void drop_graves(struct ps_volume *v, unsigned d)
{
	struct maintain *m = v->maintain;
	unsigned keep = 0;

	for (unsigned i = 0; i < m->graves; i++)
		if (m->grave[i].donor != d)
			m->grave[keep++] = m->grave[i];
	m->graves = keep;
}

/* It has restarted, or is another one: what it held is gone. */
static void lose_members(struct ps_volume *v, unsigned d)
{
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *s = &v->map.slab[i];

		for (unsigned p = 0; p < MAP_MEMBERS; p++) {
			if (!s->handle[p] || s->donor[p] != d)
				continue;
			map_lose(&v->map, s, p, s->handle[p]);
			__atomic_store_n(&s->handle[p], 0, __ATOMIC_RELAXED);
		}
	}
	v->donor[d].held = 0;
	drop_graves(v, d);
	wanted_restart(v, d);
}

/* Slabs that left their sets while it was away are freed with the others that are stale. */
static void clean_members(struct ps_volume *v, unsigned d)
{
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *s = &v->map.slab[i];
		bool here = false;

		for (unsigned p = 0; p < MAP_MEMBERS; p++)
			here = here || (s->handle[p] && s->donor[p] == d);
		if (here && map_set(s) & SET_GRANTED)
			maintain_clean(v, s);
	}
}

/* With the lock: the donor is one of ours (again), empty but for what never left a set. */
static void welcome_back(struct ps_volume *v, unsigned d, struct tp_conn *control,
			 const struct tp_hello *h, struct tp_conn **conn)
{
	struct donor *donor = &v->donor[d];
	struct core_limits limits = volume_limits(h, control);
	bool same = !memcmp(h->welcome.boot, donor->hello.welcome.boot, 16);
	struct tp_conn **old = donor_old_place(donor);

	*old = donor->control;
	donor->control = control;
	donor->hello = *h;
	donor->dead = false;
	__atomic_store_n(&donor->error, 0, __ATOMIC_RELAXED);
	volume_number_domains(v);
	if (same)
		map_members(v, d);
	else
		lose_members(v, d);
	for (unsigned i = 0; i <= v->ports; i++)
		tp_free(port_offer(&v->port[i], d, conn[i], &limits));
	__atomic_fetch_and(&v->map.swept, ~(1ull << d), __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&v->map.gone, ~(1ull << d), __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&v->joining, ~(1ull << d), __ATOMIC_SEQ_CST);
	if (same)
		clean_members(v, d);
	v->maintain->looked_ns = v->maintain->wait_ns = 0;
}

static bool open_all(struct ps_volume *v, unsigned d, struct tp_conn *control, struct tp_hello *h,
		     struct tp_conn **conn)
{
	if (open_one(v, control, h) || le32toh(h->welcome.slab_pages) != volume_donor_pages(v) ||
	    donor_is_known(v, d, h))
		return false;
	for (unsigned i = 0; i <= v->ports; i++) {
		conn[i] = open_port(v, i, control, h);
		if (conn[i])
			continue;
		while (i--)
			tp_free(conn[i]);
		return false;
	}
	return true;
}

static bool try_donor(struct ps_volume *v, unsigned d)
{
	struct tp_conn **conn = v->fresh, *control;
	struct tp_hello h;

	if (!donor_old_place(&v->donor[d]) || tp_clone(v->donor[d].control, UINT32_MAX, &control))
		return false;
	if (!open_all(v, d, control, &h, conn)) {
		tp_free(control);
		return false;
	}
	lock_take(&v->lock);
	welcome_back(v, d, control, &h, conn);
	lock_give(&v->lock);
	return true;
}

/* The maintenance's own connection to a donor that is well. */
static bool open_own(struct ps_volume *v, unsigned d)
{
	struct core_limits limits = volume_limits(&v->donor[d].hello, v->donor[d].control);
	struct tp_conn *c = open_port(v, v->ports, v->donor[d].control, &v->donor[d].hello);

	if (!c)
		return false;
	tp_free(port_offer(volume_maintainer(v), d, c, &limits));
	return true;
}

uint64_t reconnect(struct ps_volume *v, uint64_t now_ns)
{
	bool redundant = v->map.members > v->map.need;
	uint64_t next = UINT64_MAX, vacant = __atomic_load_n(&v->vacant, __ATOMIC_ACQUIRE);
	uint64_t joining = __atomic_load_n(&v->joining, __ATOMIC_ACQUIRE);

	for (unsigned d = 0; d < v->donors; d++) {
		struct donor *donor = &v->donor[d];
		bool lost, fine;

		if (vacant >> d & 1)
			continue;
		if (redundant && donor->dead)
			__atomic_fetch_or(&v->map.gone, 1ull << d, __ATOMIC_SEQ_CST);
		lost = (redundant && map_gone(&v->map) >> d & 1) || joining >> d & 1;
		if (!lost && (donor->dead || core_usable(&volume_maintainer(v)->core, d)))
			continue;
		if (donor->retry_ns > now_ns) {
			next = donor->retry_ns < next ? donor->retry_ns : next;
			continue;
		}
		fine = lost ? try_donor(v, d) : open_own(v, d);
		donor->backoff_ns = fine ? 0
				    : donor->backoff_ns
					    ? 2 * donor->backoff_ns
					    : FIRST_NS;
		if (donor->backoff_ns > MOST_NS)
			donor->backoff_ns = MOST_NS;
		/* One that comes and goes is not waited for again and again either. */
		donor->retry_ns = clock_ns() + (fine ? FIRST_NS : donor->backoff_ns);
	}
	return next;
}
