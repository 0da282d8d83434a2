/* SPDX-License-Identifier: MIT */
/*
 * Who has borrowed what: borrowers, their slabs, and every operation on them. Knows nothing of
 * sockets or messages. All calls may come from any thread at any time.
 *
 * Locks, in this order: a borrower's landing (srv_lend_begin()), the table's (borrowers by id, their
 * sessions and users), one borrower's (its list of slabs and all fields of these slabs), a buffer's,
 * the arena's or the slots'. The table's and a borrower's are never held together; two borrowers'
 * neither, and a thread has one landing at most.
 *
 * A slab's `owner` is the one field that others read: a slab is looked at only by whom it belongs
 * to, and its owner can change only under the lock of that very borrower. So who has his own lock
 * and reads himself there may use the rest.
 *
 * Operations return enum wire_error: 0, or why not; then nothing was changed.
 */
#ifndef SERVER_LEND_H
#define SERVER_LEND_H

#include <infuse/wire.h>
#include "server/buffer.h"
#include "server/gate.h"
#include "server/token.h"

struct srv_lender;
struct srv_borrower;
struct srv_flow;

/* One thread's; summed up by STAT. */
struct srv_counters {
	_Alignas(64) atomic_uint_fast64_t requests;
	atomic_uint_fast64_t errors, pages_read, pages_written, refused;
	atomic_uint_fast64_t denied; /* of those refused: for want of the right key */
};

struct srv_lender_options {
	struct srv_arena_options arena;
	const char *name, *domain;
	unsigned threads;
	uint64_t now_ns;
	/* Called, without locks, when a borrower has no session any more: a grace begins. */
	void (*changed)(void *);
	void *changed_arg;
};

/* A piece of memory that a request works in. buf: pinned; NULL: mem is the request's own copy. */
struct srv_run {
	uint8_t *mem;
	size_t bytes;
	struct srv_buffer *buf;
};

/* [text] */
int srv_lender_open(const struct srv_lender_options *o, struct srv_lender **ret);
/* No session may be left. Takes NULL. */
void srv_lender_close(struct srv_lender *l);

/* i < options.threads */
struct srv_counters *srv_lender_counters(struct srv_lender *l, unsigned i);
/* Who may open sessions; NULL: everybody. Before the first session. */
void srv_lender_set_gate(struct srv_lender *l, struct srv_gate *gate);
struct srv_gate *srv_lender_gate(struct srv_lender *l);
struct srv_tokens *srv_lender_tokens(struct srv_lender *l);
struct srv_arena *srv_lender_arena(struct srv_lender *l);
/* How many slabs a borrower of this name may hold. */
struct srv_quota {
	char name[WIRE_NAME_BYTES];
	uint32_t slabs;
};

/* For all who are there and come; list is copied. otherwise: UINT32_MAX is no limit. [text] */
int srv_lender_set_quotas(struct srv_lender *l, const struct srv_quota *list, unsigned n,
			  uint32_t otherwise);
void srv_lender_set_grace(struct srv_lender *l, uint64_t grace_ns);
/* From now on nothing is granted. */
void srv_lender_drain(struct srv_lender *l);
/* Sessions of any kind, for STAT: +1 and -1. */
void srv_lender_sessions(struct srv_lender *l, int change);
void srv_lender_welcome(struct srv_lender *l, struct wire_welcome *ret);

/* Who says hello. */
struct srv_hello {
	const uint8_t *id, *name; /* 16 and WIRE_NAME_BYTES bytes */
	uint32_t pid;
	uint64_t epoch; /* of the writer; lower ones are locked out from now on */
	bool transient; /* when the last session ends because it hung up, there is no grace */
};

/*
 * A session begins and ends. EEPOCH: there is a newer writer. A new writer gets copies of the slabs
 * that an older one may have mapped; EINTERNAL: no memory for that, or for the session; EBUSY: such a
 * slab is still being read, and there is no room beside it; come again.
 */
uint32_t srv_lend_attach(struct srv_lender *l, const struct srv_hello *h,
			 struct srv_borrower **ret);
void srv_lend_detach(struct srv_lender *l, struct srv_borrower *b, bool hung_up, uint64_t now_ns);
/* What thread i keeps about a borrower it has a session of; NULL at first. No other thread looks.
 */
struct srv_flow **srv_lend_seat(struct srv_borrower *b, unsigned i);
/* Its 128 bits. */
const uint8_t *srv_lend_id(const struct srv_borrower *b);
void srv_lend_touch(struct srv_borrower *b, uint64_t now_ns);
void srv_lend_count(struct srv_borrower *b, uint64_t pages_read, uint64_t pages_written);

/*
 * What a session of this epoch does to a borrower stands between these two. False: a newer writer
 * has taken over, and nothing may be done. Never held over a wait for the peer.
 */
bool srv_lend_begin(struct srv_borrower *b, uint64_t epoch);
void srv_lend_end(struct srv_borrower *b);

/* Handles and segments are as they came: little-endian, unaligned, unchecked. */
uint32_t srv_lend_grant(struct srv_lender *l, struct srv_borrower *b, uint32_t n,
			struct wire_slab *ret);
uint32_t srv_lend_free(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		       uint32_t n);
uint32_t srv_lend_clone(struct srv_lender *l, struct srv_borrower *b, const struct wire_clone *to,
			const uint8_t *slabs, uint32_t n, uint64_t now_ns, struct wire_slab *ret);
/* The buffers come pinned; from now on they are copied, never shared, and never lent again. */
uint32_t srv_lend_map(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		      uint32_t n, struct srv_buffer **ret);
/* The word that tells of a newer writer, as a buffer that comes pinned. */
uint32_t srv_lend_fence(struct srv_lender *l, struct srv_borrower *b, struct srv_buffer **ret);
/* The slabs' buffers, pinned, each the slab's own: for keys to them (srv_buffer_expose()). */
uint32_t srv_lend_pin(struct srv_lender *l, struct srv_borrower *b, const uint8_t *slabs,
		      uint32_t n, struct srv_buffer **ret);
/*
 * The memory of n segments (wire_seg or wire_part: their unit in bytes), one run each. Reading may
 * hand out copies; for writing the slabs are made the borrower's own first.
 */
uint32_t srv_lend_runs(struct srv_lender *l, struct srv_borrower *b, const uint8_t *segs,
		       uint32_t n, uint32_t unit, bool write, struct srv_run *ret);
/* items: n wire_generation as they came; ret: the same with what holds now. */
uint32_t srv_lend_generations(struct srv_lender *l, struct srv_borrower *b, const uint8_t *items,
			      uint32_t n, struct wire_generation *ret);
void srv_lend_runs_end(struct srv_run *runs, uint32_t n);
/* Frees all it holds. */
void srv_lend_goodbye(struct srv_lender *l, struct srv_borrower *b);

/*
 * Frees what borrowers without sessions held whose grace is over (all of them: at once). Returns
 * when the next one's ends, or UINT64_MAX.
 */
uint64_t srv_lend_reap(struct srv_lender *l, uint64_t now_ns, bool all);
/* Borrowers now, and how many there ever were. */
unsigned srv_lend_borrowers(struct srv_lender *l, uint64_t *ever);

/* ret takes at most n; returns how many. */
void srv_lend_stat(struct srv_lender *l, uint64_t now_ns, struct wire_stat *ret);
uint32_t srv_lend_stat_borrowers(struct srv_lender *l, uint64_t now_ns, struct wire_borrower *ret,
				 uint32_t n);

#endif
