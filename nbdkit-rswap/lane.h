/* SPDX-License-Identifier: MIT */
/*
 * A lane: one port of the page store, driven by the threads that wait for it. A thread that finds
 * the lane free drives it itself: it sends its pages, looks for the answer for a short while, then
 * sleeps on the sockets, so that one request alone costs no other thread a wake-up. Whoever comes
 * while it is driven leaves the pages on a stack; the driver makes one batch of all it finds there.
 * At most one thread sleeps on the sockets (the keeper), the others on their own words; a driver
 * that leaves names a new keeper if pages are still under way.
 */
#ifndef NBDKIT_RSWAP_LANE_H
#define NBDKIT_RSWAP_LANE_H

#include <infuse/pagestore.h>
#include <pthread.h>
#include <stdbool.h>

#define LANE_DEPTH 8u /* batches in flight on a lane; ps_options.depth of its volume */

/* A run of pages to be read or written. On its owner's stack. */
struct lane_op {
	enum ps_kind kind;
	uint64_t page;
	uint32_t count; /* 1..PS_BATCH_PAGES */
	void *buf;

	/* the answer, as ps_batch's */
	int status;
	int donor;
	uint64_t failed;

	/* the lane's */
	uint32_t state; /* a futex */
	bool alone;     /* it was in a batch that failed: find out whose fault it was */
	struct lane_op *next;
};

struct lane_tray; /* a batch and whose pages it carries */

struct lane {
	pthread_mutex_t lock; /* whoever has it drives the port and owns all but `load` and `in` */
	struct ps_port *port;
	uint64_t spin_ns;
	uint32_t load;                    /* ops in the lane; without the lock */
	struct lane_op *in;               /* a stack of arrivals; pushed to without the lock */
	struct lane_op *first, **last;    /* taken from it, not submitted yet */
	struct lane_op *keeper;           /* its owner looks after the lane when nobody drives it */
	bool asleep;                      /* the keeper is in ppoll */
	int kick;                         /* an eventfd: wakes the keeper */
	struct ps_wait *wait;             /* what the keeper sleeps on */
	struct ps_wait *want;             /* room to compare with */
	struct lane_tray *tray, *free;
};

/* Memory is taken here and never again. [text] */
int lane_open(struct lane *l, struct ps_port *port, uint64_t spin_ns);
void lane_close(struct lane *l);

/*
 * Blocks until the pages are there or the page store gave up on them; bounded by its deadline. The
 * caller owns the pages (ranges.h).
 */
void lane_run(struct lane *l, struct lane_op *op);

#endif
