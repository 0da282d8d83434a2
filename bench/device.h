/* SPDX-License-Identifier: MIT */
/* `infuse bench device`: block devices side by side, by fio and as swap. Errors: -errno and err_text(). */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include "bench/bench.h"

struct device_job {
	const char *folder; /* of job files */
	const char *name;   /* without ".fio" */
	const char *path;   /* of the device */
	uint64_t bytes;     /* from its beginning */
	unsigned seconds;
};

struct device_figures {
	double iops, mb_per_s;
	double mean_us, p50_us, p99_us; /* of a request; as swap: of a page */
	uint64_t digest;
};

/* Blocks until the job ended, 2 minutes longer than it should take at most. */
int device_fio(const struct device_job *j, struct device_figures *ret);

/* Devices and jobs side by side as rows of a table, or each as a JSON object on a line. */
void device_print(const struct bench_options *o, const char *device, const char *job,
		  const struct device_figures *f, const char *skipped);

/* What is promised of our devices beside others in the same run. */
struct device_goal {
	const char *job, *ours, *theirs;
	bool time; /* us a page: theirs over ours; else IOPS: ours over theirs */
	double aim;
};

#endif
