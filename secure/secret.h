/* SPDX-License-Identifier: MIT */
/*
 * Memory for secrets: straight from the kernel, in no core dump, not swapped if the limit of locked
 * memory allows, and wiped before it is given back. A forked child has it too: its connections
 * need the keys.
 *
 * secret_openssl() makes this program's own copy of OpenSSL take its memory there. It must not use
 * malloc: in a program under `infuse run` that memory is injected, and the connection that a fault
 * waits for can't wait for a fault.
 */
#ifndef SECURE_SECRET_H
#define SECURE_SECRET_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed, page aligned. NULL if there is none. */
void *secret_map(size_t bytes);
/* Takes NULL. bytes as given to secret_map(). */
void secret_unmap(void *p, size_t bytes);
void secret_wipe(void *p, size_t bytes);

/* Bytes that nobody can guess. Doesn't touch errno. Ends the program if the kernel has none. */
void secret_random(void *p, size_t bytes);

/* Takes as long wherever they differ. 1: equal. */
int secret_equal(const void *a, const void *b, size_t bytes);

/* To be called before any use of OpenSSL; again does nothing. */
void secret_openssl(void);
/* Allocations so far, for tests: the data path must not make any. */
uint64_t secret_allocations(void);

/*
 * OpenSSL keeps what is a thread's own by libc's means, and our raw threads share theirs with
 * another: so one thread at a time is in it, and none is while the process forks. The thread that has the lock
 * may take it again.
 */
void secret_lock(void);
void secret_unlock(void);
/* In a forked child whose parent held the lock. */
void secret_lock_reset(void);

#endif
