// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * RDMA connections to a donor: the connection manager, the token in its private data, the hello,
 * and the few messages that are not pages. Every wait is bounded by the device's deadline. Keys are
 * asked for once and are good on all connections to the donor (WIRE_HELLO_F_SHARED_KEYS).
 */
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include "rdma.h"

#define HEAD        sizeof(struct wire_header)
#define READS       16u /* READs under way at once; the device may do fewer */
#define RETRIES     7
#define ACK_TIMEOUT 18 /* 4 us * 2^18; with the retries 8 s: the device's deadline is sooner */

static bool rdma_softirq;
module_param(rdma_softirq, bool, 0644);
MODULE_PARM_DESC(rdma_softirq, "take completions in a softirq, not in a thread; for new connections");

/* --- the connection manager --- */

static void refused(struct rdma_conn *t, struct rdma_cm_id *id, struct rdma_cm_event *e)
{
	const struct wire_rdma_refusal *why;
	struct rswap_donor *d = t->base.donor;
	u8 n = 0;

	why = rdma_consumer_reject_data(id, e, &n);
	if (!why || n < sizeof *why || why->magic != cpu_to_le64(WIRE_RDMA_MAGIC))
		return;
	rswap_log(d->dev, err, "donor '%s' refuses: %s\n", d->address,
		  rswap_wire_text(le32_to_cpu(why->status)));
	rswap_count(d->dev, refused, 1);
	t->event_error = -EACCES;
}

static int cm_event(struct rdma_cm_id *id, struct rdma_cm_event *e)
{
	struct rdma_conn *t = id->context;

	switch (e->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		WRITE_ONCE(t->established, true);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
	case RDMA_CM_EVENT_ADDR_CHANGE:
		if (READ_ONCE(t->established)) {
			rswap_conn_failed(&t->base, -ECONNRESET);
			return 0;
		}
		t->event_error = -ECONNRESET;
		break;
	case RDMA_CM_EVENT_REJECTED:
		t->event_error = -ECONNREFUSED;
		refused(t, id, e);
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		return 0;
	default:
		t->event_error = e->status < 0 ? e->status : -EHOSTUNREACH;
		break;
	}
	t->event = e->event;
	complete(&t->moved);
	return 0;
}

static int await(struct rdma_conn *t, int want)
{
	if (!wait_for_completion_timeout(&t->moved, t->base.donor->dev->deadline))
		return -ETIMEDOUT;
	if (t->event_error)
		return t->event_error;
	return t->event == want ? 0 : -ECONNRESET;
}

/* --- messages --- */

static int post_in(struct rdma_in *in)
{
	struct rdma_conn *t = in->t;
	struct ib_sge sge = {
		.addr = in->dma, .length = RDMA_IN_BYTES, .lkey = t->pd->local_dma_lkey};
	struct ib_recv_wr wr = {.wr_cqe = &in->cqe, .sg_list = &sge, .num_sge = 1};

	return ib_post_recv(t->id->qp, &wr, NULL);
}

/* t->lock is held; head: complete but for the tag. */
static int post_out(struct rdma_out *o, struct wire_header *head, const void *body, u32 bytes)
{
	struct rdma_conn *t = o->t;
	struct ib_device *dev = t->id->device;
	struct ib_sge sge = {
		.addr = o->dma, .length = HEAD + bytes, .lkey = t->pd->local_dma_lkey};
	struct ib_send_wr wr = {.wr_cqe = &o->cqe,
				.sg_list = &sge,
				.num_sge = 1,
				.opcode = IB_WR_SEND,
				.send_flags = IB_SEND_SIGNALED};
	int r;

	o->tag = head->op == cpu_to_le16(WIRE_HELLO) ? 1 : ++t->turn << 8 | (o - t->out);
	head->tag = cpu_to_le64(o->tag);
	head->bytes = cpu_to_le32(bytes);
	ib_dma_sync_single_for_cpu(dev, o->dma, RDMA_OUT_BYTES, DMA_TO_DEVICE);
	memcpy(o->buf, head, HEAD);
	memcpy(o->buf + HEAD, body, bytes);
	ib_dma_sync_single_for_device(dev, o->dma, RDMA_OUT_BYTES, DMA_TO_DEVICE);
	o->op = le16_to_cpu(head->op);
	o->sending = o->waits = true;
	r = ib_post_send(t->id->qp, &wr, NULL);
	if (r)
		o->sending = o->waits = false;
	else
		t->sq_free--;
	return r;
}

