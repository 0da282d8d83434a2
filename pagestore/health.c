/* SPDX-License-Identifier: MIT */
/* How a volume is, and what may be asked of its maintenance. */
#include "pagestore/maintain.h"

#include <errno.h>
#include <string.h>

int ps_move(struct ps_volume *v, uint64_t slab, int donor, int to)
{
	struct maintain *m = v->maintain;
	int r = -ENOENT;

	if (slab >= v->map.slabs || donor < 0 || (unsigned)donor >= v->donors ||
	    (to >= 0 && (unsigned)to >= v->donors) || to == donor)
		return -ENXIO;
	lock_take(&v->lock);
	if (!map_granted(&v->map, slab)) {
		r = -ENXIO;
	} else if (m->job.used && m->job.slab == slab && m->from[slab] != donor + 1) {
		r = -EBUSY;
	} else {
		const struct map_slab *s = &v->map.slab[slab];

		for (uint32_t live = set_live(map_set(s)); live && r; live &= live - 1)
			if (s->donor[__builtin_ctz(live)] == donor)
				r = 0;
	}
	if (!r && m->from[slab] && m->from[slab] != donor + 1)
		r = -EBUSY;
	if (!r) {
		m->moves += !m->from[slab];
		m->from[slab] = (uint8_t)(donor + 1);
		m->to[slab] = (uint8_t)(to + 1);
		m->wait_ns = 0;
	}
	lock_give(&v->lock);
	return r;
}

int ps_evacuate(struct ps_volume *v, int donor, bool move)
{
	uint64_t bit;

	if (donor < 0 || (unsigned)donor >= v->donors)
		return -ENXIO;
	bit = 1ull << donor;
	lock_take(&v->lock);
	v->leaving = move ? v->leaving | bit : v->leaving & ~bit;
	v->maintain->moving = v->leaving;
	v->maintain->looked_ns = v->maintain->wait_ns = 0;
	lock_give(&v->lock);
	return 0;
}

int64_t ps_slab_of(struct ps_volume *v, int donor, uint64_t handle)
{
	int64_t found = -ENOENT;

	lock_take(&v->lock);
	for (uint64_t i = 0; i < v->map.slabs && found < 0; i++) {
		const struct map_slab *s = &v->map.slab[i];

		for (uint32_t m = set_live(map_set(s)); m; m &= m - 1)
			if (s->donor[__builtin_ctz(m)] == donor &&
			    s->handle[__builtin_ctz(m)] == handle)
				found = (int64_t)i;
	}
	lock_give(&v->lock);
	return found;
}

static void count_slab(const struct ps_volume *v, uint64_t slab, uint64_t gone,
		       struct ps_health *ret)
{
	const struct map_slab *s = &v->map.slab[slab];
	uint64_t set = map_set(s);
	bool spilled = false;
	unsigned live = 0;

	if (!(set & SET_GRANTED))
		return;
	for (uint32_t m = set_live(set); m; m &= m - 1) {
		unsigned d = s->donor[__builtin_ctz(m)];

		live += !(gone >> d & 1);
		spilled = spilled || d == v->spill;
	}
	ret->spilled += spilled;
	ret->slabs++;
	ret->degraded += live < v->map.members;
	ret->endangered += live < v->map.members && live == v->map.need;
	ret->lost += live < v->map.need;
	ret->filling += set_filling(set) != 0;
	ret->waiting += v->maintain->from[slab] != 0;
}

void ps_health(struct ps_volume *v, struct ps_health *ret)
{
	const struct job *j = &v->maintain->job;
	uint64_t gone;

	*ret = (struct ps_health){0};
	lock_take(&v->lock);
	gone = map_gone(&v->map);
	for (uint64_t i = 0; i < v->map.slabs; i++)
		count_slab(v, i, gone, ret);
	if (j->used) {
		ret->pages_left = j->end - j->next;
		for (unsigned i = 0; i < CHUNKS; i++)
			if (v->maintain->chunk[i].state != CHUNK_IDLE)
				ret->pages_left += map_count(v->maintain->chunk[i].todo);
	}
	lock_give(&v->lock);
}

int ps_donor_health(struct ps_volume *v, int donor, struct ps_donor_health *ret)
{
	uint64_t bit;

	if (donor < 0 || (unsigned)donor >= v->donors ||
	    __atomic_load_n(&v->vacant, __ATOMIC_RELAXED) >> donor & 1)
		return -ENXIO;
	bit = 1ull << donor;
	*ret = (struct ps_donor_health){.domain = (const char *)v->donor[donor].hello.welcome.domain};
	lock_take(&v->lock);
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		const struct map_slab *s = &v->map.slab[i];

		for (uint32_t m = set_live(map_set(s)); m; m &= m - 1)
			ret->members += s->donor[__builtin_ctz(m)] == donor;
	}
	if (map_gone(&v->map) & bit || v->donor[donor].dead)
		ret->state = PS_DONOR_GONE;
	else if (v->leaving & bit)
		ret->state = PS_DONOR_LEAVING;
	for (unsigned i = 0; i <= v->ports; i++) {
		const struct core_donor *d = &v->port[i].core.donor[donor];

		if (__atomic_load_n(&d->slow, __ATOMIC_RELAXED) && ret->state == PS_DONOR_UP)
			ret->state = PS_DONOR_SUSPECT;
		if (__atomic_load_n(&d->mean_ns, __ATOMIC_RELAXED) <= ret->latency_ns)
			continue;
		ret->latency_ns = __atomic_load_n(&d->mean_ns, __ATOMIC_RELAXED);
		ret->p99_ns = __atomic_load_n(&d->high_ns, __ATOMIC_RELAXED);
	}
	lock_give(&v->lock);
	return 0;
}
