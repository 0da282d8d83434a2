/* SPDX-License-Identifier: MIT */
/*
 * Which local pages to give up next. There are no accessed bits in user space: what is known is when
 * a page was fetched and why, when it was given up, and whether it was wanted again soon after. It
 * knows no heap and no page states, so a replay of a trace runs the same code.
 *
 * Pages are numbers below the count given to residency_init(). Calls lock, never block for long,
 * allocate nothing.
 */
#ifndef LIBINJECT_RESIDENCY_H
#define LIBINJECT_RESIDENCY_H

#include "libinject/lock.h"

#include <stdint.h>

enum residency_why {
	RESIDENCY_DEMAND, /* a fault wanted it */
	RESIDENCY_AHEAD,  /* it was fetched before anybody wanted it */
	RESIDENCY_BACK,   /* wanted again while it waited to be written back */
	RESIDENCY_KEPT,   /* was picked, but could not be taken: pinned, or in use by the kernel */
};

struct residency {
	struct lock lock;
	unsigned char *meta; /* a byte a page */
	uint32_t *ring;
	uint32_t pages;
	uint32_t cap, cap_max; /* powers of two */
	uint32_t head, count;
	uint32_t limit; /* pages that may be local, as last told */
};

int residency_init(struct residency *r, uint32_t pages);
void residency_free(struct residency *r); /* takes a zeroed one */
/* How many pages may be local: what "soon" and "recent" mean is measured by it. */
void residency_limit(struct residency *r, uint64_t pages);
/* They are local now. */
void residency_add(struct residency *r, const uint32_t *page, unsigned count, enum residency_why why);
/* The next victims, at most so many; they are not in the queue any more. */
unsigned residency_pick(struct residency *r, uint32_t *page, unsigned most);
/* The pages [page, page + count) were freed or discarded: no victims, and no history. */
void residency_forget(struct residency *r, uint32_t page, uint32_t count);

#endif
