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
#include <string.h>

#define ATTEMPTS 3

static uint64_t slab_bytes(const struct ps_volume *v)
{
	return (uint64_t)PS_PAGE_SIZE << v->map.slab_shift;
}

static int no_room(const struct ps_volume *v, uint64_t slabs)
{
	uint64_t free = 0, total = 0;
	char a[32], b[32], c[32];

	for (unsigned d = 0; d < v->donors; d++) {
		if (v->donor[d].dead)
			continue;
		free += le64toh(v->donor[d].stat.slabs_free);
		total += le64toh(v->donor[d].stat.slabs_total);
	}
	return err_fail(-ENOSPC, "donors have %s free of %s; %s asked",
			format_size(free * slab_bytes(v), a, sizeof a),
			format_size(total * slab_bytes(v), b, sizeof b),
			format_size(slabs * slab_bytes(v), c, sizeof c));
}

/* lists.count and the plan for `need` slabs, or false. */
static bool make_plan(struct ps_volume *v, uint64_t need)
{
	struct place_donor donor[PS_MAX_DONORS] = {0};

	for (unsigned d = 0; d < v->donors; d++) {
		donor[d].free = v->donor[d].dead ? 0 : le64toh(v->donor[d].stat.slabs_free);
		if (donor[d].free > UINT32_MAX) /* nobody has it; sums must not overflow */
			donor[d].free = UINT32_MAX;
		donor[d].used = v->donor[d].held > 0;
	}
	if (!place_slabs(donor, v->donors, need, &v->rng, v->plan))
		return false;
	memset(v->lists.count, 0, sizeof v->lists.count);
	for (uint64_t i = 0; i < need; i++)
		v->lists.count[v->plan[i]]++;
	lists_lay_out(&v->lists, v->donors);
	return true;
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

/* 1: a donor had less than it said; plan anew. */
static int grant(struct ps_volume *v)
{
	int r = control_lists(v, TP_GRANT, NULL);

	if (r) {
		int full = r == -ENOSPC;

		if (!full)
			control_told(v, r, "did not grant slabs");
		give_back(v);
		return full ? 1 : r;
	}
	memset(v->lists.done, 0, sizeof v->lists.done);
	r = control_lists(v, TP_MAP, NULL);
	if (r) {
		control_told(v, r, "did not hand slabs over");
		memcpy(v->lists.done, v->lists.count, sizeof v->lists.done);
		give_back(v);
	}
	return r;
}

static void publish(struct ps_volume *v, uint64_t first, uint64_t last)
{
	uint64_t next[PS_MAX_DONORS], i = 0;

	memcpy(next, v->lists.first, sizeof next);
	for (uint64_t slab = first; slab <= last; slab++) {
		unsigned d;

		if (v->map.slab[slab].live)
			continue;
		d = v->plan[i++];
		map_put(&v->map, slab, d, v->lists.slabs[next[d]++]);
		v->donor[d].held++;
	}
}

static int reserve_slabs(struct ps_volume *v, uint64_t first, uint64_t last)
{
	uint64_t need = 0;
	int r = 1;

	for (uint64_t slab = first; slab <= last; slab++)
		need += !v->map.slab[slab].live;
	if (!need)
		return 0;
	for (int i = 0; i < ATTEMPTS && r == 1; i++) {
		r = control_stat(v);
		if (r)
			return r;
		if (!make_plan(v, need))
			return no_room(v, need);
		r = grant(v);
	}
	if (r == 1)
		return no_room(v, need);
	if (!r)
		publish(v, first, last);
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

/* Takes the slabs that lie wholly in the range out of the map, into the lists. */
static uint64_t collect(struct ps_volume *v, uint64_t first, uint64_t end)
{
	struct slab_lists *l = &v->lists;
	uint64_t pages = 1ull << v->map.slab_shift, next[PS_MAX_DONORS], taken = 0;
	uint64_t from = (first + pages - 1) >> v->map.slab_shift;
	uint64_t to = end == v->map.pages ? v->map.slabs : end >> v->map.slab_shift;

	memset(l->count, 0, sizeof l->count);
	for (uint64_t slab = from; slab < to; slab++)
		if (v->map.slab[slab].live)
			l->count[v->map.slab[slab].donor[0]]++;
	lists_lay_out(l, v->donors);
	memcpy(next, l->first, sizeof next);
	for (uint64_t slab = from; slab < to; slab++) {
		const struct map_slab *s = &v->map.slab[slab];

		if (!s->live)
			continue;
		l->slabs[next[s->donor[0]]++] = s->handle[0];
		v->donor[s->donor[0]].held--;
		map_take(&v->map, slab);
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
	struct ps_space space = {0};
	int r;

	lock_take(&v->lock);
	r = control_stat(v);
	for (unsigned d = 0; d < v->donors && !r; d++) {
		if (v->donor[d].dead)
			continue;
		space.pages_total += le64toh(v->donor[d].stat.slabs_total) << v->map.slab_shift;
		space.pages_free += le64toh(v->donor[d].stat.slabs_free) << v->map.slab_shift;
	}
	lock_give(&v->lock);
	if (!r)
		*ret = space;
	return r;
}
