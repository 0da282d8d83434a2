/* SPDX-License-Identifier: MIT */
/*
 * The maintenance's state, all of it under the volume's lock: the one rebuild or move under way
 * (rebuild.c), which moves are asked for, and handles that are freed when no port can be using them
 * any more. docs/replication.md, 14 to 18.
 */
#ifndef PAGESTORE_MAINTAIN_H
#define PAGESTORE_MAINTAIN_H

#include "pagestore/volume.h"
#include "pagestore/wanted.h"

#define CHUNK_PAGES 32u
#define CHUNKS      8u
#define GRAVES      4096u

enum { CHUNK_IDLE, CHUNK_READ, CHUNK_FILL, CHUNK_WAIT };

/* A few pages on their way to the filling member. */
struct chunk {
	struct ps_batch batch;
	struct ps_vec vec[CHUNK_PAGES];
	uint64_t first;               /* the volume's page */
	uint32_t todo;                /* bit a page: to be copied still */
	uint32_t asked;               /* bit a page: in the batch under way */
	uint64_t stamp[CHUNK_PAGES];  /* what was known of it when its copying began */
	uint8_t tries[CHUNK_PAGES];   /* failures while it stood still */
	uint64_t wait_ns;
	uint8_t state;
	unsigned char *buf;
};

/* One member of one slab being made. */
struct job {
	bool used, move;
	uint64_t slab;
	unsigned place, donor, frag;
	uint64_t handle;
	int leaves; /* the place that it is for, or -1 */
	bool waits; /* it is live; the other one leaves when that is published */
	uint64_t changes; /* and that is so when this is */
	uint64_t next, end; /* pages not given to a chunk yet */
};

/* A handle that ports may be using until they have left this era. */
struct grave {
	uint64_t handle, era, changes;
	unsigned donor;
};

struct maintain {
	struct chunk chunk[CHUNKS];
	struct job job;
	unsigned char *buf;
	struct grave *grave;
	unsigned graves;
	uint8_t *from, *to;    /* by slab: a donor and one: a move that was asked for; to 0: anywhere */
	uint64_t moves;        /* asked for */
	uint64_t moving;       /* bit a donor: its members are to be moved away */
	uint64_t looked_ns;    /* when the slabs were last looked through */
	uint64_t wait_ns;      /* there was no room, or nothing to do: not before */
	uint64_t seen_dropped, seen_moves; /* what the last look knew */
	uint64_t budget_ns;    /* when what was copied so far is paid for */
	struct ask ask[PS_MAX_DONORS]; /* its thread's, without the lock */
	_Atomic uint64_t rebuilt_pages, rebuilt_slabs, moved_slabs;
};

/* rebuild.c: starts what is most urgent, if nothing is under way. */
void rebuild_choose(struct ps_volume *v, uint64_t now_ns);
/* Moves the one under way on. Returns when it wants to go on; 0: at once. */
uint64_t rebuild_step(struct ps_volume *v, uint64_t now_ns);
/* A batch of the maintenance's port is done. */
void rebuild_done(struct ps_volume *v, struct ps_batch *b, uint64_t now_ns);

/* reconnect.c: without the lock. Opens what is lost and due. Returns when the next one is. */
uint64_t reconnect(struct ps_volume *v, uint64_t now_ns);
/* With it: what ports have left is freed. */
void reconnect_collect(struct ps_volume *v);

/* maintain.c: the handle is freed at its donor when nobody can be using it. */
void maintain_bury(struct ps_volume *v, unsigned donor, uint64_t handle);
/* The place's handle that left the set but not its donor is buried; the place is free for another. */
void maintain_clean(struct ps_volume *v, struct map_slab *s);

#endif
