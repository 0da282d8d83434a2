/* SPDX-License-Identifier: MIT */
/* See lane.h. */
#include "nbdkit-rswap/lane.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

#define NAP_NS   (20 * NSEC_PER_MSEC) /* deadlines stand still when nobody polls for 100 ms */
#define CHECK_NS NSEC_PER_SEC         /* a sleeper looks again, whatever happened to its wake-up */
#define LOOKS    8                    /* polls between two offers of the core to others */

enum { OP_WAIT, OP_ASLEEP, OP_KEEPER, OP_DONE };

struct lane_tray {
	struct ps_batch batch;
	struct ps_vec vec[PS_MAX_VECS];
	struct lane_op *ops; /* linked by next */
	struct lane_tray *next;
	bool used;
};

int lane_open(struct lane *l, struct ps_port *port, uint64_t spin_ns)
{
	*l = (struct lane){.port = port, .spin_ns = spin_ns, .last = &l->first};
	pthread_mutex_init(&l->lock, NULL);
	l->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->wait = mem_map(sizeof *l->wait);
	l->want = mem_map(sizeof *l->want);
	l->tray = mem_map(LANE_DEPTH * sizeof *l->tray);
	if (l->kick < 0 || !l->wait || !l->want || !l->tray)
		return err_fail(-ENOMEM, "no memory for a port's requests");
	for (unsigned i = 0; i < LANE_DEPTH; i++) {
		l->tray[i].next = l->free;
		l->free = &l->tray[i];
	}
	return 0;
}

void lane_close(struct lane *l)
{
	if (!l->port)
		return;
	if (l->kick >= 0)
		sys_call1(SYS_close, l->kick);
	mem_unmap(l->wait, sizeof *l->wait);
	mem_unmap(l->want, sizeof *l->want);
	mem_unmap(l->tray, LANE_DEPTH * sizeof *l->tray);
	pthread_mutex_destroy(&l->lock);
	*l = (struct lane){0};
}

/* --- arrivals --- */

static void arrive(struct lane *l, struct lane_op *op)
{
	op->status = 0;
	op->state = OP_WAIT;
	op->alone = false;
	op->next = __atomic_load_n(&l->in, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&l->in, &op->next, op, true, __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED))
		;
}

/* In their order, behind those taken before. */
static void take_arrivals(struct lane *l)
{
	struct lane_op *op, *next, *first = NULL, **end;

	if (!__atomic_load_n(&l->in, __ATOMIC_RELAXED))
		return;
	op = __atomic_exchange_n(&l->in, NULL, __ATOMIC_ACQUIRE);
	if (!op)
		return;
	for (end = &op->next; op; op = next) {
		next = op->next;
		op->next = first;
		first = op;
	}
	*l->last = first;
	l->last = end;
}

static struct lane_op *next_op(struct lane *l)
{
	struct lane_op *op = l->first;

	l->first = op->next;
	if (!l->first)
		l->last = &l->first;
	return op;
}

/* --- batches --- */

static bool joins(const struct lane_tray *t, const struct lane_op *op, uint32_t pages)
{
	return op && op->kind == t->batch.kind && !op->alone && !t->ops->alone &&
	       t->batch.vecs < PS_MAX_VECS && pages + op->count <= PS_BATCH_PAGES;
}

/* The first op that waits, and those behind it that may go along. */
static void fill(struct lane *l, struct lane_tray *t)
{
	struct lane_op **end = &t->ops;
	uint32_t pages = 0;

	t->batch = (struct ps_batch){.kind = l->first->kind, .vec = t->vec, .user = t};
	do {
		struct lane_op *op = next_op(l);

		t->vec[t->batch.vecs++] =
			(struct ps_vec){.page = op->page, .count = op->count, .buf = op->buf};
		pages += op->count;
		*end = op;
		end = &op->next;
	} while (joins(t, l->first, pages));
	*end = NULL;
}