static void out_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct rdma_out *o = container_of(wc->wr_cqe, struct rdma_out, cqe);
	struct rdma_conn *t = o->t;

	spin_lock_bh(&t->lock);
	o->sending = false;
	t->sq_free++;
	spin_unlock_bh(&t->lock);
	rdma_other_done(cq, wc);
	rdma_pump(t);
}

bool rdma_trim(struct rdma_conn *t, struct rswap_msg *m)
{
	struct wire_header head = m->out.head;

	for (unsigned int i = 0; i < RDMA_ASK; i++) {
		struct rdma_out *o = &t->out[i];

		if (o->sending || o->waits || !t->sq_free)
			continue;
		o->msg = m;
		if (!post_out(o, &head, m->out.seg, m->segs * sizeof m->out.seg[0]))
			return true;
		o->msg = NULL;
		return false;
	}
	return false;
}

/* Takes an answer. Returns a TRIM that is done. */
static struct rswap_msg *take(struct rdma_conn *t, const struct wire_header *h, const void *body,
			      int *error)
{
	u64 tag = le64_to_cpu(h->tag);
	u32 bytes = le32_to_cpu(h->bytes);
	struct rswap_msg *m = NULL;
	struct rdma_out *o = NULL;

	*error = 0;
	spin_lock_bh(&t->lock);
	for (unsigned int i = 0; i < RDMA_CONTROLS && !o; i++)
		if (t->out[i].waits && t->out[i].tag == tag)
			o = &t->out[i];
	if (!o || o->op != le16_to_cpu(h->op) || h->flags != cpu_to_le16(WIRE_F_REPLY) ||
	    (o->msg && bytes)) {
		*error = -EPROTO;
	} else {
		o->waits = false;
		m = o->msg;
		o->msg = NULL;
		if (!m) {
			t->answer_status = le32_to_cpu(h->status);
			t->answer_count = le32_to_cpu(h->count);
			t->answer_bytes = bytes;
			memcpy(t->answer, body, bytes);
			complete(&t->answered);
		}
	}
	spin_unlock_bh(&t->lock);
	return m;
}

static void in_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct rdma_in *in = container_of(wc->wr_cqe, struct rdma_in, cqe);
	struct rdma_conn *t = in->t;
	struct rswap_msg *m = NULL;
	struct wire_header h;
	int r = 0;

	if (wc->status != IB_WC_SUCCESS) {
		rdma_other_done(cq, wc);
		return;
	}
	ib_dma_sync_single_for_cpu(t->id->device, in->dma, RDMA_IN_BYTES, DMA_FROM_DEVICE);
	memcpy(&h, in->buf, HEAD);
	if (wc->byte_len < HEAD || wc->byte_len - HEAD != le32_to_cpu(h.bytes))
		r = -EPROTO;
	else if (h.tag || h.flags) /* else a notice */
		m = take(t, &h, in->buf + HEAD, &r);
	ib_dma_sync_single_for_device(t->id->device, in->dma, RDMA_IN_BYTES, DMA_FROM_DEVICE);
	if (!r)
		r = post_in(in);
	if (r)
		rswap_conn_failed(&t->base, r);
	if (m)
		rswap_msg_done(m, h.status ? -EREMOTEIO : 0, le32_to_cpu(h.status));
	rdma_pump(t);
}

