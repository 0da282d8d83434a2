// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Pages over TCP: connections and what comes in (tcp_send.c has what goes out). Answers are taken
 * off the socket where they come in, in the softirq, straight into the request's pages, so that a
 * page's way back wakes only the one who waits for it. Only a socket that somebody holds at that
 * moment (he is sending) is read a little later, by him.
 */
#include <linux/highmem.h>
#include <net/tcp.h>
#include "compat.h"
#include "tcp.h"

/* Which message a tag means. */
static struct rswap_msg *slot_find(struct tcp_conn *t, __le64 tag)
{
	struct rswap_msg *m;

	spin_lock_bh(&t->lock);
	m = t->slot[le64_to_cpu(tag) % RSWAP_TCP_SLOTS];
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
	t->slot[le64_to_cpu(m->out.head.tag) % RSWAP_TCP_SLOTS] = NULL;
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

void rswap_tcp_read_later(struct tcp_conn *t)
{
	struct sock *sk = t->sock->sk;

	while (test_and_clear_bit(RSWAP_TCP_RX_PENDING, &t->flags)) {
		lock_sock(sk);
		rx_read(t, sk);
		release_sock(sk);
	}
}

static void rx_work(struct work_struct *work)
{
	rswap_tcp_read_later(container_of(work, struct tcp_conn, rx_work));
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
		set_bit(RSWAP_TCP_RX_PENDING, &t->flags);
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
		INIT_DELAYED_WORK(&t->tx_work, rswap_tcp_tx_work);
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
	t->slots = min_t(u32, le32_to_cpu(w.max_inflight), RSWAP_TCP_SLOTS);
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
	for (unsigned int i = 0; i < RSWAP_TCP_SLOTS; i++) {
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
