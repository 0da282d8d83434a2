/* SPDX-License-Identifier: MIT */
/*
 * One connection: its queue pair and its control messages. A message is served when there is room
 * for its answer; a client that keeps to its WIRE_RDMA_CONTROLS never waits for that. Nothing is
 * believed of what comes in: a message that is not whole ends the connection, as on a stream.
 */
#include "server/rdma_inside.h"
#include "common/clock.h"
#include "common/error.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES  ((size_t)2 * RDMA_SLOTS)
#define MEMORY    (MESSAGES * WIRE_RDMA_BYTES)
#define IN(i)     (i)                   /* work requests' numbers */
#define OUT(i)    (RDMA_SLOTS + (i))
#define ASK       MESSAGES
#define CHUNK     16
#define QUIET_NS  (15 * NSEC_PER_SEC)   /* then the other end is asked for */
#define RETRIES   7
#define ENDING_NS (2 * NSEC_PER_SEC)    /* for the last words to arrive */

static uint8_t *message(const struct rdma_conn *c, size_t i)
{
	return c->memory + i * WIRE_RDMA_BYTES;
}

static int post_in(struct rdma_conn *c, uint32_t i)
{
	struct ibv_sge sge = {.addr = (uintptr_t)message(c, IN(i)),
			      .length = WIRE_RDMA_BYTES,
			      .lkey = c->mr->lkey};
	struct ibv_recv_wr *bad, wr = {.wr_id = IN(i), .sg_list = &sge, .num_sge = 1};

	return ibv_post_recv(c->id->qp, &wr, &bad);
}

static int post_out(struct rdma_conn *c, uint32_t i, size_t bytes)
{
	struct ibv_sge sge = {.addr = (uintptr_t)message(c, OUT(i)),
			      .length = (uint32_t)bytes,
			      .lkey = c->mr->lkey};
	struct ibv_send_wr *bad, wr = {.wr_id = OUT(i),
				       .sg_list = &sge,
				       .num_sge = 1,
				       .opcode = IBV_WR_SEND,
				       .send_flags = IBV_SEND_SIGNALED};

	if (ibv_post_send(c->id->qp, &wr, &bad))
		return -EIO;
	c->sending |= 1u << i;
	return 0;
}

/* A WRITE of nothing: only a live other end acknowledges it. */
static void ask(struct rdma_conn *c)
{
	struct ibv_send_wr *bad, wr = {.wr_id = ASK,
				       .opcode = IBV_WR_RDMA_WRITE,
				       .send_flags = IBV_SEND_SIGNALED};

	c->asking = !ibv_post_send(c->id->qp, &wr, &bad);
	c->over |= !c->asking;
}

static size_t gather(struct srv_out *out, uint8_t *to)
{
	size_t at = 0;

	assert(out->bytes <= WIRE_RDMA_BYTES);
	for (unsigned i = out->first; i < out->count; i++) {
		memcpy(to + at, out->iov[i].iov_base, out->iov[i].iov_len);
		at += out->iov[i].iov_len;
	}
	srv_out_clear(out);
	return at;
}

static bool is_whole(const uint8_t *p, size_t n)
{
	struct wire_header h;

	if (n < sizeof h)
		return false;
	memcpy(&h, p, sizeof h);
	return n - sizeof h == le32toh(h.bytes);
}

/* The message in IN(i), whose answer goes out by a message that is free. */
static void serve(struct rdma_conn *c, uint32_t i, size_t bytes)
{
	uint32_t free_out = (uint32_t)__builtin_ctz(~c->sending);
	struct srv_out *out = c->server->out;
	const uint8_t *p = message(c, IN(i));
	size_t n;

	if (!is_whole(p, bytes))
		srv_session_end(&c->session, "sends messages that are not whole");
	else
		(void)srv_session_input(&c->session, p, bytes, c->server->now_ns, out);
	if (c->session.greeted)
		c->deadline_ns = 0;
	n = gather(out, message(c, OUT(free_out)));
	c->ending = c->session.phase == SRV_CLOSED;
	if (c->ending)
		c->deadline_ns = c->server->now_ns + ENDING_NS;
	c->over |= c->ending && !n && !c->sending;
	if ((!c->ending && post_in(c, i)) || (n && post_out(c, free_out, n)))
		c->over = true;
}

static void serve_waiting(struct rdma_conn *c)
{
	while (c->waiting_count && !c->ending && !c->over &&
	       c->sending != (1u << RDMA_SLOTS) - 1) {
		unsigned at = c->waiting_first;

		c->waiting_first = (at + 1) % RDMA_SLOTS;
		c->waiting_count--;
		serve(c, c->waiting[at], c->waiting_bytes[at]);
	}
}

