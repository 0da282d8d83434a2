/* SPDX-License-Identifier: MIT */
/*
 * What happens to whom, for how long, after what pause: drawn from the seed and from nothing else, so
 * that a seed is the same plan on a machine where some faults can't be made (they are passed over).
 */
#include "bench/chaos.h"
#include "common/clock.h"

#include <stdio.h>

static const struct {
	const char *name;
	unsigned weight;
} kinds[CHAOS_KINDS] = {
	[CHAOS_KILL] = {"kill", 5},   [CHAOS_STOP] = {"stop", 4}, [CHAOS_CUT] = {"cut", 4},
	[CHAOS_FLAP] = {"flap", 2},   [CHAOS_DELAY] = {"delay", 2}, [CHAOS_LOSS] = {"loss", 2},
	[CHAOS_DISK] = {"disk", 1},   [CHAOS_DISK_KILL] = {"disk-kill", 2},
	[CHAOS_PAUSE] = {"pause", 2}, [CHAOS_STILL] = {"still", 2},
};

const char *chaos_kind_name(enum chaos_kind kind)
{
	return kinds[kind].name;
}

static uint64_t draw(uint64_t *state, uint64_t low, uint64_t high)
{
	*state += 0x9e3779b97f4a7c15ull;
	return low + page_mix(*state) % (high - low + 1);
}

/* As likely between 0.1 and 1 s as between 1 and 10. */
static uint64_t draw_length(uint64_t *state)
{
	uint64_t scale = draw(state, 0, 1) ? NSEC_PER_SEC : NSEC_PER_SEC / 10;

	return draw(state, scale / NSEC_PER_MSEC, 10 * scale / NSEC_PER_MSEC) * NSEC_PER_MSEC;
}

static enum chaos_kind draw_kind(uint64_t *state)
{
	unsigned sum = 0, k = 0;
	uint64_t at;

	for (unsigned i = 0; i < CHAOS_KINDS; i++)
		sum += kinds[i].weight;
	for (at = draw(state, 0, sum - 1); at >= kinds[k].weight; k++)
		at -= kinds[k].weight;
	return k;
}

void chaos_plan_next(uint64_t *state, unsigned donors, struct chaos_fault *ret)
{
	*ret = (struct chaos_fault){
		.kind = draw_kind(state),
		.donor = (unsigned)draw(state, 0, donors - 1),
		.times = 1,
		.pause_ns = draw(state, 100, 1500) * NSEC_PER_MSEC,
		.length_ns = draw_length(state),
	};
	switch (ret->kind) {
	case CHAOS_KILL:
		ret->length_ns = draw(state, 0, 3000) * NSEC_PER_MSEC;
		break;
	case CHAOS_FLAP:
		ret->times = (unsigned)draw(state, 3, 8);
		ret->length_ns = draw(state, 20, 800) * NSEC_PER_MSEC;
		break;
	case CHAOS_STILL: /* well below the deadline: TCP takes as long again to find out */
		ret->length_ns = draw(state, 50, 3000) * NSEC_PER_MSEC;
		break;
	case CHAOS_DELAY:
		ret->amount = draw(state, 100, 100000);
		break;
	case CHAOS_LOSS:
		ret->amount = draw(state, 1000, 200000);
		break;
	default:
		break;
	}
}

void chaos_plan_text(const struct chaos_fault *f, char *text, size_t len)
{
	double s = (double)f->length_ns / 1e9;

	switch (f->kind) {
	case CHAOS_KILL:
		snprintf(text, len, "kill donor %u, away for %.1f s", f->donor, s);
		break;
	case CHAOS_STOP:
		snprintf(text, len, "stop donor %u for %.1f s", f->donor, s);
		break;
	case CHAOS_CUT:
		snprintf(text, len, "cut donor %u off for %.1f s", f->donor, s);
		break;
	case CHAOS_FLAP:
		snprintf(text, len, "cut donor %u off %u times for %.2f s", f->donor, f->times, s);
		break;
	case CHAOS_DELAY:
		snprintf(text, len, "delay donor %u by up to %.1f ms for %.1f s", f->donor,
			 (double)f->amount / 1e3, s);
		break;
	case CHAOS_LOSS:
		snprintf(text, len, "lose %.1f%% of donor %u's packets for %.1f s",
			 (double)f->amount / 1e4, f->donor, s);
		break;
	case CHAOS_PAUSE:
		snprintf(text, len, "stop the borrowers for %.1f s", s);
		break;
	case CHAOS_STILL:
		snprintf(text, len, "no packets at all for %.1f s", s);
		break;
	case CHAOS_DISK:
		snprintf(text, len, "fill the disk for %.1f s", s);
		break;
	default:
		snprintf(text, len, "fill the disk for %.1f s and kill donor %u", s, f->donor);
	}
}
