/* SPDX-License-Identifier: MIT */
/*
 * The spill file's part of a fork; see file_store.h. The file is made by the thread that takes the
 * snapshot, whose descriptor table the child may not inherit (handlers of `infuse run` have one of their
 * own). So the forking thread opens it once more, through /proc, before it forks.
 */
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"
#include "pagestore/transport/file_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define COPY_BYTES (1u << 20)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		sys_call1(SYS_close, *fd);
	*fd = -1;
}

static void drop(struct file_store *s)
{
	close_fd(&s->clone->fd);
	memset(s->clone->turn, 0, s->slots * sizeof *s->clone->turn);
	s->clone->done = false;
}

/* Once, at the first snapshot. */
static int get_ready(struct file_store *s)
{
	struct file_clone *c = mem_map(sizeof *c);

	if (!c)
		return -ENOMEM;
	c->fd = c->carried = -1;
	c->turn = mem_map(s->slots * sizeof *c->turn);
	if (!c->turn) {
		mem_unmap(c, sizeof *c);
		return -ENOMEM;
	}
	s->clone = c;
	return 0;
}

static int begin(struct file_store *s, const unsigned char owner[16])
{
	struct file_clone *c;
	int r = s->clone ? 0 : get_ready(s);

	if (r)
		return r;
	c = s->clone;
	if (c->fd >= 0 && !c->done && !memcmp(c->owner, owner, sizeof c->owner))
		return 0;
	drop(s);
	memcpy(c->owner, owner, sizeof c->owner);
	c->tid = (int)sys_call0(SYS_gettid);
	c->fd = file_store_make(s);
	return c->fd < 0 ? c->fd : 0;
}

static int copy_slot(struct file_store *s, uint64_t slot, unsigned char *buf, size_t bytes)
{
	uint64_t at = slot * file_store_bytes(s), end = at + file_store_bytes(s);
	long r = sys_call4(SYS_fallocate, s->clone->fd, 0, (long)at, (long)(end - at));

	for (long done = 0; at < end && r >= 0; at += (uint64_t)done) {
		size_t n = end - at < bytes ? end - at : bytes;

		r = sys_call4(SYS_pread64, s->fd, SYS_PTR(buf), (long)n, (long)at);
		if (r > 0)
			r = sys_call4(SYS_pwrite64, s->clone->fd, SYS_PTR(buf), r, (long)at);
		if (!r)
			r = -EIO;
		done = r;
	}
	return r < 0 ? (int)r : 0;
}

int file_store_clone(struct file_store *s, const unsigned char owner[16], const uint64_t *handle,
		     uint32_t count)
{
	size_t bytes = file_store_bytes(s) < COPY_BYTES ? file_store_bytes(s) : COPY_BYTES;
	unsigned char *buf = mem_map(bytes);
	int r = buf ? begin(s, owner) : -ENOMEM;

	for (uint32_t i = 0; i < count && !r; i++) {
		uint64_t slot = file_store_slot(s, handle[i]);

		if (slot == UINT64_MAX)
			r = -EIO;
		else
			r = copy_slot(s, slot, buf, bytes);
		if (!r)
			s->clone->turn[slot] = s->turn[slot];
	}
	mem_unmap(buf, bytes);
	if (r && s->clone)
		drop(s);
	return r == -EDQUOT ? -ENOSPC : r;
}

int file_store_carry(struct file_store *s)
{
	struct file_clone *c = s->clone;
	char path[64];

	if (!c || c->fd < 0 || c->done)
		return 0;
	snprintf(path, sizeof path, "/proc/self/task/%d/fd/%d", c->tid, c->fd);
	c->carried = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(path),
				    O_RDWR | O_CLOEXEC | (s->buffered ? 0 : O_DIRECT), 0);
	if (c->carried < 0)
		return err_fail(c->carried, "a forked child can't have its spill file: %s: %s", path,
				strerrordesc_np(-c->carried));
	return 0;
}

void file_store_left(struct file_store *s)
{
	if (!s->clone)
		return;
	close_fd(&s->clone->carried);
	s->clone->done = true;
}

void file_store_tidy(struct file_store *s)
{
	if (s->clone && s->clone->done)
		drop(s);
}

int file_store_adopt(struct file_store *s, bool inherited)
{
	struct file_clone *c = s->clone;
	bool copied = c && c->fd >= 0;
	int mine = copied ? c->carried : -1;

	if (inherited) {
		sys_call1(SYS_close, s->fd);
		if (copied)
			sys_call1(SYS_close, c->fd);
	}
	if (copied && mine < 0)
		return err_fail(-EBADF, "the spill file's copy was not handed to this process");
	if (c) {
		c->fd = c->carried = -1;
		c->done = false;
	}
	memset(s->used, 0, (s->slots + 63) / 64 * 8);
	s->granted = 0;
	s->stuck = false;
	for (uint64_t i = 0; i < s->slots; i++) {
		uint32_t turn = copied ? c->turn[i] : 0;

		s->turn[i] = turn ? turn : (s->turn[i] + 1) & ~1u;
		if (!turn)
			continue;
		s->used[i / 64] |= 1ull << i % 64;
		s->granted++;
	}
	/* Without a file nothing more can be spilled, that is all. */
	s->fd = copied ? mine : file_store_make(s);
	return 0;
}
