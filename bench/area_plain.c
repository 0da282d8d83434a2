/* SPDX-License-Identifier: MIT */
/* Plain memory: what a program has when the node has enough. Small pages, as a heap's are. */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <sys/mman.h>

static int plain_open(struct area *a, const struct area_options *o)
{
	void *p = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return err_fail(-errno, "no %llu bytes of plain memory",
				(unsigned long long)o->bytes);
	madvise(p, o->bytes, MADV_NOHUGEPAGE);
	a->mem = p;
	return 0;
}

static void plain_close(struct area *a)
{
	if (a->mem)
		munmap(a->mem, a->bytes);
}

const struct area_kind area_plain = {
	.name = "local",
	.open = plain_open,
	.close = plain_close,
};
