/* SPDX-License-Identifier: MIT */
/*
 * Goes before every source of the page store's client in client-without-memory: its system calls, all of
 * which it makes through common/sys.h, go by failing_call(), which counts mappings and refuses one.
 */
#ifndef TESTS_FAILING_ENV_H
#define TESTS_FAILING_ENV_H

#include "common/sys.h"

long failing_call(long n, long a, long b, long c, long d, long e, long f);

#define sys_call6(n, a, b, c, d, e, f) failing_call((n), (a), (b), (c), (d), (e), (f))

#endif
