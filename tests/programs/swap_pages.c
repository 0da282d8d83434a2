/* SPDX-License-Identifier: MIT */
/*
 * Plain memory of BYTES, more than this process may have: every page holds its number and how often
 * it was written; pages are written and checked in order, then at random, until TIME is over. Says
 * how many were wrong. For tests that let the kernel swap.
 */
#include "common/clock.h"
#include "common/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE  4096u
#define WORDS (PAGE / 8)

static uint64_t *memory;
static uint32_t *written; /* by page */
static uint64_t pages, bad, touched;

static uint64_t word(uint64_t page, unsigned i)
{
	return (page << 32 | written[page]) * 0x9e3779b97f4a7c15ull + i;
}

static void put(uint64_t page)
{
	written[page]++;
	for (unsigned i = 0; i < WORDS; i++)
		memory[page * WORDS + i] = word(page, i);
	touched++;
}

static void check(uint64_t page)
{
	for (unsigned i = 0; i < WORDS; i++) {
		if (memory[page * WORDS + i] == word(page, i))
			continue;
		if (!bad++)
			fprintf(stderr, "page %llu, word %u: %016llx, not %016llx\n",
				(unsigned long long)page, i,
				(unsigned long long)memory[page * WORDS + i],
				(unsigned long long)word(page, i));
		return;
	}
	touched++;
}

int main(int argc, char **argv)
{
	uint64_t bytes, time_ns, end, seed = 7;

	if (argc != 3 || parse_size(argv[1], &bytes) || parse_duration(argv[2], &time_ns)) {
		fprintf(stderr, "usage: swap-pages BYTES TIME\n");
		return 2;
	}
	pages = bytes / PAGE;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	written = calloc(pages, sizeof *written);
	if (memory == MAP_FAILED || !written)
		return 2;
	madvise(memory, bytes, MADV_NOHUGEPAGE);
	end = clock_ns() + time_ns;
	for (uint64_t p = 0; p < pages; p++)
		put(p);
	for (uint64_t p = 0; p < pages; p++)
		check(p);
	while (clock_ns() < end) {
		uint64_t p;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p = (seed >> 20) % pages;
		check(p);
		if (seed >> 63)
			put(p);
	}
	for (uint64_t p = 0; p < pages; p++)
		check(p);
	printf("pages %llu touched %llu bad %llu\n", (unsigned long long)pages,
	       (unsigned long long)touched, (unsigned long long)bad);
	return bad != 0;
}
