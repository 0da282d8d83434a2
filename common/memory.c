/* SPDX-License-Identifier: MIT */
#include "common/memory.h"
#include "common/sys.h"

#include <linux/mman.h>
#include <stdint.h>
#include <sys/mman.h>

#define ROUND_PAGE(n) (((n) + 4095) & ~(size_t)4095)

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer must see it: what is mapped at an address again has nothing to do with what was there. */
void *mem_map(size_t bytes)
{
	void *p = mmap(NULL, ROUND_PAGE(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void mem_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, ROUND_PAGE(bytes));
}
#else
void *mem_map(size_t bytes)
{
	long r = sys_call6(SYS_mmap, 0, (long)ROUND_PAGE(bytes), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return r < 0 && r > -4096 ? NULL : (void *)(uintptr_t)r;
}

void mem_unmap(void *p, size_t bytes)
{
	if (p)
		sys_call2(SYS_munmap, (long)(uintptr_t)p, (long)ROUND_PAGE(bytes));
}
#endif
