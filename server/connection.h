/* SPDX-License-Identifier: MIT */
/* One connection: a socket around a session. Used by its worker's thread only. */
#ifndef SERVER_CONNECTION_H
#define SERVER_CONNECTION_H

#include "server/channel.h"
#include "server/session.h"
#include "server/turns.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define SRV_INPUT_BYTES (16u * 1024)
#define SRV_SPARE_OUTS  16u

/* What a thread lends to the connection that it is serving. */
struct srv_scratch {
	struct srv_channel_scratch *channel; /* NULL: there are no keys */
	struct srv_out *out;
	struct srv_out *spare[SRV_SPARE_OUTS]; /* for those who can't send all of theirs at once */
	unsigned spares;
	uint8_t input[SRV_INPUT_BYTES];
};

enum srv_turn {
	SRV_TURN_IDLE,    /* did nothing: no bytes there */
	SRV_TURN_SERVED,  /* did something and may have more to do */
	SRV_TURN_EMPTY,   /* did all there was */
	SRV_TURN_BLOCKED, /* the peer does not read: wait until it does */
	SRV_TURN_OVER,    /* close it */
};

struct srv_conn {
	int fd;
	bool is_unix;
	bool begun;                               /* bytes have come */
	struct srv_channel *channel;              /* TLS; NULL: none */
	bool armed;                               /* the kernel will tell */
	bool seated;                              /* counted as its borrower's */
	struct srv_place place;                   /* in line: the thread tries it by itself */
	struct srv_out *out;                      /* kept answers, while the peer does not read */
	uint8_t *saved;                           /* input that had no room for its answers */
	uint32_t saved_at, saved_bytes;           /* of it: [saved_at, saved_bytes) */
	uint64_t active_ns;                       /* last did something */
	uint64_t deadline_ns;                     /* for the hello */
	struct srv_conn *next, *prev;             /* all of a worker's */
	struct srv_conn *young_next, *young_prev; /* without a hello, oldest first */
	union {
		struct sockaddr_in6 in6;
		struct sockaddr_in in;
		struct ucred cred;
	} peer;
	struct srv_session session;
};

/* Takes the descriptor over. NULL: no memory, closed. */
struct srv_conn *srv_conn_open(int fd, bool is_unix, struct srv_lender *l, struct srv_counters *c,
			       uint64_t now_ns);
void srv_conn_close(struct srv_conn *c, struct srv_scratch *t, uint64_t now_ns);
/* Reads, serves and answers until about `share` bytes were moved; *moved says how many. */
enum srv_turn srv_conn_turn(struct srv_conn *c, struct srv_scratch *t, uint64_t now_ns,
			    size_t share, size_t *moved);
int srv_scratch_open(struct srv_scratch *t, bool keys);
void srv_scratch_free(struct srv_scratch *t);
/* For messages. */
const char *srv_conn_peer(const struct srv_conn *c, char *buf, size_t len);

#endif
