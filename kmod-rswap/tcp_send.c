// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The sending half of the TCP transport. Whoever submits a message sends it, if nobody else is
 * sending on the connection; who comes meanwhile leaves his to the one who sends. Pages are lent to
 * the network, not copied. A full socket is gone on with when it has room, by a work.
 */
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/slab.h>
#include "compat.h"
#include "tcp.h"

#define SEND_PIECES 16 /* pieces of pages handed to the network at once */
#define RETRY_MS   10

static bool slot_take(struct tcp_conn *t, struct rswap_msg *m)
{
	unsigned int i;

	if (t->used >= t->slots)
		return false;
	for (i = t->next; t->slot[i]; i = (i + 1) % RSWAP_TCP_SLOTS)
		;
	t->slot[i] = m;
	t->used++;
	t->next = (i + 1) % RSWAP_TCP_SLOTS;
	m->out.head.tag = cpu_to_le64(++t->turn << 8 | i);
	return true;
}

/* --- with the mutex held --- */

/*
 * The message's last bytes are about to be handed over: from then on its answer may come, before
 * the call that sends returns, and the message be somebody else's.
 */
static void answer_may_come(struct tcp_conn *t)
{
	spin_lock_bh(&t->lock);
	t->tx_open = false;
	spin_unlock_bh(&t->lock);
}

/* They were not taken after all. False: a donor that answers what it has not got lies. */
static bool answer_must_wait(struct tcp_conn *t, const struct rswap_msg *m)
{
	bool r;

	spin_lock_bh(&t->lock);
	r = t->slot[le64_to_cpu(t->tx_tag) % RSWAP_TCP_SLOTS] == m && m->out.head.tag == t->tx_tag;
	t->tx_open = true;
	spin_unlock_bh(&t->lock);
	return r;
}

static int send_words(struct tcp_conn *t, struct rswap_msg *m)
{
	u32 bytes = sizeof m->out.head + m->segs * sizeof m->out.seg[0];
	bool last = m->op != WIRE_WRITE;
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (last ? 0 : MSG_MORE);

	while (t->tx_at < bytes) {
		struct kvec v = {(u8 *)&m->out + t->tx_at, bytes - t->tx_at};
		struct msghdr h = {.msg_flags = flags};
		int r;

		if (last)
			answer_may_come(t);
		r = kernel_sendmsg(t->sock, &h, &v, 1, v.iov_len);
		if (r > 0)
			t->tx_at += r;
		if (last && t->tx_at < bytes && !answer_must_wait(t, m))
			return -EPROTO;
		if (r <= 0)
			return r ? r : -EPIPE;
	}
	return 0;
}

/* For tests: what a driver does that doesn't think of memory running out. */
static int send_carelessly(struct tcp_conn *t, struct bio_vec *bv)
{
	struct msghdr h = {.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL};
	char *copy = kmalloc(RSWAP_PAGE_SIZE, GFP_KERNEL), *p = bvec_kmap_local(bv);
	struct kvec v = {copy, bv->bv_len};
	int r = -ENOMEM;

	if (copy)
		memcpy(copy, p, bv->bv_len);
	kunmap_local(p);
	if (copy)
		r = kernel_sendmsg(t->sock, &h, &v, 1, v.iov_len);
	kfree(copy);
	return r;
}

/* As many pieces as go out at once; *end: where that leads. */
static unsigned int gather(struct tcp_conn *t, struct bio_vec *bv, size_t *bytes,
			   struct rswap_cursor *end, bool *lend)
{
	unsigned int n = 0;

	*end = t->tx_data;
	*bytes = 0;
	*lend = true;
	while (n < SEND_PIECES && *lend && rswap_cursor_piece(end, &bv[n])) {
		/* The network can't hold on to every kind of page. */
		if (!sendpage_ok(bv[n].bv_page)) {
			if (n)
				break;
			*lend = false;
		}
		*bytes += bv[n].bv_len;
		rswap_cursor_step(end, bv[n].bv_len);
		n++;
		if (rswap_careless || RSWAP_SEND_ONE)
			break;
	}
	return n;
}

static int send_pieces(struct tcp_conn *t, struct bio_vec *bv, unsigned int n, size_t bytes,
		       bool lend, bool last)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (last ? 0 : MSG_MORE);
	struct msghdr h = {.msg_flags = flags};

	if (rswap_careless)
		return send_carelessly(t, bv);
	if (lend)
		return rswap_send_pages(t->sock, bv, n, bytes, flags);
	iov_iter_bvec(&h.msg_iter, ITER_SOURCE, bv, n, bytes);
	return sock_sendmsg(t->sock, &h);
}

