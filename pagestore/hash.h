/* SPDX-License-Identifier: MIT */
/*
 * Two values of a stored hash are no hash: zeros, and a page whose last write failed (nobody knows
 * what the donor holds). ps_hash() never gives them.
 */
#ifndef PAGESTORE_HASH_H
#define PAGESTORE_HASH_H

#include <stdint.h>

#define HASH_ZEROS 0ull
#define HASH_LOST  1ull

/* XXH3-64 of a page on a machine that has AVX2. */
uint64_t hash_avx2(const void *page);

#endif
