/* SPDX-License-Identifier: MIT */
/* See rswap_nbd.h. */
#include "cli/rswap_nbd.h"
#include "cli/rswap_swap.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_NS   (60 * NSEC_PER_SEC) /* big devices take a while to be granted and locked */
#define GONE_NS    (10 * NSEC_PER_SEC)
#define LOOP_TRIES 16
#define ARGS_MAX   (RSWAP_CONF_DONORS + 24)

static const struct timespec nap = {.tv_nsec = 10 * (long)NSEC_PER_MSEC};

/* --- nbdkit's arguments --- */

struct args {
	const char *word[ARGS_MAX];
	unsigned count;
	char text[RSWAP_CONF_DONORS + 8][180];
	unsigned texts;
	char plugin[PATH_MAX];
};

static void add(struct args *a, const char *word)
{
	if (a->count < ARGS_MAX - 1)
		a->word[a->count++] = word;
}

static void add_pair(struct args *a, const char *key, const char *value)
{
	char *text = a->text[a->texts++];

	snprintf(text, sizeof a->text[0], "%s=%.160s", key, value);
	add(a, text);
}

static void add_number(struct args *a, const char *key, uint64_t value, const char *unit)
{
	char text[40];

	snprintf(text, sizeof text, "%llu%s", (unsigned long long)value, unit);
	add_pair(a, key, text);
}

/* Beside us in a build folder or an installation; else where nbdkit looks for it. */
static void find_plugin(struct args *a)
{
	static const char *const places[] = {"../lib", "../" INFUSE_LIBDIR "/nbdkit/plugins"};
	char exe[PATH_MAX - 100];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	char *slash;

	exe[n > 0 ? n : 0] = 0;
	slash = strrchr(exe, '/');
	for (unsigned i = 0; slash && i < sizeof places / sizeof *places; i++) {
		*slash = 0;
		snprintf(a->plugin, sizeof a->plugin, "%s/%s/nbdkit-rswap-plugin.so", exe, places[i]);
		if (!access(a->plugin, R_OK))
			return;
	}
	snprintf(a->plugin, sizeof a->plugin, "rswap");
}

static void add_plugin(struct args *a, const struct rswap_conf *c, uint64_t bytes)
{
	find_plugin(a);
	add(a, a->plugin);
	add_number(a, "size", bytes, "");
	add_pair(a, "volume", c->name);
	if (c->replicas > 1)
		add_number(a, "replicas", c->replicas, "");
	if (c->deadline_ns)
		add_number(a, "deadline", c->deadline_ns / NSEC_PER_USEC, "us");
	if (c->registry[0])
		add_pair(a, "registry", c->registry);
	if (c->key[0])
		add_pair(a, "key", c->key);
	for (unsigned i = 0; i < c->donors; i++)
		add_pair(a, "donor", c->donor[i]);
}

/* --- waiting --- */

static bool read_line(const char *folder, const char *name, char *text, size_t len)
{
	char path[300];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "re");
	if (!f || !fgets(text, (int)len, f))
		return false;
	text[strcspn(text, "\n")] = 0;
	return text[0];
}

/* The number may be another program's by now. */
static bool runs(pid_t pid, const char *program)
{
	char folder[40], comm[40];

	/* It is our child only when we started it; a zombie of ours has ended. */
	if (waitpid(pid, NULL, WNOHANG) == pid)
		return false;
	snprintf(folder, sizeof folder, "/proc/%d", pid);
	return read_line(folder, "comm", comm, sizeof comm) && !strcmp(comm, program);
}

static void say_why(const char *log, char *line, size_t len)
{
	CLEANUP_FILE FILE *f = fopen(log, "re");
	char buf[400];

	snprintf(line, len, "it said nothing");
	while (f && fgets(buf, sizeof buf, f)) {
		buf[strcspn(buf, "\n")] = 0;
		/* The first error is the cause; what nbdfuse says behind it is not. */
		if (strstr(buf, "nbdkit: error: ")) {
			snprintf(line, len, "%.280s", strstr(buf, "error: ") + 7);
			return;
		}
		if (buf[0])
			snprintf(line, len, "%.280s", buf);
	}
}

/* Until the file has something in it: a daemon writes its pid when it is ready. */
static int await(pid_t pid, const char *program, const char *ready, const char *log)
{
	uint64_t end = clock_ns() + READY_NS;
	char line[300];
	struct stat st;

	while (stat(ready, &st) || !st.st_size) {
		/* Between fork and exec it bears our own name. */
		if (!runs(pid, program) && !runs(pid, "infuse")) {
			say_why(log, line, sizeof line);
			return err_fail(-ECHILD, "%s", line);
		}
		if (clock_ns() > end) {
			say_why(log, line, sizeof line);
			return err_fail(-ETIMEDOUT, "not ready after %llu s: %s",
					(unsigned long long)(READY_NS / NSEC_PER_SEC), line);
		}
		nanosleep(&nap, NULL);
	}
	return 0;
}

static int write_line(const char *folder, const char *name, const char *text)
{
	char path[300];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "we");
	if (!f || fprintf(f, "%s\n", text) < 0 || fflush(f))
		return err_fail(-errno, "can't write %s: %s", path, strerror(errno));
	return 0;
}

