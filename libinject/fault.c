/* SPDX-License-Identifier: MIT */
/*
 * A fault's way: claim the page, send the request, evict while waiting, receive into staging,
 * install, return. The same code runs in the faulting thread (SIGBUS mode) and in handlers.
 */
#include "libinject/page.h"
#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAP_NS       (200 * NSEC_PER_USEC) /* somebody else may take our answer in: look again */
#define YIELD_AFTER  16u
#define STUCK_NS     (10 * NSEC_PER_SEC)
#define TRIM_EVERY   256u /* faults of a port */
#define WINDOW_OLD_NS NSEC_PER_SEC
#define SPARE_TRAYS  5u /* for demand fetches and evictions, when prefetching */

void heap_failure(struct inject_heap *h, const void *address, int error, int donor)
{
	const char *name = donor >= 0 ? ps_donor_name(h->volume, donor) : "(none)";
	const char *why = error == -EIO		? "the donor is gone or refuses"
			  : error == -ETIMEDOUT ? "the donor did not answer in time"
			  : error == -EBADMSG	? "the donor sent wrong bytes"
						: "unexpected error";
	char text[384];
	struct inject_failure f = {
		.address = address,
		.error = error,
		.donor = name,
		.heap = h->name,
		.text = text,
	};
	int n;

	if (address)
		n = snprintf(text, sizeof text,
			     "infuse: heap '%s': the page at %p is lost: donor %s: %s (%s)", h->name,
			     address, name, why, strerrorname_np(-error));
	else
		n = snprintf(text, sizeof text,
			     "infuse: heap '%s': pages written back are lost: donor %s: %s (%s)",
			     h->name, name, why, strerrorname_np(-error));
	if (h->failed)
		h->failed(&f, h->failed_arg);
	text[n < (int)sizeof text - 1 ? n : (int)sizeof text - 2] = '\n';
	sys_call3(SYS_write, 2, SYS_PTR(text), (n < (int)sizeof text - 1 ? n : (int)sizeof text - 2) + 1);
	/* No page of the right bytes can be had: nothing the program does from here is right. */
	sys_call1(SYS_exit_group, 128 + 7 /* as if by SIGBUS */);
}

/* Called without locks: a write-back that failed is told by whoever found out. */
static void port_unlock(struct port *p)
{
	int status = p->failed_status, donor = p->failed_donor;

	p->failed_status = 0;
	lock_drop(&p->lock);
	if (status)
		heap_failure(p->heap, NULL, status, donor);
}

/*
 * Between two looks at what somebody else, or the network, has to do. p (may be NULL) is not locked;
 * it is for a moment, to learn what to wait for.
 */
static void pause_for(struct inject_heap *h, struct port *p, unsigned round, uint64_t start)
{
	struct ps_wait w;

	if (round < 4) {
		cpu_relax();
	} else if (!p || clock_ns() - start < h->spin_ns) {
		/* Gives way when the core is wanted. */
		if (round % YIELD_AFTER == 0)
			sys_call0(SYS_sched_yield);
	} else {
		lock_take(&p->lock);
		ps_wait_for(p->ps, NAP_NS, &w);
		lock_drop(&p->lock);
		ps_wait_sleep(&w);
	}
}

/* The request that has a page on its way in. p's lock held and the word just read. */
static struct op *fetch_of(struct port *p, uint32_t word)
{
	return &p->ops[page_where(word) % PORT_OPS];
}

/* p's lock held: a window of which a page is wanted comes in as a whole. */
static void fetch_want(struct port *p, uint32_t word)
{
	struct op *op = fetch_of(p, word);

	if (op->arrived)
		window_install(p, op);
	else
		op->wanted = true;
}

void page_settle(struct inject_heap *h, uint32_t page, uint32_t word)
{
	uint64_t start = clock_ns();
	struct port *p = NULL;

	if (page_state(word) == PG_FETCH)
		p = h->port[page_where(word) / PORT_OPS];
	else if (page_state(word) == PG_STAGED || word & PG_WRITING)
		p = h->port[page_where(word) / PORT_FRAMES];
	for (unsigned round = 0; page_load(h, page) == word; round++) {
		if (p && lock_try(&p->lock)) {
			port_poll(p, clock_ns());
			if (page_state(word) == PG_FETCH && page_load(h, page) == word)
				fetch_want(p, word);
			port_unlock(p);
			if (page_load(h, page) != word)
				break;
		}
		if (!p && round > 64)
			sys_call0(SYS_sched_yield);
		pause_for(h, p, round, start);
		if (clock_ns() - start > h->deadline_ns + STUCK_NS)
			heap_failure(h, page_address(h, page), -ETIMEDOUT, -1);
	}
}

