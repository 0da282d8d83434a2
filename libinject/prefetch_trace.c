/* SPDX-License-Identifier: MIT */
/*
 * Recorded sequences of faults, and their files: a header, then the pages' numbers, 4 bytes each in
 * this machine's order. Recording is one store a fault into memory that was mapped beforehand; what
 * a fault needs for following (where is this page next?) is built when the file is read. A file is
 * replaced as a whole, by renaming, so a reader never sees half of one.
 */
#include "libinject/prefetch.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define TRACE_MAX     (UINT32_C(64) << 20) /* faults; later ones are not recorded */
#define TRACE_PATH    4096u
#define TRACE_MAGIC   "INFTRACE"
#define TRACE_VERSION 1u
#define TRACE_PAGE    4096u

struct trace_header {
	char magic[8];
	uint32_t version; /* in the byte order of its machine, so another's is refused */
	uint32_t page_bytes;
	uint64_t pages; /* of the heap */
	uint64_t count;
	uint64_t hash; /* XXH3 of the page numbers */
};
_Static_assert(sizeof(struct trace_header) == 40, "the file's layout");

void trace_add(struct prefetch_state *s, uint32_t page)
{
	struct prefetch_trace *t = &s->trace;

	if (t->count == TRACE_MAX)
		return;
	t->page[t->count] = page;
	__atomic_store_n(&t->count, t->count + 1, __ATOMIC_RELEASE);
}

void trace_close(struct prefetch_state *s)
{
	struct prefetch_trace *t = &s->trace;

	mem_unmap(t->page, TRACE_MAX * sizeof *t->page);
	mem_unmap(t->next, (size_t)t->count * sizeof *t->next);
	mem_unmap(t->head, (size_t)t->head_count * sizeof *t->head);
	mem_unmap(t->path, TRACE_PATH);
	*t = (struct prefetch_trace){0};
}

