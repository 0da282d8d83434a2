/* SPDX-License-Identifier: MIT */
/*
 * Snapshots for fork. The donors clone the slabs for a borrower that doesn't exist yet; the forked
 * child becomes that borrower: its map's handles are exchanged for the clones' and it opens
 * connections of its own. The hashes need nothing: the child has its own copy of them.
 */
#include "common/error.h"
#include "pagestore/maintain.h"
#include "pagestore/volume.h"
#include "pagestore/seal.h"
#include "pagestore/transport/file_store.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* Calls each() for every live member: its slab's number and place. */
static void each_member(struct ps_volume *v, const struct map_slab *slab,
			void (*each)(struct ps_volume *v, struct map_slab *s, unsigned place,
				     uint64_t next[PS_MAX_DONORS]),
			uint64_t next[PS_MAX_DONORS])
{
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *s = (struct map_slab *)(uintptr_t)&slab[i];

		for (uint32_t m = set_live(s->set); m; m &= m - 1)
			each(v, s, (unsigned)__builtin_ctz(m), next);
	}
}

static void count_one(struct ps_volume *v, struct map_slab *s, unsigned place, uint64_t *next)
{
	(void)next;
	v->lists.count[s->donor[place]]++;
}

static void list_one(struct ps_volume *v, struct map_slab *s, unsigned place, uint64_t *next)
{
	v->lists.slabs[next[s->donor[place]]++] = s->handle[place];
}

static void take_one(struct ps_volume *v, struct map_slab *s, unsigned place, uint64_t *next)
{
	s->handle[place] = v->lists.slabs[next[s->donor[place]]++];
}

/* Every live member's handle into the lists. */
static void list_all(struct ps_volume *v, const struct map_slab *slab)
{
	uint64_t next[PS_MAX_DONORS];

	memset(v->lists.count, 0, sizeof v->lists.count);
	each_member(v, slab, count_one, NULL);
	lists_lay_out(&v->lists, v->donors);
	memcpy(next, v->lists.first, sizeof next);
	each_member(v, slab, list_one, next);
}

/*
 * The sets as they are, without what is being filled, and without those whose donors are gone as
 * long as others have it. From here on the maintenance may change the map; the snapshot stays.
 */
static void copy_sets(struct ps_volume *v)
{
	uint64_t gone = map_gone(&v->map);

	for (unsigned d = 0; d < v->donors; d++)
		gone |= v->donor[d].dead ? 1ull << d : 0;
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *to = &v->clone[i];
		uint64_t set = map_set(&v->map.slab[i]);

		if (!set && !to->set)
			continue;
		*to = v->map.slab[i];
		to->set = set & ~((uint64_t)MAP_PLACES << SET_FILL_SHIFT);
		for (uint32_t m = set_live(set); m && v->map.members > v->map.need; m &= m - 1) {
			unsigned p = (unsigned)__builtin_ctz(m);

			if (gone >> to->donor[p] & 1 &&
			    map_count(set_live(to->set)) > v->map.need)
				to->set &= ~SET_LIVE(p);
		}
	}
}

/* What the donors hold for the snapshot's borrower is freed by its goodbye. */
static void forsake(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++) {
		struct donor *donor = &v->donor[d];
		struct tp_conn *control = donor->control;
		struct tp_hello h = {0};
		int error = donor->error;

		if (donor->dead)
			continue;
		memcpy(h.borrower, v->snapshot_borrower, sizeof h.borrower);
		/* A donor that can't be reached forgets the clones after its grace. */
		if (volume_connect(v, d, donor->spare, &h))
			continue;
		donor->control = donor->spare;
		v->call[d].op = (struct tp_op){.kind = TP_GOODBYE};
		control_run(v, 1ull << d, v->deadline_ns);
		donor->spare->t->close(donor->spare);
		donor->control = control;
		donor->dead = false;
		donor->error = error;
	}
}

int ps_snapshot(struct ps_volume *v)
{
	struct wire_clone clone = {0};
	int r;

	lock_take(&v->lock);
	if (v->snapshot)
		forsake(v);
	volume_new_borrower(v->snapshot_borrower);
	memcpy(clone.owner, v->snapshot_borrower, sizeof clone.owner);
	memcpy(clone.name, v->name, sizeof clone.name);
	copy_sets(v);
	list_all(v, v->clone);
	r = control_lists(v, TP_CLONE, &clone);
	if (r) {
		control_told(v, r, "can't take a snapshot");
		forsake(v);
	} else {
		each_member(v, v->clone, take_one, v->lists.first);
	}
	v->snapshot = !r;
	if (!r)
		volume_fork_begin(v);
	lock_give(&v->lock);
	return r;
}

