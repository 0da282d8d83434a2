/* SPDX-License-Identifier: MIT */
/*
 * The threads that serve connections, and the first of them that also accepts and deals them out.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/lend.h"
#include "server/listen.h"

struct srv_workers;

struct srv_workers_options {
	struct srv_lender *lender;
	unsigned threads;
	unsigned max_connections;
	uint64_t hello_ns; /* a stranger's time to say hello */
};

/* [text] Starts the threads. */
int srv_workers_start(const struct srv_workers_options *o, struct srv_workers **ret);
/* Accepts on these from now on; listeners belong to the caller and stay until accepting ends. */
void srv_workers_accept(struct srv_workers *w, struct srv_listener *l, unsigned n);
/* Accepts nothing more; blocks until nobody uses the listeners. */
void srv_workers_unaccept(struct srv_workers *w);
void srv_workers_set_spin(struct srv_workers *w, uint64_t spin_ns);
/* Ends the threads and closes all connections. Takes NULL. */
void srv_workers_stop(struct srv_workers *w);

#endif
