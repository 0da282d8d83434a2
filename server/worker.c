/* SPDX-License-Identifier: MIT */
/*
 * A thread's loop. A connection is either in line (hot: the thread tries it by itself, again and
 * again) or armed (the kernel tells when there is something). A wake-up of another core costs as
 * much as several requests, so a connection stays hot for a while after its last request; a thread
 * without hot connections sleeps. Between two rounds without success the thread gives way.
 */
#include "server/worker.h"
#include "server/connection.h"
#include "server/events.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_HOT     16u         /* beyond that, one without bytes is armed at once */
#define TURN_COST   (8u * 1024) /* a message costs as much time as so many bytes */
#define STRANGERS_NS 20000u     /* of a round; the one that exceeds it is the last one */
#define EVENTS      64u
#define LISTENERS   64u
#define RETRY_NS    (100 * NSEC_PER_MSEC)
#define LOG_EACH_NS NSEC_PER_SEC

struct inbox_item {
	int fd;
	bool is_unix;
};

struct srv_worker {
	struct srv_workers *group;
	unsigned index;
	pthread_t thread;
	bool started;
	struct srv_events *events;
	struct srv_counters *counters;
	struct srv_scratch scratch;
	uint64_t now_ns;
	struct srv_conn *all, *young, *young_last;
	struct srv_turns turns;
	uint64_t spin_ns; /* of this round */
	bool served;      /* in this round */
	uint64_t strangers_ns; /* of this round, for those who have not said hello */

	int wake_fd;
	pthread_mutex_t lock;
	struct inbox_item *inbox; /* under lock */
	unsigned inbox_count, inbox_space;
};

/* One address that worker 0 accepts on. */
struct accepting {
	struct srv_listener *l;
	bool busy; /* the kernel has the request */
};

struct srv_workers {
	struct srv_workers_options o;
	atomic_bool stop;
	_Atomic uint64_t spin_ns;
	atomic_uint connections;
	_Atomic uint64_t log_ns;
	atomic_uint log_dropped;
	unsigned next; /* worker 0: who gets the next connection */

	pthread_mutex_t lock;
	pthread_cond_t accept_ended;
	struct accepting accepting[LISTENERS];
	unsigned accepting_count;
	bool accept_wanted;
	uint64_t accept_retry_ns; /* worker 0; 0: none is due */

	struct srv_worker *worker;
};

/* One line a second about strangers, however many there are. */
static void log_stranger(struct srv_workers *g, uint64_t now_ns, const char *peer,
			 const char *reason)
{
	uint64_t last = atomic_load(&g->log_ns);
	unsigned dropped;

	if ((last && now_ns - last < LOG_EACH_NS) ||
	    !atomic_compare_exchange_strong(&g->log_ns, &last, now_ns)) {
		atomic_fetch_add(&g->log_dropped, 1);
		return;
	}
	dropped = atomic_exchange(&g->log_dropped, 0);
	if (dropped)
		log_warn("closed %s: %s (and %u others since the last such line)", peer, reason,
			 dropped);
	else
		log_warn("closed %s: %s", peer, reason);
}

static void tell(int eventfd_fd)
{
	uint64_t one = 1;

	/* It can only fail when it is full, and then it wakes as well. */
	if (write(eventfd_fd, &one, sizeof one) < 0)
		return;
}

static void young_remove(struct srv_worker *w, struct srv_conn *c)
{
	if (!c->deadline_ns)
		return;
	if (c->young_prev)
		c->young_prev->young_next = c->young_next;
	else
		w->young = c->young_next;
	if (c->young_next)
		c->young_next->young_prev = c->young_prev;
	else
		w->young_last = c->young_prev;
	c->deadline_ns = 0;
}

static void young_add(struct srv_worker *w, struct srv_conn *c)
{
	c->deadline_ns = w->now_ns + w->group->o.hello_ns;
	c->young_prev = w->young_last;
	if (w->young_last)
		w->young_last->young_next = c;
	else
		w->young = c;
	w->young_last = c;
}

static void drop(struct srv_worker *w, struct srv_conn *c)
{
	struct srv_workers *g = w->group;
	char peer[64];

	assert(!c->armed);
	if (c->session.reason)
		log_stranger(g, w->now_ns, srv_conn_peer(c, peer, sizeof peer), c->session.reason);
	young_remove(w, c);
	if (c->prev)
		c->prev->next = c->next;
	else
		w->all = c->next;
	if (c->next)
		c->next->prev = c->prev;
	srv_turns_leave(&w->turns, &c->place);
	srv_conn_close(c, &w->scratch, w->now_ns);
	atomic_fetch_sub(&g->connections, 1);
}

