/* SPDX-License-Identifier: MIT */
/*
 * One connection's conversation: bytes in, answers out, over a lender. No sockets, clocks or
 * threads in here, so that the fuzzer and a simulator drive it just as the event loop does.
 *
 * What broke the protocol so that the stream can't be trusted any more ends the session; anything
 * else is answered with an error and the session goes on. docs/protocol.md says which is which.
 */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

#include "server/lend.h"
#include "server/out.h"

enum srv_phase {
	SRV_HEADER, /* collecting a header */
	SRV_BODY,   /* collecting the part of the body that says what is wanted */
	SRV_DATA,   /* pages of a WRITE go to their places */
	SRV_SKIP,   /* the rest of a refused message */
	SRV_CLOSED,
};

/* A hello that waits for its proof. */
struct srv_asked {
	struct wire_header head;
	struct wire_hello hello;
	struct wire_auth challenge;
};

/* A connection whose other end reaches slabs by itself (RDMA): what it knows and can do. */
struct srv_exposer {
	const uint8_t *borrower; /* who was let in; the hello must say the same */
	bool shared;             /* keys are to be good on all of its connections, says the hello */
	/* A key to the buffer, which is pinned. enum wire_error. */
	uint32_t (*expose)(struct srv_exposer *x, struct srv_buffer *b, struct wire_rkey *ret);
};

struct srv_session {
	struct srv_lender *lender;
	struct srv_counters *counters;
	struct srv_borrower *borrower; /* NULL before the hello, or: may only ask */
	struct srv_exposer *exposer;   /* NULL: a stream, pages come and go through us */
	const char *reason;            /* why it was closed; NULL: it was not our doing */
	struct wire_header head;       /* `have` bytes of it, or the message's */
	uint8_t *body;                 /* when it came in pieces: `have` of `need` bytes */
	uint32_t have, need;
	struct srv_run *runs; /* SRV_DATA: where the pages go; [run, nruns) are not full */
	uint32_t run, nruns;
	size_t run_at;   /* bytes of runs[run] that are there */
	uint64_t skip;   /* bytes of the body behind `need` */
	uint32_t status; /* SRV_SKIP: the answer */
	uint64_t epoch;  /* of its writer: the hello's */
	struct srv_asked *asked; /* AUTH is to come; NULL: it is not */
	uint8_t phase;
	uint8_t minor;
	uint8_t roles; /* SRV_ROLE_*; 0: nobody knows yet who it is */
	bool greeted;
	bool is_unix; /* descriptors can be handed over */
	bool hung_up; /* the other end closed the connection */
	uint64_t now_ns;
};

void srv_session_open(struct srv_session *s, struct srv_lender *l, struct srv_counters *c,
		      bool is_unix);
/* Frees what it holds; the borrower's grace may begin. */
void srv_session_close(struct srv_session *s, uint64_t now_ns);

/* It is over, because who came has shown no key that is known. reason must last as long as the session. */
void srv_session_deny(struct srv_session *s, const char *reason);
/* The stream can't be trusted any more. What is in out is still to be sent. */
void srv_session_end(struct srv_session *s, const char *reason);

/*
 * Takes bytes from the peer, adds answers to out. Returns how many were taken: less than n when
 * out has no more room (send, then come again with the rest) or when the session is over (phase
 * SRV_CLOSED: send what is in out, then close).
 */
size_t srv_session_input(struct srv_session *s, const uint8_t *p, size_t n, uint64_t now_ns,
			 struct srv_out *out);

/*
 * Where the next bytes belong, when that is a slab: up to max pieces, so that they can be received
 * in place. Returns 0 otherwise, also when a newer writer has taken over (the rest is skipped). When
 * it returned some, srv_session_direct_done() must follow before anything else, also for 0 bytes: no
 * newer writer can take over in between, so don't wait there.
 */
unsigned srv_session_direct(struct srv_session *s, struct iovec *iov, unsigned max);
/* n bytes were put there. */
void srv_session_direct_done(struct srv_session *s, size_t n, uint64_t now_ns, struct srv_out *out);

/* Bytes of a WRITE's data still to come. */
size_t srv_session_direct_bytes(const struct srv_session *s);

#endif