static int read_all(int fd, void *to, size_t bytes)
{
	char *at = to;

	while (bytes) {
		ssize_t n = read(fd, at, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const void *from, size_t bytes)
{
	const char *at = from;

	while (bytes) {
		ssize_t n = write(fd, at, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int header_check(const struct prefetch_state *s, const struct trace_header *h, off_t size,
			const char *path)
{
	if (memcmp(h->magic, TRACE_MAGIC, sizeof h->magic))
		return err_fail(-EINVAL, "%s is no recorded trace: name a new file to record one",
				path);
	if (h->version != TRACE_VERSION || h->page_bytes != TRACE_PAGE)
		return err_fail(-EINVAL,
				"%s is a trace of another version or machine: delete it to record "
				"a new one",
				path);
	if (!h->count || h->count > TRACE_MAX ||
	    (uint64_t)size != sizeof *h + h->count * sizeof(uint32_t))
		return err_fail(-EBADMSG, "%s is cut off or damaged: delete it to record a new one",
				path);
	if (h->pages != s->pages)
		return err_fail(
			-EINVAL,
			"%s was recorded in a heap of %llu pages, this one has %u: record it again",
			path, (unsigned long long)h->pages, s->pages);
	return 0;
}

/* Where a page comes next: from the last position to the first, so each finds its successor. */
static int trace_index(struct prefetch_state *s)
{
	struct prefetch_trace *t = &s->trace;

	t->next = mem_map((size_t)t->count * sizeof *t->next);
	t->head = mem_map((size_t)s->pages * sizeof *t->head);
	t->head_count = s->pages;
	if (!t->next || !t->head)
		return err_fail(-ENOMEM, "no memory to follow a trace of %u faults", t->count);
	for (uint32_t i = t->count; i-- > 0;) {
		uint32_t *head = &t->head[t->page[i]];

		t->next[i] = *head ? *head - 1 : UINT32_MAX;
		*head = i + 1;
	}
	/* The last one's next is the first. */
	for (uint32_t i = 0; i < t->count; i++)
		if (t->next[i] == UINT32_MAX)
			t->next[i] = t->head[t->page[i]] - 1;
	return 0;
}

static int trace_read(struct prefetch_state *s, int fd, const char *path)
{
	struct prefetch_trace *t = &s->trace;
	struct trace_header h;
	struct stat st;
	int r;

	if (fstat(fd, &st))
		return err_fail(-errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_fail(-EINVAL, "%s is no regular file", path);
	if (!st.st_size)
		return -ENODATA;
	memset(&h, 0, sizeof h);
	r = read_all(fd, &h, (size_t)st.st_size < sizeof h ? (size_t)st.st_size : sizeof h);
	if (!r)
		r = header_check(s, &h, st.st_size, path);
	if (r)
		return r;
	t->count = (uint32_t)h.count;
	r = read_all(fd, t->page, (size_t)t->count * sizeof *t->page);
	if (r)
		return err_fail(r, "%s can't be read: %s", path, strerror(-r));
	if (XXH3_64bits(t->page, (size_t)t->count * sizeof *t->page) != h.hash)
		return err_fail(-EBADMSG, "%s is damaged: delete it to record a new one", path);
	for (uint32_t i = 0; i < t->count; i++)
		if (t->page[i] >= s->pages)
			return err_fail(-EBADMSG, "%s is damaged: delete it to record a new one",
					path);
	return trace_index(s);
}

static int trace_map(struct prefetch_trace *t)
{
	if (!t->page)
		t->page = mem_map(TRACE_MAX * sizeof *t->page);
	return t->page ? 0 : err_fail(-ENOMEM, "no address space for a trace of faults");
}

int prefetch_trace_load(struct prefetch_state *s, const char *path)
{
	int fd, r = trace_map(&s->trace);

	if (r)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? -ENODATA
				       : err_fail(-errno, "%s: %s", path, strerror(errno));
	r = trace_read(s, fd, path);
	close(fd);
	return r;
}

/* As absolute, because a program may change its folder before it ends. */
static int path_copy(char *to, const char *path)
{
	size_t n = 0;

	if (*path != '/') {
		if (!getcwd(to, TRACE_PATH))
			return err_fail(-errno, "%s: the current folder is unknown: %s", path,
					strerror(errno));
		n = strlen(to);
	}
	if (snprintf(to + n, TRACE_PATH - n, "%s%s", n ? "/" : "", path) >=
	    (int)(TRACE_PATH - n - 8))
		return err_fail(-ENAMETOOLONG, "%s: too long", path);
	return 0;
}

int trace_open(struct prefetch_state *s, const char *path)
{
	struct prefetch_trace *t = &s->trace;
	int r;

	if (!*path)
		return err_fail(-EINVAL, "replay: which file? Write replay:FILE");
	t->window = PREFETCH_FIRST_ASK;
	t->path = mem_map(TRACE_PATH);
	r = t->path ? path_copy(t->path, path) : err_fail(-ENOMEM, "no memory for a path");
	if (!r)
		r = prefetch_trace_load(s, t->path);
	if (r != -ENODATA)
		return r;
	/* Learnt now, not when the program has run for hours. */
	r = open(t->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (r < 0)
		return err_fail(-errno, "%s: %s", t->path, strerror(errno));
	close(r);
	t->pid = (int)sys_call0(SYS_getpid);
	t->recording = true;
	return 0;
}

static int trace_write(const struct prefetch_state *s, int fd)
{
	const struct prefetch_trace *t = &s->trace;
	/* Faults may still be coming in. */
	uint32_t count = __atomic_load_n(&t->count, __ATOMIC_ACQUIRE);
	struct trace_header h = {
		.magic = TRACE_MAGIC,
		.version = TRACE_VERSION,
		.page_bytes = TRACE_PAGE,
		.pages = s->pages,
		.count = count,
		.hash = XXH3_64bits(t->page, (size_t)count * sizeof *t->page),
	};
	int r = write_all(fd, &h, sizeof h);

	return r ? r : write_all(fd, t->page, (size_t)count * sizeof *t->page);
}

int prefetch_trace_save(const struct prefetch_state *s, const char *path)
{
	char new[TRACE_PATH];
	int fd, r;

	if (snprintf(new, sizeof new, "%s.new", path) >= (int)sizeof new)
		return err_fail(-ENAMETOOLONG, "%s: too long", path);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_fail(-errno, "%s: %s", new, strerror(errno));
	r = trace_write(s, fd);
	if (close(fd) && !r)
		r = -errno;
	if (!r && rename(new, path))
		r = -errno;
	if (r)
		unlink(new);
	return r ? err_fail(r, "the trace can't be written to %s: %s", path, strerror(-r)) : 0;
}

int prefetch_save(struct prefetch *p)
{
	const struct prefetch_trace *t = &p->state.trace;

	if (!t->recording || !t->count || t->pid != (int)sys_call0(SYS_getpid))
		return 0;
	return prefetch_trace_save(&p->state, t->path);
}