static void arm(struct srv_worker *w, struct srv_conn *c, unsigned events)
{
	c->armed = true;
	srv_events_poll(w->events, c->fd, events, c);
}

static struct srv_conn *conn_of(struct srv_place *p)
{
	return (struct srv_conn *)(void *)((char *)p - offsetof(struct srv_conn, place));
}

/* After a hello: it counts as its borrower's from now on. */
static void greeted(struct srv_worker *w, struct srv_conn *c)
{
	young_remove(w, c);
	if (c->session.borrower && !c->seated)
		srv_turns_seat(&c->place, srv_lend_seat(c->session.borrower, w->index));
	c->seated = c->session.borrower;
}

/* A turn for a connection that is neither in line nor armed; decides what it is next. */
static size_t serve_one(struct srv_worker *w, struct srv_place *p, size_t share)
{
	struct srv_conn *c = conn_of(p);
	size_t moved;
	enum srv_turn turn = srv_conn_turn(c, &w->scratch, w->now_ns, share, &moved);
	bool empty = turn == SRV_TURN_IDLE || turn == SRV_TURN_EMPTY;

	w->served |= moved > 0;
	if (turn == SRV_TURN_OVER) {
		drop(w, c);
		return moved;
	}
	if (c->session.greeted)
		greeted(w, c);
	if (turn == SRV_TURN_BLOCKED)
		arm(w, c, POLLOUT);
	else if (empty && (c->deadline_ns || w->turns.queued >= MAX_HOT ||
			   w->now_ns - c->active_ns >= w->spin_ns))
		arm(w, c, POLLIN);
	else
		srv_turns_queue(&w->turns, p);
	return moved ? moved + TURN_COST : 0;
}

/* Handshakes take long, and there may be thousands: borrowers wait for one of them a round at most. */
static size_t serve(void *arg, struct srv_place *p, size_t share)
{
	struct srv_worker *w = arg;
	uint64_t begin;
	size_t cost;

	if (!conn_of(p)->deadline_ns)
		return serve_one(w, p, share);
	if (w->strangers_ns >= STRANGERS_NS) {
		srv_turns_queue(&w->turns, p);
		w->served = true; /* no time to give way */
		return 0;
	}
	begin = clock_ns();
	cost = serve_one(w, p, share);
	w->strangers_ns += clock_ns() - begin;
	return cost;
}

static void add(struct srv_worker *w, struct inbox_item item)
{
	struct srv_workers *g = w->group;
	struct srv_conn *c =
		srv_conn_open(item.fd, item.is_unix, g->o.lender, w->counters, w->now_ns);

	if (c && !srv_turns_join(&c->place)) {
		srv_conn_close(c, &w->scratch, w->now_ns);
		c = NULL;
	}
	if (!c) {
		atomic_fetch_sub(&g->connections, 1);
		log_stranger(g, w->now_ns, "a new connection", "no memory for it");
		return;
	}
	c->next = w->all;
	if (w->all)
		w->all->prev = c;
	w->all = c;
	young_add(w, c);
	arm(w, c, POLLIN);
}

static void take_inbox(struct srv_worker *w)
{
	struct inbox_item *items;
	unsigned n;

	pthread_mutex_lock(&w->lock);
	items = w->inbox;
	n = w->inbox_count;
	w->inbox = NULL;
	w->inbox_count = w->inbox_space = 0;
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < n; i++)
		add(w, items[i]);
	free(items);
}

static bool put_inbox(struct srv_worker *w, struct inbox_item item)
{
	bool ok = true;

	pthread_mutex_lock(&w->lock);
	if (w->inbox_count == w->inbox_space) {
		unsigned space = w->inbox_space ? 2 * w->inbox_space : 16;
		struct inbox_item *p = realloc(w->inbox, space * sizeof *p);

		ok = p;
		if (p) {
			w->inbox = p;
			w->inbox_space = space;
		}
	}
	if (ok)
		w->inbox[w->inbox_count++] = item;
	pthread_mutex_unlock(&w->lock);
	if (ok)
		tell(w->wake_fd);
	return ok;
}

