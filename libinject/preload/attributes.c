/* SPDX-License-Identifier: MIT */
/*
 * Pages of the heap that a program protected or locked. A byte a page, of which only what is used
 * gets memory; most programs never use any.
 *
 * The kernel keeps the protections. They are kept here too because freed pages must be ordinary
 * again, and because the handlers must be able to read what they evict: pages without PROT_READ
 * are pinned while they are so. Locked pages (mlock) are pinned as well; pins nest and mlock does
 * not, so each page's lock is remembered.
 */
#include "libinject/preload/preload.h"

#include "common/memory.h"
#include "common/sys.h"
#include "libinject/lock.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define READ_WRITE (PROT_READ | PROT_WRITE)

enum {
	CHANGED = PROT_READ | PROT_WRITE | PROT_EXEC, /* protection, xor READ_WRITE */
	LOCKED = 8,                                   /* pinned for mlock() */
	HELD = 16,                                    /* pinned because nobody can read it */
};

/* Indexed by page number modulo its size, a power of two that is not below the heap's pages. */
static unsigned char *_Atomic map;
static size_t map_mask;
static const char *somewhere; /* an address in the heap */
static struct lock map_lock;
static _Atomic uint64_t odd; /* pages whose byte is not 0 */

#define DEFAULT_HEAP_BYTES (64ull << 30)

static int map_get(const char *p)
{
	uint64_t signals, bytes = settings_get()->heap_bytes, pages = 1;
	unsigned char *m;

	if (atomic_load(&map))
		return 0;
	if (!bytes)
		bytes = DEFAULT_HEAP_BYTES;
	while (pages * PAGE < bytes)
		pages *= 2;
	signals = signals_block();
	lock_take(&map_lock);
	if (!atomic_load(&map)) {
		m = mem_map(pages);
		map_mask = pages - 1;
		somewhere = p;
		atomic_store(&map, m);
	}
	lock_drop(&map_lock);
	signals_restore(signals);
	return atomic_load(&map) ? 0 : -ENOMEM;
}

static unsigned char *byte_of(const char *p)
{
	return &map[((uintptr_t)p / PAGE) & map_mask];
}

static bool any(void)
{
	return atomic_load(&odd) != 0;
}

static void change(const char *p, size_t bytes, unsigned clear, unsigned set)
{
	for (size_t i = 0; i < bytes; i += PAGE) {
		unsigned char *b = byte_of(p + i), was = *b;

		*b = (unsigned char)((was & ~clear) | set);
		if (!was && *b)
			atomic_fetch_add(&odd, 1);
		else if (was && !*b)
			atomic_fetch_sub(&odd, 1);
	}
}

/* Length of the run at p whose pages agree about `bit`. */
static size_t run_of(const char *p, size_t bytes, unsigned bit, bool *has)
{
	size_t n = PAGE;

	*has = *byte_of(p) & bit;
	while (n < bytes && !(*byte_of(p + n) & bit) == !*has)
		n += PAGE;
	return n;
}

static int unpin_all(char *p, size_t bytes, unsigned bit)
{
	for (size_t i = 0, n; i < bytes; i += n) {
		bool has;

		n = run_of(p + i, bytes - i, bit, &has);
		if (!has)
			continue;
		inject_unpin(lazy_peek(), p + i, n);
		change(p + i, n, bit, 0);
	}
	return 0;
}

static int pin_all(char *p, size_t bytes, unsigned bit)
{
	for (size_t i = 0, n; i < bytes; i += n) {
		bool has;
		int r;

		n = run_of(p + i, bytes - i, bit, &has);
		if (has)
			continue;
		r = inject_pin(lazy_peek(), p + i, n);
		if (r) {
			/* Those before were not necessarily new; mlock() leaves that open, and a
			 * protection that fails is put right by the next one. */
			return r == -ENOSPC ? -ENOMEM : r;
		}
		change(p + i, n, 0, bit);
	}
	return 0;
}

static long kernel_protect(char *p, size_t bytes, int prot)
{
	/* Handlers must be able to read whatever the program can use. */
	if (prot != PROT_NONE)
		prot |= PROT_READ;
	return sys_call3(SYS_mprotect, SYS_PTR(p), (long)bytes, prot);
}

/*
 * blank: the pages read as zeros and nothing is local, so there is nothing to be evicted. -EACCES:
 * this protection can't be had in a heap.
 */
int attributes_protect(char *p, size_t bytes, int prot, bool blank)
{
	long r;

	if (prot & ~CHANGED)
		return -EINVAL;
#if !defined(__x86_64__)
	/* Instruction caches would have to be cleaned each time a page comes back. */
	if (prot & PROT_EXEC)
		return -EACCES;
#endif
	if (!bytes || (prot == READ_WRITE && !any()))
		return 0;
	r = map_get(p);
	if (!r && prot == PROT_NONE && !blank)
		r = pin_all(p, bytes, HELD);
	if (!r)
		r = kernel_protect(p, bytes, prot);
	if (r)
		return (int)r;
	change(p, bytes, CHANGED, (unsigned)(prot ^ READ_WRITE));
	return prot != PROT_NONE || blank ? unpin_all(p, bytes, HELD) : 0;
}

int attributes_protection(const char *p, size_t bytes)
{
	int prot;

	if (!any())
		return READ_WRITE;
	prot = *byte_of(p) & CHANGED;
	for (size_t i = PAGE; i < bytes; i += PAGE)
		if ((*byte_of(p + i) & CHANGED) != prot)
			return -1;
	return prot ^ READ_WRITE;
}

int attributes_lock(char *p, size_t bytes)
{
	int r = map_get(p);

	return r ? r : pin_all(p, bytes, LOCKED);
}

int attributes_unlock(char *p, size_t bytes)
{
	return any() ? unpin_all(p, bytes, LOCKED) : 0;
}

bool attributes_locked(const char *p, size_t bytes)
{
	if (!any())
		return false;
	for (size_t i = 0; i < bytes; i += PAGE)
		if (*byte_of(p + i) & LOCKED)
			return true;
	return false;
}

void attributes_unlock_all(void)
{
	uintptr_t at = (uintptr_t)somewhere / PAGE;

	if (!any())
		return;
	/* A byte's page is the one of its residue class that is in the heap. */
	for (size_t i = 0; i <= map_mask; i++) {
		uintptr_t page = (at & ~map_mask) | i;

		if (!(map[i] & LOCKED))
			continue;
		for (int k = -1; k <= 1; k++) {
			char *p = (char *)((page + (uintptr_t)k * (map_mask + 1)) * PAGE);

			if (lazy_contains(p))
				unpin_all(p, PAGE, LOCKED);
		}
	}
}

int attributes_clear(char *p, size_t bytes)
{
	int r = 0;

	if (!any())
		return 0;
	/* Most frees are of ordinary pages: no system call for those. */
	for (size_t i = 0; i < bytes && !r; i += PAGE) {
		if (*byte_of(p + i) & CHANGED) {
			r = (int)kernel_protect(p, bytes, READ_WRITE);
			break;
		}
	}
	if (r)
		return r;
	unpin_all(p, bytes, HELD);
	unpin_all(p, bytes, LOCKED);
	change(p, bytes, CHANGED, 0);
	return 0;
}

void attributes_child(void)
{
	attributes_unlock_all();
}
