/* SPDX-License-Identifier: MIT */
/*
 * The page store's state machine, one for each port: no threads, no clock, no sockets. Events come
 * in (a batch, an answer, a donor's end, the time), operations for donors go out through a queue a
 * donor. Whoever drives it (port.c, a simulation, a test) hands the operations to the donors and
 * the answers back. All memory is taken at the start. docs/replication.md has the rules.
 *
 * core.c knows when a batch is done; batch.c takes it apart into runs of pages and message.c makes
 * messages of them; replica.c says whom a run is read from and written to, code.c for fragments;
 * suspect.c knows slow donors.
 *
 * A donor that misses a deadline is cut off: core_cut() names it, and only when its connection is
 * closed (core_closed()) are the batches given back, so that a late answer can't land in a buffer
 * that is the caller's again. Reads whose answer is not needed any more are cancelled for the same
 * reason: core_next_cancel().
 */
#ifndef PAGESTORE_CORE_H
#define PAGESTORE_CORE_H

#include "pagestore/map.h"
#include "pagestore/transport/transport.h"
#include <infuse/pagestore.h>

struct core_limits {
	uint32_t max_segs, max_pages; /* of one message, as the donor said */
	uint32_t minor;               /* of the protocol it speaks */
	bool instant;                 /* reads have their answer at the next poll: tp_transport */
};

struct core_options {
	struct map *map; /* shared by all cores of the volume */
	const struct core_limits *limits; /* zeros: the donor isn't there yet */
	unsigned donors, depth;
	uint64_t deadline_ns, suspect_ns;
};

/* Whose segment of a message is whose. */
struct core_ref {
	uint16_t run; /* of the slot */
	uint8_t place, frag;
};

struct core_msg {
	struct tp_op op;
	struct core_ref *ref; /* one a segment */
	struct wire_generation generation;
	uint64_t since_ns;   /* when it was queued, then when it was sent */
	uint32_t next, prev; /* in the donor's queue or its list of sent ones: tags; 0: none */
	uint16_t slot;
	uint8_t donor;
	uint8_t state;
	bool hedged;
};

/* Sets what other threads look at, for people: they load it relaxed. */
#define core_show(field, value) __atomic_store_n((field), (value), __ATOMIC_RELAXED)

struct core_donor {
	struct core_limits limits;
	bool dead;
	bool slow;                     /* suspected: reads go elsewhere */
	uint8_t probe;                 /* PROBE_*: a PING that tells whether it lives */
	uint32_t sent;                 /* messages that the donor has */
	uint32_t head, tail;           /* tags of messages not handed over yet; 0: none */
	uint32_t sent_first, sent_last; /* of those it has, oldest first */
	uint64_t heard_ns;             /* its last answer */
	uint64_t probe_ns;
	uint64_t mean_ns, high_ns;     /* how long reads take: recent mean, 99th percentile */
	struct tp_op ping;
};

/* A run of pages of one slab, until all of it is done. */
struct core_run {
	uint64_t page;
	unsigned char *buf;
	unsigned char *wire;      /* what donors see: buf, or it sealed */
	uint32_t pages;
	uint32_t generation;      /* of the set that it was last sent by */
	uint16_t sent;            /* places that have been asked or sent to */
	uint16_t good;            /* of them, those that answered well (fragments: their numbers) */
	uint16_t bad;             /* those whose bytes are to be rewritten (likewise) */
	uint8_t state, out, tries;
	bool hedged, stuck;
	bool whole;               /* fragments: all are awaited, and compared with the page */
	uint8_t fail_donor;
	int status;
};

struct core_slot {
	struct ps_batch *batch; /* NULL: free */
	uint16_t next, prev;    /* in order of deadlines */
	uint16_t msgs, segs, runs, left; /* used; left: runs that aren't done */
	uint16_t place;         /* a fill: the place */
	uint16_t sealed;        /* pages used of the slot's memory for sealed ones */
	bool hedged;            /* what has come is looked at again at the end */
	uint64_t era;
};

/* A segment on its way into a message. */
struct core_piece {
	uint64_t handle;
	uint16_t run;
	uint8_t place, frag, donor, write;
};

struct core {
	struct map *map;
	unsigned depth;
	uint64_t deadline_ns, suspect_ns, now_ns;
	uint64_t hung_ns;  /* when a slab had no member to spare last */
	uint64_t zeros;    /* ps_hash() of a page of zeros */
	bool redundant;    /* there are more members than needed */
	uint32_t per_slot; /* messages and segments of a slot */
	uint32_t max_run;  /* pages in a run: it fits a message of any donor */
	uint64_t picks;

