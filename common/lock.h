/* SPDX-License-Identifier: MIT */
/*
 * A lock by futex (Drepper's three states: free, taken, taken with waiters): needs no libc and
 * touches no errno, and a forked child may set it free by writing 0. Whoever holds it does bounded
 * work, so waiting is bounded too.
 */
#ifndef COMMON_LOCK_H
#define COMMON_LOCK_H

#include "common/sys.h"

#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>

static inline void lock_take(uint32_t *l)
{
	uint32_t free = 0;

	if (__atomic_compare_exchange_n(l, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(l, 2, __ATOMIC_ACQUIRE))
		sys_call4(SYS_futex, SYS_PTR(l), FUTEX_WAIT_PRIVATE, 2, 0);
}

static inline void lock_give(uint32_t *l)
{
	if (__atomic_exchange_n(l, 0, __ATOMIC_RELEASE) == 2)
		sys_call3(SYS_futex, SYS_PTR(l), FUTEX_WAKE_PRIVATE, 1);
}

#endif
