/* SPDX-License-Identifier: MIT */
/*
 * Snapshots for fork. The donors clone the slabs for a borrower that doesn't exist yet; the forked
 * child becomes that borrower: its map's handles are exchanged for the clones' and it opens
 * connections of its own. The hashes need nothing: the child has its own copy of them.
 */
#include "common/error.h"
#include "pagestore/volume.h"
#include "pagestore/seal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* Every slab's handle into the lists. */
static void list_all(struct ps_volume *v)
{
	struct slab_lists *l = &v->lists;
	uint64_t next[PS_MAX_DONORS];

	memset(l->count, 0, sizeof l->count);
	for (uint64_t i = 0; i < v->map.slabs; i++)
		if (v->map.slab[i].live)
			l->count[v->map.slab[i].donor[0]]++;
	lists_lay_out(l, v->donors);
	memcpy(next, l->first, sizeof next);
	for (uint64_t i = 0; i < v->map.slabs; i++)
		if (v->map.slab[i].live)
			l->slabs[next[v->map.slab[i].donor[0]]++] = v->map.slab[i].handle[0];
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
	list_all(v);
	r = control_lists(v, TP_CLONE, &clone);
	if (r) {
		control_told(v, r, "can't take a snapshot");
		forsake(v);
	}
	for (uint64_t i = 0; i < v->map.slabs && !r; i++) {
		unsigned d = v->map.slab[i].donor[0];

		if (v->map.slab[i].live)
			v->clone[i] = v->lists.slabs[v->lists.first[d]++];
	}
	v->snapshot = !r;
	lock_give(&v->lock);
	return r;
}

void ps_snapshot_drop(struct ps_volume *v, bool taken)
{
	lock_take(&v->lock);
	if (v->snapshot && !taken)
		forsake(v);
	v->snapshot = false;
	lock_give(&v->lock);
}

static void forget_all(struct ps_volume *v, bool inherited)
{
	for (unsigned d = 0; d < v->donors; d++) {
		for (unsigned i = 0; i < v->ports; i++)
			v->port[i].conn[d]->t->forget(v->port[i].conn[d], inherited);
		v->donor[d].control->t->forget(v->donor[d].control, inherited);
		v->donor[d].spare->t->forget(v->donor[d].spare, inherited);
	}
	for (unsigned i = 0; i < v->ports; i++) {
		v->port[i].live = 0;
		core_reset(&v->port[i].core);
	}
}

int ps_adopt(struct ps_volume *v, bool inherited)
{
	int r;

	/* This is the only thread; whoever held the lock is not here. */
	v->lock = 0;
	if (!v->snapshot)
		return err_fail(-ENOENT, "there is no snapshot to adopt");
	forget_all(v, inherited);
	memcpy(v->borrower, v->snapshot_borrower, sizeof v->borrower);
	if (v->map.seal) {
		r = seal_branch(v->map.seal, v->borrower);
		if (r)
			return r;
	}
	v->transient = true; /* a forked child never comes back */
	for (uint64_t i = 0; i < v->map.slabs; i++)
		if (v->map.slab[i].live)
			v->map.slab[i].handle[0] = v->clone[i];
	v->snapshot = false;
	r = volume_connect_all(v);
	if (r)
		return r;
	list_all(v);
	r = control_lists(v, TP_MAP, NULL);
	return r ? control_told(v, r, "did not hand the snapshot over") : 0;
}