static void put_back(struct lane *l, struct lane_tray *t)
{
	t->used = false;
	t->next = l->free;
	l->free = t;
}

static void wake_keeper(struct lane *l)
{
	uint64_t one = 1;

	if (l->asleep)
		sys_call3(SYS_write, l->kick, SYS_PTR(&one), sizeof one);
}

/* Nobody looks after the lane. */
static void dismiss(struct lane *l)
{
	l->keeper = NULL;
	l->asleep = false;
}

/* The op is its owner's again, and may be gone at once. */
static void done(struct lane *l, struct lane_op *op)
{
	uint32_t *state = &op->state;

	if (l->keeper == op) {
		wake_keeper(l);
		dismiss(l);
	}
	if (__atomic_exchange_n(state, OP_DONE, __ATOMIC_RELEASE) == OP_ASLEEP)
		sys_call3(SYS_futex, SYS_PTR(state), FUTEX_WAKE_PRIVATE, 1);
}

static void finish(struct lane *l, struct lane_tray *t)
{
	const struct ps_batch *b = &t->batch;
	bool several = t->ops && t->ops->next;
	struct lane_op *op, *next;

	for (op = t->ops; op; op = next) {
		next = op->next;
		if (b->status && several) {
			/* One of them failed: each is done again by itself. */
			op->alone = true;
			op->next = NULL;
			*l->last = op;
			l->last = &op->next;
			continue;
		}
		op->status = b->status;
		op->donor = b->donor;
		op->failed = b->page;
		done(l, op);
	}
	put_back(l, t);
}

static void submit(struct lane *l, uint64_t now)
{
	take_arrivals(l);
	while (l->first && l->free) {
		struct lane_tray *t = l->free;
		int r;

		l->free = t->next;
		fill(l, t);
		t->used = true;
		r = ps_submit(l->port, &t->batch, now);
		/* There are as many trays as the port takes batches, and they are well-formed. */
		assert(!r);
	}
}

/* Takes in what is there; true if something was. */
static bool collect(struct lane *l, uint64_t now)
{
	struct ps_batch *batch[LANE_DEPTH];
	unsigned n = ps_poll(l->port, now, batch, LANE_DEPTH);

	for (unsigned i = 0; i < n; i++)
		finish(l, batch[i]->user);
	return n;
}

/* --- who drives --- */

/* Somebody whose op is not done, other than the one who leaves. */
static struct lane_op *anyone(const struct lane *l)
{
	if (l->first)
		return l->first;
	for (unsigned i = 0; i < LANE_DEPTH; i++)
		if (l->tray[i].used)
			return l->tray[i].ops;
	return NULL;
}

static void appoint(struct lane *l)
{
	struct lane_op *op = l->keeper ? NULL : anyone(l);

	if (!op)
		return;
	l->keeper = op;
	l->asleep = false;
	if (__atomic_exchange_n(&op->state, OP_KEEPER, __ATOMIC_RELEASE) == OP_ASLEEP)
		sys_call3(SYS_futex, SYS_PTR(&op->state), FUTEX_WAKE_PRIVATE, 1);
}

/* Would the keeper, as it sleeps, wake up for all that is under way now? */
static bool covered(const struct ps_wait *has, const struct ps_wait *wants)
{
	if (wants->until_ns < has->until_ns)
		return false;
	for (unsigned i = 0; i < wants->count; i++) {
		const struct pollfd *f = &wants->fds[i];
		unsigned k = 0;

		while (k < has->count &&
		       (has->fds[k].fd != f->fd || (f->events & ~has->fds[k].events)))
			k++;
		if (k == has->count)
			return false;
	}
	return true;
}

