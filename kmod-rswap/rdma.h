/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the two files of the rdma transport share: rdma.c moves pages, rdma_conn.c connects and
 * carries control messages (the hello, RKEYS, TRIM).
 *
 * The send queue completes in order, so of a chain of work requests only the last one is reported;
 * completions run on the kernel's own workqueue (ib-comp-wq), which may be used in reclaim.
 */
#ifndef RSWAP_RDMA_H
#define RSWAP_RDMA_H

#include <linux/completion.h>
#include <rdma/ib_verbs.h>
#include <rdma/rdma_cm.h>
#include "device.h"

#define RDMA_SQ_DEPTH  1024u
#define RDMA_PIECES    512u /* of a message: two a page when they lie badly */
#define RDMA_MAX_SGES  16u
#define RDMA_MIN_SGES  4u
#define RDMA_MAX_WRS   (RDMA_PIECES / RDMA_MIN_SGES + RSWAP_MAX_SEGS)
#define RDMA_REPORT    4u   /* of so many work requests one is reported: the message moves */
#define RDMA_WINDOW    256u /* pages of writes in the queue pair: 80 us of 100 Gbit/s */
#define RDMA_CONTROLS  WIRE_RDMA_CONTROLS
#define RDMA_ASK       (RDMA_CONTROLS - 1) /* the slot of rdma_ask(); the others are for TRIM */
#define RDMA_OUT_BYTES 1024u
#define RDMA_IN_BYTES  2048u
#define RDMA_KEYS      64u /* in one RKEYS */

struct rdma_conn;

/* Behind each message. */
struct rdma_msg {
	struct rdma_conn *t;
	struct ib_cqe cqe;
	u32 wrs;
	u32 pieces;
	u16 bytes[RDMA_PIECES]; /* less one */
	u64 dma[RDMA_PIECES];
};

/* A control message and where its answer is awaited. */
struct rdma_out {
	struct ib_cqe cqe;
	struct rdma_conn *t;
	void *buf;
	u64 dma;
	u64 tag;
	u16 op;
	bool sending, waits;
	struct rswap_msg *msg; /* TRIM; NULL: rdma_ask() */
};

struct rdma_in {
	struct ib_cqe cqe;
	struct rdma_conn *t;
	void *buf;
	u64 dma;
};

struct rdma_conn {
	struct rswap_conn base;
	bool made;
	struct rdma_cm_id *id;
	struct ib_pd *pd;
	struct ib_cq *cq;
	struct completion moved; /* the connection manager has said something */
	int event, event_error;
	bool established;

	spinlock_t lock; /* bh-safe; of what follows */
	bool closed;
	struct list_head reads, queue; /* READs that have no room yet; the others */
	struct list_head refused;      /* can't be posted: they end with the connection */
	u32 sq_free, sges;
	u32 writing; /* pages */
	u64 turn; /* makes tags differ */
	struct rdma_out out[RDMA_CONTROLS];
	struct rdma_in in[RDMA_CONTROLS];
	struct ib_cqe other; /* of work requests that are not the last of their message */
	struct ib_rdma_wr wr[RDMA_MAX_WRS];
	struct ib_sge sge[RDMA_PIECES];

	struct mutex ask; /* one question at a time */
	struct completion answered;
	u32 answer_status, answer_count, answer_bytes;
	u8 answer[RDMA_IN_BYTES];
};

static inline struct rdma_conn *rdma_of(struct rswap_conn *c)
{
	return container_of(c, struct rdma_conn, base);
}

/* rdma.c: posts what has found room. */
void rdma_pump(struct rdma_conn *t);
void rdma_unmap(struct rdma_conn *t, struct rswap_msg *m);
void rdma_other_done(struct ib_cq *cq, struct ib_wc *wc);

/* rdma_conn.c */
int rdma_conn_open(struct rswap_conn *c);
void rdma_conn_close(struct rswap_conn *c);
int rdma_conn_map(struct rswap_donor *d, struct rswap_replica *const *reps, unsigned int n);
/* t->lock is held. A TRIM; false: no slot is free. */
bool rdma_trim(struct rdma_conn *t, struct rswap_msg *m);

#endif
