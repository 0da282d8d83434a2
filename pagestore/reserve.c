/* SPDX-License-Identifier: MIT */
/*
 * Getting slabs from donors and giving them back. A reservation is all or nothing: when a donor
 * refuses its share, what the others granted is freed, and with fresh numbers it is planned anew;
 * another borrower may have been faster.
 */
#include "common/error.h"
#include "common/parse.h"
#include "pagestore/placement.h"
#include "pagestore/volume.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ATTEMPTS 3

/* At a donor. */
static uint64_t slab_bytes(const struct ps_volume *v)
{
	return (uint64_t)PS_PAGE_SIZE * volume_donor_pages(v);
}

/* No room on enough different donors. */
static int no_room(const struct ps_volume *v, uint64_t slabs)
{
	unsigned members = v->map.members, open = 0;
	char copies[48] = "";
	uint64_t free = 0, total = 0;
	char a[32], b[32], c[32], spill[320];

	for (unsigned d = 0; d < v->donors; d++) {
		if (v->donor[d].dead || d == v->spill)
			continue;
		open += v->donor[d].stat.slabs_free != 0;
		free += le64toh(v->donor[d].stat.slabs_free);
		total += le64toh(v->donor[d].stat.slabs_total);
	}
	if (members > 1)
		snprintf(copies, sizeof copies, " on each of %u donors (%u have room)", members,
			 open);
	return err_fail(-ENOSPC, "donors have %s free of %s%s; %s asked%s",
			format_size(free * slab_bytes(v), a, sizeof a),
			format_size(total * slab_bytes(v), b, sizeof b),
			spill_room(v, spill, sizeof spill), format_size(slabs * slab_bytes(v), c, sizeof c), copies);
}

void volume_place_donors(const struct ps_volume *v, struct place_donor *ret)
{
	uint64_t not = map_gone(&v->map) | v->leaving;

	for (unsigned d = 0; d < v->donors; d++) {
		const struct donor *donor = &v->donor[d];

		ret[d] = (struct place_donor){.used = donor->held > 0,
					      .domain = donor->domain,
					      .last = d == v->spill ? v->map.need : 0};
		if (!donor->dead && !(not>> d & 1))
			ret[d].free = le64toh(donor->stat.slabs_free);
		if (ret[d].free > UINT32_MAX) /* nobody has it; sums must not overflow */
			ret[d].free = UINT32_MAX;
	}
}

/*
 * lists.count and the plan for `need` slabs; returns the members of each, or 0. While donors are
 * lost, slabs that lack members are better than none: the maintenance adds them later.
 */
static unsigned make_plan(struct ps_volume *v, uint64_t need)
{
	struct place_donor donor[PS_MAX_DONORS];
	unsigned n = v->map.members, least;

	least = volume_lost(v) ? v->map.need : n;

	for (; n >= least; n--) {
		volume_place_donors(v, donor);
		if (place_slabs(donor, v->donors, need, n, &v->rng, v->plan))
			break;
	}
	if (n < least)
		return 0;
	memset(v->lists.count, 0, sizeof v->lists.count);
	for (uint64_t i = 0; i < need * n; i++)
		if (v->plan[i] != PLACE_NONE)
			v->lists.count[v->plan[i]]++;
	lists_lay_out(&v->lists, v->donors);
	return n;
}

/* Frees what was granted so far; lists.done says how much. */
static void give_back(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++) {
		v->lists.count[d] = v->lists.done[d];
		v->lists.done[d] = 0;
	}
	control_lists(v, TP_FREE, NULL);
}

/* After control_lists() failed: a donor died of which the volume can do without. */
static bool can_do_without(const struct ps_volume *v)
{
	return v->map.members > v->map.need && v->lists.failed >= 0 &&
	       v->donor[v->lists.failed].dead;
}

/* 1: a donor had less than it said, or died meanwhile; plan anew. */
static int grant(struct ps_volume *v)
{
	int r = control_lists(v, TP_GRANT, NULL);

	if (r) {
		bool anew = r == -ENOSPC || can_do_without(v);

		if (!anew)
			control_told(v, r, "did not grant slabs");
		give_back(v);
		return anew ? 1 : r;
	}
	memset(v->lists.done, 0, sizeof v->lists.done);
	r = control_lists(v, TP_MAP, NULL);
	if (r) {
		bool anew = can_do_without(v);

		if (!anew)
			control_told(v, r, "did not hand slabs over");
		memcpy(v->lists.done, v->lists.count, sizeof v->lists.done);
		give_back(v);
		if (anew)
			return 1;
	}
	return r;
}

