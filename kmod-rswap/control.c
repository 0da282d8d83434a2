// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The control connection: a TCP socket with one request at a time, for all that is not the moving
 * of pages. Every wait is bounded by the device's deadline. Nothing is believed before the magic
 * was seen, and what a donor announces must keep the protocol's limits.
 */
#include <linux/in.h>
#include <linux/jiffies.h>
#include <linux/tcp.h>
#include "compat.h"
#include "device.h"

/* Epochs came with 1.2, and this module can't do without. */
#define MINOR_MIN (WIRE_MINOR > 3 ? WIRE_MINOR - 1 : 2)

const char *rswap_wire_text(u32 error)
{
	switch (error) {
#define X(name, number, text)                                                                      \
	case WIRE_##name:                                                                          \
		return text;
		WIRE_ERRORS(X)
#undef X
	default:
		return "unknown error";
	}
}

int rswap_socket_open(struct rswap_donor *d, struct socket **ret)
{
	struct sockaddr_storage *sa = &d->sockaddr;
	struct socket *s;
	int r = sock_create_kern(&init_net, sa->ss_family, SOCK_STREAM, IPPROTO_TCP, &s);

	if (r)
		return r;
	if (!rswap_careless) {
		/*
		 * Packets that carry pages out, and those that bring answers, may use the reserves:
		 * they are what makes memory free.
		 */
		s->sk->sk_allocation = GFP_ATOMIC | __GFP_MEMALLOC;
		sk_set_memalloc(s->sk);
	}
	s->sk->sk_use_task_frag = false;
	s->sk->sk_sndtimeo = s->sk->sk_rcvtimeo = d->dev->deadline;
	tcp_sock_set_nodelay(s->sk);
	r = kernel_connect(s, rswap_sockaddr(sa), d->sockaddr_len, 0);
	if (r) {
		rswap_socket_close(s);
		return r == -EINPROGRESS || r == -EAGAIN ? -ETIMEDOUT : r;
	}
	*ret = s;
	return 0;
}

void rswap_socket_close(struct socket *s)
{
	if (sock_flag(s->sk, SOCK_MEMALLOC))
		sk_clear_memalloc(s->sk);
	kernel_sock_shutdown(s, SHUT_RDWR);
	sock_release(s);
}

static int send_all(struct socket *s, const void *a, size_t an, const void *b, size_t bn)
{
	struct kvec v[] = {{(void *)a, an}, {(void *)b, bn}};
	struct msghdr m = {.msg_flags = MSG_NOSIGNAL};
	int r = kernel_sendmsg(s, &m, v, bn ? 2 : 1, an + bn);

	if (r == (int)(an + bn))
		return 0;
	return r >= 0 || r == -EAGAIN ? -ETIMEDOUT : r;
}

static int receive_all(struct socket *s, void *p, size_t n)
{
	struct kvec v = {p, n};
	struct msghdr m = {.msg_flags = MSG_WAITALL | MSG_NOSIGNAL};
	int r = n ? kernel_recvmsg(s, &m, &v, 1, n, MSG_WAITALL) : 0;

	if (r == (int)n)
		return 0;
	if (r == -EAGAIN)
		return -ETIMEDOUT;
	return r < 0 ? r : -ECONNRESET;
}

/* Sends one message and takes its answer's header. */
static int ask(struct socket *s, u16 op, u64 tag, u64 epoch, u32 count, const void *body, u32 bytes,
	       struct wire_header *answer)
{
	struct wire_header head = {
		.op = cpu_to_le16(op),
		.bytes = cpu_to_le32(bytes),
		.tag = cpu_to_le64(tag),
		.count = cpu_to_le32(count),
		.epoch = cpu_to_le64(epoch),
	};
	int r = send_all(s, &head, sizeof head, body, bytes);

	return r ? r : receive_all(s, answer, sizeof *answer);
}

static bool fits(__le32 announced, u32 max)
{
	return le32_to_cpu(announced) >= 1 && le32_to_cpu(announced) <= max;
}

