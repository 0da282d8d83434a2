// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Pages over RDMA: the donor's processor takes no part. A message is a chain of READs or WRITEs
 * between the request's own pages and the slab, posted with one doorbell. Nothing is allocated on
 * the way: a message carries room for its mappings, a connection the work requests that it is
 * just posting.
 *
 * A queue pair works in order, and swap writes by tens of megabytes: so only RDMA_WINDOW of writes
 * are in it at a time, and reads, which somebody waits for, don't stand behind the rest. (No two
 * messages under way touch the same page: range.c.)
 */
#include "rdma.h"

static struct rdma_msg *priv(struct rswap_msg *m)
{
	return rswap_msg_private(m);
}

static enum dma_data_direction direction(const struct rswap_msg *m)
{
	return m->op == WIRE_READ ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
}

void rdma_unmap(struct rdma_conn *t, struct rswap_msg *m)
{
	struct rdma_msg *p = priv(m);

	while (p->pieces--)
		ib_dma_unmap_page(t->id->device, p->dma[p->pieces], p->bytes[p->pieces] + 1u,
				  direction(m));
	p->pieces = 0;
}

/* --- building: t->lock is held --- */

static struct ib_rdma_wr *add_wr(struct rdma_conn *t, struct rdma_msg *p, const struct rswap_msg *m,
				 u64 remote, struct ib_sge *sge)
{
	struct ib_rdma_wr *w;

	if (p->wrs == RDMA_MAX_WRS)
		return NULL;
	w = &t->wr[p->wrs++];
	*w = (struct ib_rdma_wr){
		.wr = {
			.next = &t->wr[p->wrs].wr,
			.wr_cqe = &t->other,
			.sg_list = sge,
			.opcode = m->op == WIRE_READ ? IB_WR_RDMA_READ : IB_WR_RDMA_WRITE,
		},
		.remote_addr = remote,
		.rkey = m->rkey,
	};
	return w;
}

/* Maps a piece behind the others. */
static int map_piece(struct rdma_conn *t, const struct rswap_msg *m, struct rdma_msg *p,
		     const struct bio_vec *bv)
{
	struct ib_device *dev = t->id->device;
	u64 dma;

	if (p->pieces == RDMA_PIECES)
		return -E2BIG;
	dma = ib_dma_map_page(dev, bv->bv_page, bv->bv_offset, bv->bv_len, direction(m));
	if (ib_dma_mapping_error(dev, dma))
		return -ENOMEM;
	p->dma[p->pieces] = dma;
	p->bytes[p->pieces++] = bv->bv_len - 1;
	return 0;
}

/* The message's work requests, in t->wr. */
static int build(struct rdma_conn *t, struct rswap_msg *m)
{
	struct rdma_msg *p = priv(m);
	struct ib_rdma_wr *w = NULL;
	struct rswap_cursor c;
	struct bio_vec bv;
	u32 seg = ~0u, sges = 0;
	u64 remote = 0;
	int r;

	p->t = t;
	p->wrs = p->pieces = 0;
	for (rswap_cursor_start(&c, m); rswap_cursor_piece(&c, &bv);
	     rswap_cursor_step(&c, bv.bv_len)) {
		r = map_piece(t, m, p, &bv);
		if (r)
			return r;
		if (c.seg != seg) {
			seg = c.seg;
			remote = m->remote_addr +
				 ((u64)le32_to_cpu(m->out.seg[seg].page) << RSWAP_PAGE_SHIFT);
			w = NULL;
		}
		if (!w || w->wr.num_sge == t->sges)
			w = add_wr(t, p, m, remote, &t->sge[sges]);
		if (!w)
			return -E2BIG;
		t->sge[sges++] = (struct ib_sge){.addr = p->dma[p->pieces - 1],
						 .length = bv.bv_len,
						 .lkey = t->pd->local_dma_lkey};
		w->wr.num_sge++;
		remote += bv.bv_len;
	}
	return w ? 0 : -EINVAL;
}

static void page_done(struct ib_cq *cq, struct ib_wc *wc);

static int post_pages(struct rdma_conn *t, struct rswap_msg *m)
{
	struct rdma_msg *p = priv(m);
	int r = build(t, m);

	if (!r) {
		struct ib_send_wr *last = &t->wr[p->wrs - 1].wr;

		p->cqe.done = page_done;
		for (u32 i = RDMA_REPORT; i < p->wrs; i += RDMA_REPORT)
			t->wr[i - 1].wr.send_flags = IB_SEND_SIGNALED;
		last->next = NULL;
		last->wr_cqe = &p->cqe;
		last->send_flags = IB_SEND_SIGNALED;
		r = ib_post_send(t->id->qp, &t->wr[0].wr, NULL);
	}
	if (r)
		return r;
	t->sq_free -= p->wrs;
	if (m->op == WIRE_WRITE)
		t->writing += m->pages;
	return 0;
}

