/* SPDX-License-Identifier: MIT */
/*
 * Borrowers over RDMA: one thread that takes connections from the connection manager and serves
 * their control messages through the same sessions as streams. Pages come and go without it: it
 * only hands out keys to slabs, and takes them back.
 */
#ifndef SERVER_RDMA_H
#define SERVER_RDMA_H

#include "server/lend.h"
#include "server/listen.h"

struct srv_rdma;

/* How a borrower's device is let at a slab. */
enum srv_rdma_keys {
	SRV_RDMA_AUTO,    /* windows where the device keeps their bounds, else regions */
	SRV_RDMA_REGIONS, /* a memory region of its own */
	SRV_RDMA_WINDOWS, /* a type-2 memory window, good on one connection only */
};

struct srv_rdma_options {
	unsigned max_connections;
	uint64_t hello_ns;       /* a stranger's time to say hello */
	enum srv_rdma_keys keys; /* WINDOWS also where they are not safe: for tests */
};

/* [text] Fails with -ENODEV where there is no RDMA device. */
int srv_rdma_open(const struct srv_rdma_options *o, struct srv_rdma **ret);
/*
 * [text] Binds "rdma:HOST:PORT". open: also where strangers can come from. Ended by
 * srv_unlisten(), from any thread.
 */
int srv_rdma_listen(struct srv_rdma *s, const char *address, bool open,
		    struct srv_listener *ret);
void srv_rdma_unlisten(struct srv_listener *l);
/* [text] Connections are taken from now on, on those of the listeners that are RDMA's. c: its own. */
int srv_rdma_start(struct srv_rdma *s, struct srv_listener *listeners, unsigned n,
		   struct srv_lender *l, struct srv_counters *c);
/* Ends all connections and the thread. Takes NULL. */
void srv_rdma_stop(struct srv_rdma *s);

#endif
