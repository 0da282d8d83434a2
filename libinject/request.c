/* SPDX-License-Identifier: MIT */
/*
 * Calls on a heap. Handlers of the preload library have descriptors of their own, so a call is
 * handed to one of them: the caller writes it down and touches the control page, which is a fault
 * like any other; the handler that reads it carries the call out and then maps the page.
 */
#include "libinject/page.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"
#include "libinject/fork.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void heap_limit_update(struct inject_heap *h)
{
	uint64_t pages = atomic_load(&h->ranges.allocated) * h->percent / 100;

	if (!h->percent)
		return;
	if (pages < MIN_LOCAL_PAGES)
		pages = MIN_LOCAL_PAGES;
	atomic_store(&h->cache.limit, (int64_t)pages);
	residency_limit(&h->res, pages);
}

/* Donors get back the slabs of which nothing is used any more. */
static void slabs_release(struct inject_heap *h, uint32_t page, uint32_t count,
			  struct extent around)
{
	uint64_t slab = h->slab_pages;
	uint64_t first = page / slab * slab, end = (page + count + slab - 1) / slab * slab;

	while (first < around.page)
		first += slab;
	while (end > (uint64_t)around.page + around.count)
		end -= slab;
	if (end > first)
		ps_release(h->volume, first, end - first);
}

static void range_put_back(struct inject_heap *h, uint32_t page, uint32_t count)
{
	struct extent around;

	ranges_put(&h->ranges, page, count, &around);
	slabs_release(h, page, count, around);
}

static int do_take(struct inject_heap *h, uint32_t page, uint32_t count)
{
	int r = ps_reserve(h->volume, page, count);

	if (r) {
		char why[320];

		snprintf(why, sizeof why, "%s", err_text());
		range_put_back(h, page, count);
		return err_fail(r, "%s", why);
	}
	for (uint32_t i = page; i < page + count; i++)
		page_become(h, i, PG_ABSENT, 0, 0);
	if (atomic_load(&h->high) < page + count)
		atomic_store(&h->high, page + count);
	atomic_fetch_add(&h->ranges.allocated, count);
	heap_limit_update(h);
	return 0;
}

static int do_alloc(struct inject_heap *h, struct request *rq)
{
	char used[32], all[32];

	rq->page = ranges_take(&h->ranges, rq->count, rq->align);
	if (rq->page == NO_PAGE)
		return err_fail(-ENOMEM, "heap '%s' is full: %s of its %s are used", h->name,
				format_size(atomic_load(&h->ranges.allocated) * PAGE, used, sizeof used),
				format_size((uint64_t)h->pages * PAGE, all, sizeof all));
	return do_take(h, rq->page, rq->count);
}

/* align says how many pages there are already. */
static int do_grow(struct inject_heap *h, struct request *rq)
{
	uint32_t page = rq->page + rq->align, count = rq->count - rq->align;

	if (!ranges_take_at(&h->ranges, page, count))
		return err_fail(-ENOMEM, "heap '%s': what lies behind is in use", h->name);
	return do_take(h, page, count);
}

static bool run_next(const struct inject_heap *h, uint32_t *page, uint32_t end, uint32_t *count)
{
	uint32_t at = *page;

	while (at < end && page_state(page_load(h, at)) == PG_UNUSED)
		at++;
	*page = at;
	while (at < end && page_state(page_load(h, at)) != PG_UNUSED)
		at++;
	*count = at - *page;
	return *count;
}

static int do_free(struct inject_heap *h, struct request *rq)
{
	uint32_t page = rq->page, end = rq->page + rq->count, count;

	for (; run_next(h, &page, end, &count); page += count) {
		pages_discard(h, page, count, PG_UNUSED);
		atomic_fetch_sub(&h->ranges.allocated, count);
		range_put_back(h, page, count);
	}
	heap_limit_update(h);
	return 0;
}

