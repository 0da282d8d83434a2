/* SPDX-License-Identifier: MIT */
/* A page's hash is XXH3-64, whatever the machine's instructions, and zeros are found exactly. */
#include "pagestore/hash.h"
#include <infuse/pagestore.h>

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

static unsigned char page[PS_PAGE_SIZE] __attribute__((aligned(64)));

Test(hash, is_xxh3_of_the_page)
{
	uint64_t s = 1;

	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < sizeof page; i++) {
			s = s * 6364136223846793005ull + 1442695040888963407ull;
			page[i] = (unsigned char)(s >> 56);
		}
		cr_assert_eq(ps_hash(page), XXH3_64bits(page, sizeof page));
	}
}

Test(hash, one_bit_anywhere_makes_a_page_not_zeros_and_another_hash)
{
	uint64_t zeros;

	memset(page, 0, sizeof page);
	zeros = ps_hash(page);
	cr_assert_gt(zeros, HASH_LOST);
	cr_assert(ps_page_is_zero(page));
	for (size_t bit = 0; bit < sizeof page * 8; bit += 13) {
		page[bit / 8] ^= (unsigned char)(1u << bit % 8);
		cr_assert_not(ps_page_is_zero(page), "bit %zu", bit);
		cr_assert_neq(ps_hash(page), zeros, "bit %zu", bit);
		page[bit / 8] = 0;
	}
}
