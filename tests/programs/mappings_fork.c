/* SPDX-License-Identifier: MIT */
/* A child sees the memory of the moment it was born, every page of it, whoever writes later. */
#include "mappings.h"

#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define AREA (16 * MIB)

extern char **environ;

static pid_t child_of(void)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0, "fork: %m");
	return pid;
}

static void child_sees_the_moment(void)
{
	char *p = map_new(AREA);
	pid_t pid;

	fill(p, AREA, 1);
	pid = child_of();
	if (!pid) {
		check(p, AREA, 1);
		fill(p, AREA, 2);
		churn();
		check(p, AREA, 2);
		_exit(0);
	}
	/* While it reads, everything is overwritten. */
	fill(p, AREA, 3);
	check(p, AREA, 3);
	reap(pid);
	check(p, AREA, 3);
	munmap(p, AREA);
}

static void grandchild_sees_the_moment(void)
{
	char *p = map_new(AREA), *zero = map_new(4 * MIB);
	pid_t pid, next;

	fill(p, AREA, 4);
	pid = child_of();
	if (!pid) {
		fill(p, AREA / 2, 5);
		next = child_of();
		if (!next) {
			check(p, AREA / 2, 5);
			check_from(p + AREA / 2, AREA / 2, 4, AREA / 2 / PAGE);
			check_zero(zero, 4 * MIB);
			fill(zero, 4 * MIB, 6);
			churn();
			check(zero, 4 * MIB, 6);
			_exit(0);
		}
		fill(p, AREA, 7);
		reap(next);
		check(p, AREA, 7);
		check_zero(zero, 4 * MIB);
		_exit(0);
	}
	fill(p, AREA, 8);
	reap(pid);
	check(p, AREA, 8);
	check_zero(zero, 4 * MIB);
	munmap(p, AREA);
	munmap(zero, 4 * MIB);
}

static void many_children_in_turn(void)
{
	char *p = map_new(8 * MIB);

	for (unsigned i = 0; i < 8; i++) {
		pid_t pid;

		fill(p, 8 * MIB, 20 + i);
		pid = child_of();
		if (!pid) {
			check(p, 8 * MIB, 20 + i);
			_exit(0);
		}
		check(p, 8 * MIB, 20 + i);
		reap(pid);
	}
	munmap(p, 8 * MIB);
}

static void child_allocates_and_frees(void)
{
	char *p = map_new(AREA);
	pid_t pid;

	fill(p, AREA, 30);
	pid = child_of();
	if (!pid) {
		char *q = malloc(10 * MIB), *r;

		memset(q, 1, 10 * MIB);
		munmap(p, AREA / 2);
		r = map_new(AREA);
		check_zero(r, AREA);
		fill(r, AREA, 31);
		check_from(p + AREA / 2, AREA / 2, 30, AREA / 2 / PAGE);
		check(r, AREA, 31);
		free(q);
		exit(0);
	}
	reap(pid);
	check(p, AREA, 30);
	munmap(p, AREA);
}

static char *busy_area;
static atomic_bool stop;

static void *scribbler(void *arg)
{
	char *mine = busy_area + (size_t)arg * 4 * MIB;

	for (unsigned round = 0; !atomic_load(&stop); round++) {
		fill(mine, 4 * MIB, round);
		check(mine, 4 * MIB, round);
	}
	return NULL;
}

static void *forker(void *arg)
{
	char *p = arg;

	for (unsigned i = 0; i < 4; i++) {
		pid_t pid = child_of();

		if (!pid) {
			check(p, 8 * MIB, 40);
			_exit(0);
		}
		reap(pid);
	}
	return NULL;
}

static void fork_in_a_thread_while_others_write(void)
{
	char *p = map_new(8 * MIB);
	pthread_t t[2], f;

	busy_area = map_new(8 * MIB);
	fill(p, 8 * MIB, 40);
	atomic_store(&stop, false);
	for (size_t i = 0; i < 2; i++)
		REQUIRE(!pthread_create(&t[i], NULL, scribbler, (void *)i), "thread");
	REQUIRE(!pthread_create(&f, NULL, forker, p), "thread");
	pthread_join(f, NULL);
	atomic_store(&stop, true);
	for (size_t i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	check(p, 8 * MIB, 40);
	munmap(p, 8 * MIB);
	munmap(busy_area, 8 * MIB);
}

static void child_keeps_protections(void)
{
	char *p = map_new(4 * MIB);
	pid_t pid;

	fill(p, 4 * MIB, 50);
	REQUIRE(!mprotect(p, MIB, PROT_READ) && !mprotect(p + 2 * MIB, 16 * PAGE, PROT_NONE),
		"mprotect: %m");
	churn();
	pid = child_of();
	if (!pid) {
		churn();
		REQUIRE(faults_on_write(p) && faults_on_read(p + 2 * MIB), "not protected");
		REQUIRE(!mprotect(p, 4 * MIB, PROT_READ | PROT_WRITE), "mprotect: %m");
		check(p, 4 * MIB, 50);
		_exit(0);
	}
	reap(pid);
	REQUIRE(faults_on_write(p) && faults_on_read(p + 2 * MIB), "not protected any more");
	REQUIRE(!mprotect(p, 4 * MIB, PROT_READ | PROT_WRITE), "mprotect: %m");
	check(p, 4 * MIB, 50);
	munmap(p, 4 * MIB);
}

static void vfork_and_spawn_work(void)
{
	char *p = map_new(8 * MIB), *word = strcpy(map_new(MIB), "exit 0");
	char shell[] = "/bin/sh", option[] = "-c";
	char *args[] = {shell, option, word, NULL};

	fill(p, 8 * MIB, 60);
	for (int i = 0; i < 5; i++) {
		pid_t pid;

		churn(); /* the arguments are remote when they are read */
		REQUIRE(!posix_spawn(&pid, shell, NULL, NULL, args, environ), "posix_spawn");
		reap(pid);
		pid = vfork();
		if (!pid) {
			execv(shell, args);
			_exit(9);
		}
		reap(pid);
		pid = vfork();
		if (!pid) {
			p[0] = p[0];
			_exit(0);
		}
		reap(pid);
		REQUIRE(!system(word), "system");
	}
	check(p, 8 * MIB, 60);
	munmap(p, 8 * MIB);
}

const struct mapping_test fork_tests[] = {
	{"child-sees-the-moment", child_sees_the_moment},
	{"grandchild-sees-the-moment", grandchild_sees_the_moment},
	{"many-children-in-turn", many_children_in_turn},
	{"child-allocates-and-frees", child_allocates_and_frees},
	{"fork-in-a-thread-while-others-write", fork_in_a_thread_while_others_write},
	{"child-keeps-protections", child_keeps_protections},
	{"vfork-and-spawn-work", vfork_and_spawn_work},
	{NULL, NULL},
};