static int do_discard(struct inject_heap *h, struct request *rq)
{
	uint32_t page = rq->page, end = rq->page + rq->count, count;

	for (; run_next(h, &page, end, &count); page += count)
		pages_discard(h, page, count, PG_ABSENT);
	return 0;
}

static int do_advise(struct inject_heap *h, struct request *rq, unsigned port)
{
	struct port *p = h->port[port];
	int64_t most = atomic_load(&h->cache.limit) / 2;

	for (uint32_t i = rq->page; i < rq->page + rq->count && rq->arg != INJECT_WILLNEED; i++) {
		if (rq->arg == INJECT_RANDOM)
			page_flag(h, i, PG_RANDOM, 0);
		else
			page_flag(h, i, 0, PG_RANDOM);
	}
	lock_take(&p->lock);
	if (rq->arg == INJECT_SEQUENTIAL) {
		lock_take(&h->prefetch_lock);
		prefetch_expect_scan(&h->prefetch, rq->page, rq->count);
		lock_drop(&h->prefetch_lock);
	}
	for (uint32_t i = 0; rq->arg == INJECT_WILLNEED && i < rq->count && i < most;
	     i += TRAY_FRAMES) {
		uint32_t n = rq->count - i < TRAY_FRAMES ? rq->count - i : TRAY_FRAMES;

		fetch_ahead(p, &(struct prefetch_run){.page = rq->page + i, .stride = 1, .count = n},
			    true, clock_ns());
		make_room(p, rq->page + i, clock_ns());
	}
	lock_drop(&p->lock);
	return 0;
}

/* Scattered pages; they are where the words of an error will be: the caller's memory may be a heap's,
 * which a handler must not touch. */
#define ADVISE_LIST (INJECT_WILLNEED + 1)
_Static_assert(sizeof(((struct request *)0)->text) >= TRAY_FRAMES * sizeof(uint32_t),
	       "a request has room for a tray's list");

static int do_prefetch(struct inject_heap *h, struct request *rq, unsigned port)
{
	struct port *p = h->port[port];
	uint32_t list[TRAY_FRAMES];

	memcpy(list, rq->text, rq->count * sizeof *list);
	lock_take(&p->lock);
	fetch_ahead(p,
		    &(struct prefetch_run){
			    .page = list[0], .stride = 1, .count = rq->count, .list = list},
		    true, clock_ns());
	make_room(p, list[0], clock_ns());
	lock_drop(&p->lock);
	return 0;
}

