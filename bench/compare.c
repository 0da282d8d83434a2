/* SPDX-License-Identifier: MIT */
/*
 * Ours and what else there is, in one run on one machine: the floors, all-local memory, our heap
 * over tcp and shm, and mmap over nbdfuse in front of nbdkit's memory plugin. A peer that can't run
 * here is left out with the reason.
 */
#include "bench/bench.h"
#include "common/error.h"

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

int compare_run(const struct bench_options *o)
{
	const struct workload *const workload[] = {&workload_seq, &workload_random};
	const char *const transport[] = {"local", "tcp", "shm"};
	int r = 0;

	for (unsigned i = 0; i < 2 && !r; i++) {
		for (unsigned t = 0; t < 3 && !r; t++)
			r = ours(o, workload[i], transport[t]);
		if (!r)
			r = nbd(o, workload[i]);
	}
	return r ? r : floor_all(o);
}
