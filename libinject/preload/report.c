/* SPDX-License-Identifier: MIT */
/*
 * What a process's heap did, when the process ends: a block of lines on standard error, and one
 * JSON object a line appended to a file. Written with one write each, so that processes that end
 * at the same time don't mix their lines. Processes without a heap say nothing.
 */
#include "libinject/preload/preload.h"

#include "libinject/heap.h"
#include "common/error.h"
#include "common/parse.h"
#include "common/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SPARE_FD 700 /* above what shells and most programs give names to */

static _Atomic bool reported;

/*
 * By the time of the report standard error may be closed (coreutils do so before they exit), and a
 * sandbox may forbid to open a file (xz's does). So both are kept from the start. A program may
 * close a kept one, too, and open something else there: what it was is told by its inode.
 */
struct kept {
	int fd;
	struct stat is;
};
static struct kept kept_error = {.fd = -1}, kept_file = {.fd = -1};

static bool usable(const struct kept *k)
{
	struct stat now;

	return k->fd >= 0 && !sys_call2(SYS_fstat, k->fd, SYS_PTR(&now)) &&
	       now.st_dev == k->is.st_dev && now.st_ino == k->is.st_ino;
}

static void keep(struct kept *k, int fd)
{
	if (fd < 0 || sys_call2(SYS_fstat, fd, SYS_PTR(&k->is)))
		return;
	k->fd = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, SPARE_FD);
	if (k->fd < 0)
		k->fd = (int)sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
}

