/* SPDX-License-Identifier: MIT */
/* A doubly linked list over page numbers, newest first, its ends kept in one more element. A page
 * whose next is LRU_NONE is not in it. */
#include "bench/lru.h"
#include "common/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int lru_create(struct lru *l, uint64_t pages, uint64_t capacity)
{
	size_t bytes = (pages + 1) * sizeof *l->next;

	*l = (struct lru){.evicted = LRU_NONE};
	if (!pages || pages >= LRU_NONE || !capacity)
		return err_fail(-EINVAL, "can't simulate LRU of %llu pages among %llu",
				(unsigned long long)capacity, (unsigned long long)pages);
	l->next = malloc(bytes);
	l->prev = malloc(bytes);
	if (!l->next || !l->prev) {
		lru_free(l);
		return err_fail(-ENOMEM, "no memory to simulate LRU");
	}
	memset(l->next, 0xff, bytes);
	l->pages = (uint32_t)pages;
	l->capacity = capacity < pages ? (uint32_t)capacity : l->pages;
	l->next[pages] = l->prev[pages] = l->pages;
	return 0;
}

static void take_out(struct lru *l, uint32_t page)
{
	l->next[l->prev[page]] = l->next[page];
	l->prev[l->next[page]] = l->prev[page];
	l->next[page] = LRU_NONE;
}

static void put_first(struct lru *l, uint32_t page)
{
	uint32_t first = l->next[l->pages];

	l->next[page] = first;
	l->prev[page] = l->pages;
	l->prev[first] = page;
	l->next[l->pages] = page;
}

bool lru_touch(struct lru *l, uint64_t page)
{
	uint32_t p = (uint32_t)page;
	bool hit = l->next[p] != LRU_NONE;

	l->evicted = LRU_NONE;
	if (hit) {
		take_out(l, p);
	} else if (l->count == l->capacity) {
		l->evicted = l->prev[l->pages];
		take_out(l, l->evicted);
	} else {
		l->count++;
	}
	put_first(l, p);
	l->touches++;
	l->hits += hit;
	return hit;
}

void lru_reset(struct lru *l)
{
	l->touches = l->hits = 0;
}

double lru_hit_ratio(const struct lru *l)
{
	return l->touches ? (double)l->hits / (double)l->touches : 0;
}

void lru_free(struct lru *l)
{
	free(l->next);
	free(l->prev);
	*l = (struct lru){.evicted = LRU_NONE};
}
