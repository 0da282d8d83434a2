/* SPDX-License-Identifier: MIT */
/* The public calls on an open heap: they check what they are given and hand it on. */
#include "libinject/heap.h"
#include "libinject/runtime.h"
#include "common/error.h"

#include <errno.h>
#include <string.h>

#define HUGE_PAGES 512u

static int range_check(const struct inject_heap *h, const void *p, size_t bytes, const char *what)
{
	const unsigned char *at = p;

	if (!h || !heap_contains(h, p) || !bytes ||
	    bytes > (size_t)(h->base + ((size_t)h->pages << PAGE_SHIFT) - at))
		return err_fail(-EINVAL, "%s: [%p, +%zu) is not in the heap", what, p, bytes);
	return 0;
}

static uint32_t pages_of(size_t bytes)
{
	return (uint32_t)((bytes + PAGE - 1) >> PAGE_SHIFT);
}

/* All pages that [p, p + bytes) touches. */
static struct request request_on(const struct inject_heap *h, enum request_kind kind,
				 const void *p, size_t bytes)
{
	uint32_t first = page_of(h, p);

	return (struct request){
		.kind = kind,
		.page = first,
		.count = page_of(h, (const unsigned char *)p + bytes - 1) - first + 1,
	};
}

int range_alloc(struct inject_heap *h, size_t bytes, size_t align, void **ret)
{
	struct request rq = {.kind = REQ_ALLOC};
	int r;

	if (!bytes || bytes > (size_t)h->pages << PAGE_SHIFT)
		return err_fail(-ENOMEM, "%zu bytes are more than heap '%s' can have", bytes, h->name);
	rq.count = pages_of(bytes);
	rq.align = align > PAGE ? (uint32_t)(align >> PAGE_SHIFT) : 1;
	r = heap_call(h, &rq);
	if (!r)
		*ret = h->base + ((size_t)rq.page << PAGE_SHIFT);
	return r;
}

int range_free(struct inject_heap *h, void *p, size_t bytes)
{
	struct request rq;
	int r = range_check(h, p, bytes, "free");

	if (r)
		return r;
	rq = request_on(h, REQ_FREE, p, bytes);
	return heap_call(h, &rq);
}

int range_grow(struct inject_heap *h, void *p, size_t old_bytes, size_t new_bytes)
{
	struct request rq = {.kind = REQ_GROW, .page = page_of(h, p)};

	rq.align = pages_of(old_bytes);
	rq.count = pages_of(new_bytes);
	return rq.count > rq.align ? heap_call(h, &rq) : 0;
}

bool range_allocated(const struct inject_heap *h, const void *p, size_t bytes)
{
	struct request rq = request_on(h, REQ_FREE, p, bytes);

	for (uint32_t i = 0; i < rq.count; i++)
		if (page_state(atomic_load(&h->word[rq.page + i])) == PG_UNUSED)
			return false;
	return true;
}

int inject_alloc(struct inject_heap *h, size_t bytes, void **ret)
{
	int r = range_alloc(h, bytes, bytes >= HUGE_PAGES * PAGE ? HUGE_PAGES * PAGE : 0, ret);

	if (!r)
		h->extent[page_of(h, *ret)] = pages_of(bytes);
	return r;
}

int inject_free(struct inject_heap *h, void *p)
{
	uint32_t count;

	if (!p)
		return 0;
	if (range_check(h, p, 1, "inject_free"))
		return -EINVAL;
	count = h->extent[page_of(h, p)];
	if (!count || (uintptr_t)p % PAGE)
		return err_fail(-EINVAL, "inject_free: %p is not what inject_alloc gave", p);
	h->extent[page_of(h, p)] = 0;
	return range_free(h, p, (size_t)count << PAGE_SHIFT);
}

int inject_discard(struct inject_heap *h, void *p, size_t bytes)
{
	uintptr_t first = ((uintptr_t)p + PAGE - 1) & ~(PAGE - 1);
	uintptr_t end = ((uintptr_t)p + bytes) & ~(PAGE - 1);
	struct request rq;
	int r = range_check(h, p, bytes, "inject_discard");

	if (r || end <= first)
		return r;
	rq = request_on(h, REQ_DISCARD, (void *)first, end - first);
	return heap_call(h, &rq);
}

int inject_advise(struct inject_heap *h, void *p, size_t bytes, enum inject_advice advice)
{
	struct request rq;
	int r = range_check(h, p, bytes, "inject_advise");

	if (r)
		return r;
	if ((unsigned)advice > INJECT_WILLNEED)
		return err_fail(-EINVAL, "inject_advise: unknown advice %d", (int)advice);
	rq = request_on(h, REQ_ADVISE, p, bytes);
	rq.arg = (int)advice;
	return heap_call(h, &rq);
}

int inject_pin(struct inject_heap *h, const void *p, size_t bytes)
{
	struct request rq;
	int r = range_check(h, p, bytes, "inject_pin");

	if (r)
		return r;
	rq = request_on(h, REQ_PIN, p, bytes);
	return heap_call(h, &rq);
}

int inject_unpin(struct inject_heap *h, const void *p, size_t bytes)
{
	struct request rq;
	int r = range_check(h, p, bytes, "inject_unpin");

	if (r)
		return r;
	rq = request_on(h, REQ_UNPIN, p, bytes);
	return heap_call(h, &rq);
}

static void counters_add(struct inject_stats *s, const struct counters *c)
{
#define X(name) s->name += atomic_load_explicit(&c->name, memory_order_relaxed);
	HEAP_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < 32; i++)
		s->latency_ns[i] += atomic_load_explicit(&c->latency[i], memory_order_relaxed);
}

int inject_stats(struct inject_heap *h, struct inject_stats *ret)
{
	struct ps_counters c;
	struct ps_health health;

	ps_counters(h->volume, &c);
	ps_health(h->volume, &health);
	*ret = (struct inject_stats){
		.allocated_bytes = atomic_load(&h->ranges.allocated) << PAGE_SHIFT,
		.local_bytes = (uint64_t)atomic_load(&h->cache.limit) << PAGE_SHIFT,
		.resident_bytes = (uint64_t)atomic_load(&h->cache.resident) << PAGE_SHIFT,
		.pinned_bytes = (uint64_t)atomic_load(&h->cache.pinned) << PAGE_SHIFT,
		.bytes_in = c.bytes_in,
		.bytes_out = c.bytes_out,
		.failovers = c.failovers,
		.hedges = c.hedges,
		.repairs = c.repairs,
		.members_lost = c.dropped,
		.slabs_degraded = health.degraded,
		.slabs_rebuilt = c.rebuilt_slabs,
		.slabs_moved = c.moved_slabs,
		.spilled_bytes = health.spilled * ps_slab_pages(h->volume) << PAGE_SHIFT,
		.spill_in = c.spill_in,
		.spill_out = c.spill_out,
	};
	for (unsigned k = 0; k < h->ports; k++)
		counters_add(ret, &h->port[k]->count);
	return 0;
}

const char *inject_error(void)
{
	return err_text();
}

const char *inject_version(void)
{
	return INFUSE_VERSION;
}
