/* SPDX-License-Identifier: MIT */
/*
 * A futex mutex without owner: a fork hook may lock in one thread and unlock in another, and a raw
 * thread has no identity that pthread could use (U. Drepper, "Futexes Are Tricky", mutex 2). Held
 * for short stretches only, never over I/O, and always with signals blocked.
 */
#ifndef LIBINJECT_LOCK_H
#define LIBINJECT_LOCK_H

#include "common/sys.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield");
#endif
}

/* Some 50 us: a wake-up of another core costs as much, and a lock is held for less. */
#define LOCK_SPINS 1000

struct lock {
	_Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
};

static inline bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(&l->word, &free, 1, memory_order_acquire,
						       memory_order_relaxed);
}

static inline void lock_take(struct lock *l)
{
	if (lock_try(l))
		return;
	for (int i = 0; i < LOCK_SPINS; i++) {
		if (atomic_load_explicit(&l->word, memory_order_relaxed) == 0 && lock_try(l))
			return;
		cpu_relax();
	}
	while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire))
		sys_call4(SYS_futex, SYS_PTR(&l->word), FUTEX_WAIT_PRIVATE, 2, 0);
}

static inline void lock_drop(struct lock *l)
{
	if (atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2)
		sys_call3(SYS_futex, SYS_PTR(&l->word), FUTEX_WAKE_PRIVATE, 1);
}

/* Blocks all signals of this thread: a handler that faults must not meet a lock we hold. */
static inline uint64_t signals_block(void)
{
	uint64_t all = ~0ull, old = 0;

	sys_call4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, SYS_PTR(&all), SYS_PTR(&old), 8);
	return old;
}

static inline void signals_restore(uint64_t old)
{
	sys_call4(SYS_rt_sigprocmask, 2, SYS_PTR(&old), 0, 8);
}

#endif