static int send_pages(struct tcp_conn *t, const struct rswap_msg *m)
{
	while (t->tx_data.left) {
		struct bio_vec bv[SEND_PIECES];
		struct rswap_cursor end;
		size_t bytes;
		bool lend, last;
		unsigned int n = gather(t, bv, &bytes, &end, &lend);
		int r;

		if (WARN_ON_ONCE(!n))
			return -EPIPE;
		last = !end.left;
		if (last)
			answer_may_come(t);
		r = send_pieces(t, bv, n, bytes, lend, last);
		if (r == (int)bytes) {
			t->tx_data = end;
			continue;
		}
		if (last && !answer_must_wait(t, m))
			return -EPROTO;
		if (r <= 0)
			return r ? r : -EPIPE;
		while (r > 0 && rswap_cursor_piece(&t->tx_data, bv)) {
			u32 k = min_t(u32, r, bv->bv_len);

			rswap_cursor_step(&t->tx_data, k);
			r -= k;
		}
	}
	return 0;
}

static struct rswap_msg *next_message(struct tcp_conn *t)
{
	struct rswap_msg *m;

	spin_lock_bh(&t->lock);
	m = t->closed ? NULL : list_first_entry_or_null(&t->queue, struct rswap_msg, link);
	if (m && slot_take(t, m))
		list_del_init(&m->link);
	else
		m = NULL;
	t->tx_msg = m;
	t->tx_open = true;
	if (m)
		t->tx_tag = m->out.head.tag;
	spin_unlock_bh(&t->lock);
	t->tx_at = 0;
	if (m && m->op == WIRE_WRITE)
		rswap_cursor_start(&t->tx_data, m);
	return m;
}

/* Sends until nothing is left or the socket is full. */
static int send_queue(struct tcp_conn *t)
{
	while (t->tx_msg || next_message(t)) {
		struct rswap_msg *m = t->tx_msg;
		bool pages = m->op == WIRE_WRITE;
		int r = send_words(t, m);

		if (!r && pages)
			r = send_pages(t, m);
		if (r)
			return r;
		t->tx_msg = NULL;
	}
	return 0;
}

/* Nothing for the sender to do. */
static bool idle(struct tcp_conn *t)
{
	bool r;

	spin_lock_bh(&t->lock);
	r = t->closed || ((list_empty(&t->queue) || t->used >= t->slots) &&
			  !test_bit(RSWAP_TCP_RX_PENDING, &t->flags));
	spin_unlock_bh(&t->lock);
	return r;
}

/* Sends, and reads what came meanwhile. True: the socket is full or broken. */
static bool push_once(struct tcp_conn *t)
{
	int r = send_queue(t);

	if (r == -EAGAIN || r == -ENOMEM || r == -ENOBUFS) {
		/* write_space calls, unless it was memory that there was too little of. */
		set_bit(SOCK_NOSPACE, &t->sock->flags);
		queue_delayed_work(rswap_io_wq, &t->tx_work, msecs_to_jiffies(RETRY_MS));
	} else if (r) {
		rswap_conn_failed(&t->base, r);
	}
	rswap_tcp_read_later(t);
	return r;
}

static void push(struct tcp_conn *t)
{
	unsigned int flags = rswap_reclaim_enter();
	bool stop = false;

	/*
	 * Whoever comes while another sends leaves it to him: he looks again after he let go. With a
	 * full socket only the work goes on; if it came while he still held the mutex, he does.
	 */
	while (mutex_trylock(&t->tx)) {
		clear_bit(RSWAP_TCP_TX_AGAIN, &t->flags);
		stop = READ_ONCE(t->closed) || push_once(t);
		mutex_unlock(&t->tx);
		smp_mb(); /* pairs with those who found the mutex taken */
		if (READ_ONCE(t->closed) ||
		    (!test_bit(RSWAP_TCP_TX_AGAIN, &t->flags) && (stop || idle(t))))
			break;
	}
	if (stop && test_bit(RSWAP_TCP_RX_PENDING, &t->flags) && !READ_ONCE(t->closed))
		queue_delayed_work(rswap_io_wq, &t->tx_work, 0);
	rswap_reclaim_leave(flags);
}

void rswap_tcp_tx_work(struct work_struct *work)
{
	struct tcp_conn *t = container_of(to_delayed_work(work), struct tcp_conn, tx_work);

	set_bit(RSWAP_TCP_TX_AGAIN, &t->flags);
	smp_mb__after_atomic();
	push(t);
}

void rswap_tcp_submit(struct rswap_conn *c, struct rswap_msg *m, bool more)
{
	struct tcp_conn *t = tcp_of(c);
	bool closed;

	spin_lock_bh(&t->lock);
	closed = t->closed;
	if (!closed)
		list_add_tail(&m->link, &t->queue);
	spin_unlock_bh(&t->lock);
	if (closed)
		rswap_msg_done(m, -ENOTCONN, 0);
	else if (!more)
		push(t);
}

void rswap_tcp_kick(struct rswap_conn *c)
{
	struct tcp_conn *t = tcp_of(c);

	if (!idle(t))
		push(t);
}