/* --- nbdfuse and a loop device --- */

static int start_nbdfuse(const struct rswap_conf *c, uint64_t bytes, const char *folder)
{
	static struct args a; /* too big for the stack */
	char mount[280], disk[300], ready[280], log[280], pid_text[20];
	pid_t pid;
	int r;

	snprintf(mount, sizeof mount, "%s/mount", folder);
	snprintf(disk, sizeof disk, "%s/disk", mount);
	snprintf(ready, sizeof ready, "%s/nbdfuse.ready", folder);
	snprintf(log, sizeof log, "%s/log", folder);
	if (mkdir(mount, 0700))
		return err_fail(-errno, "can't make %s: %s", mount, strerror(errno));
	a = (struct args){0};
	add(&a, "nbdfuse");
	add(&a, "-P");
	add(&a, ready);
	add(&a, disk);
	add(&a, "[");
	add(&a, "nbdkit");
	add(&a, "--exit-with-parent");
	add(&a, "--swap");
	add_plugin(&a, c, bytes);
	add(&a, "]");
	r = rswap_start(a.word, log, &pid);
	if (r)
		return r;
	snprintf(pid_text, sizeof pid_text, "%d", pid);
	r = write_line(folder, "nbdfuse.pid", pid_text);
	return r ? r : await(pid, "nbdfuse", ready, log);
}

static void set_queue(const char *device, const char *name, const char *value)
{
	char path[200];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof path, "/sys/block/%s/queue/%s", strrchr(device, '/') + 1, name);
	f = fopen(path, "we");
	if (f)
		fputs(value, f);
}

/* Released by the kernel with its last user: AUTOCLEAR. */
static int attach_loop(const char *folder, char device[RSWAP_DEVICE_BYTES], int *ret)
{
	CLEANUP_FD int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int file = -1;
	struct loop_config l = {
		.block_size = 4096,
		.info = {.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR},
	};
	char disk[300];

	snprintf(disk, sizeof disk, "%s/mount/disk", folder);
	file = open(disk, O_RDWR | O_CLOEXEC);
	if (control < 0 || file < 0)
		return err_fail(-errno, "can't open %s: %s", control < 0 ? "/dev/loop-control" : disk,
				strerror(errno));
	l.fd = (__u32)file;
	for (unsigned i = 0; i < LOOP_TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), fd;

		if (n < 0)
			return err_fail(-errno, "no loop device is free: %s", strerror(errno));
		snprintf(device, RSWAP_DEVICE_BYTES, "/dev/loop%d", n);
		fd = open(device, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_fail(-errno, "can't open %s: %s", device, strerror(errno));
		if (!ioctl(fd, LOOP_CONFIGURE, &l)) {
			*ret = fd;
			return 0;
		}
		close(fd);
		if (errno != EBUSY) /* another one took it meanwhile */
			return err_fail(-errno, "can't attach %s to %s: %s", disk, device,
					strerror(errno));
	}
	return err_fail(-EBUSY, "no loop device is free");
}

int rswap_nbd_open(const struct rswap_conf *c, uint64_t bytes, const char *folder,
		   char device[RSWAP_DEVICE_BYTES], int *fd)
{
	int r;

	*fd = -1;
	r = start_nbdfuse(c, bytes, folder);
	if (!r)
		r = attach_loop(folder, device, fd);
	if (r)
		return r;
	set_queue(device, "scheduler", "none");
	set_queue(device, "read_ahead_kb", "0");
	return 0;
}

/* --- and back --- */

static int stop(const char *folder, const char *program)
{
	uint64_t end = clock_ns() + GONE_NS;
	char text[40], name[40];
	pid_t pid;

	snprintf(name, sizeof name, "%s.pid", program);
	if (!read_line(folder, name, text, sizeof text) || sscanf(text, "%d", &pid) != 1)
		return 0;
	if (runs(pid, program))
		kill(pid, SIGTERM);
	while (runs(pid, program)) {
		if (clock_ns() > end)
			return err_fail(-EBUSY, "%s (%d) does not end", program, pid);
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* A plain umount: nbdfuse ends by itself then, and nbdkit with it. */
static int unmount(const char *folder)
{
	uint64_t end = clock_ns() + GONE_NS;
	char mount[280];

	snprintf(mount, sizeof mount, "%s/mount", folder);
	while (umount(mount) && errno == EBUSY) {
		/* The loop device is let go of a moment after its last user. */
		if (clock_ns() > end)
			return err_fail(-EBUSY, "can't unmount %s: %s", mount, strerror(errno));
		nanosleep(&nap, NULL);
	}
	return 0;
}

static void remove_files(const char *folder)
{
	static const char *const names[] = {"nbdfuse.ready", "nbdfuse.pid", "log"};
	char path[300];

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof path, "%s/mount", folder);
	rmdir(path);
}

int rswap_nbd_close(const char *folder)
{
	int r;

	r = unmount(folder);
	if (!r)
		r = stop(folder, "nbdfuse");
	if (r)
		return r;
	remove_files(folder);
	return 0;
}
