/* SPDX-License-Identifier: MIT */
/* The spill file and its slots; see file_store.h. */
#include "pagestore/transport/file_store.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/parse.h"
#include "common/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

#define BELIEVE_NS NSEC_PER_SEC
#define NOCOW_FLAG 0x00800000       /* FS_NOCOW_FL */
#define GET_FLAGS  0x80086601       /* FS_IOC_GETFLAGS */
#define SET_FLAGS  0x40086602       /* FS_IOC_SETFLAGS */

static int open_unnamed(const char *dir, int flags)
{
	return (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(dir),
			      O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC | flags, 0600);
}

/* Where O_TMPFILE isn't known: a name for as long as it takes to remove it again. */
static int open_named(const char *dir, int flags)
{
	char name[FILE_STORE_PATH + 48];
	uint64_t number = 0;
	int fd;

	sys_call3(SYS_getrandom, SYS_PTR(&number), sizeof number, 0);
	snprintf(name, sizeof name, "%s/.infuse-spill-%016llx", dir, (unsigned long long)number);
	fd = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(name),
			    O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0)
		sys_call3(SYS_unlinkat, AT_FDCWD, SYS_PTR(name), 0);
	return fd;
}

static int open_any(const char *dir, int flags)
{
	int fd = open_unnamed(dir, flags);

	return fd == -EOPNOTSUPP || fd == -EISDIR ? open_named(dir, flags) : fd;
}

/* Can blocks be taken before they are written? (None to be had now is no matter.) */
static int try_allocating(struct file_store *s)
{
	int r = (int)sys_call4(SYS_fallocate, s->fd, 0, 0, WIRE_PAGE_SIZE);

	if (r == -EOPNOTSUPP || r == -ENOSYS)
		return err_fail(-EOPNOTSUPP, "spill '%s': its filesystem can't allocate ahead (fallocate), so "
				    "a full disk would lose pages; use ext4, xfs, btrfs or tmpfs", s->dir);
	sys_call4(SYS_fallocate, s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		  WIRE_PAGE_SIZE);
	return 0;
}

int file_store_make(struct file_store *s)
{
	int fd = open_any(s->dir, O_DIRECT), flags = 0;

	if (fd == -EINVAL) {
		s->buffered = true;
		fd = open_any(s->dir, 0);
	}
	if (fd < 0)
		return fd;
	/* Where writing again would take new blocks (btrfs), allocating would promise nothing. */
	if (!sys_call3(SYS_ioctl, fd, GET_FLAGS, SYS_PTR(&flags))) {
		flags |= NOCOW_FLAG;
		sys_call3(SYS_ioctl, fd, SET_FLAGS, SYS_PTR(&flags));
	}
	return fd;
}

/* The process may change its directory, and forked children open files there, too. */
static int make_absolute(struct file_store *s, const char *dir)
{
	char here[FILE_STORE_PATH] = "";
	long r = 0;

	if (*dir != '/')
		r = sys_call2(SYS_getcwd, SYS_PTR(here), sizeof here);
	if (r < 0)
		return (int)r;
	if (snprintf(s->dir, sizeof s->dir, "%s%s%s", here, *here ? "/" : "", dir) >=
	    (int)sizeof s->dir)
		return -ENAMETOOLONG;
	return 0;
}

static int set_up(struct file_store *s, const char *dir, uint64_t bytes)
{
	char limit[24], slab[24];
	int r = make_absolute(s, dir);

	s->slots = bytes / file_store_bytes(s);
	if (s->slots > UINT32_MAX - 1)
		s->slots = UINT32_MAX - 1;
	if (!s->slots)
		return err_fail(-EINVAL, "a spill file of %s holds no slab, which has %s here",
				format_size(bytes, limit, sizeof limit),
				format_size(file_store_bytes(s), slab, sizeof slab));
	s->used = mem_map((s->slots + 63) / 64 * 8);
	s->turn = mem_map(s->slots * sizeof *s->turn);
	if (!s->used || !s->turn)
		return err_fail(-ENOMEM, "no memory for a spill file's table");
	sys_call3(SYS_getrandom, SYS_PTR(s->boot), sizeof s->boot, 0);
	if (!r)
		r = s->fd = file_store_make(s);
	if (r == -ENOTDIR)
		return err_fail(r, "spill '%s': not a folder; name the folder in which the spill file "
				   "is to be made", dir);
	return r < 0 ? err_fail(r, "spill '%s': no file can be made there: %s", dir,
				strerrordesc_np(-r))
		     : try_allocating(s);
}

