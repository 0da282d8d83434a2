/* SPDX-License-Identifier: MIT */
/*
 * See secret.h. The allocator is for handshakes, which are rare and short: size classes of powers of
 * two, a free list for each, cut from chunks that stay. What is freed is wiped.
 */
#include "secure/secret.h"
#include "common/lock.h"
#include "common/memory.h"

#include <assert.h>
#include <linux/mman.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <string.h>

#define CHUNK_BYTES (256u * 1024)
#define CLASS_MIN   5u  /* 32 bytes */
#define CLASS_MAX   17u /* 128 KiB; larger ones are mappings of their own */

void *secret_map(size_t bytes)
{
	void *p = mem_map(bytes);

	if (!p)
		return NULL;
	sys_call3(SYS_madvise, SYS_PTR(p), (long)bytes, MADV_DONTDUMP);
	sys_call2(SYS_mlock, SYS_PTR(p), (long)bytes); /* as far as the limit goes */
	return p;
}

void secret_unmap(void *p, size_t bytes)
{
	if (!p)
		return;
	secret_wipe(p, bytes);
	mem_unmap(p, bytes);
}

void secret_wipe(void *p, size_t bytes)
{
	explicit_bzero(p, bytes);
}

void secret_random(void *p, size_t bytes)
{
	unsigned char *at = p;

	while (bytes) {
		long r = sys_call3(SYS_getrandom, SYS_PTR(at), (long)bytes, 0);

		assert(r > 0 || r == -4 /* EINTR */);
		if (r > 0) {
			at += r;
			bytes -= (size_t)r;
		}
	}
}

int secret_equal(const void *a, const void *b, size_t bytes)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char differ = 0;

	for (size_t i = 0; i < bytes; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* --- the allocator --- */

struct block {
	size_t bytes; /* that were asked for */
	struct block *next;
};

static uint32_t arena_lock, user_lock;
static long user;          /* the thread that has user_lock */
static unsigned user_depth;
static struct block *free_list[CLASS_MAX + 1];
static unsigned char *chunk, *chunk_end;
static uint64_t allocations;

_Static_assert(sizeof(struct block) == 16, "what follows a block is aligned");

static unsigned class_of(size_t bytes)
{
	unsigned c = CLASS_MIN;

	while (((size_t)1 << c) < bytes + sizeof(struct block))
		c++;
	return c;
}

static struct block *cut(unsigned class)
{
	size_t bytes = (size_t)1 << class;
	struct block *b;

	if ((size_t)(chunk_end - chunk) < bytes) {
		/* What is left of the old chunk is lost: at most half of one, seldom. */
		unsigned char *fresh = secret_map(CHUNK_BYTES);

		if (!fresh)
			return NULL;
		chunk = fresh;
		chunk_end = fresh + CHUNK_BYTES;
	}
	b = (struct block *)(void *)chunk;
	chunk += bytes;
	return b;
}

static void *arena_alloc(size_t bytes, const char *file, int line)
{
	unsigned class = class_of(bytes);
	struct block *b;

	(void)file;
	(void)line;
	if (bytes > SIZE_MAX / 4)
		return NULL;
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
	if (class > CLASS_MAX) {
		b = secret_map(bytes + sizeof *b);
	} else {
		lock_take(&arena_lock);
		b = free_list[class];
		if (b)
			free_list[class] = b->next;
		else
			b = cut(class);
		lock_give(&arena_lock);
	}
	if (!b)
		return NULL;
	b->bytes = bytes;
	return b + 1;
}

static void arena_free(void *p, const char *file, int line)
{
	struct block *b;
	unsigned class;

	(void)file;
	(void)line;
	if (!p)
		return;
	b = (struct block *)p - 1;
	class = class_of(b->bytes);
	if (class > CLASS_MAX) {
		secret_unmap(b, b->bytes + sizeof *b);
		return;
	}
	secret_wipe(p, b->bytes);
	lock_take(&arena_lock);
	b->next = free_list[class];
	free_list[class] = b;
	lock_give(&arena_lock);
}

static void *arena_realloc(void *p, size_t bytes, const char *file, int line)
{
	const struct block *b;
	void *fresh;

	if (!p)
		return arena_alloc(bytes, file, line);
	b = (struct block *)p - 1;
	if (!bytes) {
		arena_free(p, file, line);
		return NULL;
	}
	fresh = arena_alloc(bytes, file, line);
	if (!fresh)
		return NULL;
	memcpy(fresh, p, b->bytes < bytes ? b->bytes : bytes);
	arena_free(p, file, line);
	return fresh;
}

uint64_t secret_allocations(void)
{
	return __atomic_load_n(&allocations, __ATOMIC_RELAXED);
}

void secret_lock(void)
{
	long me = sys_call0(SYS_gettid);

	if (__atomic_load_n(&user, __ATOMIC_RELAXED) != me) {
		lock_take(&user_lock);
		__atomic_store_n(&user, me, __ATOMIC_RELAXED);
	}
	user_depth++;
}

void secret_unlock(void)
{
	if (--user_depth)
		return;
	__atomic_store_n(&user, 0, __ATOMIC_RELAXED);
	lock_give(&user_lock);
}

void secret_lock_reset(void)
{
	user = 0;
	user_depth = 0;
	__atomic_store_n(&user_lock, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&arena_lock, 0, __ATOMIC_RELAXED);
}

void secret_openssl(void)
{
	static bool done;
	/* It would read a configuration file, and register handlers with libc. */
	uint64_t quiet = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT;

	secret_lock();
	if (!done) {
		done = CRYPTO_set_mem_functions(arena_alloc, arena_realloc, arena_free);
		assert(done);
		OPENSSL_init_crypto(quiet, NULL);
		ERR_clear_error();
	}
	secret_unlock();
}
