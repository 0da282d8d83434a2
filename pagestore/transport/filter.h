/* SPDX-License-Identifier: MIT */
/*
 * What the filters share: a record of each op under way (by the wrapped transport or held back),
 * numbers from the address ("delay,us=200,jitter=50:"), and a seeded generator, so that a test's
 * faults come again with the same seed. A filter sees nothing but the transport table.
 */
#ifndef PAGESTORE_TRANSPORT_FILTER_H
#define PAGESTORE_TRANSPORT_FILTER_H

#include "pagestore/transport/transport.h"

#define FILTER_OPS WIRE_MAX_INFLIGHT

struct filter_op {
	struct tp_op *op;
	uint64_t due_ns; /* held back until */
	bool held;       /* the answer is here */
	struct tp_done done;
};

struct filter {
	struct tp_conn base;
	uint64_t rng;
	/* numbers of the address */
	uint64_t us, jitter, every, after, depth, seed;

	uint64_t counted; /* data ops so far */
	bool dead;
	unsigned count, held;
	struct filter_op ops[FILTER_OPS];
};

static inline struct filter *filter_of(struct tp_conn *c)
{
	return (struct filter *)(void *)c;
}

static inline bool filter_is_data(const struct tp_op *op)
{
	return tp_reads(op->kind) || tp_writes(op->kind);
}

/* [text] Reads "us=1,seed=2"; allowed: the words this filter knows, "us|jitter|seed". */
int filter_args(struct tp_conn *c, const char *allowed);
uint64_t filter_random(struct filter *f);

/* The op was taken; -EAGAIN before it is handed on when there is no room: filter_has_room(). */
bool filter_has_room(const struct filter *f);
struct filter_op *filter_record(struct filter *f, struct tp_op *op, uint64_t due_ns);
/* An answer without the wrapped transport. */
void filter_answer(struct filter *f, struct tp_op *op, int status, uint64_t now_ns);
/* Takes the wrapped transport's answers into the records. Negative: the connection is dead. */
int filter_collect(struct filter *f, uint64_t now_ns,
		   void (*each)(struct filter *f, struct filter_op *o, uint64_t now_ns));
/* Gives record i's answer out. */
void filter_release(struct filter *f, unsigned i, struct tp_done *done);
/* Gives out every held answer whose time has come, in order of the records. */
unsigned filter_release_due(struct filter *f, uint64_t now_ns, struct tp_done *done, unsigned n);

/* Table entries that most filters use as they are. */
int filter_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns);
int filter_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns);
int filter_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n);
int filter_cancel(struct tp_conn *c, struct tp_op *op);
int filter_fd(struct tp_conn *c, short *events);
uint64_t filter_due(struct tp_conn *c);
void filter_close(struct tp_conn *c);
void filter_forget(struct tp_conn *c, bool inherited);

#define FILTER_TABLE(word)                                                                         \
	.name = word, .conn_bytes = sizeof(struct filter), .filter = true, .open = filter_open,    \
	.cancel = filter_cancel, .fd = filter_fd, .due = filter_due, .close = filter_close, .forget = filter_forget

#endif
