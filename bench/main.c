/* SPDX-License-Identifier: MIT */
/* infuse-bench, reached as `infuse bench`: reads the options, runs one thing, prints. */
#include "bench/bench.h"
#include "bench/chaos.h"
#include "common/error.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define DEFINE(n, l, t, f)                                                                         \
	.name = n, .letter = l, .type = t, .offset = offsetof(struct bench_options, f)

static const struct opt table[] = {
	{DEFINE("size", 's', OPT_SIZE, size_bytes), .arg = "SIZE", .min = 1 << 16,
	 .help = "memory the workload uses (1G)"},
	{DEFINE("local", 'l', OPT_STRING, locals), .arg = "SIZE|N%",
	 .help = "local cache, or several, with commas between them (25%)"},
	{DEFINE("transport", 't', OPT_CHOICE, transport), .arg = "NAME",
	 .choices = "tcp|tls|unix|shm|local",
	 .help = "tcp, tls, unix, shm, or local: plain memory (tcp)"},
	{DEFINE("seal", 0, OPT_CHOICE, seal), .arg = "WHEN", .choices = "off|on|both",
	 .implied = "on", .help = "pages are encrypted; both: in turns, and what that costs (off)"},
	{DEFINE("donors", 'n', OPT_NUMBER, donors), .arg = "N", .min = 1, .max = DONORS_MAX,
	 .help = "memory servers to start (as many as copies or fragments want)"},
	{DEFINE("replicas", 0, OPT_NUMBER, replicas), .arg = "N", .min = 1, .max = 3,
	 .help = "copies of each page, on different donors (1)"},
	{DEFINE("code", 0, OPT_STRING, code), .arg = "K+M",
	 .help = "erasure coding instead of copies, as in 4+2"},
	{DEFINE("donor", 'd', OPT_LIST, donor), .arg = "ADDR",
	 .help = "a server that runs already; may be repeated"},
	{DEFINE("threads", 'T', OPT_NUMBER, threads), .arg = "N", .min = 1, .max = 64,
	 .help = "threads of the workload (1)"},
	{DEFINE("prefetch", 'p', OPT_STRING, prefetch), .arg = "NAME",
	 .help = "none, sequential, stride, majority, replay:FILE or auto (the heap's default)"},
	{DEFINE("window", 'w', OPT_NUMBER, window_pages), .arg = "PAGES", .min = 1, .max = 64,
	 .help = "prefetched at once (64)"},
	{DEFINE("mode", 'm', OPT_CHOICE, mode), .arg = "MODE", .choices = "sigbus|handler",
	 .help = "sigbus: faults are served in the thread; handler: by handler threads (sigbus)"},
	{DEFINE("write", 'W', OPT_FLAG, write), .help = "the same as --write-percent 100"},
	{DEFINE("write-percent", 0, OPT_NUMBER, write_percent), .arg = "N", .max = 100,
	 .help = "seq, random, zipf, scans, turn: touches that write (0)"},
	{DEFINE("touches", 0, OPT_NUMBER, touches), .arg = "N", .min = 1, .max = 1u << 30,
	 .help = "random, chase: timed touches; zipf: 8 times as many (32768)"},
	{DEFINE("steps", 0, OPT_NUMBER, steps), .arg = "N", .min = 1, .max = 1u << 20,
	 .help = "stencil, spmv: steps; turn: passes (3)"},
	{DEFINE("block", 0, OPT_NUMBER, block), .arg = "N", .max = 1u << 16,
	 .help = "transpose: in blocks of N by N elements (0: row by row)"},
	{DEFINE("node", 0, OPT_SIZE, node_bytes), .arg = "SIZE", .min = 64, .max = 4096,
	 .help = "chase: bytes of a node (4K)"},
	{DEFINE("runs", 'r', OPT_NUMBER, runs), .arg = "N", .min = 1, .max = 64,
	 .help = "runs; the median is told (3)"},
	{DEFINE("same-core", 0, OPT_FLAG, same_core), .help = "servers on the client's CPU"},
	{DEFINE("no-floor", 0, OPT_FLAG, no_floor), .help = "don't measure the floors beside it"},
	{DEFINE("peer", 0, OPT_LIST, peer), .arg = "NAME",
	 .help = "compare: only this peer; may be repeated"},
	{DEFINE("staged", 0, OPT_NUMBER, staged_pages), .arg = "PAGES", .max = 1u << 20,
	 .help = "residency: victims that can still be found, of the local ones (0)"},
	{DEFINE("device", 0, OPT_LIST, device), .arg = "NAME=DEVICE",
	 .help = "device: a block device; may be repeated"},
	{DEFINE("jobs", 0, OPT_STRING, jobs), .arg = "FOLDER",
	 .help = "device: where fio's job files are (those that are installed)"},
	{DEFINE("seconds", 0, OPT_NUMBER, seconds), .arg = "N", .min = 1, .max = 3600,
	 .help = "device: seconds of a job (5)"},
	{DEFINE("overwrite", 0, OPT_FLAG, overwrite),
	 .help = "device: what is on the devices may be lost"},
	{DEFINE("minutes", 0, OPT_NUMBER, minutes), .arg = "N", .min = 1, .max = 100000,
	 .help = "chaos: how long (1)"},
	{DEFINE("faults", 0, OPT_NUMBER, faults), .arg = "N", .min = 1, .max = 1u << 30,
	 .help = "chaos: end after so many, even before that"},
	{DEFINE("seed", 0, OPT_NUMBER, seed), .arg = "N",
	 .help = "chaos: what happens follows from it (1)"},
	{DEFINE("plan", 0, OPT_FLAG, plan), .help = "chaos: say what would happen, and do nothing"},
	{DEFINE("json", 'j', OPT_FLAG, json), .help = "one JSON object a line"},
};

