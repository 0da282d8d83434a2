/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc: the result or a negative errno, errno itself untouched. The fault
 * path runs in signal handlers and in raw threads that share another thread's TLS block; a libc
 * wrapper there would overwrite the errno of the code it interrupted.
 */
#ifndef COMMON_SYS_H
#define COMMON_SYS_H

#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#elif defined(__aarch64__)
static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "Infuse knows the system call convention of x86-64 and aarch64 only"
#endif

#define sys_call0(n)                sys_call6((n), 0, 0, 0, 0, 0, 0)
#define sys_call1(n, a)             sys_call6((n), (a), 0, 0, 0, 0, 0)
#define sys_call2(n, a, b)          sys_call6((n), (a), (b), 0, 0, 0, 0)
#define sys_call3(n, a, b, c)       sys_call6((n), (a), (b), (c), 0, 0, 0)
#define sys_call4(n, a, b, c, d)    sys_call6((n), (a), (b), (c), (d), 0, 0)
#define sys_call5(n, a, b, c, d, e) sys_call6((n), (a), (b), (c), (d), (e), 0)

/* A pointer as a system call's argument. */
#define SYS_PTR(p) ((long)(__UINTPTR_TYPE__)(p))

#endif
