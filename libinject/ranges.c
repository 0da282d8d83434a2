/* SPDX-License-Identifier: MIT */
/* Which pages of a heap are free: extents sorted by address, first fit, merged when put back. */
#include "libinject/heap.h"
#include "common/memory.h"

#include <errno.h>
#include <string.h>

int ranges_init(struct ranges *r, uint32_t pages)
{
	/* Two neighbouring extents have a used page between them. */
	r->max = pages / 2 + 2;
	r->free = mem_map((size_t)r->max * sizeof *r->free);
	if (!r->free)
		return -ENOMEM;
	r->free[0] = (struct extent){0, pages};
	r->count = 1;
	return 0;
}

static void extent_insert(struct ranges *r, uint32_t i, struct extent e)
{
	memmove(r->free + i + 1, r->free + i, (r->count - i) * sizeof e);
	r->free[i] = e;
	r->count++;
}

static void extent_remove(struct ranges *r, uint32_t i)
{
	r->count--;
	memmove(r->free + i, r->free + i + 1, (r->count - i) * sizeof *r->free);
}

/* Cuts [page, page + count) out of extent i. */
static void extent_cut(struct ranges *r, uint32_t i, uint32_t page, uint32_t count)
{
	struct extent e = r->free[i];
	struct extent tail = {page + count, e.page + e.count - page - count};

	r->free[i].count = page - e.page;
	if (tail.count)
		extent_insert(r, i + 1, tail);
	if (!r->free[i].count)
		extent_remove(r, i);
}

uint32_t ranges_take(struct ranges *r, uint32_t count, uint32_t align)
{
	uint32_t page = NO_PAGE;

	lock_take(&r->lock);
	for (uint32_t i = 0; i < r->count; i++) {
		struct extent e = r->free[i];
		uint64_t at = ((uint64_t)e.page + align - 1) / align * align;

		if (at + count > (uint64_t)e.page + e.count)
			continue;
		page = (uint32_t)at;
		extent_cut(r, i, page, count);
		break;
	}
	lock_drop(&r->lock);
	return page;
}

bool ranges_take_at(struct ranges *r, uint32_t page, uint32_t count)
{
	bool taken = false;

	lock_take(&r->lock);
	for (uint32_t i = 0; i < r->count && r->free[i].page <= page; i++) {
		struct extent e = r->free[i];

		if ((uint64_t)page + count > (uint64_t)e.page + e.count)
			continue;
		extent_cut(r, i, page, count);
		taken = true;
		break;
	}
	lock_drop(&r->lock);
	return taken;
}

void ranges_put(struct ranges *r, uint32_t page, uint32_t count, struct extent *around)
{
	uint32_t i = 0, low = 0, high;

	lock_take(&r->lock);
	high = r->count;
	while (low < high) {
		i = low + (high - low) / 2;
		if (r->free[i].page < page)
			low = i + 1;
		else
			high = i;
	}
	i = low;
	extent_insert(r, i, (struct extent){page, count});
	if (i + 1 < r->count && r->free[i + 1].page == page + count) {
		r->free[i].count += r->free[i + 1].count;
		extent_remove(r, i + 1);
	}
	if (i && r->free[i - 1].page + r->free[i - 1].count == page) {
		r->free[i - 1].count += r->free[i].count;
		extent_remove(r, i);
		i--;
	}
	*around = r->free[i];
	lock_drop(&r->lock);
}
