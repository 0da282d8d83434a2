/* SPDX-License-Identifier: MIT */
/*
 * An exact LRU cache of pages, simulated: what a heap's residency is compared with. It knows every
 * touch, which no page cache without accessed bits does. 8 bytes a page, O(1) a touch, not for
 * several threads at once.
 */
#ifndef BENCH_LRU_H
#define BENCH_LRU_H

#include <stdbool.h>
#include <stdint.h>

#define LRU_NONE UINT32_MAX

struct lru {
	uint32_t *next, *prev; /* by page; the list's ends are in element `pages` */
	uint32_t pages, capacity, count;
	uint64_t touches, hits;
	uint32_t evicted; /* by the last touch, or LRU_NONE */
};

/* Empty, for pages 0..pages-1, of which it holds capacity >= 1. [text] */
int lru_create(struct lru *l, uint64_t pages, uint64_t capacity);
/* Whether the page was there; it is now, in front. */
bool lru_touch(struct lru *l, uint64_t page);
/* Counts from 0 again; the contents stay. */
void lru_reset(struct lru *l);
/* 0..1; 0 when nothing was touched. */
double lru_hit_ratio(const struct lru *l);
void lru_free(struct lru *l); /* takes one that is freed or zeroed */

#endif
