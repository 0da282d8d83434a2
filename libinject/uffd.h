/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd without libc and without the headers' age: Debian 12's lack UFFDIO_MOVE (Linux 6.8).
 * See ioctl_userfaultfd(2) and Documentation/admin-guide/mm/userfaultfd.rst. Every call returns 0
 * or a negative errno.
 */
#ifndef LIBINJECT_UFFD_H
#define LIBINJECT_UFFD_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uffd_caps {
	bool move;        /* UFFDIO_MOVE works */
	bool kernel_mode; /* faults taken inside system calls are reported, too */
};

/*
 * A descriptor: from dev_fd (an open /dev/userfaultfd, or -1), else the device, else the system
 * call. sigbus: the faulting thread gets SIGBUS instead of a message for a handler; without
 * privileges one is opened that sees no faults of the kernel. [text]
 */
int uffd_open(int dev_fd, bool sigbus, struct uffd_caps *caps);

int uffd_register(int fd, void *p, size_t bytes);
/* Wakes whoever waits there. */
int uffd_unregister(int fd, void *p, size_t bytes);

/*
 * These work on runs of pages and say in *done how many bytes were dealt with when they return an
 * error. They go on after EAGAIN, but not for ever: -EAGAIN when nothing moved many times in a row.
 */
int uffd_copy(int fd, void *to, const void *from, size_t bytes, size_t *done);
/* The same, and write-protected from the first moment. */
int uffd_copy_protected(int fd, void *to, const void *from, size_t bytes, size_t *done);
/*
 * From staging frames that have memory to pages that have none, or from pages to frames that have
 * none. Linux 6.17 and 6.18 move a page and don't count it when they had to try again (a page being
 * swapped, migrated or locked), and then find its new place taken: that is seen and counted here.
 */
int uffd_move_in(int fd, void *page, void *frame, size_t bytes, size_t *done);
int uffd_move_out(int fd, void *frame, void *page, size_t bytes, size_t *done);
int uffd_protect(int fd, void *p, size_t bytes, bool on);
/* One page of zeros. */
int uffd_zero(int fd, void *p);
int uffd_wake(int fd, void *p, size_t bytes);

#endif
