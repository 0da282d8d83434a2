/* SPDX-License-Identifier: MIT */
/*
 * When to lend less or more. Two thresholds with room between them, so that memory does not go back
 * and forth: below the lower one it shrinks up to the higher one, at once; it grows back slowly,
 * after a while of calm, and only if the memory that takes still leaves twice the room between
 * them.
 */
#include "server/reclaim.h"

#include <stdatomic.h>

#define SECOND     1000000000ull
#define CALM_NS    (20 * SECOND) /* before it grows */
#define STEP_NS    (2 * SECOND)
#define GROW_PARTS 32 /* of all slabs, in a step */
#define PSI_PARTS  20

static uint32_t part_of(uint32_t all, uint32_t parts)
{
	return all / parts ? all / parts : 1;
}

static int64_t shrink_by(const struct srv_arena_state *a, uint64_t slabs)
{
	uint64_t most = a->total - a->away - a->owed;

	return (int64_t)(slabs < most ? slabs : most);
}

static int64_t grow_by(struct srv_reclaim_policy *p, const struct srv_pressure *now,
		       const struct srv_arena_state *a, uint64_t slab_bytes, uint64_t now_ns)
{
	uint64_t gap = p->target_bytes - p->below_bytes, spare,
		 step = part_of(a->total, GROW_PARTS);
	uint64_t floor = p->target_bytes + gap;

	if (!a->away && !a->owed)
		return 0;
	if (now_ns - p->calm_ns < CALM_NS || now_ns - p->step_ns < STEP_NS)
		return 0;
	spare = now->available_bytes > floor ? (now->available_bytes - floor) / slab_bytes : 0;
	step = step < spare ? step : spare;
	if (step > a->away + a->owed)
		step = a->away + a->owed;
	if (step)
		p->step_ns = now_ns;
	return -(int64_t)step;
}

int64_t srv_reclaim_decide(struct srv_reclaim_policy *p, const struct srv_pressure *now,
			   const struct srv_arena_state *a, uint64_t slab_bytes, uint64_t now_ns)
{
	uint64_t coming = (uint64_t)(a->owed + a->away - a->parked) * slab_bytes;
	uint64_t available = now->available_bytes + coming;
	bool waiting = p->some_percent && now->some_avg10 >= p->some_percent &&
		       available < p->target_bytes;

	if (now->available_bytes >= p->below_bytes && !waiting) {
		p->calm_ns = p->calm_ns ? p->calm_ns : now_ns;
		return grow_by(p, now, a, slab_bytes, now_ns);
	}
	p->calm_ns = 0;
	if (available < p->below_bytes)
		return shrink_by(a, (p->target_bytes - available + slab_bytes - 1) / slab_bytes);
	if (!waiting || now_ns - p->step_ns < STEP_NS)
		return 0;
	p->step_ns = now_ns;
	return shrink_by(a, part_of(a->total, PSI_PARTS));
}

void srv_reclaim_change(struct srv_lender *l, int64_t slabs)
{
	if (slabs > 0)
		srv_arena_shrink(srv_lender_arena(l), (uint32_t)slabs);
	else if (slabs < 0)
		srv_arena_grow(srv_lender_arena(l), (uint32_t)-slabs);
}
