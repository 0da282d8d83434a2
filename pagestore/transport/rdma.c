/* SPDX-License-Identifier: MIT */
/*
 * rdma: pages by one-sided READ and WRITE, which the donor's CPU takes no part in; all else by
 * SEND and RECV of the wire's messages. Who waits spins a little first: arming the completion
 * channel, sleeping and waking cost more than a page. A donor that dies is told by the connection
 * manager, one that vanishes by work requests that end with an error.
 */
#include "pagestore/transport/rdma.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/sys.h"

#include <errno.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <string.h>

#define CHUNK   16
#define SPIN_NS (10 * NSEC_PER_USEC)
#define LOOK_NS NSEC_PER_MSEC
#define IDLE_NS (100 * NSEC_PER_MSEC)

int rdma_die(struct rdma *r, int err)
{
	if (!r->error)
		r->error = err;
	r->inflight = r->parked_count = 0;
	return r->error;
}

void rdma_finish(struct rdma *r, struct tp_op *op, int status, uint32_t wire)
{
	r->done[(r->done_first + r->done_count++) % RDMA_SENDS] =
		(struct tp_done){.tag = op->tag, .status = status, .wire = wire};
	r->inflight--;
}

static int wc_error(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR:
	case IBV_WC_RNR_RETRY_EXC_ERR:
		return -ETIMEDOUT;
	case IBV_WC_WR_FLUSH_ERR:
		return -ECONNRESET;
	case IBV_WC_REM_ACCESS_ERR:
		return -EACCES;
	default:
		return -EIO;
	}
}

static int complete(struct rdma *r, const struct ibv_wc *wc)
{
	uint32_t i = (uint32_t)wc->wr_id;
	int e;

	if (wc->status != IBV_WC_SUCCESS)
		return rdma_die(r, wc_error(wc->status));
	if (!(wc->opcode & IBV_WC_RECV)) {
		rdma_data_done(r);
		return 0;
	}
	e = rdma_control_take(r, rdma_message_in(r, i), wc->byte_len);
	return e ? e : rdma_post_recv(r, i);
}

static void take(struct rdma *r)
{
	struct ibv_wc wc[CHUNK];
	int n = CHUNK;

	while (n == CHUNK && !r->error) {
		n = ibv_poll_cq(r->cq, CHUNK, wc);
		if (n < 0)
			rdma_die(r, -EIO);
		for (int i = 0; i < n && !r->error; i++)
			complete(r, &wc[i]);
	}
	if (r->parked_count && !r->error)
		rdma_data_resume(r);
}

/* Whatever the connection manager has to say after the opening is its end. */
static void look(struct rdma *r)
{
	struct pollfd p = {.fd = r->events->fd, .events = POLLIN};
	struct timespec none = {0};

	if (sys_call5(SYS_ppoll, SYS_PTR(&p), 1, SYS_PTR(&none), 0, 0) > 0)
		rdma_die(r, -ECONNRESET);
}

static int rdma_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct rdma *r = rdma_of(c);

	(void)now_ns;
	if (r->error)
		return r->error;
	if (!r->up)
		return -ENOTCONN;
	if (r->inflight + r->done_count >= RDMA_MAX_OPS)
		return -EAGAIN;
	if (op->kind == TP_FENCE) {
		r->inflight++;
		rdma_finish(r, op, 0, 0); /* a newer writer ends the keys */
		return 0;
	}
	if (tp_reads(op->kind) || tp_writes(op->kind))
		return rdma_data_submit(r, op);
	return rdma_control_send(r, op);
}

static int rdma_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct rdma *r = rdma_of(c);
	unsigned i = 0;

	if (r->up && !r->error)
		take(r);
	if (r->up && !r->error && !r->done_count &&
	    now_ns - r->looked_ns > (r->inflight ? LOOK_NS : IDLE_NS)) {
		r->looked_ns = now_ns;
		look(r);
	}
	for (; i < n && r->done_count; i++, r->done_count--) {
		done[i] = r->done[r->done_first];
		r->done_first = (r->done_first + 1) % RDMA_SENDS;
	}
	return i ? (int)i : r->error;
}

