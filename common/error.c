/* SPDX-License-Identifier: MIT */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>

/* initial-exec: a lazily allocated TLS block would call malloc inside a fault. */
static _Thread_local char text[512] __attribute__((tls_model("initial-exec")));

int err_fail(int err, const char *fmt, ...)
{
	/* The arguments may point into the old text ("...: %s", err_text()). */
	char fresh[sizeof text];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(fresh, sizeof fresh, fmt, ap);
	va_end(ap);
	__builtin_memcpy(text, fresh, sizeof text);
	return err;
}

const char *err_text(void)
{
	return text;
}
