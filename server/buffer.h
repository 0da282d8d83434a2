/* SPDX-License-Identifier: MIT */
/*
 * How slabs share a buffer after CLONE, and how requests work in one while it may be freed.
 *
 * - A request pins the buffer (refs) and works in it without a lock. FREE drops the slab's own
 *   reference only; the memory is lent again when the last request is done with it.
 * - A shared buffer is never pinned: reads copy its pages out under its lock, writes first get a
 *   buffer of their own. So no request of one borrower ever looks at memory that another one
 *   writes. Clones of a buffer that is pinned or exported are copies at once for the same reason.
 * - A buffer becomes shared only under the lock of its only holder's borrower. Who has the lock of
 *   its slab's borrower and sees `shared` false may therefore rely on it.
 *
 * What one borrower does at once to one page (two writes, a write and a clone) is its own affair:
 * it gets either's bytes. Different borrowers never meet in a buffer without its lock.
 *
 * Every slab has a reservation of its own (also clones that share), so a copy always finds memory:
 * reservations = slabs + freed buffers still pinned; buffers in use are never more.
 *
 * "held" below: the caller has the lock of the borrower whose slab holds the buffer.
 */
#ifndef SERVER_BUFFER_H
#define SERVER_BUFFER_H

#include "server/arena.h"

/*
 * A key by which a device lets a borrower at the buffer (RDMA). Embedded in its maker's struct, which
 * has a list of its own (a connection's, say). Whoever takes it out of the buffer ends it: the maker
 * (srv_buffer_conceal() is true), or the buffer when its slab lets go of it, by calling end(). After
 * that no access is possible, and the memory may be lent again.
 */
struct srv_exposure {
	struct srv_buffer *buf;
	struct srv_exposure *next, *prev; /* the buffer's; under its lock */
	bool taken;                       /* by the buffer: end() is being called */
	void (*end)(struct srv_exposure *e);
};

/* The caller has a pin. An exposed buffer is never shared. False: no slab has it any more. */
bool srv_buffer_expose(struct srv_buffer *b, struct srv_exposure *e);
/* False: somebody is about to call its end(). The caller's own lock keeps e alive until then. */
bool srv_buffer_conceal(struct srv_exposure *e);
/* Ends all keys to it. */
void srv_buffer_conceal_all(struct srv_buffer *b);
bool srv_buffer_is_exposed(struct srv_buffer *b);

/* held. Makes the buffer the slab's own, copying it if others share it; then pins it. -ENOMEM. */
int srv_buffer_pin_own(struct srv_buffer **slab_buffer);
/*
 * held. Pins it for reading and returns true; or, when it is shared, copies [at, at + bytes) to
 * freshly allocated memory (*copy, NULL if there is none) and returns false.
 */
bool srv_buffer_pin_read(struct srv_buffer *b, uint64_t at, uint64_t bytes, void **copy);
/* Any thread, no lock needed. */
void srv_buffer_unpin(struct srv_buffer *b);
/* held. One more slab holds it; false: it must be copied instead. */
bool srv_buffer_share(struct srv_buffer *b);
/* A plain pin of a buffer that is not shared. held. */
void srv_buffer_pin(struct srv_buffer *b);
/*
 * held. The same contents in memory that nobody outside has mapped, when somebody may have this. With
 * requests at work in it that takes a reservation. -ENOMEM, -ENOSPC: it is as it was.
 */
int srv_buffer_renew(struct srv_buffer **slab_buffer);
/* A slab lets go of it, with its reservation. The slab is no longer reachable. */
void srv_buffer_drop(struct srv_buffer *b);

#endif
