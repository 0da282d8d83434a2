/* SPDX-License-Identifier: MIT */
/* Recorded faults: followed when they come again, and read from nothing but good files. */
#include "prefetch_model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS 20000u

static char folder[] = "/tmp/prefetch-replay-XXXXXX", path[128], name[160];
static uint32_t walk[STEPS];

static void begin(void)
{
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/trace", folder);
	snprintf(name, sizeof name, "replay:%s", path);
	for (uint32_t i = 0; i < STEPS; i++)
		walk[i] = random_below(PAGES / 2);
}

static void end(void)
{
	prefetch_free(&prefetch);
	unlink(path);
	rmdir(folder);
}

static void run_walk(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		touch(walk[i]);
}

/* The walk with a cache of a tenth of it, its faults in the file. */
static void record(void)
{
	start(name);
	fifo_limit = STEPS / 10;
	run_walk(0, STEPS);
	cr_assert_eq(runs, 0, "recording fetches nothing ahead");
	prefetch_free(&prefetch);
}

static void follow(void)
{
	start(name);
	fifo_limit = STEPS / 10;
}

Test(prefetch_replay, a_recorded_irregular_walk_is_followed, .init = begin, .fini = end)
{
	record();
	follow();
	run_walk(0, STEPS);
	cr_assert_leq(misses, 50, "%lu misses in %u irregular steps", misses, STEPS);
	cr_assert_leq(faults, STEPS / 64 + 100, "%lu faults", faults);
	cr_assert_leq(wasted, STEPS / 50);
	/* And once more, from its start. */
	misses = 0;
	run_walk(0, STEPS);
	cr_assert_leq(misses, 100, "%lu misses in the second round", misses);
}

Test(prefetch_replay, a_program_that_goes_another_way_for_a_while_is_found_again, .init = begin,
     .fini = end)
{
	uint64_t before;

	record();
	follow();
	run_walk(0, 4000);
	before = runs;
	for (int i = 0; i < 2000; i++)
		touch(PAGES / 2 + random_below(PAGES / 2));
	cr_assert_leq(runs - before, 10, "%lu runs where nothing matches", runs - before);
	misses = 0;
	run_walk(9000, STEPS);
	cr_assert_leq(misses, 100, "%lu misses after it came back", misses);
}

Test(prefetch_replay, small_changes_of_order_do_no_harm, .init = begin, .fini = end)
{
	record();
	follow();
	for (uint32_t i = 0; i + 8 < STEPS; i += 8) {
		/* Two threads, one a little ahead of where it was. */
		for (uint32_t k = 4; k < 8; k++)
			touch(walk[i + k]);
		for (uint32_t k = 0; k < 4; k++)
			touch(walk[i + k]);
		touch(random_below(20) ? walk[i] : random_below(PAGES));
	}
	cr_assert_leq(misses, 400, "%lu misses", misses);
}

Test(prefetch_replay, a_trace_that_never_matches_leaves_the_field_to_others, .init = begin,
     .fini = end)
{
	record();
	follow();
	for (uint32_t p = PAGES / 2; p < PAGES / 2 + 100000; p++)
		touch(p);
	cr_assert_leq(misses, 13 * 100, "%lu misses of a plain scan", misses);
	misses = 0;
	for (uint32_t p = PAGES / 2; p < PAGES / 2 + 100000; p++)
		touch(p);
	cr_assert_leq(misses, 10, "%lu misses of the second", misses);
}

static int refusal(uint32_t pages)
{
	int r;

	prefetch_free(&prefetch);
	r = prefetch_init(&prefetch, name, pages, 64);
	cr_assert_neq(r, 0);
	cr_assert(strstr(err_text(), path), "%s", err_text());
	return r;
}

static void spoil(off_t where, char with)
{
	int fd = open(path, O_WRONLY);

	cr_assert_eq(pwrite(fd, &with, 1, where), 1);
	close(fd);
}

Test(prefetch_replay, files_that_are_no_good_are_refused, .init = begin, .fini = end)
{
	FILE *f;

	record();
	cr_assert_eq(refusal(PAGES / 2), -EINVAL, "another heap's size");
	cr_assert_eq(truncate(path, 1000), 0);
	cr_assert_eq(refusal(PAGES), -EBADMSG, "cut off");
	unlink(path);
	record();
	spoil(5000, 77);
	cr_assert_eq(refusal(PAGES), -EBADMSG, "a changed byte");
	unlink(path);
	record();
	spoil(8, 9);
	cr_assert_eq(refusal(PAGES), -EINVAL, "another version");
	f = fopen(path, "w");
	fputs("precious words of somebody", f);
	fclose(f);
	cr_assert_eq(refusal(PAGES), -EINVAL, "somebody else's file");
	cr_assert_eq(truncate(path, 3), 0);
	cr_assert_eq(refusal(PAGES), -EINVAL, "three bytes");
	unlink(path);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_neq(refusal(PAGES), 0, "a folder");
	rmdir(path);
}

Test(prefetch_replay, a_file_that_can_not_be_written_is_refused_at_once)
{
	strcpy(path, "/nonexistent/folder/trace");
	snprintf(name, sizeof name, "replay:%s", path);
	cr_assert_eq(refusal(PAGES), -ENOENT);
}

Test(prefetch_replay, an_empty_file_is_recorded_into_and_a_child_leaves_it_alone, .init = begin,
     .fini = end)
{
	int status;
	pid_t child;

	close(open(path, O_WRONLY | O_CREAT, 0600));
	start(name);
	cr_assert(prefetch.state.trace.recording);
	run_walk(0, 1000);
	child = fork();
	if (!child) {
		prefetch_free(&prefetch);
		_exit(0);
	}
	waitpid(child, &status, 0);
	follow();
	cr_assert(!prefetch.state.trace.recording);
	cr_assert_eq(prefetch.state.trace.count, 1000);
}