static void deal(struct srv_worker *w, int fd, bool is_unix)
{
	struct srv_workers *g = w->group;
	struct inbox_item item = {fd, is_unix};
	struct srv_worker *to = &g->worker[g->next++ % g->o.threads];

	if (atomic_fetch_add(&g->connections, 1) >= g->o.max_connections) {
		atomic_fetch_sub(&g->connections, 1);
		close(fd);
		log_stranger(g, w->now_ns, "a new connection",
			     "there are as many as --max-connections allows");
	} else if (to == w) {
		add(w, item);
	} else if (!put_inbox(to, item)) {
		atomic_fetch_sub(&g->connections, 1);
		close(fd);
	}
}

/* Worker 0: asks the kernel for connections, or tells it to stop. */
static void accept_update(struct srv_worker *w)
{
	struct srv_workers *g = w->group;
	bool busy = false;

	pthread_mutex_lock(&g->lock);
	g->accept_retry_ns = 0;
	for (unsigned i = 0; i < g->accepting_count; i++) {
		struct accepting *a = &g->accepting[i];

		if (g->accept_wanted && !a->busy) {
			srv_events_accept(w->events, a->l->fd, a);
			a->busy = true;
		} else if (!g->accept_wanted && a->busy) {
			srv_events_cancel(w->events, a);
		}
		busy |= a->busy;
	}
	if (!busy)
		pthread_cond_broadcast(&g->accept_ended);
	pthread_mutex_unlock(&g->lock);
}

static void accepted(struct srv_worker *w, struct accepting *a, const struct srv_event *ev)
{
	struct srv_workers *g = w->group;

	if (ev->result >= 0)
		deal(w, ev->result, a->l->is_unix);
	if (ev->more)
		return;
	pthread_mutex_lock(&g->lock);
	a->busy = false;
	if (!g->accept_wanted)
		pthread_cond_broadcast(&g->accept_ended);
	pthread_mutex_unlock(&g->lock);
	if (ev->result < 0 && ev->result != -ECANCELED)
		log_stranger(g, w->now_ns, a->l->actual, strerror(-ev->result));
	/* With no descriptors left it would fail again at once. */
	g->accept_retry_ns = w->now_ns + (ev->result < 0 ? RETRY_NS : 0);
}

static void handle(struct srv_worker *w, const struct srv_event *ev)
{
	struct srv_workers *g = w->group;
	struct accepting *a = ev->who;

	if (ev->who == w) {
		uint64_t n;

		if (read(w->wake_fd, &n, sizeof n) < 0 && errno != EAGAIN)
			abort();
		srv_events_poll(w->events, w->wake_fd, POLLIN, w);
		take_inbox(w);
		if (!w->index)
			accept_update(w);
	} else if (a >= g->accepting && a < g->accepting + LISTENERS) {
		accepted(w, a, ev);
	} else {
		struct srv_conn *c = ev->who;

		c->armed = false;
		srv_turns_queue(&w->turns, &c->place);
	}
}

/* Strangers who say nothing are shut down; their connection then ends like any other. */
static void end_strangers(struct srv_worker *w)
{
	struct srv_conn *c;

	while ((c = w->young) && c->deadline_ns <= w->now_ns) {
		young_remove(w, c);
		srv_session_end(&c->session, "said no hello in time");
		shutdown(c->fd, SHUT_RDWR);
	}
}

static uint64_t wait_time(const struct srv_worker *w)
{
	uint64_t until = w->now_ns + 3600 * NSEC_PER_SEC;

	if (w->turns.queued)
		return 0;
	if (w->young && w->young->deadline_ns < until)
		until = w->young->deadline_ns;
	if (!w->index && w->group->accept_retry_ns && w->group->accept_retry_ns < until)
		until = w->group->accept_retry_ns;
	return until > w->now_ns ? until - w->now_ns : 1;
}

static void *worker_main(void *arg)
{
	struct srv_worker *w = arg;
	struct srv_workers *g = w->group;
	struct srv_event ev[EVENTS];

	srv_events_poll(w->events, w->wake_fd, POLLIN, w);
	while (!atomic_load_explicit(&g->stop, memory_order_relaxed)) {
		unsigned n = srv_events_take(w->events, wait_time(w), ev, EVENTS);

		w->now_ns = clock_ns();
		w->spin_ns = atomic_load_explicit(&g->spin_ns, memory_order_relaxed);
		w->served = n > 0;
		w->strangers_ns = 0;
		for (unsigned i = 0; i < n; i++)
			handle(w, &ev[i]);
		srv_turns_round(&w->turns, serve, w);
		end_strangers(w);
		if (!w->index && g->accept_retry_ns && g->accept_retry_ns <= w->now_ns)
			accept_update(w);
		if (!w->served && w->turns.queued)
			sched_yield();
	}
	return NULL;
}