int ps_snapshot_carry(struct ps_volume *v)
{
	int r;

	if (!v->file)
		return 0;
	lock_take(&v->lock);
	r = file_store_carry(v->file);
	lock_give(&v->lock);
	return r;
}

int ps_snapshot_carried(const struct ps_volume *v)
{
	return v->file && v->file->clone ? v->file->clone->carried : -1;
}

void ps_snapshot_drop(struct ps_volume *v, bool taken)
{
	lock_take(&v->lock);
	volume_fork_end(v, false);
	if (v->snapshot && !taken)
		forsake(v);
	v->snapshot = false;
	if (v->file)
		file_store_left(v->file);
	lock_give(&v->lock);
}

/* One that nobody uses any more, or not yet: a descriptor left open would keep the parent's session. */
static void forget_conn(struct tp_conn **at, bool inherited)
{
	if (*at)
		(*at)->t->forget(*at, inherited);
	tp_free(*at);
	*at = NULL;
}

static void forget_all(struct ps_volume *v, bool inherited)
{
	for (unsigned d = 0; d < v->donors; d++) {
		for (unsigned i = 0; i <= v->ports; i++) {
			forget_conn(&v->port[i].offer[d], inherited);
			forget_conn(&v->port[i].retired[d], inherited);
			if (!v->port[i].conn[d])
				continue;
			v->port[i].conn[d]->t->forget(v->port[i].conn[d], inherited);
			/* Maybe it used the slabs that an older one had mapped. */
			tp_share(v->port[i].conn[d], v->donor[d].control);
		}
		for (unsigned i = 0; i < sizeof v->donor[d].old / sizeof *v->donor[d].old; i++)
			forget_conn(&v->donor[d].old[i], inherited);
		v->donor[d].control->t->forget(v->donor[d].control, inherited);
		v->donor[d].spare->t->forget(v->donor[d].spare, inherited);
	}
	for (unsigned i = 0; i <= v->ports; i++) {
		v->port[i].live = 0;
		v->port[i].core.offered = 0;
		core_reset(&v->port[i].core);
	}
	wanted_forget(v, inherited);
	maintain_reset(v);
}

/* The map is the snapshot's: what the parent's maintenance did since is not ours. */
static void adopt_sets(struct ps_volume *v)
{
	for (uint64_t i = 0; i < v->map.slabs; i++) {
		struct map_slab *s = &v->map.slab[i];
		const struct map_slab *from = &v->clone[i];

		if (!s->set && !from->set)
			continue;
		map_take(&v->map, i);
		memcpy(s->donor, from->donor, sizeof s->donor);
		memcpy(s->frag, from->frag, sizeof s->frag);
		for (unsigned p = 0; p < MAP_MEMBERS; p++)
			s->handle[p] = set_live(from->set) >> p & 1 ? from->handle[p] : 0;
		if (from->set & SET_GRANTED)
			map_restore(&v->map, i, set_live(from->set));
	}
}

int ps_adopt(struct ps_volume *v, bool inherited)
{
	int r;

	/* This is the only thread; whoever held the lock is not here. */
	v->lock = 0;
	if (!v->snapshot)
		return err_fail(-ENOENT, "there is no snapshot to adopt");
	volume_fork_end(v, true);
	forget_all(v, inherited);
	memcpy(v->borrower, v->snapshot_borrower, sizeof v->borrower);
	if (v->map.seal) {
		r = seal_branch(v->map.seal, v->borrower);
		if (r)
			return r;
	}
	v->transient = true; /* a forked child never comes back, */
	v->epoch = 0;        /* and nobody takes it over */
	v->keep = false;
	adopt_sets(v);
	v->snapshot = false;
	r = v->file ? file_store_adopt(v->file, inherited) : 0;
	if (r)
		return r;
	r = volume_connect_all(v, NULL);
	if (r)
		return r;
	list_all(v, v->map.slab);
	r = control_lists(v, TP_MAP, NULL);
	return r ? control_told(v, r, "did not hand the snapshot over") : 0;
}
