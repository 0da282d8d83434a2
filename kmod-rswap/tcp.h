/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the two halves of the TCP transport share: tcp.c opens, receives and closes, tcp_send.c sends. */
#ifndef RSWAP_TCP_H
#define RSWAP_TCP_H

#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/workqueue.h>
#include "device.h"

#define RSWAP_TCP_SLOTS 256 /* messages under way on one connection; WIRE_MAX_INFLIGHT */

enum {
	RSWAP_TCP_RX_PENDING, /* something came while somebody held the socket */
	RSWAP_TCP_TX_AGAIN,   /* the work wants to send */
};

struct tcp_conn {
	struct rswap_conn base;
	bool made; /* locks and works are there */
	struct socket *sock;
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	void (*error_report)(struct sock *sk);

	spinlock_t lock; /* bh-safe; slots and queue */
	bool closed;
	struct list_head queue; /* not sent yet */
	struct rswap_msg *slot[RSWAP_TCP_SLOTS];
	unsigned int slots;     /* used at most; the donor's limit */
	unsigned int used;
	unsigned int next;      /* where to look for a free slot */
	u64 turn;               /* makes tags differ */

	struct mutex tx; /* the sender */
	struct rswap_msg *tx_msg;
	__le64 tx_tag;
	bool tx_open; /* lock; bytes of it are not handed over yet: no answer can be right */
	u32 tx_at;    /* bytes of head and segments that are out */
	struct rswap_cursor tx_data;
	struct delayed_work tx_work;

	unsigned long flags;
	struct work_struct rx_work;
	struct wire_header rx_head;
	u32 rx_have; /* bytes of it */
	u32 rx_left; /* bytes of the body */
	struct rswap_msg *rx_msg; /* whose body it is; NULL: skipped */
	struct rswap_cursor rx_data;
};

static inline struct tcp_conn *tcp_of(struct rswap_conn *c)
{
	return container_of(c, struct tcp_conn, base);
}

/* --- tcp.c --- */

/* In process context, for what came while somebody held the socket. The caller keeps it open. */
void rswap_tcp_read_later(struct tcp_conn *t);

/* --- tcp_send.c --- */

void rswap_tcp_submit(struct rswap_conn *c, struct rswap_msg *m, bool more);
void rswap_tcp_kick(struct rswap_conn *c);
void rswap_tcp_tx_work(struct work_struct *work);

#endif
