/* SPDX-License-Identifier: MIT */
/*
 * Opening an RDMA connection: address, route, queue pair, connect, hello. The queue pair is made in
 * a context of this connection's own and moved by hand (librdmacm would make it in one that all
 * connections of the process share, a forked child's with its parent's). libibverbs and librdmacm
 * allocate with malloc() and block in system calls: this is no place for a fault handler.
 */
#include "pagestore/transport/rdma.h"
#include "pagestore/transport/token.h"
#include "pagestore/transport/stream.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#define SQ_DEPTH    1024u
#define READS       16u /* READs under way at once; the device may do fewer */
#define RETRIES     7u
#define ACK_TIMEOUT 16u /* 4 us * 2^16: with the retries 2 s until a vanished donor is noticed */
#define REJECTED_BY_CONSUMER 28

static const char *donor_of(const struct rdma *r)
{
	return r->base.addr.text;
}

static int fail(const struct rdma *r, int err, const char *what)
{
	return err_fail(err, "donor '%s': %s: %s", donor_of(r), what, strerrordesc_np(-err));
}

static int set_nonblocking(int fd)
{
	long flags = sys_call2(SYS_fcntl, fd, F_GETFL);

	return flags < 0 ? (int)flags
			 : (int)sys_call3(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
}

/* Why the donor, or the fabric, would not. */
static int refused(const struct rdma *r, const struct rdma_cm_event *e)
{
	struct wire_rdma_refusal why = {0};

	if (e->event != RDMA_CM_EVENT_REJECTED)
		return err_fail(e->status < 0 ? e->status : -EHOSTUNREACH,
				"donor '%s' can't be reached by RDMA: %s", donor_of(r),
				rdma_event_str(e->event));
	if (e->param.conn.private_data && e->param.conn.private_data_len >= sizeof why)
		memcpy(&why, e->param.conn.private_data, sizeof why);
	if (e->status == REJECTED_BY_CONSUMER && why.magic == htole64(WIRE_RDMA_MAGIC))
		return err_fail(tp_wire_errno(le32toh(why.status)), "donor '%s' refused: %s",
				donor_of(r), tp_wire_text(le32toh(why.status)));
	return err_fail(-ECONNREFUSED, "donor '%s': nobody listens there", donor_of(r));
}

static int await_event(struct rdma *r, enum rdma_cm_event_type want, uint64_t until_ns)
{
	struct rdma_cm_event *e;
	int err = connect_wait(r->events->fd, POLLIN, until_ns);

	if (err)
		return fail(r, err, "can't be reached by RDMA");
	if (rdma_get_cm_event(r->events, &e))
		return fail(r, -errno, "no word of the connection manager");
	err = e->event == want ? 0 : refused(r, e);
	rdma_ack_cm_event(e);
	return err;
}

static int open_channel(struct rdma *r)
{
	r->events = rdma_create_event_channel();
	if (!r->events && (errno == ENODEV || errno == ENOENT || errno == ENOSYS))
		return err_fail(-ENODEV,
				"donor '%s': this machine has no RDMA device (see infuse check)",
				donor_of(r));
	if (!r->events)
		return fail(r, -errno, "can't use RDMA");
	if (set_nonblocking(r->events->fd) ||
	    rdma_create_id(r->events, &r->id, NULL, RDMA_PS_TCP))
		return fail(r, -errno, "can't use RDMA");
	return 0;
}

static int find_way(struct rdma *r, uint64_t until_ns)
{
	uint64_t now = clock_ns();
	int ms = until_ns > now ? (int)((until_ns - now) / NSEC_PER_MSEC) + 1 : 1;
	uint8_t timeout = ACK_TIMEOUT;
	int err;

	if (rdma_resolve_addr(r->id, NULL, (struct sockaddr *)(void *)r->base.addr.sockaddr, ms)) {
		if (errno == ENODEV)
			return err_fail(-ENODEV,
					"donor '%s': no RDMA device is on the way to it (see "
					"infuse check)",
					donor_of(r));
		return fail(r, -errno, "can't be reached by RDMA");
	}
	err = await_event(r, RDMA_CM_EVENT_ADDR_RESOLVED, until_ns);
	if (err)
		return err;
	/* Old kernels don't know it: then it takes longer to notice a vanished donor. */
	(void)rdma_set_option(r->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			      sizeof timeout);
	if (rdma_resolve_route(r->id, ms))
		return fail(r, -errno, "can't be reached by RDMA");
	return await_event(r, RDMA_CM_EVENT_ROUTE_RESOLVED, until_ns);
}

static int open_memory(struct rdma *r)
{
	r->memory = mem_map(RDMA_MEMORY_BYTES);
	if (r->memory && !r->keys)
		r->keys = mem_map(RDMA_KEYS * sizeof *r->keys);
	if (!r->memory || !r->keys)
		return fail(r, -ENOMEM, "no memory");
	/* The device writes to it: a child's copy would be nobody's. */
	sys_call3(SYS_madvise, SYS_PTR(r->memory), (long)RDMA_MEMORY_BYTES, MADV_DONTFORK);
	r->mr = ibv_reg_mr(r->pd, r->memory, RDMA_MEMORY_BYTES, IBV_ACCESS_LOCAL_WRITE);
	if (!r->mr)
		return err_fail(-errno,
				"donor '%s': can't register %zu KiB of memory: %s; the limit of "
				"locked memory (ulimit -l) may be too low",
				donor_of(r), RDMA_MEMORY_BYTES / 1024, strerrordesc_np(errno));
	return 0;
}

static int open_epoll(struct rdma *r)
{
	int fd[2] = {r->channel->fd, r->events->fd};

	r->epoll_fd = (int)sys_call1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (r->epoll_fd < 0)
		return fail(r, r->epoll_fd, "no epoll descriptor");
	for (int i = 0; i < 2; i++) {
		struct epoll_event e = {.events = EPOLLIN};
		int err = (int)sys_call4(SYS_epoll_ctl, r->epoll_fd, EPOLL_CTL_ADD, fd[i],
					 SYS_PTR(&e));

		if (err)
			return fail(r, err, "no epoll descriptor");
	}
	return set_nonblocking(r->channel->fd);
}

static int move(struct rdma *r, enum ibv_qp_state state)
{
	struct ibv_qp_attr a = {.qp_state = state};
	int mask, err;

	if (rdma_init_qp_attr(r->id, &a, &mask))
		return fail(r, -errno, "can't set the queue pair up");
	/* A donor looks whether we are there by writing nothing. There is no key to anything here. */
	if (mask & IBV_QP_ACCESS_FLAGS)
		a.qp_access_flags |= IBV_ACCESS_REMOTE_WRITE;
	err = ibv_modify_qp(r->qp, &a, mask);
	return err ? fail(r, -err, "can't set the queue pair up") : 0;
}

int rdma_post_recv(struct rdma *r, uint32_t i)
{
	struct ibv_sge sge = {.addr = (uintptr_t)rdma_message_in(r, i),
			      .length = WIRE_RDMA_BYTES,
			      .lkey = r->mr->lkey};
	struct ibv_recv_wr *bad, wr = {.wr_id = i, .sg_list = &sge, .num_sge = 1};

	return ibv_post_recv(r->qp, &wr, &bad) ? rdma_die(r, -EIO) : 0;
}

static int open_pair(struct rdma *r, uint32_t *reads)
{
	struct ibv_qp_init_attr a = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = SQ_DEPTH,
			.max_recv_wr = RDMA_RECVS,
			.max_send_sge = 1,
			.max_recv_sge = 1},
	};
	struct ibv_device_attr d;

	if (ibv_query_device(r->verbs, &d))
		return fail(r, -errno, "can't ask the RDMA device");
	if (d.max_qp_wr < (int)a.cap.max_send_wr)
		a.cap.max_send_wr = (uint32_t)d.max_qp_wr;
	if (a.cap.max_send_wr < RDMA_OP_WRS + RDMA_CONTROLS)
		return err_fail(-ENOTSUP, "donor '%s': the RDMA device's queues are too short",
				donor_of(r));
	*reads = d.max_qp_init_rd_atom < (int)READS ? (uint32_t)d.max_qp_init_rd_atom : READS;
	r->cq = ibv_create_cq(r->verbs, (int)(a.cap.max_send_wr + RDMA_RECVS), NULL, r->channel, 0);
	a.send_cq = a.recv_cq = r->cq;
	r->qp = r->cq ? ibv_create_qp(r->pd, &a) : NULL;
	if (!r->qp)
		return fail(r, -errno, "can't make a queue pair");
	r->sq_free = a.cap.max_send_wr;
	return move(r, IBV_QPS_INIT);
}

