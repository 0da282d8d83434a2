/* SPDX-License-Identifier: MIT */
/*
 * The maintenance, driven by the embedding program's thread: one step after the other under the
 * volume's lock, none of which blocks but for control operations. Opening connections does, and is
 * done without the lock.
 */
#include "pagestore/maintain.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define IDLE_NS (20 * NSEC_PER_MSEC) /* how soon a lost member is noticed */
#define CALM_NS (500 * NSEC_PER_MSEC) /* where there are none to lose */

int maintain_open(struct ps_volume *v)
{
	struct maintain *m = mem_map(sizeof *m);

	v->maintain = m;
	if (!m)
		return err_fail(-ENOMEM, "no memory for the maintenance");
	m->buf = mem_map((size_t)CHUNKS * CHUNK_PAGES * PS_PAGE_SIZE);
	m->grave = mem_map(GRAVES * sizeof *m->grave);
	m->from = mem_map(v->map.slabs);
	m->to = mem_map(v->map.slabs);
	if (!m->buf || !m->grave || !m->from || !m->to)
		return err_fail(-ENOMEM, "no memory for the maintenance");
	for (unsigned i = 0; i < CHUNKS; i++)
		m->chunk[i].buf = m->buf + (size_t)i * CHUNK_PAGES * PS_PAGE_SIZE;
	maintain_reset(v);
	return 0;
}

void maintain_close(struct ps_volume *v)
{
	struct maintain *m = v->maintain;

	if (!m)
		return;
	wanted_close(v);
	mem_unmap(m->buf, (size_t)CHUNKS * CHUNK_PAGES * PS_PAGE_SIZE);
	mem_unmap(m->grave, GRAVES * sizeof *m->grave);
	mem_unmap(m->from, v->map.slabs);
	mem_unmap(m->to, v->map.slabs);
	mem_unmap(m, sizeof *m);
	v->maintain = NULL;
}

void maintain_reset(struct ps_volume *v)
{
	struct maintain *m = v->maintain;

	for (unsigned i = 0; i < CHUNKS; i++)
		m->chunk[i].state = CHUNK_IDLE;
	m->job = (struct job){0};
	m->graves = 0;
	m->moves = m->moving = 0;
	m->wait_ns = m->looked_ns = m->budget_ns = 0;
	/* Its connections are opened when the maintenance is driven first. */
	for (unsigned d = 0; d < v->donors; d++)
		volume_maintainer(v)->core.donor[d].dead = true;
	for (uint64_t i = 0; i < v->map.slabs; i++)
		if (m->from[i])
			m->from[i] = 0;
}

/* --- freeing --- */

void maintain_bury(struct ps_volume *v, unsigned donor, uint64_t handle)
{
	struct maintain *m = v->maintain;

	v->donor[donor].held--;
	/* With no place to note it, it goes with the volume's goodbye. */
	if (m->graves == GRAVES)
		return;
	m->grave[m->graves++] =
		(struct grave){.handle = handle,
			       .era = __atomic_fetch_add(&v->map.era, 1, __ATOMIC_SEQ_CST),
			       .changes = ps_where_changes(v),
			       .donor = donor};
}

void maintain_clean(struct ps_volume *v, struct map_slab *s)
{
	uint64_t set = map_set(s);
	uint32_t in = set_live(set) | set_filling(set);

	for (unsigned p = 0; p < MAP_MEMBERS; p++) {
		if (!s->handle[p] || in >> p & 1)
			continue;
		maintain_bury(v, s->donor[p], s->handle[p]);
		__atomic_store_n(&s->handle[p], 0, __ATOMIC_RELAXED);
	}
}

/* The era that every port has left. */
static uint64_t era_left(struct ps_volume *v)
{
	uint64_t era = UINT64_MAX;

	for (unsigned i = 0; i <= v->ports; i++) {
		uint64_t e = __atomic_load_n(&v->port[i].core.era, __ATOMIC_SEQ_CST);

		if (e < era)
			era = e;
	}
	return era;
}

