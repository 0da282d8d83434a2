/* SPDX-License-Identifier: MIT */
/*
 * Answers on their way out: a list of pieces that sendmsg(2) takes as it is. Pages are not copied:
 * a piece is slab memory, pinned until it is sent. A thread has one for the session it is serving;
 * only a session whose peer does not keep up holds on to its own.
 */
#ifndef SERVER_OUT_H
#define SERVER_OUT_H

#include <infuse/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include "server/lend.h"

#define SRV_OUT_HEADS 256u
#define SRV_OUT_PARTS 1024u          /* what one sendmsg takes */
#define SRV_OUT_BYTES (1024u * 1024) /* the limit at first */

struct srv_out {
	unsigned heads;
	unsigned first, count; /* pieces [first, count) are unsent */
	size_t bytes;          /* in them */
	size_t limit;          /* no new request begins beyond that many */
	unsigned fds_at;       /* the piece that the descriptors go with */
	unsigned fds;          /* 0: none */
	struct iovec iov[SRV_OUT_PARTS];
	struct {
		struct srv_buffer *buf; /* unpinned when the piece is sent */
		void *copy;             /* freed then */
	} keep[SRV_OUT_PARTS];
	struct srv_buffer *fd_buf[WIRE_MAX_FDS];
	struct wire_header head[SRV_OUT_HEADS];
};

/* NULL: no memory. */
struct srv_out *srv_out_create(void);
/* Drops what was not sent. */
void srv_out_clear(struct srv_out *o);
/* Takes NULL. */
void srv_out_free(struct srv_out *o);

/* Is there room for the largest answer? */
bool srv_out_has_room(const struct srv_out *o);
bool srv_out_empty(const struct srv_out *o);

/* Begins an answer with `bytes` of body, to be added next. */
void srv_out_head(struct srv_out *o, const struct wire_header *request, uint32_t status,
		  uint32_t count, size_t bytes);
/* Takes over body, which malloc() made. */
void srv_out_body(struct srv_out *o, void *body, size_t bytes);
/* Takes over the runs' pins and copies. */
void srv_out_runs(struct srv_out *o, const struct srv_run *runs, uint32_t n);
/* The answer begun last carries the pinned buffers' descriptors; takes over the pins. */
void srv_out_fds(struct srv_out *o, struct srv_buffer *const *bufs, uint32_t n);

/*
 * The pieces for the next sendmsg, at most up to the next one that carries descriptors. *fds: how
 * many descriptors (fd_buf[].fd) go with the first byte.
 */
struct iovec *srv_out_next(struct srv_out *o, unsigned *count, unsigned *fds);
/* n bytes of what srv_out_next() gave were sent. */
void srv_out_sent(struct srv_out *o, size_t n);

#endif
