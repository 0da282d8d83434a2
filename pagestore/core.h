/* SPDX-License-Identifier: MIT */
/*
 * The page store's state machine, one for each port: no threads, no clock, no sockets. Events come
 * in (a batch, an answer, a donor's end, the time), operations for donors go out through a queue a
 * donor. Whoever drives it (port.c, a simulation, a test) hands the operations to the donors and
 * the answers back. All memory is taken at the start.
 *
 * A donor that misses a deadline is cut off: core_cut() names it, and only when its connection is
 * closed (core_closed()) are the batches given back, so that a late answer can't land in a buffer
 * that is the caller's again.
 */
#ifndef PAGESTORE_CORE_H
#define PAGESTORE_CORE_H

#include "pagestore/map.h"
#include "pagestore/transport/transport.h"
#include <infuse/pagestore.h>

struct core_limits {
	uint32_t max_segs, max_pages; /* of one message, as the donor said */
};

struct core_msg {
	struct tp_op op;
	uint64_t *page; /* the volume's page where each segment begins */
	uint16_t slot;
	uint32_t next; /* in the donor's queue: a tag; 0: the last */
	uint8_t donor;
	uint8_t state;
};

struct core_donor {
	struct core_limits limits;
	bool dead;
	uint32_t sent;       /* messages that the donor has */
	uint32_t head, tail; /* tags of messages not handed over yet; 0: none */
};

struct core_slot {
	struct ps_batch *batch; /* NULL: free */
	uint16_t next, prev;    /* in order of submitting, so in order of deadlines */
	uint16_t msgs;
};

struct core {
	struct map *map;
	unsigned donors, depth;
	uint64_t deadline_ns;
	uint64_t zeros; /* ps_hash() of a page of zeros */

	unsigned inflight; /* batches not given back */
	uint64_t queued;   /* bit a donor: its queue isn't empty */
	uint64_t busy;     /* bit a donor: it has messages */
	uint64_t cut;      /* bit a donor: close its connection */
	struct ps_batch *done_first, *done_last;

	struct core_donor donor[PS_MAX_DONORS];
	struct core_slot *slot; /* depth + 1; 0: the ends of the list */
	uint16_t free;
	struct core_msg *msg; /* PS_BATCH_PAGES a slot */
	struct tp_seg *seg;   /* the same */
	uint64_t *page;       /* the same */
	unsigned char *sealed; /* a page for each segment: what is written, encrypted */
	unsigned sealed_used;  /* of the batch being taken apart */
	struct core_run *run; /* PS_BATCH_PAGES: the batch being taken apart */
	unsigned runs;
	struct ps_counters count;
};

/* [text] */
int core_open(struct core *c, struct map *map, const struct core_limits *limits, unsigned donors,
	      unsigned depth, uint64_t deadline_ns);
void core_close(struct core *c);
/* Everything in flight is forgotten (a forked child starts anew); donors' deaths are not. */
void core_reset(struct core *c);

/* --- events in --- */

/* As ps_submit(). */
int core_submit(struct core *c, struct ps_batch *b, uint64_t now_ns);
/* The answer to a message. -EPROTO: there is no such message; the donor should be cut off. */
int core_answer(struct core *c, unsigned donor, const struct tp_done *done);
/* The donor's connection is closed: it has failed, or it was to be cut. */
void core_closed(struct core *c, unsigned donor);
/* Event: nobody drove the core for so long; deadlines move by it. */
void core_forgive(struct core *c, uint64_t ns);
/* Ends overdue batches. */
void core_tick(struct core *c, uint64_t now_ns);

/* --- operations out --- */

/* The next message for the donor, or NULL. It stays the next until core_sent(). */
struct tp_op *core_next(struct core *c, unsigned donor);
void core_sent(struct core *c, unsigned donor);
/* Bit a donor: close its connection, then say core_closed(). */
static inline uint64_t core_cut(const struct core *c)
{
	return c->cut;
}
/* Done batches, in order of being done; core_cut() must be empty. */
unsigned core_reap(struct core *c, struct ps_batch **done, unsigned n);
/* When the first batch is overdue; UINT64_MAX: none under way. */
uint64_t core_due(const struct core *c);

#endif
