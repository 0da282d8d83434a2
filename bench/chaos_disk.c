/* SPDX-License-Identifier: MIT */
/*
 * The disk that the registry and the servers' logs are on: where it is permitted, a small tmpfs in a
 * mount namespace of our own, so that it goes with this process however that ends; else a folder,
 * which can't be filled.
 */
#include "bench/chaos.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_SIZE "size=2m"

int chaos_disk_open(struct chaos_disk *d)
{
	const char *dir;
	int r = child_folder(&dir);

	if (r)
		return r;
	snprintf(d->path, sizeof d->path, "%s/disk", dir);
	if (mkdir(d->path, 0700))
		return err_fail(-errno, "can't make %s: %s", d->path, strerror(errno));
	d->small = !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		   !mount("none", d->path, "tmpfs", MS_NOSUID | MS_NODEV, DISK_SIZE ",mode=0700");
	return 0;
}

static void filler(const struct chaos_disk *d, char *path, size_t len)
{
	snprintf(path, len, "%s/filler", d->path);
}

int chaos_disk_fill(const struct chaos_disk *d)
{
	static const char zeros[4096];
	char path[300];
	CLEANUP_FD int fd = -1;

	filler(d, path, sizeof path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_fail(-errno, "can't make %s: %s", path, strerror(errno));
	for (;;) {
		ssize_t n = write(fd, zeros, sizeof zeros);

		if (n < 0)
			return errno == ENOSPC ? 0
					       : err_fail(-errno, "can't fill %s: %s", path,
							  strerror(errno));
	}
}

void chaos_disk_free(const struct chaos_disk *d)
{
	char path[300];

	filler(d, path, sizeof path);
	unlink(path);
}

void chaos_disk_close(struct chaos_disk *d)
{
	struct dirent *e;
	DIR *dir;

	if (!*d->path)
		return;
	if (d->small)
		umount2(d->path, MNT_DETACH);
	dir = opendir(d->path);
	while (dir && (e = readdir(dir)))
		unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(d->path);
	*d = (struct chaos_disk){0};
}
