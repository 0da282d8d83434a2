/* SPDX-License-Identifier: MIT */
/*
 * What a thread of the server waits for, over io_uring: connections to accept, descriptors that
 * are ready. Data itself moves by plain recvmsg and sendmsg, which is faster for messages of a few
 * pages. One thread uses one; calls block only where they say so.
 */
#ifndef SERVER_EVENTS_H
#define SERVER_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct srv_events;

struct srv_event {
	void *who;  /* as given when it was asked for */
	int result; /* ready: poll events; accept: the new descriptor; or a negative errno */
	bool more;  /* accept: there will be others without asking again */
};

/* [text] */
int srv_events_open(struct srv_events **ret);
void srv_events_close(struct srv_events *e); /* takes NULL */

/* One event when fd is ready for events (POLLIN, POLLOUT), at once if it is already. */
void srv_events_poll(struct srv_events *e, int fd, unsigned events, void *who);
/* An event for each connection, until one without `more`. */
void srv_events_accept(struct srv_events *e, int fd, void *who);
/* Ends who's waiting: an event with -ECANCELED follows. */
void srv_events_cancel(struct srv_events *e, void *who);

/* Up to n events; waits for the first one until timeout_ns is over. 0: only looks. */
unsigned srv_events_take(struct srv_events *e, uint64_t timeout_ns, struct srv_event *ret,
			 unsigned n);

#endif
