/* SPDX-License-Identifier: MIT */
/*
 * Oldest first, with a second chance for pages that were wanted again while they were on their way
 * out. Pages that were freed leave stale entries, which are dropped when they surface or when the
 * ring is full; a page's QUEUED bit keeps it from standing in the ring twice.
 */
#include "libinject/residency.h"
#include "common/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define RING_FIRST 4096u
#define QUEUED	   0x01u /* in the ring */
#define GONE	   0x02u /* in the ring, but freed since */
#define CHANCE	   0x04u /* goes round once more */

int residency_init(struct residency *r, uint32_t pages)
{
	r->pages = pages;
	r->cap_max = RING_FIRST;
	while (r->cap_max < 2ull * pages && r->cap_max < 1u << 31)
		r->cap_max *= 2;
	/* Address space for the most there can be; memory for what is used. */
	r->meta = mem_map(pages);
	r->ring = mem_map((size_t)r->cap_max * sizeof *r->ring);
	if (!r->meta || !r->ring) {
		residency_free(r);
		return -ENOMEM;
	}
	r->cap = RING_FIRST;
	r->head = r->count = 0;
	return 0;
}

void residency_free(struct residency *r)
{
	mem_unmap(r->meta, r->pages);
	mem_unmap(r->ring, (size_t)r->cap_max * sizeof *r->ring);
	r->meta = NULL;
	r->ring = NULL;
}

void residency_limit(struct residency *r, uint64_t pages)
{
	__atomic_store_n(&r->limit, (uint32_t)(pages < UINT32_MAX ? pages : UINT32_MAX),
			 __ATOMIC_RELAXED);
}

static void ring_compact(struct residency *r)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < r->count; i++) {
		uint32_t page = r->ring[(r->head + i) & (r->cap - 1)];

		if (r->meta[page] & GONE)
			r->meta[page] = 0;
		else
			r->ring[(r->head + kept++) & (r->cap - 1)] = page;
	}
	r->count = kept;
}

static void ring_make_room(struct residency *r)
{
	ring_compact(r);
	if (r->count <= r->cap / 4 * 3 || r->cap == r->cap_max)
		return;
	/* What had wrapped around moves behind the old end. */
	memcpy(r->ring + r->cap, r->ring, r->head * sizeof *r->ring);
	r->cap *= 2;
}

static void ring_push(struct residency *r, uint32_t page)
{
	if (r->count == r->cap)
		ring_make_room(r);
	/* cap_max is twice the pages and each stands in the ring once. */
	r->ring[(r->head + r->count++) & (r->cap - 1)] = page;
}

static uint32_t ring_pop(struct residency *r)
{
	uint32_t page = r->ring[r->head];

	r->head = (r->head + 1) & (r->cap - 1);
	r->count--;
	return page;
}

void residency_add(struct residency *r, const uint32_t *page, unsigned count, enum residency_why why)
{
	lock_take(&r->lock);
	for (unsigned i = 0; i < count; i++) {
		unsigned char *m = &r->meta[page[i]];

		if (!(*m & QUEUED))
			ring_push(r, page[i]);
		*m = (unsigned char)(QUEUED | (why == RESIDENCY_BACK ? CHANCE : *m & CHANCE));
	}
	lock_drop(&r->lock);
}

unsigned residency_pick(struct residency *r, uint32_t *page, unsigned most)
{
	unsigned n = 0;

	lock_take(&r->lock);
	while (n < most && r->count) {
		uint32_t p = ring_pop(r);

		if (r->meta[p] & GONE) {
			r->meta[p] = 0;
		} else if (r->meta[p] & CHANCE) {
			r->meta[p] = QUEUED;
			ring_push(r, p);
		} else {
			r->meta[p] = 0;
			page[n++] = p;
		}
	}
	lock_drop(&r->lock);
	return n;
}

void residency_forget(struct residency *r, uint32_t page, uint32_t count)
{
	lock_take(&r->lock);
	for (uint32_t i = page; i < page + count; i++)
		if (r->meta[i] & QUEUED)
			r->meta[i] |= GONE;
	lock_drop(&r->lock);
}
