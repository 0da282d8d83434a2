/* SPDX-License-Identifier: MIT */
/* See rswap_swap.h. */
#include "cli/rswap_swap.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define STACK_BYTES (512u << 10)
#define ROOM_BYTES  (64ull << 20) /* that must be left when all is back */

/* --- programs --- */

static void last_line(FILE *f, char *line, size_t len)
{
	char buf[400];

	snprintf(line, len, "it said nothing");
	while (f && fgets(buf, sizeof buf, f)) {
		buf[strcspn(buf, "\n")] = 0;
		if (buf[0])
			snprintf(line, len, "%.280s", buf);
	}
}

static void become(const char *const *argv, int out)
{
	int in = open("/dev/null", O_RDONLY);

	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

int rswap_run(const char *const *argv)
{
	CLEANUP_FILE FILE *out = tmpfile();
	char line[300];
	int status;
	pid_t pid;

	if (!out)
		return err_fail(-errno, "no temporary file: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return err_fail(-errno, "can't start %s: %s", argv[0], strerror(errno));
	if (!pid)
		become(argv, fileno(out));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	rewind(out);
	last_line(out, line, sizeof line);
	return err_fail(-ECHILD, "%s failed: %s", argv[0], line);
}

static void write_text(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	/* Wanted, not needed. */
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return;
}

/* Locked memory counts every thread's whole stack; 8 MiB for each of dozens would be a lot. */
static void small_stacks(void)
{
	const struct rlimit l = {STACK_BYTES, STACK_BYTES};

	setrlimit(RLIMIT_STACK, &l);
}

int rswap_start(const char *const *argv, const char *log, pid_t *pid)
{
	CLEANUP_FD int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	pid_t p;

	if (out < 0)
		return err_fail(-errno, "can't write %s: %s", log, strerror(errno));
	p = fork();
	if (p < 0)
		return err_fail(-errno, "can't start %s: %s", argv[0], strerror(errno));
	if (!p) {
		setsid();
		if (chdir("/"))
			_exit(127);
		write_text("/proc/self/oom_score_adj", "-1000");
		small_stacks();
		prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* kept by exec, and by its children */
		become(argv, out);
	}
	*pid = p;
	return 0;
}

/* --- swap areas --- */

/* Also of a node that was made elsewhere: by its number. */
static bool same_device(const char *a, const char *b)
{
	struct stat sa, sb;

	if (!strcmp(a, b))
		return true;
	return !stat(a, &sa) && !stat(b, &sb) && S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode) &&
	       sa.st_rdev == sb.st_rdev;
}

bool rswap_swapping(const char *device, uint64_t *used)
{
	CLEANUP_FILE FILE *f = fopen("/proc/swaps", "re");
	unsigned long long kib;
	char line[512], name[300];

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%299s %*s %*s %llu", name, &kib) != 2 ||
		    !same_device(name, device))
			continue;
		*used = (uint64_t)kib << 10;
		return true;
	}
	return false;
}

int rswap_swapon(const char *device, const char *label, int priority, bool discard)
{
	const char *const argv[] = {"mkswap", "--label", label, device, NULL};
	int flags = priority < 0 ? 0
				 : SWAP_FLAG_PREFER |
					   ((priority << SWAP_FLAG_PRIO_SHIFT) & SWAP_FLAG_PRIO_MASK);
	int r = rswap_run(argv);

	if (r)
		return r;
	if (discard)
		flags |= SWAP_FLAG_DISCARD;
	if (swapon(device, flags))
		return err_fail(-errno, "can't swap to %s: %s", device, strerror(errno));
	return 0;
}

static uint64_t meminfo(const char *key)
{
	CLEANUP_FILE FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib;
	char line[200], name[64];

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%63[^:]: %llu", name, &kib) == 2 && !strcmp(name, key))
			return (uint64_t)kib << 10;
	return 0;
}

/* What the other areas can take. */
static uint64_t room_elsewhere(const char *device)
{
	CLEANUP_FILE FILE *f = fopen("/proc/swaps", "re");
	unsigned long long size, used;
	char line[512], name[300];
	uint64_t room = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%299s %*s %llu %llu", name, &size, &used) == 3 &&
		    !same_device(name, device))
			room += (uint64_t)(size - used) << 10;
	return room;
}

int rswap_swapoff(const char *device, bool force)
{
	uint64_t used, room;
	char a[32], b[32];

	if (!rswap_swapping(device, &used))
		return 0;
	room = meminfo("MemAvailable") + room_elsewhere(device);
	if (!force && used + ROOM_BYTES > room)
		return err_fail(-EBUSY,
				"%s holds %s, and memory and other swap have room for %s: end some "
				"programs first (--force tries all the same)",
				device, format_size(used, a, sizeof a),
				format_size(room, b, sizeof b));
	if (swapoff(device))
		return err_fail(-errno, "can't stop swapping to %s: %s", device, strerror(errno));
	return 0;
}
