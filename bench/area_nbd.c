/* SPDX-License-Identifier: MIT */
/*
 * What users have without Infuse: a file of nbdfuse in front of nbdkit's memory plugin, mapped. The
 * page cache is its local memory; it is dropped after the fill, so that each page's first touch
 * goes to the other process, as a miss of ours does. No limit is enforced on it: it never has to
 * evict.
 */
#include "bench/bench.h"
#include "bench/peers/peers.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct nbd {
	int pid;
	int fd;
	bool scattered;
	char mount[240];
};

int area_nbd_available(void)
{
	const char *const needed[] = {"nbdkit", "nbdfuse", "fusermount3"};

	for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!peer_has_program(needed[i]))
			return err_fail(-ENOENT, "%s is not installed", needed[i]);
	if (access("/dev/fuse", R_OK | W_OK))
		return err_fail(-ENOENT, "/dev/fuse can't be opened");
	return 0;
}

static int nbd_open(struct area *a, const struct area_options *o)
{
	struct nbd *n = calloc(1, sizeof *n);
	char file[300], ready[300], size[32];
	const char *dir;
	void *p;
	int r;

	if (!n)
		return err_fail(-ENOMEM, "no memory");
	n->fd = -1;
	n->scattered = o->scattered;
	a->priv = n;
	r = child_folder(&dir);
	if (r)
		return r;
	snprintf(n->mount, sizeof n->mount, "%s/nbd", dir);
	snprintf(file, sizeof file, "%s/disk", n->mount);
	snprintf(ready, sizeof ready, "%s/nbdfuse.ready", dir);
	snprintf(size, sizeof size, "%llu", (unsigned long long)o->bytes);
	unlink(ready);
	if (mkdir(n->mount, 0700))
		return err_fail(-errno, "can't make %s: %s", n->mount, strerror(errno));

	const char *const argv[] = {
		"nbdfuse", "-P", ready, file, "[", "nbdkit", "--exit-with-parent",
		"memory",  size, "]",   NULL};
	r = child_start("nbdfuse", argv, 1, &n->pid);
	if (!r)
		r = child_wait("nbdfuse", n->pid, ready, 20 * NSEC_PER_SEC);
	if (r) {
		if (r == -ECHILD)
			n->pid = 0;
		return r;
	}
	n->fd = open(file, O_RDWR | O_CLOEXEC);
	if (n->fd < 0)
		return err_fail(-errno, "can't open %s: %s", file, strerror(errno));
	p = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, n->fd, 0);
	if (p == MAP_FAILED)
		return err_fail(-errno, "can't map %s: %s", file, strerror(errno));
	a->mem = p;
	return 0;
}

static int nbd_settle(struct area *a)
{
	struct nbd *n = a->priv;
	void *p;

	if (munmap(a->mem, a->bytes))
		return err_fail(-errno, "can't unmap nbdfuse's file");
	a->mem = NULL;
	if (fsync(n->fd))
		return err_fail(-errno, "nbdfuse can't store the pages: %s", strerror(errno));
	posix_fadvise(n->fd, 0, 0, POSIX_FADV_DONTNEED);
	p = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, n->fd, 0);
	if (p == MAP_FAILED)
		return err_fail(-errno, "can't map nbdfuse's file again: %s", strerror(errno));
	if (n->scattered)
		madvise(p, a->bytes, MADV_RANDOM);
	a->mem = p;
	return 0;
}

static void unmount(const char *mount)
{
	const char *const argv[] = {"fusermount3", "-u", "-z", mount, NULL};
	int pid;

	if (!child_start("fusermount3", argv, 0, &pid))
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}

static void nbd_close(struct area *a)
{
	struct nbd *n = a->priv;

	if (!n)
		return;
	if (a->mem)
		munmap(a->mem, a->bytes);
	if (n->fd >= 0)
		close(n->fd);
	if (n->pid > 0)
		unmount(n->mount);
	child_stop(n->pid);
	rmdir(n->mount);
	free(n);
}

const struct area_kind area_nbd = {
	.name = "nbdfuse",
	.open = nbd_open,
	.settle = nbd_settle,
	.close = nbd_close,
};
