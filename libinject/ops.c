/* SPDX-License-Identifier: MIT */
/*
 * Requests of a port: fetches that end with pages installed, write-backs that end with frames free.
 * All with the port's lock held, nothing blocks.
 */
#include "libinject/page.h"

#include <assert.h>
#include <errno.h>

/* Faults of its port that an untouched window may sit out before it makes room for a new one. */
#define WINDOW_PATIENCE 64u

struct op *op_get(struct port *p)
{
	struct op *op = p->free_ops;

	if (op)
		p->free_ops = op->next;
	else if (p->ops_used < PORT_OPS)
		op = &p->ops[p->ops_used++]; /* memory that was never needed is never touched */
	else
		return NULL;
	op->count = 0;
	op->waiter = NULL;
	op->ahead = op->wanted = op->arrived = op->protect = false;
	return op;
}

void op_put(struct port *p, struct op *op)
{
	op->kind = OP_FREE;
	op->next = p->free_ops;
	p->free_ops = op;
}

/* Merges neighbours, in the heap and in staging, into one vector element each. */
static void op_vectors(struct port *p, struct op *op)
{
	unsigned n = 0;

	for (unsigned i = 0; i < op->count; i++) {
		struct ps_vec *v = n ? &op->vec[n - 1] : NULL;

		if (op->page[i] == NO_PAGE)
			continue;
		if (v && v->page + v->count == op->page[i] &&
		    (unsigned char *)v->buf + v->count * PAGE == frame_address(p, op->frame[i]) &&
		    (op->kind == OP_FETCH || v->hashes + v->count == &op->hash[i])) {
			v->count++;
			continue;
		}
		op->vec[n++] = (struct ps_vec){
			.page = op->page[i],
			.count = 1,
			.buf = frame_address(p, op->frame[i]),
			.hashes = op->kind == OP_OUT ? &op->hash[i] : NULL,
		};
	}
	op->batch.vecs = n;
	op->batch.vec = op->vec;
	op->batch.kind = op->kind == OP_FETCH ? PS_READ : PS_WRITE;
	op->batch.user = op;
}

void port_queue_fresh(struct port *p)
{
	if (p->fresh_count)
		residency_add(&p->heap->res, p->fresh, p->fresh_count, RESIDENCY_DEMAND);
	p->fresh_count = 0;
}

/* Other ports can't evict what waits here: a small cache must not lie in such lists. */
static unsigned fresh_most(const struct inject_heap *h)
{
	int64_t n = atomic_load_explicit(&h->cache.limit, memory_order_relaxed) / 8 / h->ports;

	return n < 1 ? 1 : n > FRESH_PAGES ? FRESH_PAGES : (unsigned)n;
}

/* Marks pages local and queues them; single ones a few at a time, for the queue has one lock. */
static void pages_installed(struct port *p, const struct op *op, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		page_become(p->heap, op->page[i], PG_LOCAL, op->protect ? PG_PROT : 0, 0);
	if (!op->waiter) {
		residency_add(&p->heap->res, op->page + first, count, RESIDENCY_AHEAD);
		return;
	}
	for (unsigned i = first; i < first + count; i++) {
		p->fresh[p->fresh_count++] = op->page[i];
		if (p->fresh_count >= fresh_most(p->heap))
			port_queue_fresh(p);
	}
}

static void page_given_up(struct inject_heap *h, uint32_t page)
{
	page_become(h, page, PG_ABSENT, 0, 0);
	atomic_fetch_sub(&h->cache.resident, 1);
}

/* One by one, by copying: always possible where a page may be put at all. */
static int install_copies(struct port *p, struct op *op, unsigned first, unsigned count)
{
	struct inject_heap *h = p->heap;
	int result = 0;

	for (unsigned i = first; i < first + count; i++) {
		unsigned char *to = page_address(h, op->page[i]);
		size_t done;
		int r = (op->protect ? uffd_copy_protected : uffd_copy)(
			h->uffd, to, frame_address(p, op->frame[i]), PAGE, &done);

		if (r) {
			/* The program unmapped it behind our back, or is about to exit. */
			page_given_up(h, op->page[i]);
			result = r;
			/* Something else is mapped there: whose bytes it has, nobody knows. */
			if (r == -EEXIST)
				p->failed_status = r, p->failed_donor = -1;
		} else {
			pages_installed(p, op, i, 1);
		}
		frame_put(p, op->frame[i], true);
	}
	return result;
}

static int install_run(struct port *p, struct op *op, unsigned first, unsigned count)
{
	struct inject_heap *h = p->heap;
	size_t done = 0;
	unsigned moved;

	/* With several threads each single unmapping of a frame interrupts the other cores. */
	if (h->caps.move && !op->protect && (count >= 4 || !atomic_load_explicit(&h->crowded, memory_order_relaxed)))
		uffd_move_in(h->uffd, page_address(h, op->page[first]),
			  frame_address(p, op->frame[first]), count * PAGE, &done);
	moved = (unsigned)(done / PAGE);
	pages_installed(p, op, first, moved);
	for (unsigned i = first; i < first + moved; i++)
		frame_put(p, op->frame[i], false);
	return moved < count ? install_copies(p, op, first + moved, count - moved) : 0;
}

