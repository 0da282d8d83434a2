/* SPDX-License-Identifier: MIT */
/*
 * To be preloaded: of the allocations that the program itself asks for (not its libraries), the
 * FAIL_ALLOC-th is refused: malloc and kin, mmap, memfd_create. The file FAIL_ALLOC_HIT is made then, so
 * that a test knows when there are no more; at exit FAIL_ALLOC_LEFT is told how many were not given back.
 * With FAIL_ALLOC_ALL libraries' allocations count as well.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))
#define OWN     4096u /* allocations of the program that live at a time */

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	void (*free)(void *);
} real;

/* What dlsym() takes while we look for the real ones. */
static _Alignas(16) char early[16384];
static size_t early_used;

static atomic_ulong count;
static unsigned long fail_at;
static bool all;
static uintptr_t code_begin, code_end; /* of the program */
static _Atomic(void *) own[OWN];

static void find(void *to, const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	memcpy(to, &p, sizeof p);
}

/* The first object is the program. */
static int program(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];

		if (h->p_type == PT_LOAD && h->p_flags & PF_X) {
			code_begin = info->dlpi_addr + h->p_vaddr;
			code_end = code_begin + h->p_memsz;
		}
	}
	return 1;
}

/* At the first allocation, which some library's constructor makes, with one thread. */
static bool ready(void)
{
	static bool finding;

	if (real.free)
		return true;
	if (finding)
		return false;
	finding = true;
	find(&real.calloc, "calloc");
	find(&real.malloc, "malloc");
	find(&real.realloc, "realloc");
	find(&real.aligned_alloc, "aligned_alloc");
	find(&real.free, "free");
	return true;
}

__attribute__((constructor)) static void start(void)
{
	const char *n = getenv("FAIL_ALLOC");

	ready();
	dl_iterate_phdr(program, NULL);
	all = getenv("FAIL_ALLOC_ALL");
	fail_at = n ? strtoul(n, NULL, 10) : 0;
}

static void tell(const char *variable, unsigned long n)
{
	const char *path = getenv(variable);
	char text[32];
	int fd, len;

	if (!path)
		return;
	len = snprintf(text, sizeof text, "%lu\n", n);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, (size_t)len) < 0)
		abort();
	close(fd);
}

__attribute__((destructor)) static void end(void)
{
	unsigned long left = 0;

	for (unsigned i = 0; i < OWN; i++)
		left += atomic_load(&own[i]) != NULL;
	tell("FAIL_ALLOC_LEFT", left);
}

static bool counts(const void *caller)
{
	return code_begin && (all || ((uintptr_t)caller >= code_begin && (uintptr_t)caller < code_end));
}

static bool refused(const void *caller)
{
	if (!fail_at || !counts(caller) || atomic_fetch_add(&count, 1) + 1 != fail_at)
		return false;
	tell("FAIL_ALLOC_HIT", fail_at);
	errno = ENOMEM;
	return true;
}

static void *note(void *p, const void *caller)
{
	void *none;

	for (unsigned i = 0; p && counts(caller) && i < OWN; i++) {
		none = NULL;
		if (!atomic_load(&own[i]) && atomic_compare_exchange_strong(&own[i], &none, p))
			break;
	}
	return p;
}

static void forget(void *p)
{
	void *here = p;

	for (unsigned i = 0; p && i < OWN; i++)
		if (atomic_load(&own[i]) == p && atomic_compare_exchange_strong(&own[i], &here, NULL))
			break;
}

static void *early_take(size_t n)
{
	void *p = early + early_used;

	n = (n + 15) & ~(size_t)15;
	if (early_used + n > sizeof early)
		abort();
	early_used += n;
	return p;
}

#define CALLER __builtin_return_address(0)

VISIBLE void *malloc(size_t n)
{
	if (!ready())
		return early_take(n);
	return refused(CALLER) ? NULL : note(real.malloc(n), CALLER);
}

VISIBLE void *calloc(size_t n, size_t size)
{
	if (!ready())
		return early_take(n * size);
	return refused(CALLER) ? NULL : note(real.calloc(n, size), CALLER);
}

VISIBLE void *realloc(void *p, size_t n)
{
	void *to;

	if (!ready())
		abort();
	if (refused(CALLER))
		return NULL;
	to = real.realloc(p, n);
	if (to) {
		forget(p);
		note(to, CALLER);
	}
	return to;
}

VISIBLE void *aligned_alloc(size_t alignment, size_t n)
{
	if (!ready())
		abort();
	return refused(CALLER) ? NULL : note(real.aligned_alloc(alignment, n), CALLER);
}

VISIBLE void free(void *p)
{
	if ((char *)p >= early && (char *)p < early + sizeof early)
		return;
	if (!ready())
		return;
	forget(p);
	real.free(p);
}

VISIBLE void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	if (refused(CALLER))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}

VISIBLE int memfd_create(const char *name, unsigned flags)
{
	return refused(CALLER) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}