/* One question; its answer's body (at most max bytes) in t->answer. Its length or an error. */
static int ask(struct rdma_conn *t, u16 op, u32 count, const void *body, u32 bytes)
{
	struct rdma_out *o = &t->out[RDMA_ASK];
	struct wire_header head = {.op = cpu_to_le16(op),
				   .count = cpu_to_le32(count),
				   .epoch = cpu_to_le64(t->base.donor->epoch)};
	int r = -ENOTCONN;

	reinit_completion(&t->answered);
	spin_lock_bh(&t->lock);
	if (!t->base.dead && !o->sending && !o->waits)
		r = post_out(o, &head, body, bytes);
	spin_unlock_bh(&t->lock);
	if (r)
		return r;
	if (!wait_for_completion_timeout(&t->answered, t->base.donor->dev->deadline))
		return -ETIMEDOUT;
	if (!t->answer_status)
		return t->answer_bytes;
	rswap_log(t->base.donor->dev, err, "donor '%s' refuses: %s\n", t->base.donor->address,
		  rswap_wire_text(t->answer_status));
	return -EREMOTEIO;
}

static int say_hello(struct rdma_conn *t)
{
	struct rswap_donor *d = t->base.donor;
	struct wire_hello hello = {
		.magic = cpu_to_le64(WIRE_MAGIC),
		.major = cpu_to_le16(WIRE_MAJOR),
		.minor = cpu_to_le16(WIRE_MINOR),
		.minor_min = cpu_to_le16(WIRE_MINOR > 3 ? WIRE_MINOR - 1 : 2),
		.flags = cpu_to_le16(WIRE_HELLO_F_SHARED_KEYS),
	};
	struct wire_welcome w;
	int r;

	memcpy(hello.borrower, d->dev->borrower, sizeof hello.borrower);
	strscpy(hello.name, d->dev->volume, sizeof hello.name);
	r = ask(t, WIRE_HELLO, 0, &hello, sizeof hello);
	if (r < 0)
		return r;
	if (r != sizeof w)
		return -EPROTO;
	memcpy(&w, t->answer, sizeof w);
	/* Through the control connection we know it already: is it the same start of it? */
	if (w.magic != cpu_to_le64(WIRE_MAGIC) || w.slab_pages != d->welcome.slab_pages)
		return -EPROTO;
	return memcmp(w.boot, d->welcome.boot, sizeof w.boot) ? -ESTALE : 0;
}

int rdma_conn_map(struct rswap_donor *d, struct rswap_replica *const *reps, unsigned int n)
{
	struct rdma_conn *t = rdma_of(d->conn[0]);
	u64 slab_bytes = (u64)d->dev->slab_pages << RSWAP_PAGE_SHIFT;
	struct wire_slab slab[RDMA_KEYS];
	struct wire_rkey key;
	int r = 0;

	if (n > RDMA_KEYS)
		return -E2BIG;
	mutex_lock(&t->ask);
	for (unsigned int i = 0; i < n; i++)
		slab[i].slab = cpu_to_le64(reps[i]->handle);
	r = ask(t, WIRE_RKEYS, n, slab, n * sizeof slab[0]);
	if (r >= 0)
		r = r == n * sizeof key && t->answer_count == n ? 0 : -EPROTO;
	for (unsigned int i = 0; i < n && !r; i++) {
		memcpy(&key, t->answer + i * sizeof key, sizeof key);
		if (le64_to_cpu(key.bytes) != slab_bytes || key.reserved)
			r = -EPROTO;
		reps[i]->remote_addr = le64_to_cpu(key.addr);
		reps[i]->rkey = le32_to_cpu(key.rkey);
	}
	mutex_unlock(&t->ask);
	return r;
}

/* --- opening and closing --- */

static void make(struct rdma_conn *t)
{
	t->made = true;
	spin_lock_init(&t->lock);
	mutex_init(&t->ask);
	init_completion(&t->moved);
	init_completion(&t->answered);
	INIT_LIST_HEAD(&t->reads);
	INIT_LIST_HEAD(&t->queue);
	INIT_LIST_HEAD(&t->refused);
	t->other.done = rdma_other_done;
	for (unsigned int i = 0; i < RDMA_CONTROLS; i++) {
		t->out[i].t = t;
		t->out[i].cqe.done = out_done;
		t->in[i].t = t;
		t->in[i].cqe.done = in_done;
	}
}