static void publish(struct ps_volume *v, uint64_t first, uint64_t last, unsigned members)
{
	uint64_t next[PS_MAX_DONORS], i = 0, handle[MAP_MEMBERS];
	unsigned n;

	memcpy(next, v->lists.first, sizeof next);
	for (uint64_t slab = first; slab <= last; slab++) {
		const uint8_t *donor = &v->plan[i];

		if (map_granted(&v->map, slab))
			continue;
		n = 0;
		for (; n < members && donor[n] != PLACE_NONE; n++) {
			handle[n] = v->lists.slabs[next[donor[n]]++];
			v->donor[donor[n]].held++;
		}
		map_put(&v->map, slab, n, donor, handle);
		i += members;
	}
}

/* Others are faster, time and again: what the donors say they have is not to be had. */
static void give_up_on_memory(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++)
		if (d != v->spill)
			v->donor[d].stat.slabs_free = 0;
}

static int reserve_slabs(struct ps_volume *v, uint64_t first, uint64_t last)
{
	unsigned members = 0;
	uint64_t need = 0;
	int r = 1;

	for (uint64_t slab = first; slab <= last; slab++)
		need += !map_granted(&v->map, slab);
	if (!need)
		return 0;
	for (int i = 0; i < ATTEMPTS + (v->file != NULL) && r == 1; i++) {
		r = control_stat(v);
		if (r)
			return r;
		if (i == ATTEMPTS)
			give_up_on_memory(v);
		members = make_plan(v, need);
		if (!members)
			return no_room(v, need);
		r = grant(v);
	}
	if (r == 1)
		return no_room(v, need);
	if (!r)
		publish(v, first, last, members);
	return r;
}

int ps_reserve(struct ps_volume *v, uint64_t first, uint64_t count)
{
	int r;

	if (!map_has(&v->map, first, count))
		return err_fail(-EINVAL, "pages %llu and %llu more lie beyond the volume's end",
				(unsigned long long)first, (unsigned long long)count);
	if (!count)
		return 0;
	lock_take(&v->lock);
	r = reserve_slabs(v, first >> v->map.slab_shift, (first + count - 1) >> v->map.slab_shift);
	lock_give(&v->lock);
	return r;
}

/* A slab's places that have a handle: its members, and those that left the set but not their donor. */
static void count_places(struct ps_volume *v, const struct map_slab *s)
{
	for (unsigned p = 0; p < MAP_MEMBERS; p++)
		if (s->handle[p])
			v->lists.count[s->donor[p]]++;
}

/* Takes the slabs that lie wholly in the range out of the map, into the lists. */
static uint64_t collect(struct ps_volume *v, uint64_t first, uint64_t end)
{
	struct slab_lists *l = &v->lists;
	uint64_t pages = 1ull << v->map.slab_shift, next[PS_MAX_DONORS], taken = 0;
	uint64_t from = (first + pages - 1) >> v->map.slab_shift;
	uint64_t to = end == v->map.pages ? v->map.slabs : end >> v->map.slab_shift;

	memset(l->count, 0, sizeof l->count);
	for (uint64_t slab = from; slab < to; slab++)
		if (map_granted(&v->map, slab))
			count_places(v, &v->map.slab[slab]);
	lists_lay_out(l, v->donors);
	memcpy(next, l->first, sizeof next);
	for (uint64_t slab = from; slab < to; slab++) {
		struct map_slab *s = &v->map.slab[slab];

		if (!map_granted(&v->map, slab))
			continue;
		map_take(&v->map, slab);
		for (unsigned p = 0; p < MAP_MEMBERS; p++) {
			if (!s->handle[p])
				continue;
			l->slabs[next[s->donor[p]]++] = s->handle[p];
			v->donor[s->donor[p]].held--;
			__atomic_store_n(&s->handle[p], 0, __ATOMIC_RELAXED);
		}
		taken++;
	}
	return taken;
}

int ps_release(struct ps_volume *v, uint64_t first, uint64_t count)
{
	int r = 0;

	if (!map_has(&v->map, first, count))
		return -EINVAL;
	lock_take(&v->lock);
	if (collect(v, first, first + count))
		r = control_lists(v, TP_FREE, NULL);
	/* A dead donor's slabs are gone as asked. */
	if (r && v->lists.failed >= 0 && v->donor[v->lists.failed].dead)
		r = 0;
	lock_give(&v->lock);
	map_clear(&v->map, first, count);
	return r;
}

void ps_discard(struct ps_volume *v, uint64_t first, uint64_t count)
{
	if (map_has(&v->map, first, count))
		map_clear(&v->map, first, count);
}

int ps_space(struct ps_volume *v, struct ps_space *ret)
{
	uint64_t pages = volume_donor_pages(v);
	struct ps_space space = {0};
	int r;

	lock_take(&v->lock);
	r = control_stat(v);
	for (unsigned d = 0; d < v->donors && !r; d++) {
		if (v->donor[d].dead)
			continue;
		space.pages_total += le64toh(v->donor[d].stat.slabs_total) * pages;
		space.pages_free += le64toh(v->donor[d].stat.slabs_free) * pages;
	}
	lock_give(&v->lock);
	if (!r)
		*ret = space;
	return r;
}