/* --- sending --- */

/* t->lock is held. False: it has to wait. *error: it never will. */
static bool post(struct rdma_conn *t, struct rswap_msg *m, int *error)
{
	*error = 0;
	if (m->op == WIRE_TRIM)
		return rdma_trim(t, m);
	if (t->sq_free < RDMA_MAX_WRS ||
	    (m->op == WIRE_WRITE && t->writing && t->writing + m->pages > RDMA_WINDOW))
		return false;
	*error = post_pages(t, m);
	return true;
}

/*
 * Posts from one list what has room. t->lock is held. Of a chain that is refused some requests may be
 * under way, so its message ends when the queue pair is drained (rdma_conn_close()).
 */
static int pump_list(struct rdma_conn *t, struct list_head *list)
{
	struct rswap_msg *m;
	int error = 0;

	while (!error && (m = list_first_entry_or_null(list, struct rswap_msg, link))) {
		list_del_init(&m->link);
		if (!post(t, m, &error)) {
			list_add(&m->link, list);
			break;
		}
		if (error)
			list_add_tail(&m->link, &t->refused);
	}
	return error;
}

void rdma_pump(struct rdma_conn *t)
{
	int error = 0;

	spin_lock_bh(&t->lock);
	if (!t->closed && list_empty(&t->refused))
		error = pump_list(t, &t->reads) ?: pump_list(t, &t->queue);
	spin_unlock_bh(&t->lock);
	if (error)
		rswap_conn_failed(&t->base, error);
}

static void rdma_submit(struct rswap_conn *c, struct rswap_msg *m, bool more)
{
	struct rdma_conn *t = rdma_of(c);
	bool closed;

	spin_lock_bh(&t->lock);
	closed = t->closed;
	if (!closed)
		list_add_tail(&m->link, m->op == WIRE_READ ? &t->reads : &t->queue);
	spin_unlock_bh(&t->lock);
	if (closed)
		rswap_msg_done(m, -ENOTCONN, 0);
	else
		rdma_pump(t);
}

/* --- completions: one at a time for a connection --- */

static int wc_error(const struct rdma_conn *t, const struct ib_wc *wc)
{
	if (wc->status != IB_WC_SUCCESS && wc->status != IB_WC_WR_FLUSH_ERR)
		rswap_log(t->base.donor->dev, warn, "donor '%s': %s\n", t->base.donor->address,
			  ib_wc_status_msg(wc->status));
	switch (wc->status) {
	case IB_WC_SUCCESS:
		return 0;
	case IB_WC_RETRY_EXC_ERR:
	case IB_WC_RNR_RETRY_EXC_ERR:
		return -ETIMEDOUT;
	case IB_WC_REM_ACCESS_ERR:
		return -EACCES;
	default:
		return -ECONNRESET;
	}
}

/* A failure, or a part of a message is there. */
void rdma_other_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct rdma_conn *t = cq->cq_context;

	if (wc->status != IB_WC_SUCCESS)
		rswap_conn_failed(&t->base, wc_error(t, wc));
	else
		rswap_conn_moves(&t->base);
}

static void page_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct rdma_msg *p = container_of(wc->wr_cqe, struct rdma_msg, cqe);
	struct rswap_msg *m = (struct rswap_msg *)p - 1;
	struct rdma_conn *t = p->t;
	int error = wc_error(t, wc);
	bool waiting;

	rdma_unmap(t, m);
	spin_lock_bh(&t->lock);
	t->sq_free += p->wrs;
	if (m->op == WIRE_WRITE)
		t->writing -= m->pages;
	waiting = !list_empty(&t->reads) || !list_empty(&t->queue);
	spin_unlock_bh(&t->lock);
	if (error)
		rswap_conn_failed(&t->base, error);
	/* What ends a request is a softirq: here, not in a thread that is to be woken for it. */
	local_bh_disable();
	rswap_msg_done(m, error, 0);
	local_bh_enable();
	if (waiting)
		rdma_pump(t);
}

const struct rswap_transport rswap_rdma = {
	.name = "rdma",
	.in_order = true,
	.conn_bytes = sizeof(struct rdma_conn),
	.msg_bytes = sizeof(struct rdma_msg),
	.open = rdma_conn_open,
	.map = rdma_conn_map,
	.submit = rdma_submit,
	.close = rdma_conn_close,
};
