/* SPDX-License-Identifier: MIT */
/*
 * Log lines of the daemons and commands, one write(2) each, to standard error. Libraries do not
 * log: they return errors. With systemd's journal ("<N>" prefixes) when JOURNAL_STREAM is set.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_INFO = 6, LOG_DEBUG = 7 };

/* name goes before each line ("infuse-memory-server"); lines above max are dropped. */
void log_open(const char *name, enum log_level max);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