	unsigned inflight; /* batches not given back */
	uint64_t queued;   /* bit a donor: its queue isn't empty */
	uint64_t busy;     /* bit a donor: it has messages */
	uint64_t cut;      /* bit a donor: close its connection */
	uint64_t cancel;   /* bit a donor: it has messages to be cancelled */
	uint64_t offered;  /* bit a donor: a new connection waits for the port (written by others) */
	uint64_t ending;   /* bit a donor: its messages are being ended */
	uint64_t era;      /* of the oldest batch in flight; UINT64_MAX: none (read by others) */
	struct ps_batch *done_first, *done_last;

	struct core_donor donor[PS_MAX_DONORS];
	struct core_slot *slot; /* depth + 1; 0: the ends of the list */
	uint16_t free;
	struct core_msg *msg; /* per_slot a slot */
	struct tp_seg *seg;   /* the same */
	struct core_ref *ref; /* the same */
	struct core_run *run; /* CORE_RUNS a slot */
	unsigned char *sealed; /* PS_BATCH_PAGES pages a slot, and one more; NULL: nothing is sealed */
	unsigned char *scratch; /* fragments: parities and a page, for each slot */
	size_t scratch_bytes;   /* a slot's */
	unsigned char *encode;  /* fragments: tables */
	struct core_piece *piece;
	unsigned pieces;
	struct ps_counters count;
};

/* Internal kind of batch: writes to one filling place only, hashes untouched. */
#define CORE_FILL ((enum ps_kind)2)
/* And one that reads, checks, and leaves sealed what is sealed. */
#define CORE_RAW  ((enum ps_kind)3)

/* [text] */
int core_open(struct core *c, const struct core_options *o);
void core_close(struct core *c);
/* Everything in flight is forgotten (a forked child starts anew); donors' deaths are not. */
void core_reset(struct core *c);

/* --- events in --- */

/* What time it is, for the events that follow. It never goes back: threads may be late to tell. */
static inline void core_time(struct core *c, uint64_t now_ns)
{
	if ((int64_t)(now_ns - c->now_ns) > 0)
		c->now_ns = now_ns;
}
/* How long ago that was; what was forgiven may lie ahead. */
static inline uint64_t core_since(const struct core *c, uint64_t then_ns)
{
	return (int64_t)(c->now_ns - then_ns) > 0 ? c->now_ns - then_ns : 0;
}
/* As ps_submit(). */
int core_submit(struct core *c, struct ps_batch *b, uint64_t now_ns);
/* Reads as donors hold it; for core_fill(). */
int core_read_raw(struct core *c, struct ps_batch *b, uint64_t now_ns);
/* Writes what core_read_raw() gave (all of one slab, no zeros) to its filling place only. */
int core_fill(struct core *c, struct ps_batch *b, unsigned place, uint64_t now_ns);
/* The answer to a message. -EPROTO: there is no such message; the donor should be cut off. */
int core_answer(struct core *c, unsigned donor, const struct tp_done *done);
/* The donor's connection is closed: it has failed, or it was to be cut. */
void core_closed(struct core *c, unsigned donor);
/* The donor has a new connection, or its first one. */
void core_opened(struct core *c, unsigned donor, const struct core_limits *limits);
/* Event: nobody drove the core for so long; deadlines move by it. */
void core_forgive(struct core *c, uint64_t ns);
/* Ends overdue batches, notices slow donors. */
void core_tick(struct core *c, uint64_t now_ns);

/* --- operations out --- */

/* The next message for the donor, or NULL. It stays the next until core_sent(). */
struct tp_op *core_next(struct core *c, unsigned donor);
void core_sent(struct core *c, unsigned donor);
/* A message of the donor to be cancelled, or NULL; then core_cancelled(): did it work? */
struct tp_op *core_next_cancel(struct core *c, unsigned donor);
void core_cancelled(struct core *c, struct tp_op *op, bool worked);
/* Bit a donor: close its connection, then say core_closed(). */
static inline uint64_t core_cut(const struct core *c)
{
	return c->cut;
}
/* Done batches, in order of being done; core_cut() must be empty. */
unsigned core_reap(struct core *c, struct ps_batch **done, unsigned n);
/* When the core wants core_tick(); UINT64_MAX: nothing is under way. */
uint64_t core_due(const struct core *c);

/* --- inside --- */

enum { MSG_FREE, MSG_QUEUED, MSG_SENT, MSG_CANCEL, MSG_KEEP };
enum { BATCH_RUNS = 1, BATCH_DONE };
enum { RUN_READ, RUN_WRITE, RUN_REPAIR, RUN_TELL, RUN_WAIT, RUN_DONE };
enum { PROBE_NONE, PROBE_QUEUED, PROBE_SENT };

#define PROBE_TAG(c, donor) ((uint64_t)(c)->depth * (c)->per_slot + 1 + (donor))
#define CORE_RUNS (2 * PS_BATCH_PAGES) /* a run may fall apart into its bad pages */

#define COUNT(c, field, n)                                                                         \
	__atomic_store_n(&(c)->count.field, (c)->count.field + (n), __ATOMIC_RELAXED)

