/* SPDX-License-Identifier: MIT */
/*
 * An error is told once, where it is found: a negative errno goes up the call chain and the
 * words wait in a fixed buffer of the thread. No malloc: a fault handler may be the caller.
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

/* Remembers the words and returns err (a negative errno). Name the thing, the value, the way out. */
int err_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

/* The words of this thread's last err_fail(), or "". Valid until the next one. */
const char *err_text(void);

#endif
