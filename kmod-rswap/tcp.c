// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Pages over TCP. Whoever submits a message sends it, if nobody else is sending on the connection;
 * pages are lent to the network, not copied. Answers are taken off the socket where they come in,
 * in the softirq, straight into the request's pages, so that a page's way back wakes only the one
 * who waits for it. Only a socket that somebody holds at that moment (he is sending) is read a
 * little later, by him.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <net/tcp.h>
#include "compat.h"
#include "device.h"

#define SLOTS      256 /* messages under way on one connection; WIRE_MAX_INFLIGHT */
#define SEND_PIECES 16 /* pieces of pages handed to the network at once */
#define RETRY_MS   10

enum { RX_PENDING };

struct tcp_conn {
	struct rswap_conn base;
	bool made; /* locks and works are there */
	struct socket *sock;
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	void (*error_report)(struct sock *sk);

	spinlock_t lock; /* bh-safe; slots and queue */
	bool closed;
	struct list_head queue; /* not sent yet */
	struct rswap_msg *slot[SLOTS];
	unsigned int slots;     /* used at most; the donor's limit */
	unsigned int used;
	unsigned int next;      /* where to look for a free slot */
	u64 turn;               /* makes tags differ */

	struct mutex tx; /* the sender */
	struct rswap_msg *tx_msg;
	__le64 tx_tag;
	bool tx_open; /* lock; bytes of it are not handed over yet: no answer can be right */
	u32 tx_at;    /* bytes of head and segments that are out */
	struct rswap_cursor tx_data;
	struct delayed_work tx_work;

	unsigned long flags;
	struct work_struct rx_work;
	struct wire_header rx_head;
	u32 rx_have; /* bytes of it */
	u32 rx_left; /* bytes of the body */
	struct rswap_msg *rx_msg; /* whose body it is; NULL: skipped */
	struct rswap_cursor rx_data;
};

static struct tcp_conn *tcp_of(struct rswap_conn *c)
{
	return container_of(c, struct tcp_conn, base);
}

/* --- slots: which message a tag means --- */

static bool slot_take(struct tcp_conn *t, struct rswap_msg *m)
{
	unsigned int i;

	if (t->used >= t->slots)
		return false;
	for (i = t->next; t->slot[i]; i = (i + 1) % SLOTS)
		;
	t->slot[i] = m;
	t->used++;
	t->next = (i + 1) % SLOTS;
	m->out.head.tag = cpu_to_le64(++t->turn << 8 | i);
	return true;
}

static struct rswap_msg *slot_find(struct tcp_conn *t, __le64 tag)
{
	struct rswap_msg *m;

	spin_lock_bh(&t->lock);
	m = t->slot[le64_to_cpu(tag) % SLOTS];
	if (m && (m->out.head.tag != tag || (m == t->tx_msg && t->tx_open)))
		m = NULL;
	spin_unlock_bh(&t->lock);
	return m;
}

/* True: messages wait for a slot. */
static bool slot_give(struct tcp_conn *t, const struct rswap_msg *m)
{
	bool waiting;

	spin_lock_bh(&t->lock);
	t->slot[le64_to_cpu(m->out.head.tag) % SLOTS] = NULL;
	waiting = t->used-- == t->slots && !list_empty(&t->queue);
	spin_unlock_bh(&t->lock);
	return waiting;
}

/* --- receiving: any context, the socket's lock is held --- */

static int rx_begin(struct tcp_conn *t)
{
	const struct wire_header *h = &t->rx_head;
	u32 bytes = le32_to_cpu(h->bytes), status = le32_to_cpu(h->status);
	struct rswap_msg *m;

	t->rx_left = bytes;
	t->rx_msg = NULL;
	if (!h->tag && !(h->flags & cpu_to_le16(WIRE_F_REPLY)))
		return bytes > WIRE_MAX_BODY ? -EPROTO : 0; /* a notice */
	m = slot_find(t, h->tag);
	if (!m || le16_to_cpu(h->op) != m->op || le16_to_cpu(h->flags) != WIRE_F_REPLY)
		return -EPROTO;
	if (bytes != (m->op == WIRE_READ && !status ? m->pages << RSWAP_PAGE_SHIFT : 0))
		return -EPROTO;
	t->rx_msg = m;
	if (bytes)
		rswap_cursor_start(&t->rx_data, m);
	return 0;
}

static void rx_end(struct tcp_conn *t)
{
	struct rswap_msg *m = t->rx_msg;
	u32 status = le32_to_cpu(t->rx_head.status);

	t->rx_have = 0;
	t->rx_msg = NULL;
	if (!m)
		return;
	if (slot_give(t, m))
		mod_delayed_work(rswap_io_wq, &t->tx_work, 0);
	rswap_msg_done(m, status ? -EREMOTEIO : 0, status);
}