static uint32_t fetch_word(const struct port *p, const struct op *op, uint32_t keep)
{
	return page_word(PG_FETCH, keep, p->index * PORT_OPS + (uint32_t)(op - p->ops));
}

static void claim_ahead(struct inject_heap *h, struct port *p, struct op *op, int64_t page)
{
	uint32_t word;
	unsigned at;

	if (page < 0 || page >= h->pages)
		return;
	word = page_load(h, (uint32_t)page);
	if (page_state(word) != PG_ABSENT || word & PG_RANDOM ||
	    !page_claim(h, (uint32_t)page, word, fetch_word(p, op, word & PG_KEEP)))
		return;
	/* In order, so that neighbours are one piece of the request and one MOVE. */
	for (at = op->count++; at && op->page[at - 1] > page; at--)
		op->page[at] = op->page[at - 1];
	op->page[at] = (uint32_t)page;
}

/* Claims what is absent of a run. */
static void run_claim(struct inject_heap *h, struct port *p, struct op *op,
		      const struct prefetch_run *run, uint32_t count)
{
	int64_t page = run->page;
	int32_t step = run->stride;

	if (step < 0) {
		page += (int64_t)step * (count - 1);
		step = -step;
	}
	for (uint32_t i = 0; i < count; i++, page += step)
		claim_ahead(h, p, op, run->list ? run->list[i] : page);
}

/* Windows of threads that are gone must not keep others from prefetching. */
static void others_drop(struct inject_heap *h, const struct port *mine, uint64_t now)
{
	for (unsigned i = 0; i < h->ports; i++) {
		struct port *p = h->port[i];

		if (p == mine || !lock_try(&p->lock))
			continue;
		while (window_drop_old(p, now - WINDOW_OLD_NS))
			;
		lock_drop(&p->lock);
	}
}

int fetch_ahead(struct port *p, const struct prefetch_run *run, bool eager, uint64_t now)
{
	struct inject_heap *h = p->heap;
	int64_t limit = atomic_load_explicit(&h->cache.limit, memory_order_relaxed);
	uint32_t count = run->count;
	struct op *op;
	int frame;

	/* What waits in windows can't be evicted: it must not be all there is. */
	limit = limit / 2 - atomic_load_explicit(&h->cache.ahead, memory_order_relaxed);
	if (count > limit / 2)
		count = limit > 0 ? (uint32_t)(limit / 2) : 0;
	if (!count)
		others_drop(h, p, now);
	while (trays_idle(p) < SPARE_TRAYS && window_drop(p, false))
		;
	if (!count || trays_idle(p) < SPARE_TRAYS)
		return -1;
	op = op_get(p);
	if (!op)
		return -1;
	run_claim(h, p, op, run, count);
	frame = op->count ? frames_take_window(p, op->count) : -1;
	if (frame < 0) {
		for (unsigned i = 0; i < op->count; i++)
			page_become(h, op->page[i], PG_ABSENT, 0, 0);
		count = op->count;
		op_put(p, op);
		return count ? -1 : 0;
	}
	for (unsigned i = 0; i < op->count; i++)
		op->frame[i] = (uint16_t)(frame + (int)i);
	op->ahead = true;
	op->wanted = eager;
	count = op->count;
	atomic_fetch_add(&h->cache.resident, count);
	atomic_fetch_add(&h->cache.ahead, count);
	COUNT(p, prefetched, count);
	op_fetch(p, op, now);
	return (int)count;
}

/* p's lock held. */
static void prefetch(struct port *p, enum prefetch_event e, const struct fault *f, uint64_t now)
{
	struct inject_heap *h = p->heap;
	struct prefetch_run run[PREFETCH_RUNS];
	uint64_t hits;
	unsigned n;

	if (page_load(h, f->page) & PG_RANDOM || !lock_try(&h->prefetch_lock))
		return;
	while (p->wasted_count)
		prefetch_event(&h->prefetch, PREFETCH_WASTED, p->wasted[--p->wasted_count], 0, run);
	hits = h->prefetch.state.hits;
	n = prefetch_event(&h->prefetch, e, f->page, f->thread, run);
	hits = h->prefetch.state.hits - hits;
	for (unsigned i = 0; i < n; i++) {
		int asked = fetch_ahead(p, &run[i], false, now);

		if (asked < 0)
			prefetch_refused(&h->prefetch, &run[i]);
		else
			prefetch_asked(&h->prefetch, &run[i], (uint32_t)asked);
	}
	lock_drop(&h->prefetch_lock);
	if (hits)
		COUNT(p, prefetch_hits, hits);
}

/*
 * How many pages to take out at once. Protected ones, and all while several threads run, are
 * cheaper by the dozen; one that must be moved out is best moved while its successor is awaited.
 */