static void fetch_install(struct port *p, struct op *op)
{
	if (op->ahead)
		atomic_fetch_sub(&p->heap->cache.ahead, op->count);
	for (unsigned i = 0; i < op->count;) {
		unsigned n = 1;
		int r;

		while (i + n < op->count && op->page[i + n] == op->page[i] + n &&
		       op->frame[i + n] == op->frame[i] + n)
			n++;
		r = install_run(p, op, i, n);
		if (r && op->waiter)
			op->waiter->status = r;
		i += n;
	}
	COUNT(p, pages_in, op->count);
}

static void fetch_forget(struct port *p, struct op *op)
{
	if (op->ahead)
		atomic_fetch_sub(&p->heap->cache.ahead, op->count);
	for (unsigned i = 0; i < op->count; i++) {
		page_given_up(p->heap, op->page[i]);
		frame_put(p, op->frame[i], true);
	}
}

void window_install(struct port *p, struct op *op)
{
	struct op **at = &p->arrived;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	if (!*at)
		p->arrived_end = at;
	fetch_install(p, op);
	op_put(p, op);
}

bool window_drop(struct port *p, bool force)
{
	struct op *op = p->arrived;

	if (!op || (!force && p->faults - op->age < WINDOW_PATIENCE))
		return false;
	p->arrived = op->next;
	if (!p->arrived)
		p->arrived_end = &p->arrived;
	if (p->wasted_count < MAX_WASTED)
		p->wasted[p->wasted_count++] = op->page[0];
	COUNT(p, prefetch_wasted, op->count);
	fetch_forget(p, op);
	op_put(p, op);
	return true;
}

bool window_drop_old(struct port *p, uint64_t before_ns)
{
	return p->arrived && p->arrived->arrived_ns < before_ns && window_drop(p, true);
}

static void fetch_done(struct port *p, struct op *op)
{
	int status = op->batch.status;

	if (status) {
		fetch_forget(p, op);
	} else if (op->ahead && !op->wanted) {
		op->arrived = true;
		op->age = p->faults;
		op->arrived_ns = p->polled_ns;
		op->next = NULL;
		*p->arrived_end = op;
		p->arrived_end = &op->next;
		return;
	} else {
		fetch_install(p, op);
	}
	if (op->waiter) {
		if (status)
			op->waiter->status = status;
		op->waiter->donor = op->batch.donor;
		op->waiter->done = true;
	}
	op_put(p, op);
}

static void out_done(struct port *p, struct op *op)
{
	struct inject_heap *h = p->heap;
	int status = op->batch.status;
	unsigned written = 0, lost = 0;

	for (unsigned i = 0; i < op->count; i++) {
		uint32_t page = op->page[i], word;

		if (page == NO_PAGE)
			continue;
		written++;
		word = page_load(h, page);
		assert(page_where(word) == p->index * PORT_FRAMES + op->frame[i]);
		if (page_state(word) == PG_STAGED) {
			lost++;
			page_become(h, page, PG_ABSENT, 0, 0);
		} else {
			/* It came back before the answer did: its newest bytes are local. */
			assert(page_state(word) == PG_LOCAL && word & PG_WRITING);
			page_become(h, page, PG_LOCAL, 0, 0);
		}
		frame_put(p, op->frame[i], true);
	}
	if (status && lost) {
		p->failed_status = status;
		p->failed_donor = op->batch.donor;
	}
	COUNT(p, pages_out, written);
	op_put(p, op);
}

static void op_done(struct port *p, struct op *op)
{
	if (op->kind == OP_FETCH)
		fetch_done(p, op);
	else
		out_done(p, op);
}

static int op_submit(struct port *p, struct op *op, uint64_t now)
{
	int r;

	op_vectors(p, op);
	r = ps_submit(p->ps, &op->batch, now);
	if (r) {
		op->batch.status = r;
		op->batch.donor = -1;
		op_done(p, op);
		return r;
	}
	p->in_flight++;
	return 0;
}

int op_fetch(struct port *p, struct op *op, uint64_t now)
{
	op->kind = OP_FETCH;
	return op_submit(p, op, now);
}

void out_flush(struct port *p, uint64_t now)
{
	struct op *op = p->out;
	bool empty = true;

	if (!op)
		return;
	for (unsigned f = p->out_next; f < TRAY_FRAMES; f++)
		frame_put(p, p->out_tray * TRAY_FRAMES + f, false);
	p->out = NULL;
	for (unsigned i = 0; i < op->count; i++)
		empty = empty && op->page[i] == NO_PAGE;
	if (empty)
		op_put(p, op);
	else
		op_submit(p, op, now);
}

unsigned port_poll(struct port *p, uint64_t now)
{
	struct ps_batch *done[16];
	unsigned n, all = 0;

	if (!p->in_flight)
		return 0;
	p->polled_ns = now;
	do {
		n = ps_poll(p->ps, now, done, 16);
		for (unsigned i = 0; i < n; i++) {
			p->in_flight--;
			op_done(p, done[i]->user);
		}
		all += n;
	} while (n == 16);
	return all;
}
