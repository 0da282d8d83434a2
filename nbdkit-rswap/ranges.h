/* SPDX-License-Identifier: MIT */
/*
 * Who is at work on which pages. The page store wants no two requests on one page in flight, and a
 * write of part of a page is a read and a write that nobody may come between. A request takes all
 * its pages at once, in order of arrival: no deadlock, no starving. A range lives on its owner's
 * stack; nothing is allocated.
 */
#ifndef NBDKIT_RSWAP_RANGES_H
#define NBDKIT_RSWAP_RANGES_H

#include <pthread.h>
#include <stdint.h>
#include <sys/queue.h>

struct range {
	uint64_t first, last; /* pages; both included */
	uint32_t ahead;       /* overlapping ranges that came before and are not done; a futex */
	TAILQ_ENTRY(range) link;
};

struct ranges {
	pthread_mutex_t lock; /* held for a walk over the list, never over I/O */
	TAILQ_HEAD(, range) list;
};

void ranges_init(struct ranges *all);

/* Blocks until nobody else is at work on these pages: as long as their requests take. */
void range_take(struct ranges *all, struct range *r, uint64_t first, uint64_t last);
void range_drop(struct ranges *all, struct range *r);

#endif
