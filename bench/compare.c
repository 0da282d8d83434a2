/* SPDX-License-Identifier: MIT */
/*
 * Ours and what else there is, in one run on one machine: the floors, all-local memory, our heap
 * over tcp and shm, and mmap over nbdfuse in front of nbdkit's memory plugin. A peer that can't run
 * here is left out with the reason.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>

static int ours(const struct bench_options *o, const struct workload *w, const char *transport)
{
	struct bench_options one = *o;
	struct bench_result r;
	int e;

	one.transport = transport;
	e = runner_run(&one, w, &r);
	if (!e)
		result_print(o, &r);
	return e;
}

static int nbd(const struct bench_options *o, const struct workload *w)
{
	uint64_t bytes = w->shape(o->size_bytes);
	const struct area_options ao = {
		.bytes = bytes,
		.local_bytes = runner_local_bytes(o, bytes),
		.scattered = w == &workload_random,
	};
	struct bench_result r = {
		.workload = w->name,
		.transport = "nbdfuse",
		.variant = "mmap, nothing evicted",
		.size_bytes = bytes,
		.local_bytes = ao.local_bytes,
		.threads = (unsigned)o->threads,
	};
	int e = area_nbd_available();

	if (!e)
		e = runner_measure(o, w, &area_nbd, &ao, &r);
	if (e)
		fprintf(stderr, "infuse bench: skipped the peer nbdfuse: %s\n", err_text());
	else
		result_print(o, &r);
	/* Somebody else's program: its failure is not ours. */
	return 0;
}

static int compare_one(const struct bench_options *o, const struct workload *w)
{
	const char *const transport[] = {"local", "tcp", "shm"};
	int r = 0;

	for (unsigned t = 0; t < 3 && !r; t++)
		r = ours(o, w, transport[t]);
	return r ? r : nbd(o, w);
}

int compare_run(const struct bench_options *o, const char *const *names, unsigned count)
{
	const struct workload *w;
	int r = 0;

	for (unsigned i = 0; i < count; i++)
		if (!workload_find(names[i]))
			return err_fail(-EINVAL, "'%s' is no workload", names[i]);
	if (!count)
		for (unsigned i = 0; (w = workload_at(i)) && !r; i++)
			r = compare_one(o, w);
	for (unsigned i = 0; i < count && !r; i++)
		r = compare_one(o, workload_find(names[i]));
	return r ? r : floor_all(o);
}
