/* SPDX-License-Identifier: MIT */
#include "libinject/uffd.h"
#include "common/error.h"
#include "common/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/mman.h>

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_EXACT_ADDRESS
#define UFFD_FEATURE_EXACT_ADDRESS (1 << 11)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define FEATURE_MOVE (1ull << 16)
#define PAGE_BYTES   4096u
#define TRIES        1000u /* of a page that somebody else in the kernel holds */

static long uffd_ioctl(int fd, unsigned long what, void *arg)
{
	return sys_call3(SYS_ioctl, fd, (long)what, SYS_PTR(arg));
}

static int uffd_create(int dev_fd, bool sigbus, bool *kernel_mode)
{
	int own = -1;
	long fd = -1;

	*kernel_mode = true;
	if (dev_fd < 0)
		dev_fd = own = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR("/dev/userfaultfd"),
					      O_RDWR | O_CLOEXEC, 0);
	if (dev_fd >= 0)
		fd = sys_call3(SYS_ioctl, dev_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	if (own >= 0)
		sys_call1(SYS_close, own);
	if (fd < 0)
		fd = sys_call1(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0 && sigbus) {
		*kernel_mode = false;
		fd = sys_call1(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	}
	if (fd == -EPERM)
		return err_fail(-EPERM,
				"no permission for userfaultfd: let this user open "
				"/dev/userfaultfd, or set sysctl vm.unprivileged_userfaultfd=1, or "
				"run with CAP_SYS_PTRACE");
	if (fd == -ENOSYS)
		return err_fail(-ENOSYS, "this kernel has no userfaultfd (CONFIG_USERFAULTFD)");
	if (fd < 0)
		return err_fail((int)fd, "userfaultfd: error %d", (int)-fd);
	return (int)fd;
}

static int uffd_api(int fd, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	return (int)uffd_ioctl(fd, UFFDIO_API, &api);
}

int uffd_open(int dev_fd, bool sigbus, struct uffd_caps *caps)
{
	uint64_t need = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID | (sigbus ? UFFD_FEATURE_SIGBUS : 0);
	const uint64_t tries[] = {FEATURE_MOVE | UFFD_FEATURE_EXACT_ADDRESS, FEATURE_MOVE,
				  UFFD_FEATURE_EXACT_ADDRESS, 0};

	/* A descriptor takes one UFFDIO_API only: a new one for each try. */
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		int fd = uffd_create(dev_fd, sigbus, &caps->kernel_mode);

		if (fd < 0)
			return fd;
		if (!uffd_api(fd, need | tries[i])) {
			caps->move = tries[i] & FEATURE_MOVE;
			return fd;
		}
		sys_call1(SYS_close, fd);
	}
	return err_fail(-ENOSYS, "this kernel's userfaultfd can't write-protect pages%s: Linux "
				 "5.7 or newer is needed",
			sigbus ? " or raise SIGBUS" : "");
}

int uffd_register(int fd, void *p, size_t bytes)
{
	struct uffdio_register reg = {
		.range = {(uintptr_t)p, bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	return (int)uffd_ioctl(fd, UFFDIO_REGISTER, &reg);
}

int uffd_unregister(int fd, void *p, size_t bytes)
{
	struct uffdio_range range = {(uintptr_t)p, bytes};

	return (int)uffd_ioctl(fd, UFFDIO_UNREGISTER, &range);
}

static int copy(int fd, void *to, const void *from, size_t bytes, uint64_t mode, size_t *done)
{
	unsigned tries = 0;

	for (*done = 0; *done < bytes;) {
		struct uffdio_copy c = {
			.dst = (uintptr_t)to + *done,
			.src = (uintptr_t)from + *done,
			.len = bytes - *done,
			.mode = mode,
		};
		int r = (int)uffd_ioctl(fd, UFFDIO_COPY, &c);

		if (c.copy > 0) {
			*done += (size_t)c.copy;
			tries = 0;
		}
		if (r && (r != -EAGAIN || ++tries == TRIES))
			return r;
	}
	return 0;
}

int uffd_copy(int fd, void *to, const void *from, size_t bytes, size_t *done)
{
	return copy(fd, to, from, bytes, 0, done);
}

int uffd_copy_protected(int fd, void *to, const void *from, size_t bytes, size_t *done)
{
	return copy(fd, to, from, bytes, UFFDIO_COPY_MODE_WP, done);
}

/*
 * -EEXIST: is what lies at `to` the page that we asked to be moved there? Out of the program's
 * memory it is: nothing else comes to an empty frame. Into it, when the frame has become empty;
 * that is tried by mapping zeros there, for a frame is nobody else's.
 */
static bool moved_uncounted(int fd, void *frame, bool in)
{
	if (!in)
		return true;
	if (uffd_zero(fd, frame))
		return false;
	sys_call3(SYS_madvise, SYS_PTR(frame), PAGE_BYTES, MADV_DONTNEED);
	return true;
}

static int move(int fd, unsigned char *to, unsigned char *from, size_t bytes, bool in, size_t *done)
{
	unsigned tries = 0;

	for (*done = 0; *done < bytes;) {
		struct uffdio_move m = {
			.dst = (uintptr_t)to + *done,
			.src = (uintptr_t)from + *done,
			.len = bytes - *done,
		};
		int r = (int)uffd_ioctl(fd, UFFDIO_MOVE, &m);

		if (m.move > 0) {
			*done += (size_t)m.move;
			tries = 0;
		}
		if (r == -EEXIST && moved_uncounted(fd, in ? from + *done : to + *done, in)) {
			*done += PAGE_BYTES;
			continue;
		}
		if (r && (r != -EAGAIN || ++tries == TRIES))
			return r;
	}
	return 0;
}

int uffd_move_in(int fd, void *page, void *frame, size_t bytes, size_t *done)
{
	return move(fd, page, frame, bytes, true, done);
}

int uffd_move_out(int fd, void *frame, void *page, size_t bytes, size_t *done)
{
	return move(fd, frame, page, bytes, false, done);
}

int uffd_protect(int fd, void *p, size_t bytes, bool on)
{
	struct uffdio_writeprotect w = {
		.range = {(uintptr_t)p, bytes},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	unsigned tries = 0;
	int r;

	do
		r = (int)uffd_ioctl(fd, UFFDIO_WRITEPROTECT, &w);
	while (r == -EAGAIN && ++tries < TRIES);
	return r;
}

int uffd_zero(int fd, void *p)
{
	struct uffdio_zeropage z = {.range = {(uintptr_t)p, PAGE_BYTES}};
	unsigned tries = 0;
	int r;

	do
		r = (int)uffd_ioctl(fd, UFFDIO_ZEROPAGE, &z);
	while (r == -EAGAIN && ++tries < TRIES);
	return r;
}

int uffd_wake(int fd, void *p, size_t bytes)
{
	struct uffdio_range range = {(uintptr_t)p, bytes};

	return (int)uffd_ioctl(fd, UFFDIO_WAKE, &range);
}
