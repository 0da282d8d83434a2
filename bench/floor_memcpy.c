/* SPDX-License-Identifier: MIT */
/* Copying pages from a large array to a hot place: what no transport can undercut. */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SOURCE_BYTES (1ull << 30)
#define BLOCK_BYTES  (8ull << 20)
#define COPIES       100000u

int floor_memcpy(bool random, struct floor_time *ret)
{
	char *p = mmap(NULL, SOURCE_BYTES + BLOCK_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t start;

	*ret = (struct floor_time){0};
	if (p == MAP_FAILED)
		return err_fail(-ENOMEM, "no memory for the floors");
	madvise(p, SOURCE_BYTES + BLOCK_BYTES, MADV_NOHUGEPAGE);
	memset(p, 1, SOURCE_BYTES + BLOCK_BYTES);
	cpu_pin(0);
	start = clock_ns();
	if (random) {
		for (uint64_t i = 0; i < COPIES; i++)
			memcpy(p + SOURCE_BYTES,
			       p + page_shuffle(i, SOURCE_BYTES / BENCH_PAGE) * BENCH_PAGE,
			       BENCH_PAGE);
		ret->us = (double)(clock_ns() - start) / 1e3 / COPIES;
	} else {
		for (uint64_t at = 0; at < SOURCE_BYTES; at += BLOCK_BYTES)
			memcpy(p + SOURCE_BYTES, p + at, BLOCK_BYTES);
		ret->us = (double)(clock_ns() - start) / 1e3 / (SOURCE_BYTES / BENCH_PAGE);
	}
	cpu_unpin();
	munmap(p, SOURCE_BYTES + BLOCK_BYTES);
	return 0;
}
