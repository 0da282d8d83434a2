/* SPDX-License-Identifier: MIT */
/* A page's content hash and the test for zeros: the only per-byte work of the page store. */
#include "pagestore/hash.h"
#include <infuse/pagestore.h>

#include <string.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wcast-qual"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

uint64_t ps_hash(const void *page)
{
	uint64_t h;

#ifdef HASH_AVX2
	if (__builtin_cpu_supports("avx2"))
		h = hash_avx2(page);
	else
#endif
		h = XXH3_64bits(page, PS_PAGE_SIZE);

	return h > HASH_LOST ? h : h + 2;
}

bool ps_page_is_zero(const void *page)
{
	const unsigned char *p = page;
	uint64_t w[8];

	/* Most pages that aren't zeros show it soon; the rest is compared with itself, moved on. */
	memcpy(w, p, sizeof w); /* it may lie anywhere */
	if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
		return false;
	return !memcmp(p, p + sizeof w, PS_PAGE_SIZE - sizeof w);
}
