/* SPDX-License-Identifier: MIT */
/*
 * A page's contents follow from its number, every word another, so that a wrong, stale, torn or
 * misplaced page shows. The random order is a bijection computed on the spot: an array of it would
 * be cache traffic inside the measurement, and a multiplier alone would be a stride.
 */
#include "bench/bench.h"

#include <string.h>

uint64_t page_mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x7fb5d329728ea185ull;
	x ^= x >> 27;
	x *= 0x81dadef4bc2dd44dull;
	return x ^ x >> 33;
}

uint64_t page_word(uint64_t number, unsigned i)
{
	return page_mix(number + 1) + i * 0x9e3779b97f4a7c15ull;
}

uint64_t page_marked(uint64_t number)
{
	return ~page_word(number, 0);
}

void page_fill(void *page, uint64_t number)
{
	uint64_t *w = page;

	for (unsigned i = 0; i < BENCH_WORDS; i++)
		w[i] = page_word(number, i);
}

bool page_check(const void *page, uint64_t number, bool marked)
{
	const uint64_t *w = page;
	uint64_t wrong = w[0] ^ (marked ? page_marked(number) : page_word(number, 0));

	for (unsigned i = 1; i < BENCH_WORDS; i++)
		wrong |= w[i] ^ page_word(number, i);
	return !wrong;
}

unsigned page_probe(uint64_t number)
{
	return 1 + (unsigned)(number * 37 % (BENCH_WORDS - 1));
}

uint64_t page_shuffle(uint64_t i, uint64_t n)
{
	unsigned bits = 2;
	uint64_t mask;

	while (bits < 63 && 1ull << bits < n)
		bits++;
	mask = (1ull << bits) - 1;
	/* Odd multipliers and xor-shifts are bijections of the next power of two; walking on until
	 * the value is in range makes it one of 0..n-1. */
	do {
		for (unsigned round = 0; round < 3; round++) {
			i = (i * 0xd1342543de82ef95ull + 0x632be59bd9b4e019ull) & mask;
			i ^= i >> (bits / 2);
		}
	} while (i >= n);
	return i;
}