static void complete(struct rdma_conn *c, const struct ibv_wc *wc)
{
	unsigned at = (c->waiting_first + c->waiting_count) % RDMA_SLOTS;

	if (wc->status != IBV_WC_SUCCESS) {
		/* The peer is gone, broke a rule of the device, or has said goodbye already. */
		c->over = true;
		return;
	}
	c->active_ns = c->server->now_ns;
	if (wc->wr_id == ASK) {
		c->asking = false;
	} else if (wc->wr_id >= OUT(0)) {
		c->sending &= ~(1u << (wc->wr_id - OUT(0)));
		c->over |= c->ending && !c->sending;
	} else {
		assert(c->waiting_count < RDMA_SLOTS);
		c->waiting[at] = (uint32_t)wc->wr_id;
		c->waiting_bytes[at] = wc->byte_len;
		c->waiting_count++;
	}
}

void rdma_conn_poll(struct rdma_conn *c)
{
	struct ibv_wc wc[CHUNK];
	int n = CHUNK;

	while (n == CHUNK && !c->over) {
		n = ibv_poll_cq(c->cq, CHUNK, wc);
		c->over |= n < 0;
		for (int i = 0; i < n && !c->over; i++)
			complete(c, &wc[i]);
		serve_waiting(c);
	}
}

void rdma_conn_tick(struct rdma_conn *c)
{
	uint64_t now = c->server->now_ns;

	if (c->deadline_ns && now >= c->deadline_ns) {
		if (!c->session.greeted && !c->ending)
			srv_session_end(&c->session, "said no hello in time");
		c->over = true;
	} else if (!c->deadline_ns && !c->asking && now - c->active_ns >= QUIET_NS) {
		ask(c);
	}
}

static uint8_t fewer(uint8_t asked, int most)
{
	return most < asked ? (uint8_t)(most > 0 ? most : 1) : asked;
}

static int make_pair(struct rdma_conn *c)
{
	unsigned sends = RDMA_SLOTS + 1 +
			 (c->device->windows ? RDMA_SLOTS * WIRE_MAX_KEYS : 0);
	struct ibv_qp_init_attr a = {.qp_type = IBV_QPT_RC,
				     .cap = {.max_send_wr = sends,
					     .max_recv_wr = RDMA_SLOTS,
					     .max_send_sge = 1,
					     .max_recv_sge = 1}};

	c->cq = ibv_create_cq(c->device->verbs, (int)(sends + RDMA_SLOTS), c, c->device->channel,
			      0);
	if (!c->cq || ibv_req_notify_cq(c->cq, 0))
		return err_fail(-errno, "no completion queue: %s", strerror(errno));
	a.send_cq = a.recv_cq = c->cq;
	if (rdma_create_qp(c->id, c->domain->pd, &a))
		return err_fail(-errno, "no queue pair: %s", strerror(errno));
	c->memory = aligned_alloc(WIRE_PAGE_SIZE, MEMORY);
	if (c->memory)
		c->mr = ibv_reg_mr(c->domain->pd, c->memory, MEMORY, IBV_ACCESS_LOCAL_WRITE);
	if (!c->mr)
		return err_fail(-ENOMEM, "no memory for messages: %s", strerror(errno));
	for (uint32_t i = 0; i < RDMA_SLOTS; i++)
		if (post_in(c, i))
			return err_fail(-EIO, "can't receive");
	return 0;
}

int rdma_conn_open(struct srv_rdma *s, struct rdma_cm_id *id, const struct rdma_conn_param *asked,
		   const uint8_t borrower[16], uint32_t roles, struct rdma_conn **ret)
{
	struct rdma_conn *c = calloc(1, sizeof *c);
	struct rdma_conn_param p = {.rnr_retry_count = RETRIES};
	int r;

	*ret = c;
	if (!c)
		return err_fail(-ENOMEM, "no memory");
	c->server = s;
	c->id = id;
	c->active_ns = s->now_ns;
	c->deadline_ns = s->now_ns + s->o.hello_ns;
	memcpy(c->borrower, borrower, sizeof c->borrower);
	c->exposer = (struct srv_exposer){.borrower = c->borrower, .expose = rdma_key_give};
	srv_session_open(&c->session, s->lender, s->counters, false);
	c->session.exposer = &c->exposer;
	c->session.roles = (uint8_t)roles;
	r = rdma_device_get(s, id->verbs, &c->device);
	if (r)
		return r;
	c->domain = rdma_domain_join(s, c->device, borrower);
	if (!c->domain)
		return err_fail(-ENOMEM, "no protection domain");
	r = make_pair(c);
	if (r)
		return r;
	p.responder_resources = fewer(asked->responder_resources, c->device->attr.max_qp_rd_atom);
	p.initiator_depth = fewer(asked->initiator_depth, c->device->attr.max_qp_init_rd_atom);
	if (rdma_accept(id, &p))
		return err_fail(-errno, "can't accept: %s", strerror(errno));
	return 0;
}

void rdma_conn_close(struct rdma_conn *c)
{
	if (c->id->qp) {
		/* Moves the queue pair to its error state: nothing gets through any more. */
		rdma_disconnect(c->id);
		rdma_windows_end(c);
		rdma_destroy_qp(c->id);
	}
	if (c->cq)
		ibv_destroy_cq(c->cq);
	if (c->mr)
		ibv_dereg_mr(c->mr);
	free(c->memory);
	rdma_domain_leave(c->server, c);
	srv_session_close(&c->session, c->server->now_ns);
	free(c);
}
