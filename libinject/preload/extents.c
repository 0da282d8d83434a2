/* SPDX-License-Identifier: MIT */
/*
 * malloc and its family: jemalloc, whose extents come from the heap. It is linked in and exported
 * whole, so that a program that brings libjemalloc itself has one allocator, not two. glibc's own
 * malloc can't be used: its calls of mmap and brk are internal and nobody can take them over.
 */
#include "libinject/preload/preload.h"

#include "common/sys.h"
#include "libinject/lock.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Frees of at least this size give their pages back at once, see below. */
#define OVERSIZE    (8ul << 20)
#define CHUNK_BYTES (2ul << 20)
#define CHUNKS      8u

/*
 * Chosen by counting faults and pages of single-threaded python3 and sqlite3 with a fraction of
 * their memory local, a run or two each:
 *
 * retain:false: freed extents go back to the heap, and through it to the donors; and an extent may
 *   grow into the pages behind it. A growing array costs 22,000 pages out where retain:true moves
 *   it again and again: 97,000, and twice the memory. Not all speaks for it: a dictionary used at
 *   random had 14% fewer faults with retain:true, and took 25% more memory.
 * oversize_threshold: big blocks live in an arena of their own that gives them back when they are
 *   freed: dirty pages that nobody needs would be written to a donor before they are dropped. From
 *   8 MiB on; 1 MiB cost 7 to 9% more faults.
 * dirty_decay_ms: 0 to 10 s differ by 2%. No muzzy stage: MADV_FREE is for lazy kernels.
 * narenas: not measured, one thread uses one arena. Few keep a program's small blocks together.
 * No background thread: it would be one in every small program.
 */
extern const char *malloc_conf;
const char *malloc_conf =
	"retain:false,oversize_threshold:8388608,dirty_decay_ms:1000,"
	"muzzy_decay_ms:0,narenas:4,background_thread:false,metadata_thp:disabled";

/*
 * Small extents are cut from chunks, so that they lie side by side: first touches are then served
 * in windows (600 faults where single ranges took 3,770), and the heap is asked less often.
 */
static struct chunk {
	char *next;
	size_t left;
} chunks[CHUNKS];
static struct lock chunk_lock;
static uint64_t fork_signals;

void extents_lock(void)
{
	uint64_t signals = signals_block();

	lock_take(&chunk_lock);
	fork_signals = signals;
}

void extents_unlock(void)
{
	uint64_t signals = fork_signals;

	lock_drop(&chunk_lock);
	signals_restore(signals);
}

static void *chunk_cut(struct chunk *c, size_t size)
{
	char *p = c->next;

	if (c->left < size) {
		p = lazy_try(CHUNK_BYTES);
		if (!p)
			return NULL;
		if (c->left)
			lazy_free(c->next, c->left);
		c->left = CHUNK_BYTES;
	}
	c->next = p + size;
	c->left -= size;
	return p;
}

static void *heap_alloc(size_t size, size_t align, unsigned arena)
{
	uint64_t signals;
	void *p = NULL;

	if (align <= PAGE && size <= CHUNK_BYTES / 4) {
		signals = signals_block();
		lock_take(&chunk_lock);
		p = chunk_cut(&chunks[arena % CHUNKS], size);
		lock_drop(&chunk_lock);
		signals_restore(signals);
	}
	return p ? p : lazy_alloc(size, align);
}

/* The pages at `at` on are free, or are the rest of a chunk. */
static bool heap_grow(char *at, size_t size, unsigned arena)
{
	struct chunk *c = &chunks[arena % CHUNKS];
	uint64_t signals = signals_block();
	bool done = false;

	lock_take(&chunk_lock);
	if (c->next == at && c->left >= size) {
		c->next += size;
		c->left -= size;
		done = true;
	}
	lock_drop(&chunk_lock);
	signals_restore(signals);
	return done || lazy_grow(at - PAGE, PAGE, PAGE + size);
}