static int map_buffer(struct ib_device *dev, void **buf, u64 *dma, size_t bytes,
		      enum dma_data_direction dir)
{
	*buf = kzalloc(bytes, GFP_KERNEL);
	if (!*buf)
		return -ENOMEM;
	*dma = ib_dma_map_single(dev, *buf, bytes, dir);
	if (!ib_dma_mapping_error(dev, *dma))
		return 0;
	kfree(*buf);
	*buf = NULL;
	return -ENOMEM;
}

static void unmap_buffer(struct ib_device *dev, void **buf, u64 dma, size_t bytes,
			 enum dma_data_direction dir)
{
	if (!*buf)
		return;
	ib_dma_unmap_single(dev, dma, bytes, dir);
	kfree(*buf);
	*buf = NULL;
}

static int open_buffers(struct rdma_conn *t)
{
	struct ib_device *dev = t->id->device;
	int r = 0;

	for (unsigned int i = 0; i < RDMA_CONTROLS && !r; i++) {
		t->out[i].sending = t->out[i].waits = false;
		t->out[i].msg = NULL;
		r = map_buffer(dev, &t->out[i].buf, &t->out[i].dma, RDMA_OUT_BYTES, DMA_TO_DEVICE);
		if (!r)
			r = map_buffer(dev, &t->in[i].buf, &t->in[i].dma, RDMA_IN_BYTES,
				       DMA_FROM_DEVICE);
		if (!r)
			r = post_in(&t->in[i]);
	}
	return r;
}

static int open_pair(struct rdma_conn *t)
{
	struct ib_device *dev = t->id->device;
	u32 depth = min_t(u32, RDMA_SQ_DEPTH, dev->attrs.max_qp_wr - 1);
	struct ib_qp_init_attr a = {
		.qp_type = IB_QPT_RC,
		.sq_sig_type = IB_SIGNAL_REQ_WR,
		.cap = {.max_send_wr = depth + 1, /* one more each for draining */
			.max_recv_wr = RDMA_CONTROLS + 1,
			.max_recv_sge = 1},
	};
	int r;

	t->sges = min_t(u32, RDMA_MAX_SGES, dev->attrs.max_send_sge);
	if (dev->attrs.max_sge_rd)
		t->sges = min_t(u32, t->sges, dev->attrs.max_sge_rd);
	if (t->sges < RDMA_MIN_SGES || depth < RDMA_MAX_WRS + RDMA_CONTROLS)
		return -EOPNOTSUPP;
	a.cap.max_send_sge = t->sges;
	t->sq_free = depth;
	t->writing = 0;
	t->pd = ib_alloc_pd(dev, 0);
	if (IS_ERR(t->pd)) {
		r = PTR_ERR(t->pd);
		t->pd = NULL;
		return r;
	}
	t->cq = ib_alloc_cq(dev, t, depth + RDMA_CONTROLS + 2,
			    t->base.queue % dev->num_comp_vectors, rdma_softirq ? IB_POLL_SOFTIRQ : IB_POLL_WORKQUEUE);
	if (IS_ERR(t->cq)) {
		r = PTR_ERR(t->cq);
		t->cq = NULL;
		return r;
	}
	a.send_cq = a.recv_cq = t->cq;
	r = rdma_create_qp(t->id, t->pd, &a);
	return r ? r : open_buffers(t);
}

static int connect_pair(struct rdma_conn *t)
{
	struct rswap_donor *d = t->base.donor;
	struct wire_rdma_hello who = {.magic = cpu_to_le64(WIRE_RDMA_MAGIC)};
	struct rdma_conn_param p = {
		.private_data = &who,
		.private_data_len = sizeof who,
		.initiator_depth = min_t(u32, READS, t->id->device->attrs.max_qp_init_rd_atom),
		.responder_resources = 1,
		.retry_count = RETRIES,
		.rnr_retry_count = RETRIES,
	};
	/* The donor looks whether we are there by writing nothing; there is no key to anything. */
	struct ib_qp_attr a = {.qp_access_flags = IB_ACCESS_REMOTE_WRITE};
	int r = d->dev->hmac ? rswap_control_token(d, who.token) : 0;

	memcpy(who.borrower, d->dev->borrower, sizeof who.borrower);
	if (!r)
		r = rdma_connect(t->id, &p);
	memzero_explicit(&who, sizeof who);
	if (!r)
		r = await(t, RDMA_CM_EVENT_ESTABLISHED);
	return r ? r : ib_modify_qp(t->id->qp, &a, IB_QP_ACCESS_FLAGS);
}

