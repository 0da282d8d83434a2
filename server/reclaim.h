/* SPDX-License-Identifier: MIT */
/*
 * How much of its memory a donor lends, when its own programs want it back. Two halves that don't
 * know each other: srv_reclaim_decide() is a pure function from what the machine says to a number
 * of slabs; the rest carries such numbers out: free slabs go at once, for the others borrowers are
 * told which ones are wanted (op WANTED), more than needed, so that they can give the least active
 * of them.
 */
#ifndef SERVER_RECLAIM_H
#define SERVER_RECLAIM_H

#include "server/lend.h"

/* What the machine says. */
struct srv_pressure {
	uint64_t available_bytes; /* what programs could still get without anybody suffering */
	uint64_t total_bytes;
	double some_avg10; /* PSI: percent of the last 10 s in which somebody waited for memory; <
			      0: none */
};

struct srv_reclaim_policy {
	uint64_t below_bytes;  /* less available than that: shrink */
	uint64_t target_bytes; /* to there; grow only far above it */
	unsigned some_percent; /* PSI from which on it shrinks below the target; 0: never looks */
	/* its memory */
	uint64_t calm_ns; /* since when there was no reason to shrink; 0: there is */
	uint64_t step_ns; /* when it last grew, or shrank for PSI */
};

/*
 * Slabs to lend less (positive) or more (negative) than now. What is on its way back counts as
 * available already, so nothing is asked for twice.
 */
int64_t srv_reclaim_decide(struct srv_reclaim_policy *p, const struct srv_pressure *now,
			   const struct srv_arena_state *a, uint64_t slab_bytes, uint64_t now_ns);

/* Carries it out. */
void srv_reclaim_change(struct srv_lender *l, int64_t slabs);
/* True: grants nothing more and wants all back, until it is told otherwise. */
void srv_reclaim_drain(struct srv_lender *l, bool on);
/* Wants that many back, to lend them to others; forgotten after a minute. */
void srv_reclaim_ask(struct srv_lender *l, uint32_t slabs, uint64_t now_ns);
/*
 * Chooses the slabs that are wanted. Call it about once a second while there are some, and when one
 * of the above was. Returns how many are wanted and not back yet.
 */
uint32_t srv_reclaim_tick(struct srv_lender *l, uint64_t now_ns);

/*
 * Of the borrower's slabs those that are wanted, the least active first, at most n into ret and
 * *listed; how many of them would do in *wanted.
 */
void srv_lend_wanted(struct srv_lender *l, struct srv_borrower *b, uint32_t n,
		     struct wire_slab *ret, uint32_t *listed, uint32_t *wanted);

#endif
