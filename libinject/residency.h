/* SPDX-License-Identifier: MIT */
/*
 * Which local pages to give up next. There are no accessed bits in user space: what is known is
 * when a page was fetched and why, when it was given up, and whether it was wanted again soon
 * after. It knows no heap and no page states, so a replay of a trace runs the same code.
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

#define RESIDENCY_QUEUES 14u
#define RESIDENCY_CHUNK  31u

/* Entries of a queue: 8 bytes each. */
struct residency_chunk {
	struct {
		uint32_t page, time;
	} entry[RESIDENCY_CHUNK];
	uint32_t next;
	uint32_t unused;
};

struct residency_queue {
	uint32_t first, last; /* chunks, 0: none */
	uint32_t from, to;    /* next entry to come out of the first, to go into the last */
};

/* Pages that are judged by one rule. */
struct residency_set {
	struct residency_queue queue[RESIDENCY_QUEUES];
	uint32_t count; /* local pages: not the stale entries */
};

enum residency_rule {
	RESIDENCY_BY_AGE,
	RESIDENCY_BY_ABSENCE,
	RESIDENCY_BY_WINNER,
	RESIDENCY_LATER, /* could not be taken: all in one queue, and not looked at for a while */
	RESIDENCY_RULES,
};

struct residency {
	struct lock lock;
	uint16_t *meta;                /* by page, see residency.c */
	struct residency_chunk *chunk; /* number 0 is not used */
	uint32_t pages;
	uint32_t chunks, free_chunk; /* used so far; a list of those used before */
	uint32_t chunks_max;
	uint32_t limit;        /* pages that may be local, as last told */
	uint32_t time;         /* pages that came */
	uint32_t tick;         /* log2 of the unit of times in meta */
	uint32_t block;        /* log2 of the pages that share a rule */
	uint32_t count, stale; /* entries that are pages; that are not any more */
	uint32_t swept;
	int32_t score;     /* > 0: judging by absence brings fewer fetches */
	uint32_t run;      /* so many may still follow the last victim */
	uint32_t run_page; /* that was this one, if they are its neighbours */
	unsigned run_set, run_queue;
	struct residency_set set[RESIDENCY_RULES];
};

int residency_init(struct residency *r, uint32_t pages);
void residency_free(struct residency *r); /* takes a zeroed one */
/* How many pages may be local: what "soon" and "recent" mean is measured by it. May be
 * called before residency_init(). */
void residency_limit(struct residency *r, uint64_t pages);
/* They are local now. */
void residency_add(struct residency *r, const uint32_t *page, unsigned count,
		   enum residency_why why);
/* The next victims, at most so many; they are not in the queue any more. */
unsigned residency_pick(struct residency *r, uint32_t *page, unsigned most);
/* The pages [page, page + count) were freed or discarded: no victims, and no history. */
void residency_forget(struct residency *r, uint32_t page, uint32_t count);

#endif
