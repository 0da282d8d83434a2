/* SPDX-License-Identifier: MIT */
/*
 * What jemalloc and libinject mean when they say mmap: the kernel's. They are linked with --wrap,
 * else their calls would come back to the interposed functions.
 */
#include "libinject/preload/preload.h"

#include "common/sys.h"

#include <errno.h>
#include <sys/mman.h>

static long result(long r)
{
	if (r >= 0 || r < -4095)
		return r;
	errno = (int)-r;
	return -1;
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return (void *)(uintptr_t)result(
		sys_call6(SYS_mmap, SYS_PTR(at), (long)bytes, prot, flags, fd, (long)offset));
}

int __wrap_munmap(void *p, size_t bytes);
int __wrap_munmap(void *p, size_t bytes)
{
	return (int)result(sys_call2(SYS_munmap, SYS_PTR(p), (long)bytes));
}

int __wrap_mprotect(void *p, size_t bytes, int prot);
int __wrap_mprotect(void *p, size_t bytes, int prot)
{
	return (int)result(sys_call3(SYS_mprotect, SYS_PTR(p), (long)bytes, prot));
}

int __wrap_madvise(void *p, size_t bytes, int advice);
int __wrap_madvise(void *p, size_t bytes, int advice)
{
	return (int)result(sys_call3(SYS_madvise, SYS_PTR(p), (long)bytes, advice));
}
