/* SPDX-License-Identifier: MIT */
/*
 * Which slabs a donor that needs memory wants back. Of all that are lent the least active are
 * marked, half as many again as are needed; each borrower is told how many of its marked ones would
 * do, and gives those that it uses least: what it does to slabs that it has mapped is seen by
 * nobody else. The choice is made anew each second, with what the requests of the last seconds say.
 */
#include "server/lend_table.h"
#include "server/reclaim.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define HEAT_NS (8ull * 1000000000)  /* activity halves in this time */
#define ASK_NS  (60ull * 1000000000) /* an asking is forgotten after this */

struct candidate {
	struct srv_borrower *b;
	uint64_t handle;
	uint32_t heat, tick;
};

struct choice {
	struct srv_borrower **b;
	unsigned borrowers;
	struct candidate *slab;
	uint32_t slabs, room;
};

void srv_slab_touch(struct srv_lender *l, struct srv_slab *s)
{
	uint32_t tick = atomic_load_explicit(&l->tick, memory_order_relaxed);
	uint32_t age = tick - s->heat_tick;

	if (age)
		s->heat = age < 32 ? s->heat >> age : 0;
	s->heat_tick = tick;
	s->heat += s->heat < UINT32_MAX;
}

static uint32_t heat_now(const struct srv_slab *s, uint32_t tick)
{
	uint32_t age = tick - s->heat_tick;

	return age < 32 ? s->heat >> age : 0;
}

void srv_reclaim_drain(struct srv_lender *l, bool on)
{
	atomic_store(&l->emptying, on);
	if (l->changed)
		l->changed(l->changed_arg);
}

void srv_reclaim_ask(struct srv_lender *l, uint32_t slabs, uint64_t now_ns)
{
	atomic_store(&l->ask_until_ns, now_ns + ASK_NS);
	atomic_store(&l->ask, slabs);
	if (l->changed)
		l->changed(l->changed_arg);
}

/* Borrowers who are connected, each with one more user. Those in their grace can't be asked. */
static bool collect_borrowers(struct srv_lender *l, struct choice *c)
{
	pthread_mutex_lock(&l->table);
	c->b = calloc(l->borrowers + 1, sizeof *c->b);
	for (unsigned i = 0; c->b && i < SRV_BUCKETS; i++) {
		for (struct srv_borrower *b = l->bucket[i]; b; b = b->next) {
			if (!b->users)
				continue;
			b->users++;
			c->b[c->borrowers++] = b;
		}
	}
	pthread_mutex_unlock(&l->table);
	return c->b;
}

static bool collect_slabs(struct srv_lender *l, struct choice *c)
{
	uint32_t tick = atomic_load(&l->tick);

	c->room = srv_arena_total(l->arena);
	c->slab = calloc(c->room, sizeof *c->slab);
	for (unsigned i = 0; c->slab && i < c->borrowers; i++) {
		struct srv_borrower *b = c->b[i];

		pthread_mutex_lock(&b->lock);
		for (struct srv_slab *s = b->slabs; s && c->slabs < c->room; s = s->next)
			c->slab[c->slabs++] =
				(struct candidate){b, s->handle, heat_now(s, tick), s->heat_tick};
		pthread_mutex_unlock(&b->lock);
	}
	return c->slab;
}

/* The least active first; of equals, who was touched longer ago. */
static int by_activity(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->heat != y->heat)
		return x->heat < y->heat ? -1 : 1;
	if (x->tick != y->tick)
		return x->tick < y->tick ? -1 : 1;
	return x->handle < y->handle ? -1 : x->handle > y->handle;
}

static void unmark_all(struct srv_borrower *b)
{
	pthread_mutex_lock(&b->lock);
	for (struct srv_slab *s = b->slabs; s; s = s->next)
		s->wanted = false;
	b->wanted = 0;
	pthread_mutex_unlock(&b->lock);
}

/* Marks the first `need` slabs and half as many again, which count for nothing. */
static void mark(struct srv_lender *l, const struct choice *c, uint32_t need)
{
	uint32_t more = need / 2 > 4 ? need / 2 : 4;
	uint32_t all = c->slabs - need < more ? c->slabs : need + more;

	for (uint32_t i = 0; i < all; i++) {
		struct srv_borrower *b = c->slab[i].b;
		struct srv_slab *s;

		pthread_mutex_lock(&b->lock);
		s = srv_slab_find(l, b, c->slab[i].handle);
		if (s) {
			s->wanted = true;
			b->wanted += i < need;
		}
		pthread_mutex_unlock(&b->lock);
	}
}

static void choose(struct srv_lender *l, uint32_t need, uint64_t now_ns)
{
	struct choice c = {0};

	if (collect_borrowers(l, &c) && collect_slabs(l, &c)) {
		qsort(c.slab, c.slabs, sizeof *c.slab, by_activity);
		for (unsigned i = 0; i < c.borrowers; i++)
			unmark_all(c.b[i]);
		mark(l, &c, need < c.slabs ? need : c.slabs);
	}
	for (unsigned i = 0; i < c.borrowers; i++)
		srv_borrower_put(l, c.b[i], now_ns);
	free(c.slab);
	free(c.b);
}

static uint32_t need_now(struct srv_lender *l, uint64_t now_ns)
{
	struct srv_arena_state a;
	uint32_t lent, need, ask;

	srv_arena_state(l->arena, &a);
	lent = a.total - a.room - a.away;
	if (now_ns >= atomic_load(&l->ask_until_ns))
		atomic_store(&l->ask, 0);
	ask = atomic_load(&l->ask);
	need = atomic_load(&l->emptying) ? lent : a.owed > ask ? a.owed : ask;
	return need < lent ? need : lent;
}

uint32_t srv_reclaim_tick(struct srv_lender *l, uint64_t now_ns)
{
	uint32_t need = need_now(l, now_ns);

	atomic_store(&l->tick, (uint32_t)(now_ns / HEAT_NS));
	if (need || l->wanting)
		choose(l, need, now_ns);
	l->wanting = need;
	return need;
}

static int by_heat(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->heat < y->heat ? -1 : x->heat > y->heat;
}

void srv_lend_wanted(struct srv_lender *l, struct srv_borrower *b, uint32_t n,
		     struct wire_slab *ret, uint32_t *listed, uint32_t *wanted)
{
	struct candidate all[WIRE_MAX_SLABS];
	uint32_t tick = atomic_load(&l->tick), have = 0;

	pthread_mutex_lock(&b->lock);
	*wanted = b->wanted;
	for (struct srv_slab *s = b->slabs; s && *wanted && have < WIRE_MAX_SLABS; s = s->next)
		if (s->wanted)
			all[have++] = (struct candidate){b, s->handle, heat_now(s, tick), 0};
	pthread_mutex_unlock(&b->lock);
	qsort(all, have, sizeof *all, by_heat);
	*listed = have < n ? have : n;
	for (uint32_t i = 0; i < *listed; i++)
		ret[i].slab = htole64(all[i].handle);
}