/* Gives the lane up. What others left meanwhile is sent; somebody stays to look after it. */
static void leave(struct lane *l)
{
	for (;;) {
		while (l->first && l->free) {
			submit(l, clock_ns());
			collect(l, clock_ns());
		}
		appoint(l);
		if (l->asleep && ps_inflight(l->port)) {
			ps_wait_for(l->port, UINT64_MAX / 2, l->want);
			if (!covered(l->wait, l->want))
				wake_keeper(l);
		}
		pthread_mutex_unlock(&l->lock);
		/* An op that came too late for us and too early for a free lane. */
		atomic_thread_fence(memory_order_seq_cst);
		if (!__atomic_load_n(&l->in, __ATOMIC_RELAXED) || pthread_mutex_trylock(&l->lock))
			return;
		submit(l, clock_ns());
		collect(l, clock_ns());
	}
}

static bool is_done(const struct lane_op *op)
{
	return __atomic_load_n(&op->state, __ATOMIC_ACQUIRE) == OP_DONE;
}

/* The sleep of the keeper: without the lock. */
static void sleep_on_sockets(struct lane *l, struct lane_op *op)
{
	struct pollfd fds[PS_MAX_DONORS + 1];
	struct ps_wait *w = l->wait;
	struct timespec t = {0};
	uint64_t now, drain;
	unsigned n;

	ps_wait_for(l->port, NAP_NS, w);
	n = w->count;
	memcpy(fds, w->fds, n * sizeof *fds);
	fds[n] = (struct pollfd){.fd = l->kick, .events = POLLIN};
	now = clock_ns();
	if (w->until_ns > now)
		t.tv_nsec = (long)(w->until_ns - now); /* <= NAP_NS */
	l->keeper = op;
	l->asleep = true;
	leave(l);
	sys_call5(SYS_ppoll, SYS_PTR(fds), n + 1, SYS_PTR(&t), 0, 0);
	if (fds[n].revents)
		sys_call3(SYS_read, l->kick, SYS_PTR(&drain), sizeof drain);
}

/* We have the lane: nobody needs to look after it for us. */
static void take_over(struct lane *l, struct lane_op *op)
{
	if (l->keeper != op)
		return;
	dismiss(l);
	__atomic_store_n(&op->state, OP_WAIT, __ATOMIC_RELAXED);
}

/* With the lock; without it afterwards. When op is not done then, another one looks after it. */
static void drive(struct lane *l, struct lane_op *op)
{
	uint64_t now = clock_ns(), spin_until = now + l->spin_ns;

	take_over(l, op);
	for (unsigned looks = 1;; looks++) {
		submit(l, now);
		collect(l, now);
		if (is_done(op))
			break;
		if (looks % LOOKS == 0)
			sys_call0(SYS_sched_yield);
		now = clock_ns();
		if (now < spin_until)
			continue;
		if (l->keeper)
			break;
		sleep_on_sockets(l, op);
		if (is_done(op))
			return;
		pthread_mutex_lock(&l->lock);
		take_over(l, op);
		now = clock_ns();
	}
	leave(l);
}

static void sleep_on_word(struct lane_op *op)
{
	const struct timespec t = {.tv_sec = CHECK_NS / NSEC_PER_SEC};
	uint32_t wait = OP_WAIT;

	if (!__atomic_compare_exchange_n(&op->state, &wait, OP_ASLEEP, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE) &&
	    wait != OP_ASLEEP)
		return;
	sys_call4(SYS_futex, SYS_PTR(&op->state), FUTEX_WAIT_PRIVATE, OP_ASLEEP, SYS_PTR(&t));
}

void lane_run(struct lane *l, struct lane_op *op)
{
	uint32_t state;

	__atomic_fetch_add(&l->load, 1, __ATOMIC_RELAXED);
	arrive(l, op);
	atomic_thread_fence(memory_order_seq_cst);
	if (!pthread_mutex_trylock(&l->lock))
		drive(l, op);
	while ((state = __atomic_load_n(&op->state, __ATOMIC_ACQUIRE)) != OP_DONE) {
		if (state == OP_KEEPER) {
			pthread_mutex_lock(&l->lock);
			drive(l, op);
		} else {
			sleep_on_word(op);
		}
	}
	__atomic_fetch_sub(&l->load, 1, __ATOMIC_RELAXED);
}
