/* SPDX-License-Identifier: MIT */
/*
 * Devices, and whether their memory windows are to be trusted: a window is bound over the middle of
 * a region and a READ beyond its bounds is tried through two queue pairs joined back to back.
 * (Linux's software device rxe lets it through.) Whoever can't be tried out is not trusted.
 */
#include "server/rdma_inside.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define PAGE       ((size_t)WIRE_PAGE_SIZE)
#define TRIAL_NS   (2 * NSEC_PER_SEC)
#define MAX_GIDS   16

struct trial {
	struct ibv_context *verbs;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2]; /* 0 reads, 1 has the window */
	struct ibv_mr *mr;
	struct ibv_mw *mw;
	uint8_t *mem; /* four pages: three in the region's use, one to read into */
	uint8_t port;
	int gid_index;
	union ibv_gid gid;
	struct ibv_port_attr attr;
};

/* An active port and, on Ethernet, an address of it that is not link-local if there is one. */
static bool find_port(struct trial *t, unsigned ports)
{
	for (t->port = 1; t->port <= ports; t->port++) {
		if (ibv_query_port(t->verbs, t->port, &t->attr) ||
		    t->attr.state != IBV_PORT_ACTIVE)
			continue;
		t->gid_index = -1;
		for (int i = 0; i < t->attr.gid_tbl_len && i < MAX_GIDS; i++) {
			union ibv_gid g;

			if (ibv_query_gid(t->verbs, t->port, i, &g) || !g.global.interface_id)
				continue;
			if (t->gid_index >= 0 && g.raw[0] == 0xfe)
				continue;
			t->gid_index = i;
			t->gid = g;
		}
		if (t->gid_index >= 0)
			return true;
	}
	return false;
}