static void *map_plain(void *at, size_t size, size_t align)
{
	size_t room = size + (align > PAGE ? align - PAGE : 0);
	long r = sys_call6(SYS_mmap, SYS_PTR(at), (long)room, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	uintptr_t from = (uintptr_t)r, to;

	if (r < 0 && r > -4096)
		return NULL;
	if (at && from != (uintptr_t)at) {
		sys_call2(SYS_munmap, r, (long)room);
		return NULL;
	}
	to = (from + align - 1) & ~(align - 1);
	if (to > from)
		sys_call2(SYS_munmap, (long)from, (long)(to - from));
	if (from + room > to + size)
		sys_call2(SYS_munmap, (long)(to + size), (long)(from + room - to - size));
	return (void *)to;
}

/* The pages from at on, to make the extent before them longer. */
static void *extend(char *at, size_t size, unsigned arena)
{
	void *p;

	if (lazy_contains(at - 1) && lazy_contains(at))
		return heap_grow(at, size, arena) ? at : NULL;
	if (lazy_contains(at) || !lazy_plain(size))
		return NULL;
	p = map_plain(at, size, PAGE);
	if (!p)
		lazy_plain_back(size);
	return p;
}

static void *fresh(size_t size, size_t align, unsigned arena)
{
	void *p;

	if (!lazy_plain(size))
		return heap_alloc(size, align, arena);
	p = map_plain(NULL, size, align);
	if (!p)
		lazy_plain_back(size);
	return p;
}

static void *extent_alloc(extent_hooks_t *hooks, void *at, size_t size, size_t align, bool *zero,
			  bool *commit, unsigned arena)
{
	void *p;

	(void)hooks;
	p = at ? extend(at, size, arena) : fresh(size, align < PAGE ? PAGE : align, arena);
	if (!p)
		return NULL;
	*zero = true;
	*commit = true;
	return p;
}

/* True means no, in all of jemalloc's hooks. */
static bool extent_dalloc(extent_hooks_t *hooks, void *p, size_t size, bool committed,
			  unsigned arena)
{
	(void)hooks;
	(void)committed;
	(void)arena;
	if (lazy_contains(p))
		return attributes_clear(p, size) || lazy_free(p, size);
	lazy_plain_back(size);
	return sys_call2(SYS_munmap, SYS_PTR(p), (long)size) != 0;
}

static void extent_destroy(extent_hooks_t *hooks, void *p, size_t size, bool committed,
			   unsigned arena)
{
	extent_dalloc(hooks, p, size, committed, arena);
}

static bool extent_purge(extent_hooks_t *hooks, void *p, size_t size, size_t offset, size_t length,
			 unsigned arena)
{
	char *from = (char *)p + offset;

	(void)hooks;
	(void)size;
	(void)arena;
	if (lazy_contains(from))
		return inject_discard(lazy_peek(), from, length) != 0;
	return sys_call3(SYS_madvise, SYS_PTR(from), (long)length, MADV_DONTNEED) != 0;
}

static bool extent_split(extent_hooks_t *hooks, void *p, size_t size, size_t a, size_t b,
			 bool committed, unsigned arena)
{
	(void)hooks;
	(void)p;
	(void)size;
	(void)a;
	(void)b;
	(void)committed;
	(void)arena;
	return false;
}

static bool extent_merge(extent_hooks_t *hooks, void *a, size_t a_size, void *b, size_t b_size,
			 bool committed, unsigned arena)
{
	(void)hooks;
	(void)a_size;
	(void)b_size;
	(void)committed;
	(void)arena;
	return lazy_contains(a) != lazy_contains(b);
}

static extent_hooks_t hooks = {
	.alloc = extent_alloc,
	.dalloc = extent_dalloc,
	.destroy = extent_destroy,
	.purge_forced = extent_purge,
	.split = extent_split,
	.merge = extent_merge,
};

/*
 * Arenas are made before the hooks are set, so that their own books stay in plain memory: they are
 * small, and used with jemalloc's locks held. The arena of big blocks is made by taking one; hooks
 * can't be given to it earlier.
 */
void extents_install(void)
{
	extent_hooks_t *ours = &hooks;
	unsigned arenas = 0;
	size_t len = sizeof arenas;

	if (mallctl("arenas.narenas", &arenas, &len, NULL, 0))
		return;
	dallocx(mallocx(OVERSIZE, 0), 0);
	for (unsigned i = 0; i < arenas; i++) {
		char name[64];
		void *p = mallocx(1, MALLOCX_ARENA(i) | MALLOCX_TCACHE_NONE);

		if (p)
			dallocx(p, MALLOCX_TCACHE_NONE);
		snprintf(name, sizeof name, "arena.%u.extent_hooks", i);
		if (mallctl(name, NULL, NULL, &ours, sizeof ours))
			report_line("malloc's arena %u stays in plain memory", i);
	}
}

/* What jemalloc does not define: glibc's own would hand out blocks that free() does not know. */

EXPORT void *pvalloc(size_t bytes);
EXPORT void *pvalloc(size_t bytes)
{
	if (bytes > SIZE_MAX - PAGE) {
		errno = ENOMEM;
		return NULL;
	}
	return memalign(PAGE, PAGE_UP(bytes));
}

EXPORT void *__libc_malloc(size_t bytes);
EXPORT void *__libc_malloc(size_t bytes)
{
	return malloc(bytes);
}

EXPORT void *__libc_calloc(size_t n, size_t bytes);
EXPORT void *__libc_calloc(size_t n, size_t bytes)
{
	return calloc(n, bytes);
}

EXPORT void *__libc_realloc(void *p, size_t bytes);
EXPORT void *__libc_realloc(void *p, size_t bytes)
{
	return realloc(p, bytes);
}

EXPORT void *__libc_memalign(size_t align, size_t bytes);
EXPORT void *__libc_memalign(size_t align, size_t bytes)
{
	return memalign(align, bytes);
}

EXPORT void *__libc_valloc(size_t bytes);
EXPORT void *__libc_valloc(size_t bytes)
{
	return valloc(bytes);
}

EXPORT void *__libc_pvalloc(size_t bytes);
EXPORT void *__libc_pvalloc(size_t bytes)
{
	return pvalloc(bytes);
}

EXPORT void __libc_free(void *p);
EXPORT void __libc_free(void *p)
{
	free(p);
}

EXPORT int __posix_memalign(void **ret, size_t align, size_t bytes);
EXPORT int __posix_memalign(void **ret, size_t align, size_t bytes)
{
	return posix_memalign(ret, align, bytes);
}

/* Its real purpose here: memory goes back to the donors at once. */
EXPORT int malloc_trim(size_t pad);
EXPORT int malloc_trim(size_t pad)
{
	(void)pad;
	return !mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
}
