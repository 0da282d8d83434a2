/* SPDX-License-Identifier: MIT */
/*
 * infuse-sim: plays seeds, one after the other, until one fails; then it says why and with what
 * command that one is played again.
 */
#include "sim.h"
#include "common/error.h"
#include "common/options.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STUCK_S 60 /* real seconds for one seed: far more than any takes */

struct config {
	uint64_t seed, seeds, first, fail;
	bool memory;
	bool verbose, quiet;
};

#define OPTION(field_, ...) {.offset = offsetof(struct config, field_), __VA_ARGS__}
static const struct opt options[] = {
	OPTION(seed, .name = "seed", .type = OPT_NUMBER, .arg = "N", .help = "play this one only"),
	OPTION(seeds, .name = "seeds", .type = OPT_NUMBER, .arg = "N",
	       .help = "play so many (default: 1000)"),
	OPTION(first, .name = "first", .type = OPT_NUMBER, .arg = "N",
	       .help = "the first of them (default: 1)"),
	OPTION(memory, .name = "memory", .type = OPT_FLAG,
	       .help = "play each seed again and again, each of its allocations refused in turn"),
	OPTION(fail, .name = "fail", .type = OPT_NUMBER, .arg = "N", .help = "refuse this allocation"),
	OPTION(verbose, .name = "verbose", .letter = 'v', .type = OPT_FLAG,
	       .help = "tell everything that happens"),
	OPTION(quiet, .name = "quiet", .letter = 'q', .type = OPT_FLAG, .help = "no progress"),
};

static const struct opt_command command = {
	.name = "infuse-sim",
	.usage = "[OPTIONS]",
	.summary = "Plays the page store and the memory server in a simulated, seeded cluster.",
	.table = options,
	.count = sizeof options / sizeof *options,
};

static volatile uint64_t playing, failing;

/* An assertion, a bad access, a seed that hangs: tell which seed it was. */
static void on_signal(int sig)
{
	char text[160] = "seed ", digits[24];
	unsigned n = 5, k = 0;
	uint64_t v = playing;

	do
		digits[k++] = (char)('0' + v % 10);
	while (v /= 10);
	while (k)
		text[n++] = digits[--k];
	for (k = 0, v = failing; v; v /= 10)
		digits[k++] = (char)('0' + v % 10);
	if (k)
		n += (unsigned)sprintf(text + n, " with --fail ");
	while (k)
		text[n++] = digits[--k];
	strcpy(text + n, sig == SIGALRM ? " hangs: play it again with --seed and --verbose\n"
					: " crashed: play it again with --seed and --verbose\n");
	if (write(2, text, strlen(text)) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(struct sim_result *sum, const struct sim_result *r)
{
	sum->batches += r->batches;
	sum->reads_checked += r->reads_checked;
	sum->errors += r->errors;
	sum->events += r->events;
	sum->virtual_ns += r->virtual_ns;
	sum->faults += r->faults;
}

/* Up to each allocation all is as it was before; then one is refused. */
static void play_without_memory(const struct config *c, const struct sim_result *all,
				struct sim_result *sum)
{
	struct sim_result r;

	for (failing = 1; failing <= all->allocations; failing++) {
		alarm(STUCK_S);
		sim_play(playing, failing, c->verbose, &r);
		add(sum, &r);
	}
	sum->allocations += all->allocations;
	failing = 0;
}

static void play_all(const struct config *c)
{
	struct sim_result sum = {0}, r;
	double begun = seconds(), told = begun;

	for (uint64_t i = 0; i < c->seeds; i++) {
		playing = c->first + i;
		alarm(STUCK_S);
		sim_play(playing, c->fail, c->verbose, &r);
		add(&sum, &r);
		if (c->memory)
			play_without_memory(c, &r, &sum);
		if (!c->quiet && seconds() - told > 5) {
			told = seconds();
			fprintf(stderr, "%llu of %llu seeds, %.2f ms each\n",
				(unsigned long long)i + 1, (unsigned long long)c->seeds,
				1000 * (told - begun) / (double)(i + 1));
		}
	}
	alarm(0);
	if (c->seeds == 1)
		printf("seed %llu: digest %016llx\n", (unsigned long long)c->first,
		       (unsigned long long)sim_digest());
	printf("%llu seeds: %llu batches, %llu pages read and checked, %llu errors told, %llu faults, "
	       "%llu events, %.1f virtual hours\n",
	       (unsigned long long)c->seeds, (unsigned long long)sum.batches,
	       (unsigned long long)sum.reads_checked, (unsigned long long)sum.errors,
	       (unsigned long long)sum.faults, (unsigned long long)sum.events,
	       (double)sum.virtual_ns / 3.6e12);
	if (c->memory)
		printf("%llu allocations were refused, each in a play of its own\n",
		       (unsigned long long)sum.allocations);
	if (!c->quiet)
		fprintf(stderr, "%.2f ms a seed\n",
			1000 * (seconds() - begun) / (double)c->seeds);
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM};
	struct config c = {.seeds = 1000, .first = 1, .seed = UINT64_MAX};
	int first, r = opt_parse(&command, argc, argv, &c, &first);

	if (r < 0 || (!r && first < argc)) {
		fprintf(stderr, "infuse-sim: %s\n", r < 0 ? err_text() : "no words are expected");
		return 2;
	}
	if (r)
		return 0;
	if (c.seed != UINT64_MAX) {
		c.first = c.seed;
		c.seeds = 1;
	}
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], on_signal);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	play_all(&c);
	sim_tasks_close();
	sim_world_close();
	return 0;
}
