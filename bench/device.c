/* SPDX-License-Identifier: MIT */
/*
 * Block devices side by side in one run: fio's jobs, then as a swap area for a workload of twice its
 * memory limit, whose contents are checked. Jobs go round the devices, not devices round the jobs, so
 * that a machine that gets slower meanwhile is not one device's bad luck. Ratios that are promised of
 * our devices end the run. Whatever is on the devices is overwritten.
 */
#include "bench/device.h"
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define DEVICES_MAX 16

struct device {
	char name[40];
	const char *path;
	uint64_t bytes;
};

static const char *const jobs[] = {"random-read-1",   "random-read-16",  "random-write-1",
				   "random-write-16", "sequential-read", "sequential-write"};
#define JOBS (sizeof jobs / sizeof *jobs)

static const struct {
	const char *name;
	const struct workload *workload;
} swaps[] = {
	{"swap-seq", &workload_seq},
	{"swap-random", &workload_random},
	{"swap-transpose", &workload_transpose},
};
#define SWAPS (sizeof swaps / sizeof *swaps)

static const struct device_goal goals[] = {
	{"random-read-1", "rswap-rdma", "nvme-rdma", false, 1.5},
	{"random-read-16", "rswap-rdma", "nvme-rdma", false, 1.5},
	{"random-read-1", "rswap-tcp", "nvme-tcp", false, 1},
	{"random-read-16", "rswap-tcp", "nvme-tcp", false, 1},
	{"random-read-1", "rswap-tcp", "nbd-tcp", false, 3},
	{"random-read-16", "rswap-tcp", "nbd-tcp", false, 3},
	{"swap-random", "rswap-rdma", "nvme-rdma", true, 2},
};
#define GOALS (sizeof goals / sizeof *goals)

/* --- results --- */

static void add(struct json_object *o, const char *key, double v)
{
	char digits[32];

	snprintf(digits, sizeof digits, "%.6g", v);
	json_object_object_add(o, key, v > 0 ? json_object_new_double_s(v, digits) : NULL);
}

static void print_line(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

void device_print(const struct bench_options *o, const char *device, const char *job,
		  const struct device_figures *f, const char *skipped)
{
	struct json_object *j;

	if (!o->json && skipped) {
		printf("%-16s %-12s skipped: %s\n", job, device, skipped);
	} else if (!o->json) {
		printf("%-16s %-12s %10.0f /s %9.1f MB/s %9.1f us %9.1f us p50 %9.1f us p99\n", job,
		       device, f->iops, f->mb_per_s, f->mean_us, f->p50_us, f->p99_us);
	} else {
		j = json_object_new_object();
		json_object_object_add(j, "job", json_object_new_string(job));
		json_object_object_add(j, "device", json_object_new_string(device));
		add(j, "iops", f->iops);
		add(j, "mb_per_s", f->mb_per_s);
		add(j, "mean_us", f->mean_us);
		add(j, "p50_us", f->p50_us);
		add(j, "p99_us", f->p99_us);
		json_object_object_add(j, "skipped",
				       skipped ? json_object_new_string(skipped) : NULL);
		print_line(j);
	}
	fflush(stdout);
}

static void print_goal(const struct bench_options *o, const struct device_goal *g, double ratio)
{
	struct json_object *j;

	if (!o->json) {
		printf("%-16s %s is %.2f times %s, the aim is %.3g: %s\n", g->job, g->ours, ratio,
		       g->theirs, g->aim, ratio >= g->aim ? "met" : "missed");
		return;
	}
	j = json_object_new_object();
	json_object_object_add(j, "goal", json_object_new_string(g->job));
	json_object_object_add(j, "ours", json_object_new_string(g->ours));
	json_object_object_add(j, "theirs", json_object_new_string(g->theirs));
	add(j, "ratio", ratio);
	add(j, "aim", g->aim);
	json_object_object_add(j, "met", json_object_new_boolean(ratio >= g->aim));
	print_line(j);
}

static const struct device_figures *
find(const struct device *d, unsigned n,
     const struct device_figures (*f)[JOBS + SWAPS], const char *device, const char *job)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(d[i].name, device))
			continue;
		for (unsigned k = 0; k < JOBS + SWAPS; k++)
			if (!strcmp(k < JOBS ? jobs[k] : swaps[k - JOBS].name, job))
				return &f[i][k];
	}
	return NULL;
}

static void compare(const struct bench_options *o, const struct device *d, unsigned n,
		    const struct device_figures (*f)[JOBS + SWAPS])
{
	for (unsigned i = 0; i < GOALS; i++) {
		const struct device_goal *g = &goals[i];
		const struct device_figures *a = find(d, n, f, g->ours, g->job);
		const struct device_figures *b = find(d, n, f, g->theirs, g->job);
		double ours = a ? g->time ? b ? b->mean_us : 0 : a->iops : 0;
		double theirs = b ? g->time ? a ? a->mean_us : 0 : b->iops : 0;

		if (ours > 0 && theirs > 0)
			print_goal(o, g, ours / theirs);
	}
}