static int open_file(const char *path)
{
	return (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(path),
			      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

void report_prepare(void)
{
	const struct settings *s = settings_get();
	int fd;

	if (s && s->stats)
		keep(&kept_error, 2);
	if (s && s->stats_file) {
		fd = open_file(s->stats_file);
		keep(&kept_file, fd);
		if (fd >= 0)
			sys_call1(SYS_close, fd);
	}
}

static void write_all(int fd, const char *text, size_t len)
{
	while (len) {
		long n = sys_call3(SYS_write, fd, SYS_PTR(text), (long)len);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

void report_line(const char *fmt, ...)
{
	char line[640] = "infuse: ";
	size_t at = strlen(line), room = sizeof line - at - 1;
	int saved = errno, n;
	va_list ap;

	va_start(ap, fmt);
	n = vsnprintf(line + at, room, fmt, ap);
	va_end(ap);
	at += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
	line[at++] = '\n';
	write_all(2, line, at);
	errno = saved;
}

static const char *size_text(uint64_t bytes, char *buf)
{
	return format_size(bytes, buf, 32);
}

static uint64_t percent(uint64_t part, uint64_t of)
{
	return of ? part * 100 / of : 0;
}

/* One word without quotes, backslashes and control characters. */
static void program_name(char *name, size_t len)
{
	const char *from = program_invocation_short_name;
	size_t n = 0;

	for (; from && *from && n + 1 < len; from++)
		name[n++] = *from < ' ' || *from == '"' || *from == '\\' ? '?' : *from;
	name[n] = 0;
}

static int print_people(const struct inject_stats *s, const char *name, char *to, size_t len)
{
	char peak[32], local[32], limit[32], in[32], out[32];
	char spill[128] = "", spilled[32], from[32], onto[32];

	if (s->spilled_bytes || s->spill_out)
		snprintf(spill, sizeof spill, "infuse:   spilled %s now; of the bytes %s from the file, %s to it\n",
			 size_text(s->spilled_bytes, spilled), size_text(s->spill_in, from),
			 size_text(s->spill_out, onto));
	return snprintf(
		to, len,
		"infuse: %s (pid %d): heap %s at most, %s of it local (limit %s)\n"
		"infuse:   faults %llu: %llu first touches, %llu from staging, %llu shared\n"
		"infuse:   in %llu pages, %s; out %llu pages, %s, and %llu clean\n"
		"%sinfuse:   prefetched %llu pages, %llu%% of them used\n"
		"infuse:   time in faults %.3f s, %.1f us each\n",
		name, (int)sys_call0(SYS_getpid), size_text(lazy_peak(), peak),
		size_text(s->resident_bytes, local), size_text(s->local_bytes, limit),
		(unsigned long long)s->faults, (unsigned long long)s->faults_zero,
		(unsigned long long)s->faults_staged, (unsigned long long)s->faults_shared,
		(unsigned long long)s->pages_in, size_text(s->bytes_in, in),
		(unsigned long long)s->pages_out, size_text(s->bytes_out, out),
		(unsigned long long)s->pages_clean, spill, (unsigned long long)s->prefetched,
		(unsigned long long)percent(s->prefetch_hits, s->prefetched),
		(double)s->fault_ns / 1e9,
		s->faults ? (double)s->fault_ns / 1e3 / (double)s->faults : 0.0);
}

static int print_json(const struct inject_stats *s, const char *name, char *to, size_t len)
{
	size_t at = 0;

#define FIELD(key, value)                                                                          \
	do {                                                                                       \
		if (at < len)                                                                      \
			at += (size_t)snprintf(to + at, len - at, ",\"%s\":%llu", key,             \
					       (unsigned long long)(value));                       \
	} while (0)
	at = (size_t)snprintf(to, len, "{\"program\":\"%s\",\"pid\":%d", name,
			      (int)sys_call0(SYS_getpid));
	FIELD("allocated_bytes", s->allocated_bytes);
	FIELD("allocated_peak_bytes", lazy_peak());
	FIELD("local_bytes", s->local_bytes);
	FIELD("resident_bytes", s->resident_bytes);
	FIELD("pinned_bytes", s->pinned_bytes);
	FIELD("faults", s->faults);
	FIELD("faults_zero", s->faults_zero);
	FIELD("faults_staged", s->faults_staged);
	FIELD("faults_shared", s->faults_shared);
	FIELD("pages_in", s->pages_in);
	FIELD("pages_out", s->pages_out);
	FIELD("pages_clean", s->pages_clean);
	FIELD("prefetched", s->prefetched);
	FIELD("prefetch_hits", s->prefetch_hits);
	FIELD("bytes_in", s->bytes_in);
	FIELD("bytes_out", s->bytes_out);
	FIELD("spilled_bytes", s->spilled_bytes);
	FIELD("spill_in", s->spill_in);
	FIELD("spill_out", s->spill_out);
	FIELD("fault_ns", s->fault_ns);
#undef FIELD
	if (at + 2 < len)
		at += (size_t)snprintf(to + at, len - at, "}\n");
	return (int)at;
}

static void append_json(const char *path, const char *text, size_t len)
{
	int fd;

	if (usable(&kept_file)) {
		write_all(kept_file.fd, text, len);
		return;
	}
	fd = open_file(path);
	if (fd < 0) {
		report_line("can't write %s: error %d", path, -fd);
		return;
	}
	write_all(fd, text, len);
	sys_call1(SYS_close, fd);
}

void report_forget(void)
{
	atomic_store(&reported, false);
}

void report(void)
{
	const struct settings *set = settings_get();
	struct inject_heap *h = lazy_peek();
	struct inject_stats s;
	char text[1536], name[64];
	int n;

	/* A child of vfork() shares our memory, and leaves by _exit() when its exec failed. */
	if (!h || !set || lazy_owner() != (int)sys_call0(SYS_getpid) ||
	    atomic_exchange(&reported, true))
		return;
	if (prefetch_save(&h->prefetch))
		report_line("%s", err_text());
	if (!set->stats && !set->stats_file)
		return;
	if (inject_stats(h, &s))
		return;
	program_name(name, sizeof name);
	if (set->stats) {
		n = print_people(&s, name, text, sizeof text);
		write_all(usable(&kept_error) ? kept_error.fd : 2, text,
			  (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
	}
	if (set->stats_file) {
		n = print_json(&s, name, text, sizeof text);
		append_json(set->stats_file, text,
			    (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
	}
}
