/* SPDX-License-Identifier: MIT */
/*
 * A memory cgroup. It is made below our own where that is allowed (version 1) and beside it where
 * it is not (version 2 has no processes in inner groups), so that no limit we are under is left.
 * Nothing is written to a group that we did not make: where the controller is not handed down to
 * its place, the group can't be made.
 */
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GONE_NS (10 * NSEC_PER_SEC)

static bool has_word(const char *list, const char *word, const char *between)
{
	size_t n = strlen(word);

	for (const char *p = list; *p; p += strspn(p, between)) {
		size_t len = strcspn(p, between);

		if (len == n && !strncmp(p, word, n))
			return true;
		p += len;
	}
	return false;
}

/* Where a hierarchy is mounted and what of it: fields 4 and 5 of mountinfo. */
static bool find_mount(bool v2, char *root, char *mount)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], type[64], super[512];

	while (f && fgets(line, sizeof line, f)) {
		const char *dash = strstr(line, " - ");

		if (!dash || sscanf(line, "%*s %*s %*s %255s %255s", root, mount) != 2 ||
		    sscanf(dash, " - %63s %*s %511s", type, super) != 2)
			continue;
		if (v2 ? !strcmp(type, "cgroup2")
		       : !strcmp(type, "cgroup") && has_word(super, "memory", ","))
			return true;
	}
	return false;
}

/* Our own group's path in a hierarchy: "4:memory:/x" or "0::/x". */
static bool find_own(bool v2, char *own)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512], names[200];

	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3) && v2) {
			snprintf(own, 256, "%.255s", line + 3);
			return true;
		}
		if (!v2 && sscanf(line, "%*u:%199[^:]:%255s", names, own) == 2 &&
		    has_word(names, "memory", ","))
			return true;
	}
	return false;
}

/* The folder in which a group of ours can be made. */
static int find_place(char place[LIMIT_PATH], bool *v2)
{
	char root[256], mount[256], own[256], file[LIMIT_PATH + 40], words[512];
	const char *below = own;
	CLEANUP_FD int fd = -1;
	ssize_t n;

	*v2 = !find_mount(false, root, mount) || !find_own(false, own);
	if (*v2 && (!find_mount(true, root, mount) || !find_own(true, own)))
		return err_fail(-ENOENT, "no memory cgroups are mounted");
	if (strcmp(root, "/") && !strncmp(own, root, strlen(root)))
		below = own + strlen(root);
	if (*v2 && strrchr(own, '/'))
		*strrchr(own, '/') = 0;
	/* In a container our own path may name nothing below the mount. */
	snprintf(place, LIMIT_PATH, "%s%s", mount, strcmp(below, "/") ? below : "");
	if (access(place, F_OK))
		snprintf(place, LIMIT_PATH, "%s", mount);
	if (!*v2)
		return 0;
	snprintf(file, sizeof file, "%s/cgroup.subtree_control", place);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, words, sizeof words - 1);
	words[n < 0 ? 0 : n] = 0;
	return has_word(words, "memory", " \n")
		       ? 0
		       : err_fail(-ENOENT, "%s hands the memory controller to no group", place);
}

static int put(const char *folder, const char *name, const char *text)
{
	char file[LIMIT_PATH + 40];
	CLEANUP_FD int fd = -1;

	snprintf(file, sizeof file, "%s/%s", folder, name);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_fail(-errno, "can't write %s to %s: %s", text, file, strerror(errno));
	return 0;
}

int limit_available(void)
{
	char place[LIMIT_PATH];
	bool v2;

	if (geteuid())
		return err_fail(-ENOENT, "a memory limit and a swap area want root");
	return find_place(place, &v2);
}

int limit_create(struct limit *l, const char *name, uint64_t bytes)
{
	char place[LIMIT_PATH], number[32];
	int r = find_place(place, &l->v2);

	if (r)
		return r;
	snprintf(l->path, sizeof l->path, "%.*s/%s", LIMIT_PATH - 60, place, name);
	if (mkdir(l->path, 0755)) {
		r = err_fail(-errno, "can't make the group %s: %s", l->path, strerror(errno));
		l->path[0] = 0;
		return r;
	}
	snprintf(number, sizeof number, "%llu", (unsigned long long)bytes);
	return put(l->path, l->v2 ? "memory.max" : "memory.limit_in_bytes", number);
}

int limit_enter(const char *path)
{
	return put(path, "cgroup.procs", "0");
}

/* SIGKILL to all that is in it; how many there were. */
static unsigned kill_all(const struct limit *l)
{
	char file[LIMIT_PATH + 40];
	CLEANUP_FILE FILE *f = NULL;
	unsigned n = 0;
	int pid;

	snprintf(file, sizeof file, "%s/cgroup.procs", l->path);
	f = fopen(file, "re");
	while (f && fscanf(f, "%d", &pid) == 1) {
		if (pid > 0)
			kill(pid, SIGKILL);
		n++;
	}
	return n;
}

int limit_remove(struct limit *l)
{
	const struct timespec nap = {.tv_nsec = 5 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + GONE_NS;

	if (!l->path[0])
		return 0;
	while (kill_all(l) || rmdir(l->path)) {
		if (clock_ns() > end)
			return err_fail(-EBUSY, "the group %s can't be removed: %s", l->path,
					strerror(errno));
		nanosleep(&nap, NULL);
	}
	l->path[0] = 0;
	return 0;
}
