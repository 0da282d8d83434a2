/* SPDX-License-Identifier: MIT */
/* The structs behind lend.h, for lend.c (slabs) and borrower.c (the table of borrowers) only. */
#ifndef SERVER_LEND_TABLE_H
#define SERVER_LEND_TABLE_H

#include "server/lend.h"

#define SRV_BUCKETS 4096u

struct srv_slab {
	_Atomic(struct srv_borrower *) owner;
	/* the rest: under the owner's lock */
	uint64_t handle;
	struct srv_buffer *buf;
	struct srv_slab *next, *prev; /* the owner's list, or the free slots' */
	uint32_t generation; /* of the slot: half of the handle */
	uint64_t set_generation; /* of the replica set that the slab is in, as its borrower says */
	bool marked; /* named once already in the FREE under way */
	bool wanted; /* the donor would like it back */
	uint32_t heat, heat_tick; /* requests, halved with each tick since the last */
};

struct srv_borrower {
	uint8_t id[16];
	/* under the table's lock */
	uint8_t name[WIRE_NAME_BYTES];
	uint32_t pid;
	unsigned sessions;
	unsigned users; /* sessions, and operations that are about to add slabs */
	uint64_t gone_ns;
	bool transient; /* has no grace when it hangs up */
	bool over;      /* and did */
	struct srv_borrower *next;
	/*
	 * Held for reading while a session changes anything for it (bounded, never over a wait for
	 * the peer), for writing while a newer writer takes over.
	 */
	pthread_rwlock_t landing;
	_Atomic uint64_t epoch; /* of its newest writer */
	struct srv_buffer *fence; /* the same in memory that writers map; NULL: nobody has asked */
	/* its own */
	pthread_mutex_t lock;
	struct srv_slab *slabs;
	uint32_t wanted;   /* how many of those that are wanted would do */
	uint32_t promised; /* slabs that a GRANT or CLONE is about to add */
	atomic_uint count;
	atomic_uint quota; /* in slabs */
	atomic_uint_fast64_t pages_read, pages_written, last_ns;
	/* each its thread's */
	struct srv_flow *seat[];
};

struct srv_lender {
	struct srv_arena *arena;
	uint32_t slab_pages;
	uint8_t name[WIRE_NAME_BYTES], domain[WIRE_NAME_BYTES], boot[16];
	uint64_t started_ns;
	void (*changed)(void *);
	void *changed_arg;
	unsigned threads;
	struct srv_counters *counters;
	struct srv_tokens *tokens;
	struct srv_gate *gate;
	atomic_bool draining;
	atomic_uint sessions;
	_Atomic uint64_t grace_ns;
	/* memory that is wanted back */
	atomic_uint tick;     /* of srv_slab.heat */
	atomic_bool emptying; /* all of it, and nothing is granted */
	atomic_uint ask;      /* so many, */
	_Atomic uint64_t ask_until_ns;
	atomic_uint wanting;  /* at the last tick */
	/* under the table's lock */
	struct srv_quota *quotas;
	unsigned quotas_count;
	uint32_t quota; /* of those who have none of their own */

	struct srv_slab *slots;
	pthread_mutex_t slots_lock;
	struct srv_slab *free_slots;

	pthread_mutex_t table;
	struct srv_borrower **bucket;
	uint64_t bucket_key; /* ids are the borrowers' choice; where they land is not */
	unsigned borrowers;
	uint64_t borrowers_ever;
};

/* Finds or makes the borrower, with one more user. NULL: no memory. */
struct srv_borrower *srv_borrower_get(struct srv_lender *l, const uint8_t id[16],
				      const uint8_t name[WIRE_NAME_BYTES]);
void srv_borrower_put(struct srv_lender *l, struct srv_borrower *b, uint64_t now_ns);

/* lend.c, lend_wanted.c; b's lock is held. NULL: not a slab of this borrower. */
struct srv_slab *srv_slab_find(struct srv_lender *l, const struct srv_borrower *b, uint64_t handle);
/* A request works in it. */
void srv_slab_touch(struct srv_lender *l, struct srv_slab *s);

/* lend.c: exchanges what an older writer may have mapped for copies. b's landing is held for writing. */
uint32_t srv_lend_renew(struct srv_lender *l, struct srv_borrower *b);

#endif