/* Nobody can be using it, and no later writer would look for it. */
static bool is_due(const struct ps_volume *v, const struct grave *g, uint64_t left)
{
	return g->era < left && volume_is_published(v, g->changes);
}

/* What is due goes to the lists; the graves stay in order. */
static uint64_t dig(struct ps_volume *v, uint64_t left)
{
	struct maintain *m = v->maintain;
	struct slab_lists *l = &v->lists;
	uint64_t next[PS_MAX_DONORS], n = 0, most = v->map.slabs * MAP_MEMBERS;
	unsigned keep = 0;

	memset(l->count, 0, sizeof l->count);
	for (unsigned i = 0; i < m->graves && n < most; i++, n++)
		if (is_due(v, &m->grave[i], left))
			l->count[m->grave[i].donor]++;
	lists_lay_out(l, v->donors);
	memcpy(next, l->first, sizeof next);
	for (unsigned i = 0; i < m->graves; i++) {
		const struct grave g = m->grave[i];

		if (i < n && is_due(v, &g, left))
			l->slabs[next[g.donor]++] = g.handle;
		else
			m->grave[keep++] = g;
	}
	n = m->graves - keep;
	m->graves = keep;
	return n;
}

static void free_buried(struct ps_volume *v)
{
	uint64_t gone = map_gone(&v->map);

	if (!v->maintain->graves || !dig(v, era_left(v)))
		return;
	/* Who is gone frees them by itself. */
	for (unsigned d = 0; d < v->donors; d++)
		if (v->donor[d].dead || gone >> d & 1)
			v->lists.count[d] = 0;
	control_lists(v, TP_FREE, NULL);
}

/* --- lost members --- */

/* Rule 14, for slabs that nobody has written to since. */
static void sweep(struct ps_volume *v)
{
	uint64_t gone = map_gone(&v->map) & ~v->map.swept, hang = 0;

	if (!gone)
		return;
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *s = &v->map.slab[i];
		uint64_t set = map_set(s);

		for (uint32_t m = set_live(set) | set_filling(set); m; m &= m - 1) {
			unsigned p = (unsigned)__builtin_ctz(m);

			if (gone >> s->donor[p] & 1 && !map_drop(&v->map, s, p, s->handle[p]))
				hang |= 1ull << s->donor[p];
		}
	}
	/* After what hangs by a thread was counted: suspect.c. */
	__atomic_fetch_or(&v->map.swept, gone & ~hang, __ATOMIC_RELEASE);
}

uint64_t ps_maintain(struct ps_volume *v, uint64_t now_ns)
{
	struct ps_batch *done[CHUNKS];
	uint64_t until = reconnect(v, now_ns), next, idle;
	unsigned n;

	now_ns = clock_ns();
	next = wanted_step(v, now_ns);
	until = next < until ? next : until;
	lock_take(&v->lock);
	reconnect_collect(v);
	donors_vacate(v);
	sweep(v);
	/* Control operations take their time: what begins after them begins now. */
	now_ns = clock_ns();
	while ((n = ps_poll(volume_maintainer(v), now_ns, done, CHUNKS)))
		for (unsigned i = 0; i < n; i++)
			rebuild_done(v, done[i], now_ns);
	if (!v->maintain->job.used)
		rebuild_choose(v, now_ns);
	now_ns = clock_ns();
	next = rebuild_step(v, now_ns);
	free_buried(v);
	lock_give(&v->lock);
	if (next < until)
		until = next;
	idle = v->map.members > v->map.need || v->maintain->job.used ? IDLE_NS : CALM_NS;
	if (now_ns + idle < until)
		until = now_ns + idle;
	return until > now_ns ? until - now_ns : 0;
}

bool ps_maintain_busy(const struct ps_volume *v)
{
	return v->port[v->ports].core.busy;
}

void ps_maintain_wait(struct ps_volume *v, uint64_t timeout_ns)
{
	ps_wait(volume_maintainer(v), timeout_ns);
}
