/* SPDX-License-Identifier: MIT */
/*
 * infuse-bench-swap: runs one program whose memory is limited and swapped to an area of its own,
 * and writes down how long it took. What scripts/bench puts beside `infuse run`. Both are made
 * before the clock starts and undone after it stopped, however this ends.
 */
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct swap_options {
	const char *swap;
	uint64_t limit_bytes, area_bytes;
	const char *report;
};

#define DEFINE(n, l, t, f)                                                                         \
	.name = n, .letter = l, .type = t, .offset = offsetof(struct swap_options, f)

static const struct opt table[] = {
	{DEFINE("swap", 's', OPT_CHOICE, swap), .arg = "KIND", .choices = "none|disk|zram|nbd|rswap-tcp|rswap-shm",
	 .help = "where to; none: no limit either (disk)"},
	{DEFINE("limit", 'l', OPT_SIZE, limit_bytes), .arg = "SIZE", .min = 1 << 20,
	 .help = "memory the program may have (64M)"},
	{DEFINE("area", 'a', OPT_SIZE, area_bytes), .arg = "SIZE", .min = 1 << 20,
	 .help = "size of the swap area (1G)"},
	{DEFINE("report", 'r', OPT_STRING, report), .arg = "FILE",
	 .help = "where time and peak are written, as JSON"},
};

static const struct opt_command command = {
	.name = "infuse-bench-swap",
	.usage = "[OPTIONS] -- PROGRAM [ARGS]...",
	.summary = "Runs a program under a memory limit, swapping to an area of its own.",
	.table = table,
	.count = sizeof table / sizeof *table,
	.stop_at_word = true,
};

static int write_report(const char *file, double seconds, const struct rusage *u, int status)
{
	CLEANUP_FILE FILE *f = fopen(file, "we");

	if (!f)
		return err_fail(-errno, "can't write %s: %s", file, strerror(errno));
	fprintf(f, "{\"seconds\":%.3f,\"peak_kib\":%ld,\"major_faults\":%ld,\"status\":%d}\n",
		seconds, u->ru_maxrss, u->ru_majflt, status);
	return 0;
}

/* The program's exit status, 128 and the signal's number if one ended it, or a negative errno. */
static int run(const struct swap_options *o, const char *group, char **argv)
{
	uint64_t start = clock_ns();
	struct rusage usage;
	int status, pid = child_fork(), r;

	if (!pid) {
		if (group && limit_enter(group)) {
			fprintf(stderr, "infuse-bench-swap: %s\n", err_text());
			_exit(126);
		}
		execvp(argv[0], argv);
		fprintf(stderr, "infuse-bench-swap: can't run %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0)
		return pid;
	while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	if (!o->report)
		return status;
	r = write_report(o->report, (double)(clock_ns() - start) / 1e9, &usage, status);
	return r ? r : status;
}

static int limited(const struct swap_options *o, char **argv)
{
	enum swap_kind kind = SWAP_DISK;
	struct swap s;
	int r, undone;

	if (!strcmp(o->swap, "none"))
		return run(o, NULL, argv);
	while (strcmp(swap_name(kind) + strlen("swap-"), o->swap))
		kind++;
	r = swap_available(kind);
	if (!r)
		r = swap_open(&s, kind, NULL, o->area_bytes, o->limit_bytes);
	if (r)
		return r;
	r = run(o, s.group, argv);
	undone = swap_close(&s);
	return undone ? undone : r;
}

int main(int argc, char **argv)
{
	struct swap_options o = {.swap = "disk", .limit_bytes = 64 << 20, .area_bytes = 1 << 30};
	int first, r = opt_parse(&command, argc, argv, &o, &first);

	if (r > 0)
		return 0;
	if (!r)
		r = cpu_init();
	if (!r && first == argc)
		r = err_fail(-EINVAL, "no program given");
	child_init();
	if (!r)
		r = limited(&o, argv + first);
	child_exit();
	if (r < 0) {
		fprintf(stderr, "infuse-bench-swap: %s\n", err_text());
		/* What can't run here is left out; all else is an error. */
		return r == -ENOENT ? 77 : 125;
	}
	return r;
}
