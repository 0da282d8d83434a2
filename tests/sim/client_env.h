/* SPDX-License-Identifier: MIT */
/*
 * Goes before every source of the page store's client in the simulation: stands in for
 * common/clock.h and common/sys.h, the only ways in which that code learns the time and reaches the
 * kernel.
 */
#ifndef TESTS_SIM_CLIENT_ENV_H
#define TESTS_SIM_CLIENT_ENV_H

#define COMMON_CLOCK_H
#define COMMON_SYS_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#define NSEC_PER_SEC  1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_USEC 1000ull

uint64_t sim_clock_ns(void);
long sim_call(long n, long a, long b, long c, long d, long e, long f);

static inline uint64_t clock_ns(void)
{
	return sim_clock_ns();
}

static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	return sim_call(n, a, b, c, d, e, f);
}

#define sys_call0(n)                sys_call6((n), 0, 0, 0, 0, 0, 0)
#define sys_call1(n, a)             sys_call6((n), (a), 0, 0, 0, 0, 0)
#define sys_call2(n, a, b)          sys_call6((n), (a), (b), 0, 0, 0, 0)
#define sys_call3(n, a, b, c)       sys_call6((n), (a), (b), (c), 0, 0, 0)
#define sys_call4(n, a, b, c, d)    sys_call6((n), (a), (b), (c), (d), 0, 0)
#define sys_call5(n, a, b, c, d, e) sys_call6((n), (a), (b), (c), (d), (e), 0)
#define SYS_PTR(p)                  ((long)(__UINTPTR_TYPE__)(p))

#endif
