/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is: deficit round robin in bytes, over borrowers. A borrower gets one share a
 * round, however many connections it has on this thread and however much it asks for on them; they
 * take turns within it. So a request waits for at most one share of each other borrower that is
 * busy.
 *
 * Knows nothing of sockets: a connection is a place in its borrower's line. One thread uses one.
 */
#ifndef SERVER_TURNS_H
#define SERVER_TURNS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes of a share: some 10 us of work while somebody in line asks for little at a time, so that he
 * does not wait long. Larger pieces cost less: among those who all ask for much, a message of 64
 * pages is not cut.
 */
#define SRV_SHARE      (64u * 1024)
#define SRV_SHARE_MUCH (256u * 1024)

struct srv_flow; /* a borrower's connections */

/* In a connection. */
struct srv_place {
	struct srv_flow *flow;
	struct srv_place *next;
	bool queued;
};

struct srv_turns {
	struct srv_flow *first, *last; /* those with somebody in line */
	unsigned flows, small;         /* of them: those that ask for little */
	unsigned queued;               /* places in line */
};

/* A flow of its own for a place that has none yet. False: no memory. */
bool srv_turns_join(struct srv_place *p);
/*
 * From now on p, which is not in line, is one of the flow that *seat names, or *seat names p's. The
 * seat must stay as long as somebody is in the flow.
 */
void srv_turns_seat(struct srv_place *p, struct srv_flow **seat);
/* p is no longer in line, nor in a flow. The last one leaves *seat empty. */
void srv_turns_leave(struct srv_turns *t, struct srv_place *p);

/* p may have something to do: to the end of its line. */
void srv_turns_queue(struct srv_turns *t, struct srv_place *p);

/*
 * Serves those in line until each flow has had its share, or until that was much. serve() gets a
 * place that is out of line, and the bytes it may move; it returns what that cost, which may be
 * somewhat more (it is taken off the next share). It may queue p again, or make it leave.
 */
void srv_turns_round(struct srv_turns *t,
		     size_t (*serve)(void *arg, struct srv_place *p, size_t share), void *arg);

#endif