static bool join(struct trial *t, struct ibv_qp *qp, uint32_t to)
{
	struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT,
				   .port_num = t->port,
				   .qp_access_flags = IBV_ACCESS_REMOTE_READ |
						      IBV_ACCESS_REMOTE_WRITE};
	struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR,
				  .path_mtu = IBV_MTU_1024,
				  .dest_qp_num = to,
				  .max_dest_rd_atomic = 1,
				  .min_rnr_timer = 12,
				  .ah_attr = {.is_global = 1,
					      .dlid = t->attr.lid,
					      .port_num = t->port,
					      .grh = {.dgid = t->gid,
						      .sgid_index = (uint8_t)t->gid_index,
						      .hop_limit = 8}}};
	struct ibv_qp_attr rts = {.qp_state = IBV_QPS_RTS,
				  .timeout = 14,
				  .retry_cnt = 3,
				  .rnr_retry = 3,
				  .max_rd_atomic = 1};

	return !ibv_modify_qp(qp, &init,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				      IBV_QP_ACCESS_FLAGS) &&
	       !ibv_modify_qp(qp, &rtr,
			      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				      IBV_QP_MIN_RNR_TIMER) &&
	       !ibv_modify_qp(qp, &rts,
			      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				      IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static bool trial_open(struct trial *t)
{
	struct ibv_qp_init_attr a = {
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = {.max_send_wr = 4, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1}};

	t->mem = aligned_alloc(PAGE, 4 * PAGE);
	t->pd = ibv_alloc_pd(t->verbs);
	t->cq = ibv_create_cq(t->verbs, 16, NULL, NULL, 0);
	if (!t->mem || !t->pd || !t->cq)
		return false;
	a.send_cq = a.recv_cq = t->cq;
	t->mr = ibv_reg_mr(t->pd, t->mem, 4 * PAGE,
			   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND);
	t->qp[0] = ibv_create_qp(t->pd, &a);
	t->qp[1] = ibv_create_qp(t->pd, &a);
	t->mw = ibv_alloc_mw(t->pd, IBV_MW_TYPE_2);
	return t->mr && t->qp[0] && t->qp[1] && t->mw && join(t, t->qp[0], t->qp[1]->qp_num) &&
	       join(t, t->qp[1], t->qp[0]->qp_num);
}

static void trial_close(struct trial *t)
{
	/* A queue pair with a bound window may take its time to go. */
	if (t->mw)
		ibv_dealloc_mw(t->mw);
	for (int i = 0; i < 2; i++)
		if (t->qp[i])
			ibv_destroy_qp(t->qp[i]);
	if (t->mr)
		ibv_dereg_mr(t->mr);
	if (t->cq)
		ibv_destroy_cq(t->cq);
	if (t->pd)
		ibv_dealloc_pd(t->pd);
	free(t->mem);
}

/* Posts and waits. True: it was done. */
static bool run(struct trial *t, struct ibv_qp *qp, struct ibv_send_wr *wr)
{
	uint64_t end = clock_ns() + TRIAL_NS;
	struct ibv_send_wr *bad;
	struct ibv_wc wc;
	int n;

	if (ibv_post_send(qp, wr, &bad))
		return false;
	while (!(n = ibv_poll_cq(t->cq, 1, &wc)) && clock_ns() < end)
		poll(NULL, 0, 1);
	return n == 1 && wc.status == IBV_WC_SUCCESS;
}

static bool reads(struct trial *t, size_t at, uint32_t rkey)
{
	struct ibv_sge sge = {.addr = (uintptr_t)t->mem + 3 * PAGE,
			      .length = 64,
			      .lkey = t->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				 .num_sge = 1,
				 .opcode = IBV_WR_RDMA_READ,
				 .wr.rdma = {(uintptr_t)t->mem + at, rkey}};

	memset(t->mem, 1, 3 * PAGE);
	memset(t->mem + 3 * PAGE, 0, PAGE);
	return run(t, t->qp[0], &wr) && t->mem[3 * PAGE] == 1;
}

static bool windows_hold(struct ibv_context *verbs, unsigned ports)
{
	struct trial t = {.verbs = verbs};
	struct ibv_send_wr bind = {.opcode = IBV_WR_BIND_MW};
	bool ok = find_port(&t, ports) && trial_open(&t);

	if (ok) {
		bind.bind_mw.mw = t.mw;
		bind.bind_mw.rkey = ibv_inc_rkey(t.mw->rkey);
		bind.bind_mw.bind_info.mr = t.mr;
		bind.bind_mw.bind_info.addr = (uintptr_t)t.mem + PAGE;
		bind.bind_mw.bind_info.length = PAGE;
		bind.bind_mw.bind_info.mw_access_flags = IBV_ACCESS_REMOTE_READ;
		ok = run(&t, t.qp[1], &bind) && reads(&t, PAGE, bind.bind_mw.rkey) &&
		     !reads(&t, 2 * PAGE, bind.bind_mw.rkey);
	}
	trial_close(&t);
	return ok;
}

static bool want_windows(const struct srv_rdma *s, const struct rdma_device *d)
{
	const char *name = ibv_get_device_name(d->verbs->device);
	bool hold = false;

	if (s->o.keys == SRV_RDMA_REGIONS)
		return false;
	if (d->attr.device_cap_flags &
	    (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B))
		hold = windows_hold(d->verbs, d->attr.phys_port_cnt);
	if (!hold && s->o.keys == SRV_RDMA_WINDOWS)
		log_warn("%s does not keep the bounds of memory windows; they are used all the "
			 "same, as --rdma-keys says",
			 name);
	else
		log_debug("%s: %s", name,
			  hold ? "memory windows keep their bounds" : "a memory region a slab");
	return hold || s->o.keys == SRV_RDMA_WINDOWS;
}

static int device_open(struct srv_rdma *s, struct rdma_device *d)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = d};
	int flags;

	if (ibv_query_device(d->verbs, &d->attr))
		return err_fail(-errno, "can't ask the RDMA device: %s", strerror(errno));
	d->channel = ibv_create_comp_channel(d->verbs);
	if (!d->channel)
		return err_fail(-errno, "can't use the RDMA device: %s", strerror(errno));
	flags = fcntl(d->channel->fd, F_GETFL);
	if (flags < 0 || fcntl(d->channel->fd, F_SETFL, flags | O_NONBLOCK) ||
	    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, d->channel->fd, &e))
		return err_fail(-errno, "can't wait for the RDMA device: %s", strerror(errno));
	d->windows = want_windows(s, d);
	return 0;
}

int rdma_device_get(struct srv_rdma *s, struct ibv_context *verbs, struct rdma_device **ret)
{
	struct rdma_device *d = s->devices;
	int r;

	while (d && d->verbs != verbs)
		d = d->next;
	if (d) {
		*ret = d;
		return 0;
	}
	d = calloc(1, sizeof *d);
	if (!d)
		return err_fail(-ENOMEM, "no memory");
	d->verbs = verbs;
	r = device_open(s, d);
	if (r) {
		if (d->channel)
			ibv_destroy_comp_channel(d->channel);
		free(d);
		return r;
	}
	d->next = s->devices;
	s->devices = d;
	*ret = d;
	return 0;
}

void rdma_devices_close(struct srv_rdma *s)
{
	struct rdma_device *d;

	while ((d = s->devices)) {
		s->devices = d->next;
		ibv_destroy_comp_channel(d->channel);
		free(d);
	}
}