/* Copies what the packet has of the body. Returns bytes used. */
static size_t rx_body(struct tcp_conn *t, struct sk_buff *skb, unsigned int offset, size_t len)
{
	size_t done = 0;
	struct bio_vec bv;

	if (!t->rx_msg) {
		done = min_t(size_t, len, t->rx_left);
		t->rx_left -= done;
		return done;
	}
	while (done < len && rswap_cursor_piece(&t->rx_data, &bv)) {
		u32 n = min_t(size_t, bv.bv_len, len - done);
		char *p = bvec_kmap_local(&bv);

		if (skb_copy_bits(skb, offset + done, p, n)) {
			kunmap_local(p);
			break;
		}
		kunmap_local(p);
		flush_dcache_page(bv.bv_page);
		rswap_cursor_step(&t->rx_data, n);
		done += n;
	}
	t->rx_left -= done;
	return done;
}

static int rx_packet(read_descriptor_t *desc, struct sk_buff *skb, unsigned int offset, size_t len)
{
	struct tcp_conn *t = desc->arg.data;
	size_t done = 0, n;
	int r = 0;

	while (done < len && !r) {
		if (t->rx_have < sizeof t->rx_head) {
			n = min_t(size_t, sizeof t->rx_head - t->rx_have, len - done);
			if (skb_copy_bits(skb, offset + done, (u8 *)&t->rx_head + t->rx_have, n))
				r = -EFAULT;
			t->rx_have += n;
			done += n;
			if (!r && t->rx_have == sizeof t->rx_head)
				r = rx_begin(t);
			if (r || t->rx_have < sizeof t->rx_head)
				continue;
		} else {
			n = rx_body(t, skb, offset + done, len - done);
			done += n;
			if (!n)
				r = -EPROTO;
		}
		if (!r && !t->rx_left)
			rx_end(t);
	}
	if (r) {
		desc->error = r;
		desc->count = 0;
	}
	return len;
}

static void rx_read(struct tcp_conn *t, struct sock *sk)
{
	read_descriptor_t desc = {.arg.data = t, .count = 1};

	if (READ_ONCE(t->base.dead))
		return;
	tcp_read_sock(sk, &desc, rx_packet);
	if (desc.error)
		rswap_conn_failed(&t->base, desc.error);
}

/* In process context, for what came while somebody held the socket. The caller keeps it open. */
static void rx_later(struct tcp_conn *t)
{
	struct sock *sk = t->sock->sk;

	while (test_and_clear_bit(RX_PENDING, &t->flags)) {
		lock_sock(sk);
		rx_read(t, sk);
		release_sock(sk);
	}
}

static void rx_work(struct work_struct *work)
{
	rx_later(container_of(work, struct tcp_conn, rx_work));
}

/* --- the socket's calls --- */

