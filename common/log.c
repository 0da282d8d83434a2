/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* All of them may change while others log. */
static const char *_Atomic log_name = "infuse";
static _Atomic enum log_level log_max = LOG_INFO;
static _Atomic int log_journal;

void log_open(const char *name, enum log_level max)
{
	log_name = name;
	log_max = max;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	int at = 0, n;
	va_list ap;

	if (level > log_max)
		return;
	if (log_journal)
		at = snprintf(line, sizeof line, "<%d>", level);
	at += snprintf(line + at, sizeof line - (size_t)at, "%s: ", log_name);
	va_start(ap, fmt);
	n = vsnprintf(line + at, sizeof line - (size_t)at - 1, fmt, ap);
	va_end(ap);
	at += n < (int)sizeof line - at - 1 ? n : (int)sizeof line - at - 2;
	line[at++] = '\n';
	/* Nothing sensible can be done if standard error is gone. */
	if (write(STDERR_FILENO, line, (size_t)at) < 0)
		return;
}
