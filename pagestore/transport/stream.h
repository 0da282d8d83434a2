/* SPDX-License-Identifier: MIT */
/*
 * The wire over a connected stream socket: what tcp, unix and shm have in common. Requests go out
 * straight from the caller's buffers and READ answers come in straight to them. Nothing the other
 * end says is believed: a message that doesn't fit ends the connection before a byte of it is used.
 */
#ifndef PAGESTORE_TRANSPORT_STREAM_H
#define PAGESTORE_TRANSPORT_STREAM_H

#include "pagestore/transport/transport.h"
#include "secure/link.h"

#include <sys/uio.h>

#define STREAM_HEAD_BYTES                                                                          \
	(sizeof(struct wire_header) + sizeof(struct wire_clone) + WIRE_MAX_SEGS * 16)
#define STREAM_SPARE_BYTES 2048u
#define STREAM_GENERATIONS 512u /* in one message: they fit the head */

struct stream_slot {
	struct tp_op *op;
	uint32_t cancelled;  /* bytes of the answer to a forgotten READ, which is to be skipped */
	uint16_t wire_op;    /* of that READ */
	uint32_t generation; /* the upper half of the tag on the wire */
	uint16_t next, prev; /* in order of sending; for free slots: next only */
};

/* All of it is in the caller's memory, iovecs too: an alternate signal stack is small. */
struct stream {
	struct tp_conn base;
	int fd; /* valid when up */
	struct link *link; /* bytes go through it; NULL: plainly */
	bool up;
	int error; /* why it is dead */
	uint32_t max_inflight, inflight;
	uint64_t epoch;   /* said in each request */
	uint64_t idle_ns; /* when an idle connection was last looked at */

	struct stream_slot slot[WIRE_MAX_INFLIGHT + 1]; /* 0: the ends of the list */
	uint16_t free;

	/* one message on its way out */
	struct tp_op *tx_op;
	size_t tx_at, tx_bytes, tx_head;
	unsigned char head[STREAM_HEAD_BYTES];

	/* one on its way in */
	struct wire_header rx;
	uint32_t rx_slot; /* whose answer; 0: none yet */
	size_t rx_head;   /* bytes of the header that are here */
	size_t rx_at;     /* bytes of the body */
	size_t rx_skip;   /* bytes of a notice to throw away */
	unsigned char spare[STREAM_SPARE_BYTES];

	struct tp_done done[WIRE_MAX_INFLIGHT]; /* a ring */
	uint32_t done_first, done_count;

	/* descriptors that came along with an answer; only taken where `mapped` is set */
	int fds[WIRE_MAX_FDS];
	uint32_t fds_count;
	/* shm: takes the descriptors of a MAP's answer; 0 or a negative errno for the op */
	int (*mapped)(struct stream *s, struct tp_op *op);

	struct iovec iov[WIRE_MAX_SEGS + 2];
};

static inline struct stream *stream_of(struct tp_conn *c)
{
	return (struct stream *)(void *)c;
}

/* [text] Takes a connected non-blocking socket over (closes it on failure): says hello. */
int stream_open(struct stream *s, int fd, struct tp_hello *h, uint64_t until_ns);
int stream_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns);
int stream_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n);
int stream_cancel(struct tp_conn *c, struct tp_op *op);
int stream_fd(struct tp_conn *c, short *events);
uint64_t stream_due(struct tp_conn *c);
void stream_close(struct tp_conn *c);
void stream_forget(struct tp_conn *c, bool inherited);

/* Room for one more op, in flight or done? */
bool stream_has_room(const struct stream *s);
/* An op that needs no message is done; poll will say so. */
void stream_finish(struct stream *s, uint64_t tag, int status, uint32_t wire);
/* The connection is dead; poll says so after what is done. Returns err. */
int stream_die(struct stream *s, int err);
/* A slot's op is not in flight any more. */
void stream_drop_slot(struct stream *s, uint32_t slot);
/* Closes the descriptors that came along. */
void stream_drop_fds(struct stream *s);
/* Bytes, or the op's buffers from byte `at` on, behind the n pieces that s->iov has; returns how
 * many it has now. */
unsigned stream_add_iov(struct stream *s, unsigned n, void *base, size_t len);
unsigned stream_add_segs(struct stream *s, unsigned n, const struct tp_op *op, size_t at);

/* receive.c: the body of a good answer to op, pages too. */
size_t stream_answer_bytes(const struct tp_op *op);
/* One receive, and what follows from it. Bytes; -EAGAIN: there are none; another error: the
 * connection is dead. */
long stream_receive(struct stream *s);

/*
 * encode.c: a request's header and the fixed part of its body, into STREAM_HEAD_BYTES. Returns
 * their length; *data: bytes of pages that follow.
 */
size_t encode_request(unsigned char *to, const struct tp_op *op, uint64_t tag, uint64_t epoch,
		      size_t *data);
/* The body of a good answer to op on any transport; not of those that carry pages, keys or
 * descriptors. */
size_t encode_answer_bytes(const struct tp_op *op);
/* A good answer's count tells again what was asked. */
bool encode_count_fits(const struct tp_op *op, uint32_t count);
/* Puts op's request into head, to be sent as the slot's. */
void stream_encode(struct stream *s, struct tp_op *op, uint16_t slot);
/* More than one message may hold? */
bool stream_too_long(const struct tp_op *op);
uint16_t stream_wire_op(enum tp_kind kind);

/* hello.c: [text] asks for a one-time token. Nothing else may be under way. */
int stream_token(struct stream *s, unsigned char token[WIRE_TOKEN_BYTES], uint64_t until_ns);
/* [text] From now on by TLS, as h->tls says. */
int stream_secure(struct stream *s, const struct tp_hello *h, uint64_t until_ns);
/* [text] Says hello and fills h->welcome. */
int stream_hello(struct stream *s, struct tp_hello *h, uint64_t until_ns);

struct hello_message {
	struct wire_header head;
	struct wire_hello hello;
};

/* hello.c: its parts, for transports that are no streams. */
void hello_fill(struct hello_message *m, const struct tp_hello *h);
/* [text] 0: the welcome follows. */
int hello_check_answer(const char *donor, const struct wire_header *answer);
/* [text] */
int hello_check_welcome(const char *donor, struct wire_welcome *w);

/* connect.c: [text] a connected, non-blocking socket or a negative errno. */
int connect_socket(const struct tp_addr *a, uint64_t until_ns);
/* Waits for events on fd: 0, or -ETIMEDOUT. */
int connect_wait(int fd, short events, uint64_t until_ns);

#endif