static int open_device(struct rdma *r, uint32_t *reads)
{
	int err;

	r->verbs = ibv_open_device(r->id->verbs->device);
	if (!r->verbs)
		return fail(r, -errno, "can't open the RDMA device");
	r->pd = ibv_alloc_pd(r->verbs);
	r->channel = ibv_create_comp_channel(r->verbs);
	if (!r->pd || !r->channel)
		return fail(r, -errno, "can't use the RDMA device");
	err = open_memory(r);
	if (!err)
		err = open_pair(r, reads);
	if (!err)
		err = open_epoll(r);
	for (uint32_t i = 0; i < RDMA_RECVS && !err; i++)
		err = rdma_post_recv(r, i);
	return err;
}

static int connect_pair(struct rdma *r, const struct tp_hello *h, uint32_t reads, uint64_t until_ns)
{
	struct wire_rdma_hello who = {.magic = htole64(WIRE_RDMA_MAGIC)};
	struct rdma_conn_param p = {
		.private_data = &who,
		.private_data_len = sizeof who,
		.initiator_depth = (uint8_t)reads,
		.responder_resources = 1,
		.retry_count = RETRIES,
		.rnr_retry_count = RETRIES, /* 7: without end */
		.qp_num = r->qp->qp_num,
	};
	int err;

	memcpy(who.borrower, h->borrower, sizeof who.borrower);
	memcpy(who.token, h->token, sizeof who.token);
	if (rdma_connect(r->id, &p))
		return fail(r, -errno, "can't connect");
	err = await_event(r, RDMA_CM_EVENT_CONNECT_RESPONSE, until_ns);
	if (!err)
		err = move(r, IBV_QPS_RTR);
	if (!err)
		err = move(r, IBV_QPS_RTS);
	if (!err && rdma_establish(r->id))
		err = fail(r, -errno, "can't connect");
	return err;
}

