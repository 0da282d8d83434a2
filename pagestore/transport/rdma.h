/* SPDX-License-Identifier: MIT */
/*
 * What is common to the files of the rdma transport: its connection struct. A connection has an
 * ibv_context, a protection domain and a queue pair of its own, so that a forked child can open
 * others without touching its parent's, and pages go through a pool that is registered once: frames
 * of a heap can't be (pinned pages don't MOVE), and a late DMA lands in the pool, never with a
 * caller.
 *
 * The queue pair's send queue completes in order, so the pool is taken and given back as a ring, and
 * what is under way is a queue (`sent`).
 */
#ifndef PAGESTORE_TRANSPORT_RDMA_H
#define PAGESTORE_TRANSPORT_RDMA_H

#include "pagestore/transport/transport.h"

#include <infiniband/verbs.h>

#define RDMA_POOL_PAGES 512u /* of a connection: 2 MiB; four of the longest ops */
#define RDMA_OP_PAGES   128u /* pages and segments of an op: what the core is told */
#define RDMA_OP_WRS     (RDMA_OP_PAGES + 1) /* one segment may wrap around the pool's end */
#define RDMA_SECTORS    (RDMA_POOL_PAGES * (WIRE_PAGE_SIZE / WIRE_SECTOR)) /* the pool's unit */
#define RDMA_OP_SECTORS (RDMA_OP_PAGES * (WIRE_PAGE_SIZE / WIRE_SECTOR))
#define RDMA_MAX_OPS    64u
#define RDMA_RECVS      16u /* answers, and as many notices */
#define RDMA_CONTROLS   WIRE_RDMA_CONTROLS
#define RDMA_ASK        (RDMA_CONTROLS - 1) /* the control slot that asks for keys */
#define RDMA_SENDS      (RDMA_MAX_OPS + RDMA_CONTROLS)

struct rdma_cm_id;
struct rdma_event_channel;

/* A slab as the donor's RKEYS told it. handle 0: none. */
struct rdma_key {
	uint64_t handle, addr, bytes;
	uint32_t rkey;
};

/* Posted to the send queue. */
struct rdma_sent {
	struct tp_op *op; /* pages; NULL: nobody wants them any more, or it is a message */
	uint32_t wrs;
	uint32_t sectors; /* of the pool, from its oldest on; 0: it is a message */
	uint32_t control; /* the message's slot */
};

struct rdma_control {
	struct tp_op *op; /* waits for an answer; NULL: free, or it is RDMA_ASK */
	uint32_t generation;
	bool waits;   /* an answer is to come */
	bool sending; /* its message's memory is in use */
};

struct rdma {
	struct tp_conn base;
	bool up;
	int error;
	uint32_t slab_pages;
	uint64_t epoch; /* the hello's; said in every message */

	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	int epoll_fd;           /* the channel's descriptor and the events' */
	uint32_t events_read;   /* completion events, to be acknowledged at the end */
	uint64_t looked_ns;     /* when the connection's end was looked for */
	unsigned char *memory;  /* the pool, RDMA_RECVS messages in, RDMA_CONTROLS messages out */

	uint32_t sq_free;                 /* work requests that the send queue takes */
	uint32_t pool_first, pool_used;   /* sectors */
	struct rdma_sent sent[RDMA_SENDS];
	uint32_t sent_first, sent_count;
	struct rdma_control control[RDMA_CONTROLS];
	struct tp_op *parked[RDMA_MAX_OPS]; /* wait for keys */
	uint32_t parked_first, parked_count;
	uint32_t tries;                     /* of the first one parked */
	uint32_t inflight;                  /* ops, parked ones too */
	uint64_t asked[WIRE_MAX_KEYS];      /* handles that RDMA_ASK is about */
	uint32_t asked_count;
	const struct tp_op *asked_for;      /* compared only */
	struct rdma_key *keys;              /* RDMA_KEYS of them */

	struct tp_done done[RDMA_SENDS];    /* a ring */
	uint32_t done_first, done_count;

	struct ibv_send_wr wr[RDMA_OP_WRS];
	struct ibv_sge sge[RDMA_OP_WRS];
};

static inline struct rdma *rdma_of(struct tp_conn *c)
{
	return (struct rdma *)(void *)c;
}

#define RDMA_MEMORY_BYTES                                                                          \
	((size_t)RDMA_POOL_PAGES * WIRE_PAGE_SIZE +                                                \
	 (size_t)(RDMA_RECVS + RDMA_CONTROLS) * WIRE_RDMA_BYTES)

static inline unsigned char *rdma_message_in(const struct rdma *r, uint32_t i)
{
	return r->memory + (size_t)RDMA_POOL_PAGES * WIRE_PAGE_SIZE + (size_t)i * WIRE_RDMA_BYTES;
}

static inline unsigned char *rdma_message_out(const struct rdma *r, uint32_t control)
{
	return rdma_message_in(r, RDMA_RECVS + control);
}

/* The connection is dead; poll says so after what is done. Returns err. */
int rdma_die(struct rdma *r, int err);
void rdma_finish(struct rdma *r, struct tp_op *op, int status, uint32_t wire);

/* rdma_open.c: [text] All that is made at open; undone by rdma_end(). */
int rdma_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns);
/* Destroys the queue pair before anything else: nothing lands in the pool any more. */
void rdma_end(struct rdma *r);
int rdma_post_recv(struct rdma *r, uint32_t i);

/* rdma_control.c: control messages and their answers. */
void rdma_control_init(struct rdma *r);
/* -EAGAIN: no slot is free. */
int rdma_control_send(struct rdma *r, struct tp_op *op);
/* Asks for the keys of what the first parked op wants. */
int rdma_control_ask(struct rdma *r);
/* A message has come in. */
int rdma_control_take(struct rdma *r, const unsigned char *p, size_t n);

/* rdma_keys.c: the keys this connection knows. A cache: what was lost is asked for again. */
#define RDMA_KEYS (1u << 16)
const struct rdma_key *rdma_keys_find(const struct rdma *r, uint64_t handle);
void rdma_keys_put(struct rdma *r, const struct rdma_key *key);

/* rdma_data.c: pages in and out. */
int rdma_data_submit(struct rdma *r, struct tp_op *op);
/* Posts what had to wait for keys, or asks for them. */
int rdma_data_resume(struct rdma *r);
/* Forgets a READ: 0 or -EBUSY. */
int rdma_data_cancel(struct rdma *r, struct tp_op *op);
/* The donor has no keys for the first op parked. */
void rdma_data_refused(struct rdma *r, uint32_t wire);
/* The oldest of `sent` is done. */
void rdma_data_done(struct rdma *r);

#endif