static void pin_drop(struct inject_heap *h, uint32_t page)
{
	uint16_t pins = __atomic_load_n(&h->pins[page], __ATOMIC_SEQ_CST);

	while (pins && !__atomic_compare_exchange_n(&h->pins[page], &pins, (uint16_t)(pins - 1),
						    false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	if (pins == 1)
		atomic_fetch_sub(&h->cache.pinned, 1);
}

static int do_unpin(struct inject_heap *h, struct request *rq)
{
	for (uint32_t i = rq->page; i < rq->page + rq->count; i++)
		pin_drop(h, i);
	return 0;
}

static int pin_page(struct inject_heap *h, unsigned port, uint32_t page, int *donor)
{
	int64_t most = atomic_load(&h->cache.limit) / 4 * 3;

	if (!__atomic_fetch_add(&h->pins[page], 1, __ATOMIC_SEQ_CST) &&
	    atomic_fetch_add(&h->cache.pinned, 1) >= most) {
		pin_drop(h, page);
		return -ENOSPC;
	}
	/* From here on an eviction sees the pin; one that did not is seen as a state. The kernel must
	 * be able to write to it. */
	while ((page_load(h, page) & (PG_STATE | PG_PROT)) != PG_LOCAL) {
		struct fault f = {.page = page, .write = true};
		int r = fault_resolve(h, port, &f);

		*donor = f.donor;
		if (r) {
			pin_drop(h, page);
			return r;
		}
	}
	return 0;
}

static int do_pin(struct inject_heap *h, struct request *rq, unsigned port)
{
	for (uint32_t i = 0; i < rq->count; i++) {
		int donor = -1, r = pin_page(h, port, rq->page + i, &donor);
		char most[32];

		if (!r)
			continue;
		do_unpin(h, &(struct request){.page = rq->page, .count = i});
		if (r == -ENOSPC)
			return err_fail(r, "heap '%s': no more than three quarters of the local cache (%s) can be pinned",
					h->name,
					format_size((uint64_t)atomic_load(&h->cache.limit) * PAGE / 4 * 3,
						    most, sizeof most));
		return err_fail(r, "heap '%s': page at %p can't be had from donor %s: %s", h->name,
				(void *)page_address(h, rq->page + i),
				donor >= 0 ? ps_donor_name(h->volume, donor) : "(none)",
				strerrorname_np(-r));
	}
	return 0;
}

static int request_execute(struct inject_heap *h, struct request *rq, unsigned port)
{
	switch (rq->kind) {
	case REQ_ALLOC:
		return do_alloc(h, rq);
	case REQ_FREE:
		return do_free(h, rq);
	case REQ_GROW:
		return do_grow(h, rq);
	case REQ_DISCARD:
		return do_discard(h, rq);
	case REQ_ADVISE:
		return rq->arg == ADVISE_LIST ? do_prefetch(h, rq, port) : do_advise(h, rq, port);
	case REQ_PIN:
		return do_pin(h, rq, port);
	case REQ_UNPIN:
		return do_unpin(h, rq);
	case REQ_QUIESCE:
		return heap_quiesce(h);
	}
	return -EINVAL;
}

void request_serve(struct inject_heap *h, unsigned port)
{
	struct request *rq = &h->request;

	rq->result = request_execute(h, rq, port);
	snprintf(rq->text, sizeof rq->text, "%s", rq->result ? err_text() : "");
}

int heap_call_locked(struct inject_heap *h, struct request *rq)
{
	if (!h->raw)
		return request_execute(h, rq, thread_port(h));
	h->request = *rq;
	atomic_thread_fence(memory_order_seq_cst);
	(void)*(volatile unsigned char *)h->control_page;
	*rq = h->request;
	sys_call3(SYS_madvise, SYS_PTR(h->control_page), PAGE, MADV_DONTNEED);
	return rq->result ? err_fail(rq->result, "%s", rq->text) : 0;
}

int heap_call(struct inject_heap *h, struct request *rq)
{
	uint64_t signals;
	/* A pin waits for donors and needs nothing that the control lock guards. */
	bool lock = h->raw || (rq->kind != REQ_PIN && rq->kind != REQ_UNPIN);
	int r;

	if (h->dead)
		return err_fail(-ENODEV, "heap '%s' is the parent's: there was no snapshot for this child",
				h->name);
	signals = signals_block();
	if (lock)
		lock_take(&h->control);
	r = heap_call_locked(h, rq);
	if (lock)
		lock_drop(&h->control);
	signals_restore(signals);
	return r;
}

int inject_prefetch(struct inject_heap *h, const void *const *addresses, unsigned count)
{
	int64_t most;
	int r = 0;

	for (unsigned i = 0; i < count; i++)
		if (!h || heap_of(addresses[i]) != h)
			return err_fail(-EINVAL, "inject_prefetch: %p is not in the heap",
					addresses[i]);
	if (!count)
		return 0;
	most = atomic_load(&h->cache.limit) / 2;
	for (unsigned i = 0; i < count && i < most && !r; i += TRAY_FRAMES) {
		struct request rq = {.kind = REQ_ADVISE, .arg = ADVISE_LIST};
		uint32_t page;

		rq.count = count - i < TRAY_FRAMES ? count - i : TRAY_FRAMES;
		for (unsigned k = 0; k < rq.count; k++) {
			page = page_of(h, addresses[i + k]);
			memcpy(rq.text + k * sizeof page, &page, sizeof page);
		}
		r = heap_call(h, &rq);
	}
	return r;
}
