/* SPDX-License-Identifier: MIT */
/*
 * Which pages are local, oldest first. Evicted is what was queued longest, unless it came back from
 * staging since (second chance without accessed bits). Pages that were freed leave stale entries,
 * which are dropped when they surface or when the ring is full; a page's QUEUED flag keeps it from
 * standing in the ring twice.
 */
#include "libinject/page.h"
#include "common/memory.h"

#include <errno.h>
#include <string.h>

#define RING_FIRST 4096u

int residency_init(struct residency *r, uint64_t pages)
{
	r->cap_max = RING_FIRST;
	while (r->cap_max < 2 * pages && r->cap_max < 1u << 31)
		r->cap_max *= 2;
	/* Address space for the most there can be; memory for what is used. */
	r->ring = mem_map((size_t)r->cap_max * sizeof *r->ring);
	if (!r->ring)
		return -ENOMEM;
	r->cap = RING_FIRST;
	r->head = r->count = 0;
	return 0;
}

/* Drops entries whose page is not local any more. */
static void ring_compact(struct inject_heap *h, struct residency *r)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < r->count; i++) {
		uint32_t page = r->ring[(r->head + i) & (r->cap - 1)];
		enum page_state s = page_state(page_load(h, page));

		/* Who makes a page local queues it after that, and waits for our lock. */
		if (s != PG_LOCAL && s != PG_FETCH && s != PG_TAKING) {
			page_flag(h, page, 0, PG_QUEUED);
			continue;
		}
		r->ring[(r->head + kept++) & (r->cap - 1)] = page;
	}
	r->count = kept;
}

static void ring_make_room(struct inject_heap *h, struct residency *r)
{
	ring_compact(h, r);
	if (r->count <= r->cap / 4 * 3 || r->cap == r->cap_max)
		return;
	/* What had wrapped around moves behind the old end. */
	memcpy(r->ring + r->cap, r->ring, r->head * sizeof *r->ring);
	r->cap *= 2;
}

static void ring_add(struct inject_heap *h, struct residency *r, uint32_t page)
{
	if (r->count == r->cap)
		ring_make_room(h, r);
	/* cap_max is twice the heap's pages and each page stands in the ring once. */
	r->ring[(r->head + r->count++) & (r->cap - 1)] = page;
}

void residency_push(struct inject_heap *h, uint32_t page)
{
	lock_take(&h->res.lock);
	if (!(atomic_fetch_or(&h->word[page], PG_QUEUED) & PG_QUEUED))
		ring_add(h, &h->res, page);
	lock_drop(&h->res.lock);
}

uint32_t residency_pop(struct inject_heap *h)
{
	struct residency *r = &h->res;
	uint32_t page = NO_PAGE;

	lock_take(&r->lock);
	if (r->count) {
		page = r->ring[r->head];
		r->head = (r->head + 1) & (r->cap - 1);
		r->count--;
		page_flag(h, page, 0, PG_QUEUED);
	}
	lock_drop(&r->lock);
	return page;
}
