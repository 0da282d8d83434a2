/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A way for pages to travel between this kernel and a donor: one table of operations, one file for
 * each (tcp.c, rdma.c). To add one, write its file and add a line to rswap_transports[] in
 * session.c. What goes around it is not a transport's business: control.c keeps a TCP connection
 * to every donor for everything that is not READ, WRITE or TRIM (hello, GRANT, FREE, TOKEN, RKEYS),
 * session.c connects and reconnects, io.c decides who is asked and what a failure means.
 *
 * Rules that hold for all: submit() may be called while the machine has no memory left and in the
 * middle of writing pages out to get some, so it takes memory from what open() set aside, or with
 * memalloc_noreclaim (rswap_reclaim_enter()), and never waits for long.
 */
#ifndef RSWAP_TRANSPORT_H
#define RSWAP_TRANSPORT_H

#include <linux/bio.h>
#include <linux/socket.h>
#include <linux/types.h>
#include <infuse/wire.h>

#define RSWAP_MAX_SEGS 32 /* in one message of this module */

struct rswap_io;
struct rswap_donor;
struct rswap_transport;
struct rswap_replica;

/*
 * One message to one donor about pages of one slab. It lives in the request (struct rswap_io),
 * with msg_bytes of the transport's own behind it. The transport owns `link` from submit() until
 * rswap_msg_done(), and only reads the rest.
 */
struct rswap_msg {
	struct rswap_io *io;
	struct rswap_donor *donor;
	struct list_head link;
	u8 op;           /* WIRE_READ, WIRE_WRITE, WIRE_TRIM */
	u8 replica;      /* index in the slab's set */
	bool building;   /* to a replica that is not complete yet */
	u16 segs;
	u32 pages;       /* in all segments */
	u32 first;       /* page within the slab at which the io's data begins */
	u64 handle;      /* the slab, for the donor */
	u64 remote_addr; /* what ->map() put into the replica; */
	u32 rkey;        /* for one-sided transports */

	/* core's */
	struct rswap_conn *conn;
	struct list_head pending;
	unsigned long sent_at; /* jiffies */
	int status;            /* 0 or a negative errno */
	u32 wire;              /* enum wire_error, when the donor refused */

	struct {
		struct wire_header head; /* tag is the transport's to fill */
		struct wire_seg seg[RSWAP_MAX_SEGS];
	} out; /* head and segs entries are what TCP sends */
};

/* Bytes of the transport's own behind a message; aligned to 8. */
static inline void *rswap_msg_private(struct rswap_msg *m)
{
	return m + 1;
}

/*
 * A connection for data: one for each hardware queue and donor, in memory of conn_bytes that
 * begins with this. Everything here is the core's but read-only for the transport.
 */
struct rswap_conn {
	const struct rswap_transport *t;
	struct rswap_donor *donor;
	unsigned int queue;
	bool open;

	spinlock_t lock;          /* irq-safe; of all below */
	bool dead;                /* takes no messages any more */
	unsigned long answered;   /* jiffies: when the last answer, or a part of one, came */
	struct list_head pending; /* messages without an answer, oldest first */
};

struct rswap_transport {
	const char *name;  /* "tcp", as in a donor's address */
	size_t conn_bytes; /* >= sizeof(struct rswap_conn) */
	size_t msg_bytes;  /* for each message, behind it */
	bool in_order;     /* READs and WRITEs: none waits for ever while others are answered */

	/*
	 * Connects and proves who we are; blocks up to donor->dev->deadline. The control connection
	 * to the donor works at that moment (rswap_control_call(), rswap_control_token()). 0 or a
	 * negative errno. c is zeroed but for t, donor, queue and the list.
	 */
	int (*open)(struct rswap_conn *c);

	/*
	 * Called once all of a donor's connections are open, and when a slab was granted: fills
	 * remote_addr and rkey of n replicas that lie on the donor. May use the control connection
	 * (op RKEYS), blocks bounded. NULL: nothing to do.
	 */
	int (*map)(struct rswap_donor *d, struct rswap_replica *const *reps, unsigned int n);

	/*
	 * Takes the message; process context. Answers by rswap_msg_done(), once, from any context
	 * up to softirq, perhaps before it returns; -ENOTCONN when it is closed. more: another message for this connection
	 * follows at once, or kick() does.
	 */
	void (*submit)(struct rswap_conn *c, struct rswap_msg *m, bool more);
	void (*kick)(struct rswap_conn *c); /* NULL: submit never waits for more */

	/*
	 * Process context, blocks shortly. When it returns the connection will touch no message
	 * and no page of one; those without an answer got rswap_msg_done(m, -ECONNRESET, 0)
	 * from here. May be called for a connection whose open() failed, and twice.
	 */
	void (*close)(struct rswap_conn *c);
};

extern const struct rswap_transport rswap_tcp, rswap_rdma;

/*
 * The end of a message. status 0: a READ's pages lie in the request's pages (the core compares
 * their hashes), a WRITE's are in the donor's memory. -EREMOTEIO: the donor refused, wire says
 * why. Others: the connection is dead; call rswap_conn_failed() too.
 */
void rswap_msg_done(struct rswap_msg *m, int status, u32 wire);

/* From any context: part of a message's pages have moved, so the donor is there. */
void rswap_conn_moves(struct rswap_conn *c);

/* Tells once, from any context, that the connection is of no use: close() will be called. */
void rswap_conn_failed(struct rswap_conn *c, int error);

/*
 * A walk over the bytes of a message's pages in the order of its segments: pieces of at most one
 * page, in the pages of the request.
 *
 *	for (rswap_cursor_start(&c, m); rswap_cursor_piece(&c, &bv); rswap_cursor_step(&c, bv.bv_len))
 */
struct rswap_cursor {
	const struct rswap_msg *m;
	struct bio *bio;
	struct bvec_iter iter;
	u32 seg;
	u32 left; /* bytes of the segment */
};

void rswap_cursor_start(struct rswap_cursor *c, const struct rswap_msg *m);
bool rswap_cursor_piece(const struct rswap_cursor *c, struct bio_vec *bv);
/* n <= the piece's length. */
void rswap_cursor_step(struct rswap_cursor *c, u32 n);

/*
 * One request and its answer over the donor's control connection; blocks up to the deadline.
 * Returns the answer's body length (at most max, copied to reply), -EREMOTEIO with *wire set, or
 * another negative errno.
 */
int rswap_control_call(struct rswap_donor *d, u16 op, u32 count, const void *body, u32 bytes,
		       void *reply, u32 max, u32 *wire);
/* A one-time token that a new connection of this borrower may show; 32 bytes. */
int rswap_control_token(struct rswap_donor *d, u8 token[32]);

#endif