static const struct opt_command command = {
	.name = "infuse bench",
	.usage = "[OPTIONS] WORKLOAD...|all|floors|compare|residency|device|chaos",
	.summary = "Measures a workload on a heap of remote memory beside what the machine can do.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static int run(struct bench_options *o, const char *const *word, unsigned words)
{
	int r;

	if (!strcmp(word[0], "residency"))
		return residency_run(o, word + 1, words - 1);
	if (!strcmp(word[0], "device") && words == 1) {
		r = sweep_local(o, 0, &o->local);
		return r ? r : device_run(o);
	}
	if (!strcmp(word[0], "chaos") && words == 1)
		return chaos_run(o);
	if (strcmp(word[0], "compare"))
		return sweep_run(o, word, words);
	for (unsigned i = 0; !(r = sweep_local(o, i, &o->local)); i++) {
		r = compare_run(o, word + 1, words - 1);
		if (r)
			break;
	}
	return r < 0 ? r : 0;
}

int main(int argc, char **argv)
{
	struct bench_options o = {
		.size_bytes = 1ull << 30,
		.locals = "25%",
		.transport = "tcp",
		.seal = "off",
		.replicas = 1,
		.threads = 1,
		.mode = "sigbus",
		.runs = 3,
		.touches = 32768,
		.node_bytes = BENCH_PAGE,
		.steps = 3,
		.jobs = INFUSE_FIO_FOLDER,
		.seconds = 5,
		.minutes = 1,
		.seed = 1,
	};
	int first, r;

	r = opt_parse(&command, argc, argv, &o, &first);
	if (r > 0)
		return 0;
	if (!r)
		r = cpu_init();
	if (o.write)
		o.write_percent = 100;
	child_init();
	if (!r && first == argc)
		r = sweep_run(&o, NULL, 0);
	else if (!r)
		r = run(&o, (const char *const *)argv + first, (unsigned)(argc - first));
	child_exit();
	if (r) {
		fprintf(stderr, "infuse bench: %s\n", err_text());
		return 1;
	}
	return 0;
}
