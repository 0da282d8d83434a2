/* SPDX-License-Identifier: MIT */
/*
 * Belady's MIN, simulated: the cache that gives up the page whose next touch is farthest away ("A
 * study of replacement algorithms for a virtual-storage computer", 1966). No other has more hits,
 * but it has to know the future: so a whole trace goes in. O(1) a touch: the pages are kept as bits
 * at the times of their next touches, in a tree of words.
 */
#ifndef BENCH_MIN_H
#define BENCH_MIN_H

#include <stdint.h>

/*
 * Hits among the touches from `from` on, of a cache of capacity >= 1 pages that was empty before
 * the first. Pages are below `pages`. [text]
 */
int min_replay(const uint32_t *touch, uint64_t touches, uint64_t from, uint64_t pages,
	       uint64_t capacity, uint64_t *hits);

#endif