int file_store_open(const char *dir, uint64_t bytes, uint32_t slab_pages, struct file_store **ret)
{
	struct file_store *s = mem_map(sizeof *s);
	int r;

	if (!s)
		return err_fail(-ENOMEM, "no memory for a spill file");
	s->fd = -1;
	s->slab_pages = slab_pages;
	r = set_up(s, dir, bytes);
	if (r) {
		file_store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void file_store_close(struct file_store *s)
{
	if (!s)
		return;
	file_store_left(s);
	file_store_tidy(s);
	if (s->clone) {
		mem_unmap(s->clone->turn, s->slots * sizeof *s->clone->turn);
		mem_unmap(s->clone, sizeof *s->clone);
	}
	if (s->fd >= 0)
		sys_call1(SYS_close, s->fd);
	mem_unmap(s->used, (s->slots + 63) / 64 * 8);
	mem_unmap(s->turn, s->slots * sizeof *s->turn);
	mem_unmap(s, sizeof *s);
}

/* --- slots --- */

uint64_t file_store_slot(const struct file_store *s, uint64_t handle)
{
	uint64_t slot = (uint32_t)handle - 1ull;

	if (slot >= s->slots ||
	    __atomic_load_n(&s->turn[slot], __ATOMIC_ACQUIRE) != handle >> 32)
		return UINT64_MAX;
	return slot;
}

uint64_t file_store_take(struct file_store *s)
{
	for (uint64_t w = 0; w < (s->slots + 63) / 64; w++) {
		uint64_t slot = w * 64 + (uint64_t)__builtin_ctzll(~s->used[w]);
		uint32_t turn;

		if (s->used[w] == UINT64_MAX || slot >= s->slots)
			continue;
		/* Odd: granted. */
		turn = (s->turn[slot] + 1) | 1;
		s->used[w] |= 1ull << slot % 64;
		s->granted++;
		__atomic_store_n(&s->turn[slot], turn, __ATOMIC_RELEASE);
		return (uint64_t)turn << 32 | (slot + 1);
	}
	return 0;
}

void file_store_revoke(struct file_store *s, uint64_t slot)
{
	__atomic_store_n(&s->turn[slot], s->turn[slot] + 1, __ATOMIC_RELEASE);
}

void file_store_give(struct file_store *s, uint64_t slot)
{
	/* What was left under way may still land there. */
	if (__atomic_load_n(&s->stuck, __ATOMIC_RELAXED))
		return;
	s->used[slot / 64] &= ~(1ull << slot % 64);
	s->granted--;
}

/* --- room --- */

void file_store_refused(struct file_store *s, int error, uint64_t now_ns)
{
	s->full = error;
	s->full_ns = now_ns + BELIEVE_NS;
}

void file_store_room(struct file_store *s, uint64_t now_ns, uint64_t *total, uint64_t *free)
{
	uint64_t left = s->slots - s->granted, disk;
	struct statfs fs;

	*total = s->slots;
	if (s->fd < 0) {
		s->full = s->fd;
		*free = 0;
		return;
	}
	if (s->full && now_ns < s->full_ns) {
		*free = 0;
		return;
	}
	s->full = 0;
	if (!sys_call2(SYS_fstatfs, s->fd, SYS_PTR(&fs))) {
		disk = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize / file_store_bytes(s);
		if (disk < left) {
			left = disk;
			s->full = -ENOSPC;
			s->full_ns = 0;
		}
	}
	*free = left;
}

void file_store_buffer(struct file_store *s)
{
	long flags = sys_call3(SYS_fcntl, s->fd, F_GETFL, 0);

	if (flags >= 0)
		sys_call3(SYS_fcntl, s->fd, F_SETFL, flags & ~O_DIRECT);
	__atomic_store_n(&s->buffered, true, __ATOMIC_RELAXED);
}
