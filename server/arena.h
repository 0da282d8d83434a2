/* SPDX-License-Identifier: MIT */
/*
 * The memory that is lent: equal buffers of a slab's size, each a sealed memfd of its own, so that
 * one can be handed to a borrower without opening any other. Buffers are counted twice: as room
 * (what may still be promised) and as memory (what a slab uses now), because clones share memory
 * but hold room for the day they no longer can.
 */
#ifndef SERVER_ARENA_H
#define SERVER_ARENA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct srv_arena;
struct srv_exposure;

/*
 * refs is 1 for being held by slabs (however many) and 1 for each request that works in it; who
 * takes it to 0 gives the buffer back. The rules of sharing are in buffer.h.
 */
struct srv_buffer {
	struct srv_arena *arena;
	uint8_t *mem; /* NULL: not backed yet (lazy), or lost and to be made again */
	int fd;
	atomic_uint refs;
	atomic_bool shared;   /* several slabs may hold it */
	unsigned holders;     /* slabs, while shared; under lock */
	bool exported;        /* a borrower may have it mapped; under its borrower's lock */
	bool dropped;         /* no slab holds it any more; under lock */
	struct srv_exposure *exposed; /* keys to it that RDMA devices know; under lock */
	bool clean;           /* all zeros; under the arena's lock, or by whom it was taken */
	pthread_mutex_t lock; /* after a borrower's lock, before the arena's */
	struct srv_buffer *next;
};

struct srv_arena_options {
	uint64_t slab_bytes;
	uint32_t slabs;
	bool hugepages;
	unsigned fill_threads; /* to fault a large arena in; 0: one */
	bool lazy;             /* neither pre-faulted nor locked; free buffers use no memory */
};

/* [text] Blocks while it faults everything in. Starts the thread that wipes freed buffers. */
int srv_arena_open(const struct srv_arena_options *o, struct srv_arena **ret);
/* Every buffer must be back. Takes NULL. */
void srv_arena_close(struct srv_arena *a);

/* Sets room for n slabs aside, or false. */
bool srv_arena_reserve(struct srv_arena *a, uint32_t n);
void srv_arena_unreserve(struct srv_arena *a, uint32_t n);

/*
 * A buffer with refs 1 for a reservation that the caller has. NULL only when the kernel has no
 * memory left. Without zeroed its contents are anything: overwrite all of it.
 */
struct srv_buffer *srv_arena_take(struct srv_arena *a, bool zeroed);
/* The buffer and its reservation go back; wiped in the background. */
void srv_arena_give(struct srv_buffer *b);

/*
 * A page of its own, no slab's, with a reference that only srv_arena_page_free() takes. NULL: no
 * memory.
 */
struct srv_buffer *srv_arena_page(struct srv_arena *a);
void srv_arena_page_free(struct srv_buffer *b); /* takes NULL */

/* Fresh memory with the same contents, for a buffer that is exported. -ENOMEM: it is as it was. */
int srv_arena_renew(struct srv_buffer *b);

/*
 * Zeroes a run of bytes (multiples of a page); in a lazy arena the memory goes back, unless a device
 * has it: it would go on with pages that are no longer the slab's. The caller has it pinned.
 */
void srv_arena_clear(struct srv_buffer *b, uint64_t at, uint64_t bytes);

/*
 * Lends n buffers less: free ones at once, the rest as they come back. Their memory goes back to the
 * system in the background. Asking for more than there is takes all. grow: n buffers more than now, as
 * far as there are some that were taken away; those that are still out are forgiven first.
 */
void srv_arena_shrink(struct srv_arena *a, uint32_t n);
void srv_arena_grow(struct srv_arena *a, uint32_t n);

/* Buffers, in all of its states: total = lent + room + away. */
struct srv_arena_state {
	uint32_t total;
	uint32_t room; /* may still be promised */
	uint32_t owed; /* lent, and to be taken away when they come back */
	uint32_t away; /* not lent any more; parked of them have no memory now */
	uint32_t parked;
};
void srv_arena_state(struct srv_arena *a, struct srv_arena_state *ret);

uint32_t srv_arena_room(struct srv_arena *a);
uint32_t srv_arena_total(const struct srv_arena *a);
uint64_t srv_arena_slab_bytes(const struct srv_arena *a);
bool srv_arena_hugepages(const struct srv_arena *a);

#endif
