/* SPDX-License-Identifier: MIT */
/* The same XXH3 compiled for AVX2, which most x86-64 machines have: the same values, sooner. */
#include "pagestore/hash.h"
#include <infuse/pagestore.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wcast-qual"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

uint64_t hash_avx2(const void *page)
{
	return XXH3_64bits(page, PS_PAGE_SIZE);
}