/* One completion: 0, or -ETIMEDOUT and the like. */
static int await_completion(struct rdma *r, struct ibv_wc *wc, uint64_t until_ns)
{
	for (;;) {
		uint64_t event;
		int n = ibv_poll_cq(r->cq, 1, wc), err;

		if (n == 0 && !ibv_req_notify_cq(r->cq, 0))
			n = ibv_poll_cq(r->cq, 1, wc);
		if (n)
			return n < 0 || wc->status != IBV_WC_SUCCESS ? -ECONNRESET : 0;
		err = connect_wait(r->epoll_fd, POLLIN, until_ns);
		if (err)
			return err;
		if (sys_call3(SYS_read, r->channel->fd, SYS_PTR(&event), sizeof event) > 0)
			r->events_read++;
		else if (ibv_poll_cq(r->cq, 1, wc) > 0)
			return wc->status == IBV_WC_SUCCESS ? 0 : -ECONNRESET;
		else if (!connect_wait(r->events->fd, POLLIN, 0))
			return -ECONNRESET; /* it is the connection manager: the donor hung up */
	}
}

static int say_hello(struct rdma *r, struct tp_hello *h, uint64_t until_ns)
{
	struct hello_message *m = (struct hello_message *)(void *)rdma_message_out(r, 0);
	struct ibv_sge sge = {
		.addr = (uintptr_t)m, .length = sizeof *m, .lkey = r->mr->lkey};
	struct ibv_send_wr *bad, wr = {.sg_list = &sge,
				       .num_sge = 1,
				       .opcode = IBV_WR_SEND,
				       .send_flags = IBV_SEND_SIGNALED};
	struct wire_header answer;
	struct ibv_wc wc;
	bool sent = false, answered = false;
	int err = 0;

	hello_fill(m, h);
	if (ibv_post_send(r->qp, &wr, &bad))
		err = -EIO;
	while (!err && !(sent && answered)) {
		err = await_completion(r, &wc, until_ns);
		if (err || !(wc.opcode & IBV_WC_RECV)) {
			sent = true;
			continue;
		}
		answered = true;
		if (wc.byte_len < sizeof answer)
			return fail(r, -EPROTO, "is not a memory server");
		memcpy(&answer, rdma_message_in(r, (uint32_t)wc.wr_id), sizeof answer);
		err = hello_check_answer(donor_of(r), &answer);
		if (err)
			return err;
		if (wc.byte_len != sizeof answer + sizeof h->welcome)
			return fail(r, -EPROTO, "is not a memory server");
		memcpy(&h->welcome, rdma_message_in(r, (uint32_t)wc.wr_id) + sizeof answer,
		       sizeof h->welcome);
		err = rdma_post_recv(r, (uint32_t)wc.wr_id);
	}
	return err ? fail(r, err, "did not answer the hello")
		   : hello_check_welcome(donor_of(r), &h->welcome);
}

