/* SPDX-License-Identifier: MIT */
/*
 * The thread: waits for the connection manager, for completions and for being told to stop. It has
 * little to do: a borrower's messages are rare, its pages pass by. Who is let in is decided here,
 * from the private data of the connection request.
 */
#include "server/rdma_inside.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BACKLOG  128
#define TICK_MS  500
#define EVENTS   16
#define LOG_EACH NSEC_PER_SEC

/* One line a second about strangers, however many there are. */
static void log_stranger(struct srv_rdma *s, const char *peer, const char *reason)
{
	if (s->logged_ns && s->now_ns - s->logged_ns < LOG_EACH) {
		s->unlogged++;
		return;
	}
	s->logged_ns = s->now_ns;
	if (s->unlogged)
		log_warn("closed rdma %s: %s (and %u others since the last such line)", peer,
			 reason, s->unlogged);
	else
		log_warn("closed rdma %s: %s", peer, reason);
	s->unlogged = 0;
}

static void name_peer(const struct rdma_cm_id *id, char *buf, size_t len)
{
	const struct sockaddr *sa = rdma_get_peer_addr((struct rdma_cm_id *)(uintptr_t)id);
	socklen_t size = sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						   : sizeof(struct sockaddr_in);
	char host[INET6_ADDRSTRLEN], port[8];

	if (getnameinfo(sa, size, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(buf, len, "?");
	else
		snprintf(buf, len, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* --- who comes in --- */

static bool all_zero(const uint8_t *p, size_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

/* Whose connection it is: enum wire_error. */
static uint32_t admit(struct srv_rdma *s, const struct wire_rdma_hello *h, uint32_t *roles)
{
	uint8_t borrower[16];
	uint32_t status;

	*roles = SRV_ROLE_ALL;
	if (h->magic != htole64(WIRE_RDMA_MAGIC))
		return WIRE_EPROTO;
	if (!srv_lender_gate(s->lender) && all_zero(h->token, sizeof h->token))
		return WIRE_OK;
	status = srv_token_take(srv_lender_tokens(s->lender), h->token, s->now_ns, borrower, roles);
	if (!status && memcmp(borrower, h->borrower, sizeof borrower))
		return WIRE_EAUTH;
	return status;
}

static void refuse(struct srv_rdma *s, struct rdma_cm_id *id, uint32_t status, const char *reason)
{
	struct wire_rdma_refusal why = {.magic = htole64(WIRE_RDMA_MAGIC),
					.status = htole32(status)};
	char peer[64];

	atomic_fetch_add_explicit(&s->counters->refused, 1, memory_order_relaxed);
	name_peer(id, peer, sizeof peer);
	log_stranger(s, peer, reason);
	rdma_reject(id, &why, sizeof why);
}

static void conn_add(struct srv_rdma *s, struct rdma_conn *c)
{
	c->next = s->conns;
	if (s->conns)
		s->conns->prev = c;
	s->conns = c;
	s->connections++;
}

/* False: the id is to be destroyed. */
static bool connect_request(struct srv_rdma *s, struct rdma_cm_id *id,
			    const struct rdma_conn_param *p)
{
	struct wire_rdma_hello h = {0};
	struct rdma_conn *c;
	uint32_t status, roles;

	if (p->private_data && p->private_data_len >= sizeof h)
		memcpy(&h, p->private_data, sizeof h);
	if (s->connections >= s->o.max_connections) {
		refuse(s, id, WIRE_EBUSY, "there are as many as --max-connections allows");
		return false;
	}
	status = admit(s, &h, &roles);
	if (status) {
		if (status != WIRE_EPROTO)
			atomic_fetch_add_explicit(&s->counters->denied, 1, memory_order_relaxed);
		refuse(s, id, status,
		       status == WIRE_EPROTO ? "does not begin with a hello of this protocol"
					     : "a token that is wrong, used or too old");
		return false;
	}
	if (rdma_conn_open(s, id, p, h.borrower, roles, &c)) {
		refuse(s, id, WIRE_EINTERNAL, err_text());
		if (c)
			rdma_conn_close(c);
		return false;
	}
	name_peer(id, c->peer, sizeof c->peer);
	id->context = c;
	conn_add(s, c);
	return true;
}

static struct rdma_conn *conn_of(struct srv_rdma *s, const struct rdma_cm_id *id)
{
	struct rdma_conn *c = s->conns;

	while (c && c->id != id)
		c = c->next;
	return c;
}

static void take_event(struct srv_rdma *s, struct rdma_cm_event *e)
{
	struct rdma_cm_id *id = e->id;
	struct rdma_conn *c = conn_of(s, id);
	bool keep = true;

	switch (e->event) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		keep = connect_request(s, id, &e->param.conn);
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		if (c)
			c->session.hung_up = c->over = true;
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		log_error("an RDMA device is being removed: %s",
			  c ? "its connections end" : "it is not listened on any more");
		__attribute__((fallthrough));
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		if (c)
			c->over = true;
		break;
	default:
		break;
	}
	/* An id can only be destroyed when its events are acknowledged. */
	rdma_ack_cm_event(e);
	if (!keep)
		rdma_destroy_id(id);
}

static void take_events(struct srv_rdma *s)
{
	struct rdma_cm_event *e;

	while (!rdma_get_cm_event(s->events, &e))
		take_event(s, e);
}

static void take_completions(struct rdma_device *d)
{
	struct ibv_cq *cq;
	void *c;

	while (!ibv_get_cq_event(d->channel, &cq, &c)) {
		ibv_ack_cq_events(cq, 1);
		if (ibv_req_notify_cq(cq, 0))
			((struct rdma_conn *)c)->over = true;
		rdma_conn_poll(c);
	}
}

static void drop(struct srv_rdma *s, struct rdma_conn *c)
{
	struct rdma_cm_id *id = c->id;

	if (c->session.reason)
		log_stranger(s, c->peer, c->session.reason);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->connections--;
	rdma_conn_close(c);
	rdma_destroy_id(id);
}

static void tick(struct srv_rdma *s)
{
	struct rdma_conn *next;

	for (struct rdma_conn *c = s->conns; c; c = next) {
		next = c->next;
		if (!c->over)
			rdma_conn_tick(c);
		if (c->over)
			drop(s, c);
	}
}

static void *rdma_main(void *arg)
{
	struct srv_rdma *s = arg;
	struct epoll_event ev[EVENTS];

	while (!atomic_load(&s->stop)) {
		int n = epoll_wait(s->epoll_fd, ev, EVENTS, TICK_MS);

		s->now_ns = clock_ns();
		for (int i = 0; i < n; i++)
			if (ev[i].data.ptr && ev[i].data.ptr != s)
				take_completions(ev[i].data.ptr);
		take_events(s);
		tick(s);
	}
	while (s->conns)
		drop(s, s->conns);
	return NULL;
}

/* --- from the outside --- */

static int add_fd(struct srv_rdma *s, int fd, void *who)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = who};

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

int srv_rdma_open(const struct srv_rdma_options *o, struct srv_rdma **ret)
{
	struct srv_rdma *s = calloc(1, sizeof *s);
	int flags;

	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->o = *o;
	s->epoll_fd = s->wake_fd = -1;
	*ret = s;
	s->out = srv_out_create();
	if (!s->out)
		return err_fail(-ENOMEM, "no memory");
	s->events = rdma_create_event_channel();
	if (!s->events)
		return err_fail(errno == ENOENT ? -ENODEV : -errno,
				"can't listen on rdma: this machine has no RDMA device (see infuse "
				"check)");
	flags = fcntl(s->events->fd, F_GETFL);
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->wake_fd < 0 || flags < 0 ||
	    fcntl(s->events->fd, F_SETFL, flags | O_NONBLOCK) || add_fd(s, s->wake_fd, NULL) ||
	    add_fd(s, s->events->fd, s))
		return err_fail(-errno, "can't wait for RDMA connections: %s", strerror(errno));
	return 0;
}

int srv_rdma_listen(struct srv_rdma *s, const char *address, bool open,
		    struct srv_listener *ret)
{
	struct rdma_cm_id *id = NULL;
	struct addrinfo *ai;
	char where[64];
	int r;

	*ret = (struct srv_listener){.fd = -1};
	r = srv_listen_resolve(address, "rdma:", open, &ai);
	if (r)
		return r;
	if (rdma_create_id(s->events, &id, NULL, RDMA_PS_TCP) || rdma_bind_addr(id, ai->ai_addr))
		r = err_fail(-errno,
			     errno == ENODEV ? "can't listen on %s: no RDMA device has this address"
					     : "can't listen on %s: %m",
			     address);
	freeaddrinfo(ai);
	if (r) {
		if (id)
			rdma_destroy_id(id);
		return r;
	}
	ret->rdma = id;
	if (getnameinfo(rdma_get_local_addr(id), sizeof(struct sockaddr_in6), where, sizeof where,
			NULL, 0, NI_NUMERICHOST))
		return err_fail(-EINVAL, "can't tell where %s listens", address);
	snprintf(ret->actual, sizeof ret->actual, strchr(where, ':') ? "rdma:[%s]:%u" : "rdma:%s:%u",
		 where, ntohs(rdma_get_src_port(id)));
	return 0;
}

void srv_rdma_unlisten(struct srv_listener *l)
{
	if (l->rdma)
		rdma_destroy_id(l->rdma);
	l->rdma = NULL;
}

int srv_rdma_start(struct srv_rdma *s, struct srv_listener *listeners, unsigned n,
		   struct srv_lender *l, struct srv_counters *c)
{
	int r;

	s->lender = l;
	s->counters = c;
	s->now_ns = clock_ns();
	for (unsigned i = 0; i < n; i++) {
		struct rdma_cm_id *id = listeners[i].rdma;
		struct rdma_device *d;

		if (!id)
			continue;
		/* Tried out before somebody waits for it. */
		if (id->verbs && rdma_device_get(s, id->verbs, &d))
			return -EIO;
		if (rdma_listen(id, BACKLOG))
			return err_fail(-errno, "can't listen on %s: %s", listeners[i].actual,
					strerror(errno));
	}
	r = -pthread_create(&s->thread, NULL, rdma_main, s);
	if (r)
		return err_fail(r, "can't start a thread: %s", strerror(-r));
	s->started = true;
	return 0;
}

void srv_rdma_stop(struct srv_rdma *s)
{
	uint64_t one = 1;

	if (!s)
		return;
	atomic_store(&s->stop, true);
	/* It can only fail when it is full, and then it wakes as well. */
	if (s->started && write(s->wake_fd, &one, sizeof one) < 0)
		assert(errno == EAGAIN);
	if (s->started)
		pthread_join(s->thread, NULL);
	rdma_devices_close(s);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	if (s->events)
		rdma_destroy_event_channel(s->events);
	srv_out_free(s->out);
	free(s);
}
