/* SPDX-License-Identifier: MIT */
/*
 * The mmap family. Private anonymous memory to read and write goes into the heap; all else, and
 * all that has an address of its own choice, to the kernel. What is in the heap stays in it: a
 * call on it either does what the manual says, or fails with an errno. The kernel must never see
 * a call that would change the heap's mapping behind its back.
 */
#include "libinject/preload/preload.h"

#include "common/sys.h"

#include <errno.h>
#include <linux/mman.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_ALIGN (2ul << 20)
#define COPY_BYTES                                                                                 \
	(1ul << 20) /* freed behind a copy at once, so that dead pages are not evicted             \
		     */

/* Debian 12's headers are older than the kernels it may run on. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static long result(long r)
{
	if (r >= 0 || r < -4095)
		return r;
	errno = (int)-r;
	return -1;
}

static void *result_pointer(long r)
{
	return (void *)(uintptr_t)result(r);
}

static bool aligned(const void *p)
{
	return !((uintptr_t)p & (PAGE - 1));
}

enum where { OUTSIDE, INSIDE, ACROSS };

/* bytes > 0. Nothing encloses the heap: it is tens of GiB of address space that are taken. */
static enum where where_is(const void *p, size_t bytes)
{
	const char *last = (const char *)p + bytes - 1;
	bool a, b;

	if (!lazy_peek())
		return OUTSIDE;
	a = lazy_contains(p);
	b = lazy_contains(last);
	return a && b ? INSIDE : a || b ? ACROSS : OUTSIDE;
}

static bool is_ours(const void *hint, size_t bytes, int prot, int flags)
{
	const int no = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK |
		       MAP_LOCKED
#ifdef MAP_32BIT
		       | MAP_32BIT
#endif
		;
	const struct settings *s;

	/* Who gives a hint often insists on it (JIT compilers, checkpoints). */
	if (hint || prot != (PROT_READ | PROT_WRITE) || (flags & MAP_TYPE) != MAP_PRIVATE ||
	    !(flags & MAP_ANONYMOUS) || (flags & no))
		return false;
	s = settings_get();
	return s && bytes >= s->heap_min && bytes < (size_t)1 << 47 && !lazy_plain(PAGE_UP(bytes));
}

/* MAP_FIXED on pages of the heap: new zeros, if it is that what is wanted. */
static long map_fixed(char *p, size_t bytes, int prot, int flags)
{
	size_t n = PAGE_UP(bytes);
	int r;

	if (!aligned(p))
		return -EINVAL;
	if ((flags & MAP_FIXED_NOREPLACE) == MAP_FIXED_NOREPLACE)
		return -EEXIST;
	/* Files and shared memory can't be mapped into a heap. */
	if ((flags & MAP_TYPE) != MAP_PRIVATE || !(flags & MAP_ANONYMOUS) ||
	    (flags & (MAP_HUGETLB | MAP_GROWSDOWN | MAP_LOCKED)))
		return -EINVAL;
	if (!range_allocated(lazy_peek(), p, n))
		return -ENOMEM;
	r = attributes_clear(p, n);
	if (!r)
		r = inject_discard(lazy_peek(), p, n);
	if (!r)
		r = attributes_protect(p, n, prot, true);
	return r ? r : (long)(uintptr_t)p;
}

static void *map(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *p;

	if (is_ours(at, bytes, prot, flags)) {
		p = lazy_alloc(bytes, bytes >= HUGE_ALIGN ? HUGE_ALIGN : PAGE);
		return p ? p : result_pointer(-ENOMEM);
	}
	if (bytes && (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))) {
		switch (where_is(at, PAGE_UP(bytes))) {
		case INSIDE:
			return result_pointer(map_fixed(at, bytes, prot, flags));
		case ACROSS:
			return result_pointer(-EINVAL);
		case OUTSIDE:
			break;
		}
	}
	return result_pointer(
		sys_call6(SYS_mmap, SYS_PTR(at), (long)bytes, prot, flags, fd, (long)offset));
}

EXPORT void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return map(at, bytes, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return map(at, bytes, prot, flags, fd, offset);
}

/* Pages that are not allocated are passed over, as munmap() does. */
static int unmap(char *p, size_t bytes)
{
	struct inject_heap *h = lazy_peek();
	size_t at = 0, n;
	int r = 0;

	if (!range_allocated(h, p, bytes)) {
		for (; at < bytes && !r; at += n) {
			bool used = range_allocated(h, p + at, PAGE);

			n = PAGE;
			while (at + n < bytes && range_allocated(h, p + at + n, PAGE) == used)
				n += PAGE;
			if (!used)
				continue;
			r = attributes_clear(p + at, n);
			if (!r)
				r = lazy_free(p + at, n);
		}
		return r;
	}
	r = attributes_clear(p, bytes);
	return r ? r : lazy_free(p, bytes);
}