static void rswap_tcp_data_ready(struct sock *sk)
{
	struct tcp_conn *t;

	read_lock_bh(&sk->sk_callback_lock);
	t = sk->sk_user_data;
	if (t && !sock_owned_by_user_nocheck(sk)) {
		rx_read(t, sk);
	} else if (t) {
		set_bit(RX_PENDING, &t->flags);
		smp_mb__after_atomic();
		/* The sender looks when he is done; others don't. */
		if (!mutex_is_locked(&t->tx))
			queue_work(rswap_io_wq, &t->rx_work);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static void rswap_tcp_write_space(struct sock *sk)
{
	struct tcp_conn *t;

	read_lock_bh(&sk->sk_callback_lock);
	t = sk->sk_user_data;
	if (t && sk_stream_is_writeable(sk)) {
		clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		mod_delayed_work(rswap_io_wq, &t->tx_work, 0);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static void rswap_tcp_gone(struct sock *sk, int error)
{
	struct tcp_conn *t;

	read_lock_bh(&sk->sk_callback_lock);
	t = sk->sk_user_data;
	if (t)
		rswap_conn_failed(&t->base, error);
	read_unlock_bh(&sk->sk_callback_lock);
}

static void rswap_tcp_state_change(struct sock *sk)
{
	if (sk->sk_state != TCP_ESTABLISHED)
		rswap_tcp_gone(sk, sk->sk_err ? -sk->sk_err : -ECONNRESET);
}

static void rswap_tcp_error_report(struct sock *sk)
{
	rswap_tcp_gone(sk, sk->sk_err ? -sk->sk_err : -ECONNRESET);
}

/* --- sending: the mutex is held --- */

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
	r = t->slot[le64_to_cpu(t->tx_tag) % SLOTS] == m && m->out.head.tag == t->tx_tag;
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
			  !test_bit(RX_PENDING, &t->flags));
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
	rx_later(t);
	return r;
}

static void push(struct tcp_conn *t)
{
	unsigned int flags = rswap_reclaim_enter();
	bool stop = false;

	/* Whoever comes while another sends leaves it to him: he looks again after he let go. */
	while (!stop && mutex_trylock(&t->tx)) {
		stop = READ_ONCE(t->closed) || push_once(t);
		mutex_unlock(&t->tx);
		smp_mb(); /* pairs with those who found the mutex taken */
		if (idle(t))
			break;
	}
	if (stop && test_bit(RX_PENDING, &t->flags) && !READ_ONCE(t->closed))
		queue_delayed_work(rswap_io_wq, &t->tx_work, 0);
	rswap_reclaim_leave(flags);
}

static void tx_work(struct work_struct *work)
{
	push(container_of(to_delayed_work(work), struct tcp_conn, tx_work));
}

static void rswap_tcp_submit(struct rswap_conn *c, struct rswap_msg *m, bool more)
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

static void rswap_tcp_kick(struct rswap_conn *c)
{
	struct tcp_conn *t = tcp_of(c);

	if (!idle(t))
		push(t);
}

/* --- opening and closing --- */

static int rswap_tcp_open(struct rswap_conn *c)
{
	struct tcp_conn *t = tcp_of(c);
	struct wire_welcome w;
	struct sock *sk;
	int r;

	if (!t->made) {
		t->made = true;
		spin_lock_init(&t->lock);
		mutex_init(&t->tx);
		INIT_LIST_HEAD(&t->queue);
		INIT_DELAYED_WORK(&t->tx_work, tx_work);
		INIT_WORK(&t->rx_work, rx_work);
	}
	t->closed = true;
	t->rx_have = t->rx_left = t->tx_at = 0;
	t->rx_msg = t->tx_msg = NULL;
	t->flags = 0;
	r = rswap_socket_open(c->donor, &t->sock);
	if (r) {
		t->sock = NULL;
		return r;
	}
	r = rswap_socket_hello(c->donor, t->sock, &w);
	if (!r && memcmp(w.boot, c->donor->welcome.boot, sizeof w.boot))
		r = -ESTALE; /* it was started anew between two connections */
	if (r)
		return r;
	t->slots = min_t(u32, le32_to_cpu(w.max_inflight), SLOTS);
	sk = t->sock->sk;
	lock_sock(sk);
	write_lock_bh(&sk->sk_callback_lock);
	t->data_ready = sk->sk_data_ready;
	t->write_space = sk->sk_write_space;
	t->state_change = sk->sk_state_change;
	t->error_report = sk->sk_error_report;
	sk->sk_user_data = t;
	sk->sk_data_ready = rswap_tcp_data_ready;
	sk->sk_write_space = rswap_tcp_write_space;
	sk->sk_state_change = rswap_tcp_state_change;
	sk->sk_error_report = rswap_tcp_error_report;
	write_unlock_bh(&sk->sk_callback_lock);
	r = sk->sk_state == TCP_ESTABLISHED ? 0 : -ECONNRESET;
	release_sock(sk);
	t->closed = r;
	return r;
}

static void take_down(struct tcp_conn *t)
{
	struct sock *sk = t->sock->sk;

	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_user_data) {
		sk->sk_user_data = NULL;
		sk->sk_data_ready = t->data_ready;
		sk->sk_write_space = t->write_space;
		sk->sk_state_change = t->state_change;
		sk->sk_error_report = t->error_report;
	}
	write_unlock_bh(&sk->sk_callback_lock);
	/* Nobody calls any more; now those that were called end. */
	mutex_lock(&t->tx);
	mutex_unlock(&t->tx);
	cancel_delayed_work_sync(&t->tx_work);
	cancel_work_sync(&t->rx_work);
	/* Lent pages are the network's until what was not sent is thrown away. */
	sock_no_linger(sk);
	rswap_socket_close(t->sock);
	t->sock = NULL;
}

static void rswap_tcp_close(struct rswap_conn *c)
{
	struct tcp_conn *t = tcp_of(c);
	struct rswap_msg *m, *next;
	LIST_HEAD(failed);

	if (!t->sock)
		return;
	spin_lock_bh(&t->lock);
	t->closed = true;
	spin_unlock_bh(&t->lock);
	take_down(t);
	spin_lock_bh(&t->lock);
	list_splice_init(&t->queue, &failed);
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (t->slot[i])
			list_add_tail(&t->slot[i]->link, &failed);
		t->slot[i] = NULL;
	}
	t->used = 0;
	spin_unlock_bh(&t->lock);
	list_for_each_entry_safe(m, next, &failed, link)
		rswap_msg_done(m, -ECONNRESET, 0);
}

const struct rswap_transport rswap_tcp = {
	.name = "tcp",
	.conn_bytes = sizeof(struct tcp_conn),
	.open = rswap_tcp_open,
	.submit = rswap_tcp_submit,
	.kick = rswap_tcp_kick,
	.close = rswap_tcp_close,
};
