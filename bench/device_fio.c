/* SPDX-License-Identifier: MIT */
/*
 * Runs one fio job file on a block device and reads what it measured. The files (bench/fio) take
 * the device, the part of it and the time from the environment, so that they can be used by hand.
 */
#include "bench/device.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Beyond the job's own time: to start, to lay out, to read back. */
#define ROOM_NS (120 * NSEC_PER_SEC)

static double number(struct json_object *o, const char *const *path)
{
	for (; o && *path; path++)
		if (!json_object_object_get_ex(o, *path, &o))
			return 0;
	return o ? json_object_get_double(o) : 0;
}

static void fio_main(const char *out, const char *job)
{
	char output[400];
	int null = open("/dev/null", O_RDWR);

	snprintf(output, sizeof output, "--output=%s", out);
	dup2(null, 0);
	dup2(null, 1);
	/* Our pinning is none of its business. */
	cpu_unpin();
	execlp("fio", "fio", "--output-format=json", output, job, (char *)NULL);
	dprintf(2, "can't run fio: %s\n", strerror(errno));
	_exit(127);
}

static int await(pid_t pid, uint64_t ns, const char *job)
{
	const struct timespec nap = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + ns;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (clock_ns() > end) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			return err_fail(-ETIMEDOUT, "fio %s did not end in %llu s", job,
					(unsigned long long)(ns / NSEC_PER_SEC));
		}
		nanosleep(&nap, NULL);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_fail(-EIO, "fio %s ended with status 0x%x", job, (unsigned)status);
	return 0;
}

static int read_figures(const char *file, const char *job, struct device_figures *ret)
{
	struct json_object *top = json_object_from_file(file), *jobs, *one, *side;
	const char *which;
	int r = 0;

	if (!top || !json_object_object_get_ex(top, "jobs", &jobs) ||
	    json_object_array_length(jobs) < 1) {
		json_object_put(top);
		return err_fail(-EPROTO, "fio %s left no figures in %s", job, file);
	}
	one = json_object_array_get_idx(jobs, 0);
	which = number(one, (const char *const[]){"read", "total_ios", NULL}) > 0 ? "read" : "write";
	side = NULL;
	json_object_object_get_ex(one, which, &side);
	*ret = (struct device_figures){
		.iops = number(side, (const char *const[]){"iops", NULL}),
		.mb_per_s = number(side, (const char *const[]){"bw_bytes", NULL}) / 1e6,
		.mean_us = number(side, (const char *const[]){"lat_ns", "mean", NULL}) / 1e3,
		.p50_us = number(side,
				 (const char *const[]){"lat_ns", "percentile", "50.000000", NULL}) /
			  1e3,
		.p99_us = number(side,
				 (const char *const[]){"lat_ns", "percentile", "99.000000", NULL}) /
			  1e3,
	};
	if (number(one, (const char *const[]){"error", NULL}) != 0)
		r = err_fail(-EIO, "fio %s: error %.0f", job,
			     number(one, (const char *const[]){"error", NULL}));
	else if (!(ret->iops > 0))
		r = err_fail(-EIO, "fio %s did no I/O", job);
	json_object_put(top);
	return r;
}

int device_fio(const struct device_job *j, struct device_figures *ret)
{
	char job[400], out[300], bytes[32], seconds[32];
	const char *folder;
	pid_t pid;
	int r = child_folder(&folder);

	if (r)
		return r;
	snprintf(job, sizeof job, "%s/%s.fio", j->folder, j->name);
	if (access(job, R_OK))
		return err_fail(-ENOENT, "no job file %s: say where they are with --jobs", job);
	snprintf(out, sizeof out, "%s/fio.json", folder);
	snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)j->bytes);
	snprintf(seconds, sizeof seconds, "%u", j->seconds);
	setenv("DEVICE", j->path, 1);
	setenv("SIZE", bytes, 1);
	setenv("SECONDS", seconds, 1);
	pid = child_fork();
	if (!pid)
		fio_main(out, job);
	r = pid < 0 ? pid : await(pid, j->seconds * NSEC_PER_SEC + ROOM_NS, j->name);
	return r ? r : read_figures(out, j->name, ret);
}