/* --- devices --- */

/* Not in use: the kernel gives nobody else's device away exclusively. */
static int examine(struct device *d, const char *given, const struct bench_options *o)
{
	const char *equals = strchr(given, '=');
	CLEANUP_FD int fd = -1;

	if (!equals || equals == given || (size_t)(equals - given) >= sizeof d->name)
		return err_fail(-EINVAL, "'%s' is not NAME=DEVICE", given);
	snprintf(d->name, sizeof d->name, "%.*s", (int)(equals - given), given);
	d->path = equals + 1;
	fd = open(d->path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return err_fail(-errno, "can't have %s: %s", d->path, strerror(errno));
	if (ioctl(fd, BLKGETSIZE64, &d->bytes))
		return err_fail(-ENOTBLK, "%s is no block device", d->path);
	/* Swap wants some more than the workload. */
	if (d->bytes < o->size_bytes + o->size_bytes / 4)
		return err_fail(-ENOSPC, "%s has %llu MiB, less than the workload's %llu and a quarter",
				d->path, (unsigned long long)(d->bytes >> 20),
				(unsigned long long)(o->size_bytes >> 20));
	return 0;
}

static int one_fio(const struct bench_options *o, const struct device *d, const char *job,
		   struct device_figures *ret)
{
	const struct device_job j = {
		.folder = o->jobs,
		.name = job,
		.path = d->path,
		.bytes = o->size_bytes,
		.seconds = (unsigned)o->seconds,
	};

	return device_fio(&j, ret);
}

static int one_swap(const struct bench_options *o, const struct device *d,
		    const struct workload *w, struct device_figures *ret)
{
	struct bench_result result = {
		.workload = w->name,
		.transport = d->name,
		.size_bytes = w->shape(o->size_bytes),
		.local_bytes = runner_local_bytes(o, w->shape(o->size_bytes)),
		.threads = (unsigned)o->threads,
	};
	int r = peer_swap_run(o, w, SWAP_DEVICE, d->path, &result);

	if (r)
		return r;
	*ret = (struct device_figures){
		.iops = result.us_per_page > 0 ? 1e6 / result.us_per_page : 0,
		.mb_per_s = result.us_per_page > 0 ? BENCH_PAGE / result.us_per_page : 0,
		.mean_us = result.us_per_page,
		.p50_us = result.p50_us,
		.p99_us = result.p99_us,
		.digest = result.digest,
	};
	return 0;
}

/* A device that fails is told and left out of the rest; wrong contents are an error. */
static int one(const struct bench_options *o, const struct device *d, unsigned k,
	       struct device_figures *ret)
{
	int r = k < JOBS ? one_fio(o, d, jobs[k], ret)
			 : one_swap(o, d, swaps[k - JOBS].workload, ret);

	if (r == -EILSEQ)
		return r;
	if (r)
		*ret = (struct device_figures){0};
	device_print(o, d->name, k < JOBS ? jobs[k] : swaps[k - JOBS].name, ret,
		     r ? err_text() : NULL);
	return 0;
}

static int same_contents(const struct device *d, unsigned n,
			 const struct device_figures (*f)[JOBS + SWAPS], unsigned k)
{
	uint64_t first = 0;

	for (unsigned i = 0; i < n; i++) {
		if (first && f[i][k].digest && f[i][k].digest != first)
			return err_fail(-EILSEQ, "%s on %s has another result than on the others",
					swaps[k - JOBS].name, d[i].name);
		if (!first)
			first = f[i][k].digest;
	}
	return 0;
}

int device_run(struct bench_options *o)
{
	struct device d[DEVICES_MAX];
	struct device_figures f[DEVICES_MAX][JOBS + SWAPS] = {0}, filled;
	unsigned n = o->device.count;
	int r = 0;

	if (!n || n > DEVICES_MAX)
		return err_fail(-EINVAL, "give 1 to %d devices as --device NAME=DEVICE", DEVICES_MAX);
	if (!o->overwrite)
		return err_fail(-EPERM, "what is on the devices will be lost: say --overwrite");
	if (!peer_has_program("fio"))
		return err_fail(-ENOENT, "fio is not installed");
	for (unsigned i = 0; i < n && !r; i++)
		r = examine(&d[i], o->device.item[i], o);
	for (unsigned i = 0; i < n && !r; i++)
		r = one_fio(o, &d[i], "fill", &filled);
	for (unsigned k = 0; k < JOBS + SWAPS && !r; k++) {
		for (unsigned i = 0; i < n && !r; i++)
			r = one(o, &d[i], k, &f[i][k]);
		if (!r && k >= JOBS)
			r = same_contents(d, n, (const void *)f, k);
	}
	if (!r)
		compare(o, d, n, (const void *)f);
	return r;
}