static int check_welcome(struct wire_welcome *w)
{
	u32 slab = le32_to_cpu(w->slab_pages);

	if (le64_to_cpu(w->magic) != WIRE_MAGIC)
		return -EPROTO;
	if (le16_to_cpu(w->major) != WIRE_MAJOR || le16_to_cpu(w->minor) > WIRE_MINOR ||
	    le16_to_cpu(w->minor) < MINOR_MIN)
		return -EPROTONOSUPPORT;
	if (!slab || slab & (slab - 1) || slab > 1u << 20 || !fits(w->max_segs, WIRE_MAX_SEGS) ||
	    !fits(w->max_pages, WIRE_MAX_PAGES) || !fits(w->max_slabs, WIRE_MAX_SLABS) ||
	    !fits(w->max_inflight, WIRE_MAX_INFLIGHT))
		return -EPROTO;
	/* This module's messages have to fit. */
	if (le32_to_cpu(w->max_segs) < RSWAP_MAX_SEGS || le32_to_cpu(w->max_pages) < RSWAP_IO_PAGES)
		return -EPROTONOSUPPORT;
	w->name[sizeof w->name - 1] = w->domain[sizeof w->domain - 1] = 0;
	return 0;
}

/* The donor wants to see that we know the borrower's key; its answer is then the hello's. */
static int prove(struct rswap_donor *d, struct socket *s, const struct wire_hello *hello,
		 struct wire_header *answer)
{
	struct wire_auth challenge, proof;
	int r;

	if (le64_to_cpu(answer->tag) != 1 || le16_to_cpu(answer->flags) != WIRE_F_REPLY ||
	    answer->status || le32_to_cpu(answer->bytes) != sizeof challenge)
		return -EPROTO;
	if (!d->dev->hmac) {
		rswap_log(d->dev, err, "donor '%s' wants a key, and there is none\n", d->address);
		return -EACCES;
	}
	r = receive_all(s, &challenge, sizeof challenge);
	if (!r)
		r = rswap_auth_proof(d->dev->hmac, &challenge, hello, &proof);
	return r ? r : ask(s, WIRE_AUTH, 1, d->epoch, 0, &proof, sizeof proof, answer);
}

int rswap_socket_hello(struct rswap_donor *d, struct socket *s, struct wire_welcome *w)
{
	struct rswap_device *dev = d->dev;
	struct wire_hello hello = {
		.magic = cpu_to_le64(WIRE_MAGIC),
		.major = cpu_to_le16(WIRE_MAJOR),
		.minor = cpu_to_le16(WIRE_MINOR),
		.minor_min = cpu_to_le16(MINOR_MIN),
	};
	struct wire_header answer;
	int r;

	memcpy(hello.borrower, dev->borrower, sizeof hello.borrower);
	strscpy(hello.name, dev->volume, sizeof hello.name);
	r = ask(s, WIRE_HELLO, 1, d->epoch, 0, &hello, sizeof hello, &answer);
	if (!r && le16_to_cpu(answer.op) == WIRE_AUTH)
		r = prove(d, s, &hello, &answer);
	if (r)
		return r;
	if (le16_to_cpu(answer.op) != WIRE_HELLO || le64_to_cpu(answer.tag) != 1 ||
	    le16_to_cpu(answer.flags) != WIRE_F_REPLY)
		return -EPROTO;
	if (answer.status) {
		rswap_log(dev, err, "donor '%s' refuses: %s\n", d->address,
			  rswap_wire_text(le32_to_cpu(answer.status)));
		rswap_count(dev, refused, 1);
		return -EACCES;
	}
	if (le32_to_cpu(answer.bytes) != sizeof *w)
		return -EPROTO;
	r = receive_all(s, w, sizeof *w);
	return r ? r : check_welcome(w);
}

int rswap_control_open(struct rswap_donor *d)
{
	struct socket *s;
	int r = rswap_socket_open(d, &s);

	if (r)
		return r;
	r = rswap_socket_hello(d, s, &d->welcome);
	if (r) {
		rswap_socket_close(s);
		return r;
	}
	mutex_lock(&d->control_lock);
	d->control = s;
	d->control_tag = 1;
	mutex_unlock(&d->control_lock);
	return 0;
}

