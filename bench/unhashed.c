/* SPDX-License-Identifier: MIT */
/*
 * infuse-bench-unhashed is infuse-bench with this file's ps_hash() linked in place of the page
 * store's (pagestore/hash.c is then not taken out of its archive): all of a fault's way is as ever,
 * but of a page's bytes only the first word is looked at. The difference of both programs is what
 * hashing costs. The stand-in tells the pages of seq, random and fresh apart, which differ there; of
 * other workloads it may lose writes, and then their check fails. It is for measuring only, and no
 * other program can be made to do without hashes.
 */
#include "bench/bench.h"
#include "pagestore/hash.h"

#include <infuse/pagestore.h>
#include <string.h>

const bool bench_hashes = false;

uint64_t ps_hash(const void *page)
{
	uint64_t h;

	memcpy(&h, page, sizeof h);
	return h > HASH_LOST ? h : h + 2;
}

bool ps_page_is_zero(const void *page)
{
	const unsigned char *p = page;
	uint64_t w;

	memcpy(&w, p, sizeof w);
	return !w && !memcmp(p, p + sizeof w, PS_PAGE_SIZE - sizeof w);
}