int rdma_conn_open(struct rswap_conn *c)
{
	struct rdma_conn *t = rdma_of(c);
	struct rswap_donor *d = c->donor;
	int ms = jiffies_to_msecs(d->dev->deadline), r;
	struct rdma_cm_id *id;

	if (!t->made)
		make(t);
	t->closed = true;
	t->established = false;
	t->event_error = 0;
	reinit_completion(&t->moved);
	id = rdma_create_id(&init_net, cm_event, t, RDMA_PS_TCP, IB_QPT_RC);
	if (IS_ERR(id))
		return PTR_ERR(id);
	t->id = id;
	rdma_set_ack_timeout(id, ACK_TIMEOUT);
	r = rdma_resolve_addr(id, NULL, (struct sockaddr *)&d->data_sockaddr, ms);
	if (!r)
		r = await(t, RDMA_CM_EVENT_ADDR_RESOLVED);
	if (!r)
		r = rdma_resolve_route(id, ms);
	if (!r)
		r = await(t, RDMA_CM_EVENT_ROUTE_RESOLVED);
	if (!r)
		r = open_pair(t);
	if (!r)
		r = connect_pair(t);
	if (!r) {
		mutex_lock(&t->ask);
		r = say_hello(t);
		mutex_unlock(&t->ask);
	}
	t->closed = r;
	if (r == -ENODEV)
		rswap_log(d->dev, err, "donor '%s': no RDMA device of this node leads there\n",
			  d->address);
	return r;
}

/* Messages that nobody will answer any more; the queue pair is drained. */
static void fail_messages(struct rdma_conn *t)
{
	struct rswap_msg *m, *next;
	LIST_HEAD(list);

	spin_lock_bh(&t->lock);
	list_for_each_entry(m, &t->refused, link)
		rdma_unmap(t, m);
	list_splice_init(&t->refused, &list);
	list_splice_tail_init(&t->reads, &list);
	list_splice_tail_init(&t->queue, &list);
	for (unsigned int i = 0; i < RDMA_CONTROLS; i++) {
		if (t->out[i].msg)
			list_add_tail(&t->out[i].msg->link, &list);
		t->out[i].msg = NULL;
		t->out[i].waits = false;
	}
	spin_unlock_bh(&t->lock);
	list_for_each_entry_safe(m, next, &list, link)
		rswap_msg_done(m, -ECONNRESET, 0);
}

void rdma_conn_close(struct rswap_conn *c)
{
	struct rdma_conn *t = rdma_of(c);
	struct ib_device *dev;

	if (!t->id)
		return;
	dev = t->id->device;
	spin_lock_bh(&t->lock);
	t->closed = true;
	spin_unlock_bh(&t->lock);
	if (t->id->qp) {
		rdma_disconnect(t->id);
		ib_drain_qp(t->id->qp); /* every completion has run when this returns */
	}
	fail_messages(t);
	if (t->id->qp)
		rdma_destroy_qp(t->id);
	for (unsigned int i = 0; i < RDMA_CONTROLS && dev; i++) {
		unmap_buffer(dev, &t->out[i].buf, t->out[i].dma, RDMA_OUT_BYTES, DMA_TO_DEVICE);
		unmap_buffer(dev, &t->in[i].buf, t->in[i].dma, RDMA_IN_BYTES, DMA_FROM_DEVICE);
	}
	if (t->cq)
		ib_free_cq(t->cq);
	t->cq = NULL;
	if (t->pd)
		ib_dealloc_pd(t->pd);
	t->pd = NULL;
	rdma_destroy_id(t->id);
	t->id = NULL;
}