void rswap_control_close(struct rswap_donor *d)
{
	mutex_lock(&d->control_lock);
	if (d->control)
		rswap_socket_close(d->control);
	d->control = NULL;
	mutex_unlock(&d->control_lock);
}

/* Notices that come before the answer are skipped. */
static int take_answer(struct socket *s, struct wire_header *answer)
{
	u8 skipped[64];

	while (!answer->tag && !(answer->flags & cpu_to_le16(WIRE_F_REPLY))) {
		u32 bytes = le32_to_cpu(answer->bytes);
		int r = bytes > WIRE_MAX_BODY ? -EPROTO : 0;

		for (; bytes && !r; bytes -= min_t(u32, bytes, sizeof skipped))
			r = receive_all(s, skipped, min_t(u32, bytes, sizeof skipped));
		if (!r)
			r = receive_all(s, answer, sizeof *answer);
		if (r)
			return r;
	}
	return 0;
}

int rswap_control_call(struct rswap_donor *d, u16 op, u32 count, const void *body, u32 bytes,
		       void *reply, u32 max, u32 *wire)
{
	struct wire_header answer;
	int r = -ENOTCONN;
	u32 n;

	*wire = 0;
	mutex_lock(&d->control_lock);
	if (!d->control)
		goto out;
	r = ask(d->control, op, ++d->control_tag, d->epoch, count, body, bytes, &answer);
	if (!r)
		r = take_answer(d->control, &answer);
	if (r)
		goto out;
	n = le32_to_cpu(answer.bytes);
	*wire = le32_to_cpu(answer.status);
	r = -EPROTO;
	if (le16_to_cpu(answer.op) != op || le64_to_cpu(answer.tag) != d->control_tag ||
	    le16_to_cpu(answer.flags) != WIRE_F_REPLY || n > max || (*wire && n))
		goto out;
	r = receive_all(d->control, reply, n);
	if (!r)
		r = *wire ? -EREMOTEIO : (int)n;
out:
	/* After anything but an orderly answer the stream can't be trusted. */
	if (r < 0 && r != -EREMOTEIO && d->control)
		kernel_sock_shutdown(d->control, SHUT_RDWR);
	mutex_unlock(&d->control_lock);
	return r;
}

int rswap_control_grant(struct rswap_donor *d, u64 *handle)
{
	struct wire_grant grant = {.slabs = cpu_to_le32(1)};
	struct wire_slab slab;
	u32 wire;
	int r = rswap_control_call(d, WIRE_GRANT, 1, &grant, sizeof grant, &slab, sizeof slab,
				   &wire);

	if (r == -EREMOTEIO)
		return wire == WIRE_ENOSPC || wire == WIRE_EQUOTA || wire == WIRE_EDRAINING
			       ? -ENOSPC
			       : r;
	if (r < 0)
		return r;
	if (r != sizeof slab)
		return -EPROTO;
	*handle = le64_to_cpu(slab.slab);
	return 0;
}

int rswap_control_free(struct rswap_donor *d, u64 handle)
{
	struct wire_slab slab = {cpu_to_le64(handle)};
	u32 wire;
	int r = rswap_control_call(d, WIRE_FREE, 1, &slab, sizeof slab, NULL, 0, &wire);

	/* A slab that the donor does not know is as good as freed. */
	return r == -EREMOTEIO && wire == WIRE_ESLAB ? 0 : min(r, 0);
}

int rswap_control_token(struct rswap_donor *d, u8 token[32])
{
	struct wire_token answer;
	u32 wire;
	int r = rswap_control_call(d, WIRE_TOKEN, 0, NULL, 0, &answer, sizeof answer, &wire);

	if (r >= 0 && r != sizeof answer)
		r = -EPROTO;
	if (r < 0)
		return r;
	memcpy(token, answer.token, sizeof answer.token);
	memzero_explicit(&answer, sizeof answer);
	return 0;
}