static inline struct core_run *core_run_of(struct core *c, unsigned slot, unsigned run)
{
	return &c->run[(size_t)(slot - 1) * CORE_RUNS + run];
}

static inline struct core_msg *core_msg_of(struct core *c, uint64_t tag)
{
	return &c->msg[tag - 1];
}

/* Where a slot's messages and segments begin. */
static inline size_t core_slot_base(const struct core *c, unsigned slot)
{
	return (size_t)(slot - 1) * c->per_slot;
}

/* Of all slots, and a page more to look at one. */
static inline size_t core_sealed_bytes(const struct core *c)
{
	return ((size_t)c->depth * PS_BATCH_PAGES + 1) * PS_PAGE_SIZE;
}

/* May the donor be asked? One that is gone for this port, but has a new connection waiting, may. */
static inline bool core_usable(const struct core *c, unsigned donor)
{
	return !(c->redundant && map_gone(c->map) >> donor & 1) && !(c->ending >> donor & 1) &&
	       (!c->donor[donor].dead ||
		__atomic_load_n(&c->offered, __ATOMIC_ACQUIRE) >> donor & 1);
}

static inline bool core_reads(const struct ps_batch *b)
{
	return b->kind == PS_READ || b->kind == CORE_RAW;
}

/* core.c */
/* A free one for the batch. */
unsigned core_slot_take(struct core *c, struct ps_batch *b);
void core_batch_fail(struct core *c, struct ps_batch *b, int status, int donor, uint64_t page);
/* Ends the slot's batch if nothing of it is left to do. */
void core_settle(struct core *c, unsigned slot);
/* Ends each message that the donor hasn't answered. */
void core_end_messages(struct core *c, unsigned donor, uint64_t now_ns);

/* batch.c */
/* Room for n sealed pages until the batch is done, or NULL. */
unsigned char *core_sealed(struct core *c, unsigned slot, uint32_t n);
/* A new run of the slot, or NULL: no room. */
struct core_run *core_run_new(struct core *c, unsigned slot, uint64_t page, uint32_t pages,
			      void *buf, unsigned state);
/* A page as it came: is it what was written last? */
bool core_page_fits(const struct core *c, uint64_t page, const void *buf);

/* message.c */
void core_piece_add(struct core *c, unsigned run, unsigned place, unsigned frag, unsigned donor,
		    uint64_t handle, bool write);
/* Makes messages of the pieces. */
void core_pack(struct core *c, unsigned slot);
/* A message of no segments; NULL: no room. */
struct core_msg *core_msg_new(struct core *c, unsigned slot, unsigned donor, enum tp_kind kind);
void core_msg_queue(struct core *c, struct core_msg *m);
/* Out of the list it is in; it is free. */
void core_msg_unlink(struct core *c, struct core_msg *m);
/* The donor's bits of queued and busy. */
void core_msg_flags(struct core *c, unsigned donor);
void core_queue_probe(struct core *c, unsigned donor);

/* replica.c: all of them add pieces, which core_pack() then sends. */
void run_start(struct core *c, unsigned slot, unsigned run);
void run_answer(struct core *c, unsigned slot, const struct core_ref *ref, unsigned donor,
		uint64_t handle, int status);
void run_told(struct core *c, unsigned slot, const struct core_ref *ref, const struct core_msg *m,
	      int status);
/* Sends a read to one more member; false: there is none. */
bool run_read_more(struct core *c, unsigned slot, unsigned run);
/* All runs are done and nothing is under way: were buffers written to after they were checked? */
void run_recheck(struct core *c, unsigned slot, unsigned run);
void run_done(struct core *c, unsigned slot, struct core_run *r);
void run_fail(struct core *c, unsigned slot, struct core_run *r, int status, int donor);
void run_repair(struct core *c, unsigned slot, unsigned run);
bool run_is_whole(const struct core *c, unsigned slot, const struct core_run *r);
int core_pick(struct core *c, struct map_slab *s, uint64_t set, uint32_t places);

/* code.c */
int code_open(struct core *c);
void code_close(struct core *c);
void code_encode(struct core *c, unsigned slot, unsigned run);
unsigned char *code_buf(struct core *c, unsigned slot, unsigned run, unsigned frag);
void code_read_start(struct core *c, unsigned slot, unsigned run);
void code_answer(struct core *c, unsigned slot, const struct core_ref *ref, int status);
/* Done without the members that are late, if what has come is enough. */
bool code_hurry(struct core *c, unsigned slot, unsigned run);
void code_recheck(struct core *c, unsigned slot, unsigned run);

/* suspect.c */
void suspect_answer(struct core *c, struct core_msg *m, int status);
void suspect_probe_answer(struct core *c, unsigned donor);
void suspect_tick(struct core *c);
uint64_t suspect_due(const struct core *c);
/* A read of the donor was given up: is it alive? */
void suspect_given_up(struct core *c, unsigned donor);

#endif