static unsigned evict_batch(const struct inject_heap *h, uint32_t page)
{
	int64_t most = atomic_load_explicit(&h->cache.limit, memory_order_relaxed) / 8;
	unsigned n = 1;

	if (atomic_load_explicit(&h->crowded, memory_order_relaxed))
		n = 64;
	else if (h->self_fd >= 0 && !area_is_written(h, page))
		n = 8;
	return n <= most ? n : most > 1 ? (unsigned)most : 1;
}

/*
 * No lock held. A port whose threads have gone has answers that nobody takes in, and pages that can't
 * be evicted until somebody does. Returns how many requests ended.
 */
static unsigned others_poll(struct inject_heap *h, const struct port *mine, uint64_t now)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->ports; i++) {
		struct port *p = h->port[i];

		if (p == mine || !__atomic_load_n(&p->in_flight, __ATOMIC_RELAXED) ||
		    !lock_try(&p->lock))
			continue;
		n += port_poll(p, now);
		port_unlock(p);
	}
	return n;
}

/* p's lock held on entry and exit, dropped while frames are waited for. page: for which. */
void make_room(struct port *p, uint32_t page, uint64_t now)
{
	struct inject_heap *h = p->heap;
	unsigned batch = evict_batch(h, page);
	uint64_t start = now;

	for (unsigned round = 0;; round++) {
		int64_t over = atomic_load(&h->cache.resident) - atomic_load(&h->cache.limit);
		unsigned n, others;

		if (over <= 0)
			return;
		n = evict(p, over < (int64_t)batch ? batch : over < 64 ? (unsigned)over : 64, now);
		if (n || window_drop(p, true))
			continue;
		/* All frames are on their way, or all pages are pinned or in flight. */
		if (port_poll(p, now))
			continue;
		port_unlock(p);
		others = others_poll(h, p, now);
		if (!others)
			pause_for(h, p, round, start);
		lock_take(&p->lock);
		if (!others && (!p->in_flight || now - start > h->deadline_ns))
			return;
		now = clock_ns();
	}
}

/* The page is claimed by us and its request is on the way. */
static int fetch_await(struct port *p, struct waiter *w)
{
	struct inject_heap *h = p->heap;
	uint64_t start = clock_ns(), now = start;

	for (unsigned round = 0; !w->done; round++) {
		if (!port_poll(p, now) && !w->done) {
			port_unlock(p);
			pause_for(h, p, round, start);
			lock_take(&p->lock);
		}
		now = clock_ns();
	}
	return w->status;
}

/* No frame is free: wait for one. */
static int frame_await(struct port *p, uint64_t now)
{
	struct ps_wait nap;

	if (window_drop(p, true)) {
		port_unlock(p);
		return -EAGAIN;
	}
	if (!p->in_flight)
		out_flush(p, now);
	ps_wait_for(p->ps, NAP_NS, &nap);
	port_unlock(p);
	ps_wait_sleep(&nap);
	return -EAGAIN;
}

static int fetch_demand(struct inject_heap *h, struct port *p, struct fault *f, uint64_t now)
{
	struct waiter w = {.donor = -1};
	uint32_t word;
	struct op *op = NULL;
	int frame, r = -EAGAIN;

	lock_take(&p->lock);
	if (++p->faults % TRIM_EVERY == 0)
		frames_trim(p);
	if (p->in_flight)
		port_poll(p, now);
	word = page_load(h, f->page);
	if (page_state(word) != PG_ABSENT)
		goto out;
	op = op_get(p);
	frame = op ? frame_take(p) : -1;
	if (frame < 0) {
		if (op)
			op_put(p, op);
		return frame_await(p, now);
	}
	if (!page_claim(h, f->page, word, fetch_word(p, op, word & PG_KEEP))) {
		frame_put(p, (unsigned)frame, true);
		op_put(p, op);
		goto out;
	}
	if (!ps_page_hash(h->volume, f->page))
		COUNT(p, faults_zero, 1);
	atomic_fetch_add(&h->cache.resident, 1);
	op->page[0] = f->page;
	op->frame[0] = (uint16_t)frame;
	op->count = 1;
	op->waiter = &w;
	op->protect = !f->write && !area_is_written(h, f->page);
	if (f->write)
		area_count_writable(h, f->page, 16);
	else
		area_count(h, f->page, -2);
	op_fetch(p, op, now);
	prefetch(p, PREFETCH_MISS, f, now);
	make_room(p, f->page, now);
	r = fetch_await(p, &w);
	f->donor = w.donor;
out:
	port_unlock(p);
	return r;
}