static __le32 at_most(__le32 announced, uint32_t limit)
{
	return le32toh(announced) < limit ? announced : htole32(limit);
}

void rdma_end(struct rdma *r)
{
	if (r->qp)
		ibv_destroy_qp(r->qp);
	r->qp = NULL;
	if (r->id)
		rdma_destroy_id(r->id);
	r->id = NULL;
	if (r->cq) {
		ibv_ack_cq_events(r->cq, r->events_read);
		ibv_destroy_cq(r->cq);
	}
	r->cq = NULL;
	r->events_read = 0;
	if (r->mr)
		ibv_dereg_mr(r->mr);
	r->mr = NULL;
	if (r->epoll_fd > 0)
		sys_call1(SYS_close, r->epoll_fd);
	r->epoll_fd = -1;
	if (r->channel)
		ibv_destroy_comp_channel(r->channel);
	r->channel = NULL;
	if (r->pd)
		ibv_dealloc_pd(r->pd);
	r->pd = NULL;
	if (r->verbs)
		ibv_close_device(r->verbs);
	r->verbs = NULL;
	if (r->events)
		rdma_destroy_event_channel(r->events);
	r->events = NULL;
	mem_unmap(r->memory, RDMA_MEMORY_BYTES);
	r->memory = NULL;
	mem_unmap(r->keys, RDMA_KEYS * sizeof *r->keys);
	r->keys = NULL;
}

int rdma_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	struct rdma *r = rdma_of(c);
	uint64_t until = clock_ns() + timeout_ns;
	struct stream *giver = NULL;
	uint32_t reads = 1;
	int err = open_channel(r);

	if (!err && h->tls)
		err = token_take(&c->addr, h, until, &giver);
	if (!err)
		err = find_way(r, until);
	if (!err)
		err = open_device(r, &reads);
	if (!err)
		err = connect_pair(r, h, reads, until);
	if (!err)
		err = say_hello(r, h, until);
	token_end(giver);
	if (err) {
		c->t->close(c);
		return err;
	}
	r->epoch = h->epoch;
	r->slab_pages = le32toh(h->welcome.slab_pages);
	h->welcome.max_pages = at_most(h->welcome.max_pages, RDMA_OP_PAGES);
	h->welcome.max_segs = at_most(h->welcome.max_segs, RDMA_OP_PAGES);
	r->up = true;
	return 0;
}
