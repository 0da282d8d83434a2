/* SPDX-License-Identifier: MIT */
/*
 * A workload on plain memory in a process whose memory is limited to what our heap has as its local
 * cache, and whose pages the kernel swaps. The limit has some room more, for what is no data of the
 * workload: page tables, a byte a page, samples. The result comes back through a pipe.
 */
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORK_NS   (180 * NSEC_PER_SEC) /* a peer that takes longer is given up */
#define ROOM_MORE (4u << 20)
/* At times the kernel kills a process that thrashes although there is room in the area: it finds
 * all pages of a small group in use and gives up. */
#define TRIES 4

struct outcome {
	int status;
	char text[300];
	struct bench_result result; /* its pointers are good: the writer is a fork of ours */
};

static uint64_t vmstat(const char *name)
{
	CLEANUP_FILE FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long v;
	char key[64];

	while (f && fscanf(f, "%63s %llu", key, &v) == 2)
		if (!strcmp(key, name))
			return v;
	return 0;
}

/* Faults are this process's; pages moved are the machine's, which swaps for us only. */
static int swap_stats(struct area *a, struct inject_stats *ret)
{
	struct rusage usage;

	(void)a;
	getrusage(RUSAGE_SELF, &usage);
	ret->faults = (uint64_t)usage.ru_majflt;
	ret->pages_in = vmstat("pswpin");
	ret->pages_out = vmstat("pswpout");
	return 0;
}

static int swap_area_plain_open(struct area *a, const struct area_options *o)
{
	return area_plain.open(a, o);
}

static void swap_area_plain_close(struct area *a)
{
	area_plain.close(a);
}

const struct area_kind area_swap = {
	.name = "swap",
	.open = swap_area_plain_open,
	.stats = swap_stats,
	.close = swap_area_plain_close,
};

static void work_main(int out, const struct swap *s, const struct bench_options *o,
		      const struct workload *w, const struct area_options *ao,
		      struct bench_result result)
{
	struct outcome outcome = {.status = limit_enter(s->group)};

	if (!outcome.status)
		outcome.status = runner_measure(o, w, &area_swap, ao, &result);
	if (outcome.status)
		snprintf(outcome.text, sizeof outcome.text, "%.299s", err_text());
	outcome.result = result;
	/* Less than a pipe takes at once. */
	_exit(write(out, &outcome, sizeof outcome) != (ssize_t)sizeof outcome);
}

static int await(int in, pid_t pid, struct outcome *ret)
{
	struct pollfd p = {.fd = in, .events = POLLIN};
	ssize_t n = 0;
	int status, r;

	do
		r = poll(&p, 1, (int)(WORK_NS / NSEC_PER_MSEC));
	while (r < 0 && errno == EINTR);
	if (r > 0)
		n = read(in, ret, sizeof *ret);
	else
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r <= 0)
		return err_fail(-ETIMEDOUT, "given up after %llu s",
				(unsigned long long)(WORK_NS / NSEC_PER_SEC));
	if (n != (ssize_t)sizeof *ret)
		return err_fail(-ECHILD,
				"killed by the kernel for want of memory, %d times (signal %d)",
				TRIES, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return ret->status ? err_fail(ret->status, "%s", ret->text) : 0;
}

static int measure(const struct swap *s, const struct bench_options *o, const struct workload *w,
		   const struct area_options *ao, struct bench_result *ret)
{
	struct outcome outcome;
	int pipe_fd[2], pid, r;

	_Static_assert(sizeof outcome <= 4096, "a pipe takes it at once");
	if (pipe2(pipe_fd, O_CLOEXEC))
		return err_fail(-errno, "no pipe: %s", strerror(errno));
	pid = child_fork();
	if (!pid)
		work_main(pipe_fd[1], s, o, w, ao, *ret);
	close(pipe_fd[1]);
	r = pid < 0 ? pid : await(pipe_fd[0], pid, &outcome);
	close(pipe_fd[0]);
	if (!r)
		*ret = outcome.result;
	return r;
}

int peer_swap_run(const struct bench_options *o, const struct workload *w, enum swap_kind kind,
		  const char *device, struct bench_result *ret)
{
	uint64_t bytes = w->shape(o->size_bytes), local = runner_local_bytes(o, bytes);
	const struct area_options ao = {
		.bytes = bytes,
		.local_bytes = local,
		.threads = (unsigned)o->threads,
	};
	struct swap s;
	char why[300];
	int r = swap_available(kind), undone;

	if (!r)
		r = swap_open(&s, kind, device, bytes + bytes / 4 + (32u << 20),
			      local + bytes / 256 + ROOM_MORE);
	if (r)
		return r;
	for (unsigned i = 0; i < TRIES && (r = measure(&s, o, w, &ao, ret)) == -ECHILD; i++)
		;
	snprintf(why, sizeof why, "%.299s", err_text());
	undone = swap_close(&s);
	return undone ? undone : r ? err_fail(r, "%s", why) : 0;
}