/* The page is in a staging frame: copy it back. */
static int steal_staged(struct inject_heap *h, struct port *mine, uint32_t page, uint32_t word)
{
	struct port *p = h->port[page_where(word) / PORT_FRAMES];
	unsigned frame = page_where(word) % PORT_FRAMES;
	size_t done;
	int r = -EAGAIN;

	lock_take(&p->lock);
	if (!page_claim(h, page, word, page_word(PG_TAKING, word & PG_KEEP, page_where(word))))
		goto out;
	r = uffd_copy(h->uffd, page_address(h, page), frame_address(p, frame), PAGE, &done);
	if (r) {
		page_become(h, page, PG_STAGED, 0, page_where(word));
		goto out;
	}
	atomic_fetch_add(&h->cache.resident, 1);
	COUNT(p, faults_staged, 1);
	if (out_forget(p, page))
		page_become(h, page, PG_LOCAL, 0, 0);
	else
		page_become(h, page, PG_LOCAL, PG_WRITING, page_where(word));
	residency_add(&h->res, &page, 1, RESIDENCY_BACK);
out:
	port_unlock(p);
	if (!r) {
		lock_take(&mine->lock);
		make_room(mine, page, clock_ns());
		port_unlock(mine);
	}
	return r;
}

/* The page is on its way, for somebody else or asked ahead: ask on ahead, then take it in. */
static void join_fetch(struct inject_heap *h, const struct fault *f, uint32_t word, uint64_t now)
{
	struct port *p = h->port[page_where(word) / PORT_OPS];
	struct op *op = fetch_of(p, word);
	enum prefetch_event e;

	COUNT(p, faults_shared, 1);
	lock_take(&p->lock);
	p->faults++;
	port_poll(p, now);
	/* Still the same request: a word says where, not when. */
	if (page_load(h, f->page) == word && op->ahead) {
		e = op->arrived ? PREFETCH_FIRST : PREFETCH_LATE;
		if (!op->arrived)
			COUNT(p, prefetch_late, 1);
		prefetch(p, e, f, now);
		if (page_load(h, f->page) == word)
			fetch_want(p, word);
		make_room(p, f->page, now);
	}
	port_unlock(p);
	page_settle(h, f->page, word);
}

/*
 * The page is mapped and faulted: it is written for the first time since it came, or somebody else
 * has mapped it meanwhile, or it is still write-protected by an eviction that gave up.
 */
static int fault_mapped(struct inject_heap *h, struct port *p, const struct fault *f, uint32_t word)
{
	int r = -EAGAIN;

	if (word & PG_WRITING || (word & PG_PROT && !f->write)) {
		if (h->mode == INJECT_MODE_HANDLER)
			uffd_wake(h->uffd, page_address(h, f->page), PAGE);
		return 0;
	}
	/* Owned: by the time we unprotect, it might be another arrival of the page. The port's
	 * lock keeps forks out. */
	lock_take(&p->lock);
	if (page_claim(h, f->page, word, page_word(PG_TAKING, word & PG_KEEP, 0))) {
		uffd_protect(h->uffd, page_address(h, f->page), PAGE, false);
		page_become(h, f->page, PG_LOCAL, 0, 0);
		if (word & PG_PROT) {
			COUNT(p, faults_write, 1);
			area_count_second(h, f->page);
		}
		r = 0;
	}
	port_unlock(p);
	return r;
}

static void count_fault(struct port *p, uint64_t start)
{
	uint64_t ns = clock_ns() - start;
	unsigned bucket = ns ? 63 - (unsigned)__builtin_clzll(ns) : 0;

	COUNT(p, faults, 1);
	COUNT(p, fault_ns, ns);
	COUNT(p, latency[bucket < 32 ? bucket : 31], 1);
}

int fault_resolve(struct inject_heap *h, unsigned port, struct fault *f)
{
	struct port *p = h->port[port];
	uint64_t start = clock_ns();
	bool waited = false;
	int r;

	f->donor = -1;
	for (;;) {
		uint32_t word = page_load(h, f->page);

		switch (page_state(word)) {
		case PG_UNUSED:
			return -EFAULT;
		case PG_LOCAL:
			/* Once mapped it can be written to, and fault, before its word says so. */
			r = !waited || (f->write && word & PG_PROT) ? fault_mapped(h, p, f, word)
								    : 0;
			if (r)
				break;
			if (waited)
				count_fault(p, start);
			return 0;
		case PG_ABSENT:
			r = fetch_demand(h, p, f, waited ? clock_ns() : start);
			waited = true;
			break;
		case PG_STAGED:
			waited = true;
			r = steal_staged(h, p, f->page, word);
			break;
		case PG_FETCH:
			if (!waited)
				join_fetch(h, f, word, start);
			else
				page_settle(h, f->page, word);
			waited = true;
			r = -EAGAIN;
			break;
		case PG_TAKING:
			page_settle(h, f->page, word);
			r = -EAGAIN;
			break;
		default:
			return -EFAULT;
		}
		if (r && r != -EAGAIN)
			return r;
	}
}