static int rdma_cancel(struct tp_conn *c, struct tp_op *op)
{
	struct rdma *r = rdma_of(c);

	if (!tp_reads(op->kind))
		return -EBUSY;
	for (uint32_t i = 0; i < r->done_count; i++) {
		if (r->done[(r->done_first + i) % RDMA_SENDS].tag != op->tag)
			continue;
		for (; i + 1 < r->done_count; i++)
			r->done[(r->done_first + i) % RDMA_SENDS] =
				r->done[(r->done_first + i + 1) % RDMA_SENDS];
		r->done_count--;
		return 0;
	}
	return r->up && !r->error ? rdma_data_cancel(r, op) : 0;
}

/* Events of earlier waits. They are counted: destroying the queue waits until all are acknowledged. */
static void drain(struct rdma *r)
{
	uint64_t event;
	long n;

	while ((n = sys_call3(SYS_read, r->channel->fd, SYS_PTR(&event), sizeof event)) > 0 ||
	       n == -EINTR)
		r->events_read += n > 0;
}

/* Called by who is about to sleep on the descriptor. */
static uint64_t rdma_due(struct tp_conn *c)
{
	struct rdma *r = rdma_of(c);
	uint64_t end;

	if (r->done_count || r->error)
		return 0;
	if (!r->up || !r->inflight)
		return UINT64_MAX;
	end = clock_ns() + SPIN_NS;
	do
		take(r);
	while (!r->done_count && !r->error && clock_ns() < end);
	if (r->done_count || r->error)
		return 0;
	drain(r);
	if (ibv_req_notify_cq(r->cq, 0))
		rdma_die(r, -EIO);
	/* What came before it was armed makes no event. */
	take(r);
	/* Sleepers look for the connection's end as soon as they wake. */
	r->looked_ns = 0;
	return r->done_count || r->error ? 0 : UINT64_MAX;
}

static int rdma_fd(struct tp_conn *c, short *events)
{
	struct rdma *r = rdma_of(c);

	*events = POLLIN;
	return r->up && r->inflight ? r->epoll_fd : -1;
}

static void reset(struct rdma *r)
{
	r->up = false;
	r->error = 0;
	r->inflight = r->done_count = r->parked_count = r->sent_count = 0;
	r->pool_first = r->pool_used = 0;
	r->tries = r->asked_count = 0;
	rdma_control_init(r);
}

static void rdma_close(struct tp_conn *c)
{
	struct rdma *r = rdma_of(c);

	rdma_end(r);
	reset(r);
}

/*
 * The parent's queue pair must live on: nothing is destroyed, only this process's descriptors are
 * closed. What libibverbs allocated for the parent stays behind, some pages a connection; the pool
 * did not come along.
 */
static void rdma_forget(struct tp_conn *c, bool inherited)
{
	struct rdma *r = rdma_of(c);

	if (r->up && inherited) {
		sys_call1(SYS_close, r->epoll_fd);
		sys_call1(SYS_close, r->channel->fd);
		sys_call1(SYS_close, r->events->fd);
		sys_call1(SYS_close, r->verbs->async_fd);
		sys_call1(SYS_close, r->verbs->cmd_fd);
	}
	r->events = NULL;
	r->id = NULL;
	r->verbs = NULL;
	r->pd = NULL;
	r->channel = NULL;
	r->cq = NULL;
	r->qp = NULL;
	r->mr = NULL;
	r->memory = NULL;
	mem_unmap(r->keys, RDMA_KEYS * sizeof *r->keys);
	r->keys = NULL;
	r->epoll_fd = -1;
	r->events_read = 0;
	reset(r);
}

const struct tp_transport tp_rdma = {
	.name = "rdma",
	.conn_bytes = sizeof(struct rdma),
	.open = rdma_open,
	.submit = rdma_submit,
	.poll = rdma_poll,
	.cancel = rdma_cancel,
	.fd = rdma_fd,
	.due = rdma_due,
	.close = rdma_close,
	.forget = rdma_forget,
};
