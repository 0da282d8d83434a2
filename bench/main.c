/* SPDX-License-Identifier: MIT */
/* infuse-bench, reached as `infuse bench`: reads the options, runs one thing, prints. */
#include "bench/bench.h"
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
	{DEFINE("local", 'l', OPT_SHARE, local), .arg = "SIZE|N%", .help = "local cache (25%)"},
	{DEFINE("transport", 't', OPT_CHOICE, transport), .arg = "NAME",
	 .choices = "tcp|unix|shm|local", .help = "tcp, unix, shm, or local: plain memory (tcp)"},
	{DEFINE("donors", 'n', OPT_NUMBER, donors), .arg = "N", .min = 1, .max = DONORS_MAX,
	 .help = "memory servers to start (1)"},
	{DEFINE("donor", 'd', OPT_LIST, donor), .arg = "ADDR",
	 .help = "a server that runs already; may be repeated"},
	{DEFINE("threads", 'T', OPT_NUMBER, threads), .arg = "N", .min = 1, .max = 64,
	 .help = "threads of the workload (1)"},
	{DEFINE("prefetch", 'p', OPT_STRING, prefetch), .arg = "NAME",
	 .help = "none, sequential or stride (the heap's default)"},
	{DEFINE("window", 'w', OPT_NUMBER, window_pages), .arg = "PAGES", .min = 1, .max = 64,
	 .help = "prefetched at once (64)"},
	{DEFINE("mode", 'm', OPT_CHOICE, mode), .arg = "MODE", .choices = "sigbus|handler",
	 .help = "sigbus: faults are served in the thread; handler: by handler threads (sigbus)"},
	{DEFINE("write", 'W', OPT_FLAG, write), .help = "seq, random: write to each page"},
	{DEFINE("touches", 0, OPT_NUMBER, touches), .arg = "N", .min = 1, .max = 1u << 30,
	 .help = "random: timed touches (32768)"},
	{DEFINE("steps", 0, OPT_NUMBER, steps), .arg = "N", .min = 1, .max = 1u << 20,
	 .help = "stencil: time steps (3)"},
	{DEFINE("runs", 'r', OPT_NUMBER, runs), .arg = "N", .min = 1, .max = 64,
	 .help = "runs; the median is told (3)"},
	{DEFINE("same-core", 0, OPT_FLAG, same_core), .help = "servers on the client's CPU"},
	{DEFINE("no-floor", 0, OPT_FLAG, no_floor), .help = "don't measure the floors beside it"},
	{DEFINE("peer", 0, OPT_LIST, peer), .arg = "NAME",
	 .help = "compare: only this peer; may be repeated"},
	{DEFINE("json", 'j', OPT_FLAG, json), .help = "one JSON object a line"},
};

static const struct opt_command command = {
	.name = "infuse bench",
	.usage = "[OPTIONS] seq|random|transpose|stencil|floors|compare",
	.summary = "Measures a workload on a heap of remote memory beside what the machine can do.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static int list_words(const char *given)
{
	char words[200] = "";
	size_t n = 0;

	for (unsigned i = 0; workload_at(i); i++)
		n += (size_t)snprintf(words + n, sizeof words - n, "%s, ", workload_at(i)->name);
	if (!given)
		return err_fail(-EINVAL, "no workload given: %sfloors or compare", words);
	return err_fail(-EINVAL, "'%s' is no workload: %sfloors or compare", given, words);
}

static int run(const struct bench_options *o, char **word, int words)
{
	const char *what = word[0];
	const struct workload *w = workload_find(what);
	struct bench_result result;
	int r;

	if (!w && strcmp(what, "floors") && strcmp(what, "compare"))
		return list_words(what);
	if (words > 1 && strcmp(what, "compare"))
		return err_fail(-EINVAL, "one workload at a time, not also '%s'", word[1]);
	if (!strcmp(what, "floors"))
		return floor_all(o);
	if (!strcmp(what, "compare"))
		return compare_run(o, (const char *const *)word + 1, (unsigned)words - 1);
	r = runner_run(o, w, &result);
	if (!r)
		result_print(o, &result);
	return r;
}

int main(int argc, char **argv)
{
	struct bench_options o = {
		.size_bytes = 1ull << 30,
		.local = {.percent = 25},
		.transport = "tcp",
		.donors = 1,
		.threads = 1,
		.mode = "sigbus",
		.runs = 3,
		.touches = 32768,
		.steps = 3,
	};
	int first, r;

	r = opt_parse(&command, argc, argv, &o, &first);
	if (r > 0)
		return 0;
	if (!r)
		r = cpu_init();
	if (!r && first == argc)
		r = list_words(NULL);
	child_init();
	if (!r)
		r = run(&o, argv + first, argc - first);
	child_exit();
	if (r) {
		fprintf(stderr, "infuse bench: %s\n", err_text());
		return 1;
	}
	return 0;
}