EXPORT int munmap(void *p, size_t bytes)
{
	size_t n = PAGE_UP(bytes);

	if (n) {
		switch (where_is(p, n)) {
		case INSIDE:
			return (int)result(aligned(p) ? unmap(p, n) : -EINVAL);
		case ACROSS:
			return (int)result(-EINVAL);
		case OUTSIDE:
			break;
		}
	}
	return (int)result(sys_call2(SYS_munmap, SYS_PTR(p), (long)bytes));
}

static bool is_zero(const char *page)
{
	const uint64_t *w = (const uint64_t *)(const void *)page;
	uint64_t any = 0;

	for (size_t i = 0; i < PAGE / sizeof *w && !any; i += 8)
		any = w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
		      w[i + 7];
	return !any;
}

/* Copies through faults, and frees what is copied. Pages of zeros stay untouched. */
static int move_pages(char *to, char *from, size_t bytes)
{
	int r = 0;

	for (size_t at = 0, n; at < bytes && !r; at += n) {
		n = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
		for (size_t i = at; i < at + n; i += PAGE)
			if (!is_zero(from + i))
				memcpy(to + i, from + i, PAGE);
		r = lazy_free(from + at, n);
	}
	return r;
}

static long remap_larger(char *p, size_t old_n, size_t new_n, bool may_move)
{
	int prot = attributes_protection(p, old_n), r;
	char *to;

	/* As for a range of several mappings. */
	if (prot < 0)
		return -EFAULT;
	if (attributes_locked(p, old_n))
		return -EAGAIN;
	if (lazy_grow(p, old_n, new_n)) {
		r = attributes_protect(p + old_n, new_n - old_n, prot, true);
		return r ? r : (long)(uintptr_t)p;
	}
	if (!may_move)
		return -ENOMEM;
	to = lazy_alloc(new_n, new_n >= HUGE_ALIGN ? HUGE_ALIGN : PAGE);
	if (!to)
		return -ENOMEM;
	r = attributes_clear(p, old_n);
	if (!r)
		r = move_pages(to, p, old_n);
	if (!r)
		r = attributes_protect(to, new_n, prot, false);
	return r ? r : (long)(uintptr_t)to;
}

static long remap(char *p, size_t old_bytes, size_t new_bytes, int flags)
{
	size_t old_n = PAGE_UP(old_bytes), new_n = PAGE_UP(new_bytes);
	int r;

	/* MREMAP_FIXED and MREMAP_DONTUNMAP would take pages out of the heap. */
	if ((flags & ~MREMAP_MAYMOVE) || !aligned(p) || !old_n || !new_n)
		return -EINVAL;
	if (!range_allocated(lazy_peek(), p, old_n))
		return -EFAULT;
	if (new_n > old_n)
		return remap_larger(p, old_n, new_n, flags & MREMAP_MAYMOVE);
	r = new_n < old_n ? unmap(p + new_n, old_n - new_n) : 0;
	return r ? r : (long)(uintptr_t)p;
}

EXPORT void *mremap(void *p, size_t old_bytes, size_t new_bytes, int flags, ...)
{
	void *to = NULL;
	va_list ap;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
		if (new_bytes && where_is(to, PAGE_UP(new_bytes)) != OUTSIDE)
			return result_pointer(-EINVAL);
	}
	switch (where_is(p, old_bytes ? PAGE_UP(old_bytes) : PAGE)) {
	case INSIDE:
		return result_pointer(remap(p, old_bytes, new_bytes, flags));
	case ACROSS:
		return result_pointer(-EINVAL);
	case OUTSIDE:
		break;
	}
	return result_pointer(sys_call5(SYS_mremap, SYS_PTR(p), (long)old_bytes, (long)new_bytes,
					flags, SYS_PTR(to)));
}

/* Of n bytes of whole pages: 1: allocated of the heap; 0: the kernel's; -ENOMEM: neither. */
static int heap_has(const void *p, size_t n)
{
	switch (n ? where_is(p, n) : OUTSIDE) {
	case INSIDE:
		return range_allocated(lazy_peek(), p, n) ? 1 : -ENOMEM;
	case ACROSS:
		return -ENOMEM;
	case OUTSIDE:
		break;
	}
	return 0;
}