static int worker_open(struct srv_workers *g, unsigned i)
{
	struct srv_worker *w = &g->worker[i];
	int r;

	w->group = g;
	w->index = i;
	w->now_ns = clock_ns();
	w->counters = srv_lender_counters(g->o.lender, i);
	pthread_mutex_init(&w->lock, NULL);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake_fd < 0)
		return err_fail(-errno, "can't make an eventfd: %s", strerror(errno));
	if (srv_scratch_open(&w->scratch, srv_lender_gate(g->o.lender)))
		return err_fail(-ENOMEM, "no memory");
	r = srv_events_open(&w->events);
	if (r)
		return r;
	r = -pthread_create(&w->thread, NULL, worker_main, w);
	if (r)
		return err_fail(r, "can't start a thread: %s", strerror(-r));
	w->started = true;
	return 0;
}

int srv_workers_start(const struct srv_workers_options *o, struct srv_workers **ret)
{
	struct srv_workers *g = calloc(1, sizeof *g);
	int r = 0;

	if (!g)
		return err_fail(-ENOMEM, "no memory");
	g->o = *o;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->accept_ended, NULL);
	g->worker = calloc(o->threads, sizeof *g->worker);
	if (!g->worker) {
		g->o.threads = 0;
		r = err_fail(-ENOMEM, "no memory for %u threads", o->threads);
	}
	for (unsigned i = 0; i < g->o.threads; i++)
		g->worker[i].wake_fd = -1;
	for (unsigned i = 0; !r && i < g->o.threads; i++)
		r = worker_open(g, i);
	if (r) {
		srv_workers_stop(g);
		return r;
	}
	*ret = g;
	return 0;
}

void srv_workers_accept(struct srv_workers *g, struct srv_listener *l, unsigned n)
{
	assert(n <= LISTENERS);
	pthread_mutex_lock(&g->lock);
	g->accepting_count = 0;
	for (unsigned i = 0; i < n; i++)
		if (l[i].fd >= 0) /* RDMA's have a thread of their own */
			g->accepting[g->accepting_count++] = (struct accepting){.l = &l[i]};
	g->accept_wanted = true;
	pthread_mutex_unlock(&g->lock);
	tell(g->worker[0].wake_fd);
}

static bool accept_busy(const struct srv_workers *g)
{
	for (unsigned i = 0; i < g->accepting_count; i++)
		if (g->accepting[i].busy)
			return true;
	return false;
}

void srv_workers_unaccept(struct srv_workers *g)
{
	pthread_mutex_lock(&g->lock);
	g->accept_wanted = false;
	tell(g->worker[0].wake_fd);
	while (accept_busy(g))
		pthread_cond_wait(&g->accept_ended, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

void srv_workers_set_spin(struct srv_workers *g, uint64_t spin_ns)
{
	atomic_store(&g->spin_ns, spin_ns);
}

static void worker_close(struct srv_worker *w)
{
	struct srv_conn *c;

	/* First the ring: nothing asks for a connection any more. */
	srv_events_close(w->events);
	while ((c = w->all)) {
		c->armed = false;
		c->session.reason = NULL;
		drop(w, c);
	}
	for (unsigned i = 0; i < w->inbox_count; i++)
		close(w->inbox[i].fd);
	free(w->inbox);
	srv_scratch_free(&w->scratch);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	pthread_mutex_destroy(&w->lock);
}

void srv_workers_stop(struct srv_workers *g)
{
	if (!g)
		return;
	atomic_store(&g->stop, true);
	for (unsigned i = 0; i < g->o.threads; i++)
		if (g->worker[i].wake_fd >= 0)
			tell(g->worker[i].wake_fd);
	for (unsigned i = 0; i < g->o.threads; i++)
		if (g->worker[i].started)
			pthread_join(g->worker[i].thread, NULL);
	for (unsigned i = 0; i < g->o.threads; i++)
		if (g->worker[i].group)
			worker_close(&g->worker[i]);
	free(g->worker);
	pthread_cond_destroy(&g->accept_ended);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