static long protect(void *p, size_t bytes, int prot)
{
	size_t n = PAGE_UP(bytes);
	int r = aligned(p) ? heap_has(p, n) : -EINVAL;

	if (r)
		return r > 0 ? attributes_protect(p, n, prot, false) : r;
	return sys_call3(SYS_mprotect, SYS_PTR(p), (long)bytes, prot);
}

EXPORT int mprotect(void *p, size_t bytes, int prot)
{
	return (int)result(protect(p, bytes, prot));
}

EXPORT int pkey_mprotect(void *p, size_t bytes, int prot, int pkey)
{
	if (pkey == -1)
		return (int)result(protect(p, bytes, prot));
	/* A key may forbid reading, and handlers have to read. */
	if (bytes && where_is(p, PAGE_UP(bytes)) != OUTSIDE)
		return (int)result(-EINVAL);
	return (int)result(sys_call4(SYS_pkey_mprotect, SYS_PTR(p), (long)bytes, prot, pkey));
}

static int advise_heap(char *p, size_t bytes, enum inject_advice advice)
{
	return inject_advise(lazy_peek(), p, bytes, advice);
}

static long advise(char *p, size_t bytes, int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		if (attributes_locked(p, bytes))
			return -EINVAL;
		return inject_discard(lazy_peek(), p, bytes);
	case MADV_NORMAL:
		return advise_heap(p, bytes, INJECT_NORMAL);
	case MADV_SEQUENTIAL:
		return advise_heap(p, bytes, INJECT_SEQUENTIAL);
	case MADV_RANDOM:
		return advise_heap(p, bytes, INJECT_RANDOM);
	case MADV_WILLNEED:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
		return advise_heap(p, bytes, INJECT_WILLNEED);
	/* Wishes that a heap need not fulfil: with huge pages, and for less than it does anyway.
	 * After DONTFORK a child may see what it should not touch, which harms nobody. */
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_UNMERGEABLE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_KEEPONFORK:
		return 0;
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		return sys_call3(SYS_madvise, SYS_PTR(p), (long)bytes, advice);
	/* WIPEONFORK would be a promise that is not kept; others take pages away. */
	default:
		return -EINVAL;
	}
}

static long advise_any(void *p, size_t bytes, int advice)
{
	size_t n = PAGE_UP(bytes);
	int r = aligned(p) ? heap_has(p, n) : -EINVAL;

	if (r)
		return r > 0 ? advise(p, n, advice) : r;
	return sys_call3(SYS_madvise, SYS_PTR(p), (long)bytes, advice);
}

EXPORT int madvise(void *p, size_t bytes, int advice)
{
	return (int)result(advise_any(p, bytes, advice));
}

EXPORT int posix_madvise(void *p, size_t bytes, int advice)
{
	/* POSIX's DONTNEED keeps the contents, Linux's does not. */
	if (advice == POSIX_MADV_DONTNEED)
		return 0;
	return (int)-advise_any(p, bytes, advice);
}

static long lock_range(const void *at, size_t bytes, int flags)
{
	char *p = (char *)((uintptr_t)at & ~(PAGE - 1));
	size_t n = PAGE_UP(bytes + ((uintptr_t)at & (PAGE - 1)));
	int r = flags & ~MLOCK_ONFAULT ? -EINVAL : heap_has(p, n);

	if (r)
		return r > 0 ? attributes_lock(p, n) : r;
	if (flags)
		return sys_call3(SYS_mlock2, SYS_PTR(at), (long)bytes, flags);
	return sys_call2(SYS_mlock, SYS_PTR(at), (long)bytes);
}

EXPORT int mlock(const void *p, size_t bytes)
{
	return (int)result(lock_range(p, bytes, 0));
}

EXPORT int mlock2(const void *p, size_t bytes, unsigned flags)
{
	return (int)result(lock_range(p, bytes, (int)flags));
}

EXPORT int munlock(const void *at, size_t bytes)
{
	char *p = (char *)((uintptr_t)at & ~(PAGE - 1));
	size_t n = PAGE_UP(bytes + ((uintptr_t)at & (PAGE - 1)));

	if (n) {
		switch (where_is(p, n)) {
		case INSIDE:
			return (int)result(attributes_unlock(p, n));
		case ACROSS:
			return (int)result(-ENOMEM);
		case OUTSIDE:
			break;
		}
	}
	return (int)result(sys_call2(SYS_munlock, SYS_PTR(at), (long)bytes));
}

/* Everything in local memory is just what can't be had here; the kernel would try to. */
EXPORT int mlockall(int flags)
{
	(void)flags;
	return (int)result(-ENOMEM);
}

EXPORT int munlockall(void)
{
	attributes_unlock_all();
	return (int)result(sys_call0(SYS_munlockall));
}
