/* SPDX-License-Identifier: MIT */
/* Memory used by system calls, threads, signal handlers, and through malloc. */
#include "mappings.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		REQUIRE(k > 0, "write: %m");
		p += k;
		n -= (size_t)k;
	}
}

static void read_all(int fd, char *p, size_t n)
{
	while (n) {
		ssize_t k = read(fd, p, n);

		REQUIRE(k > 0, "read: %zd %m", k);
		p += k;
		n -= (size_t)k;
	}
}

static void system_calls_reach_it(void)
{
	char name[] = "/tmp/infuse-mappings.XXXXXX";
	char *p = map_new(12 * MIB), *q = map_new(12 * MIB);
	int fd = mkstemp(name);
	struct iovec v[2] = {{q, 5 * MIB}, {q + 5 * MIB, 7 * MIB}};

	REQUIRE(fd >= 0 && !unlink(name), "mkstemp: %m");
	fill(p, 12 * MIB, 1);
	write_all(fd, p, 12 * MIB);
	REQUIRE(lseek(fd, 0, SEEK_SET) == 0, "lseek: %m");
	read_all(fd, q, 12 * MIB);
	check(q, 12 * MIB, 1);
	memset(q, 0, 12 * MIB);
	churn();
	REQUIRE(preadv(fd, v, 2, 0) == (ssize_t)(12 * MIB), "preadv: %m");
	check(q, 12 * MIB, 1);
	fill(p, 12 * MIB, 2);
	REQUIRE(pwrite(fd, p, 12 * MIB, 0) == (ssize_t)(12 * MIB), "pwrite: %m");
	churn();
	REQUIRE(pread(fd, q, 12 * MIB, 0) == (ssize_t)(12 * MIB), "pread: %m");
	check(q, 12 * MIB, 2);
	close(fd);
}

struct transfer {
	int fd;
	char *p;
};

static void *sender(void *arg)
{
	struct transfer *t = arg;

	write_all(t->fd, t->p, 12 * MIB);
	return NULL;
}

static void sockets_and_pipes_reach_it(void)
{
	for (int kind = 0; kind < 2; kind++) {
		char *p = map_new(12 * MIB), *q = map_new(12 * MIB);
		struct transfer t = {.p = p};
		pthread_t thread;
		int fd[2];

		REQUIRE(!(kind ? pipe(fd) : socketpair(AF_UNIX, SOCK_STREAM, 0, fd)), "pair: %m");
		fill(p, 12 * MIB, 3);
		t.fd = fd[1];
		REQUIRE(!pthread_create(&thread, NULL, sender, &t), "thread");
		read_all(fd[0], q, 12 * MIB);
		pthread_join(thread, NULL);
		check(q, 12 * MIB, 3);
		close(fd[0]);
		close(fd[1]);
		munmap(p, 12 * MIB);
		munmap(q, 12 * MIB);
	}
}

static char *shared_area;

static void *writer(void *arg)
{
	size_t k = (size_t)arg;
	unsigned seed = (unsigned)k;
	char *mine = shared_area + k * 4 * MIB;

	for (int round = 0; round < 3; round++) {
		fill(mine, 4 * MIB, 100 * k + (unsigned)round);
		for (int i = 0; i < 200; i++) {
			size_t page = (size_t)rand_r(&seed) % (4 * MIB / PAGE);

			check_from(mine + page * PAGE, PAGE, 100 * k + (unsigned)round, page);
		}
		check(mine, 4 * MIB, 100 * k + (unsigned)round);
	}
	return NULL;
}

static void threads_share_it(void)
{
	pthread_t t[6];

	shared_area = map_new(6 * 4 * MIB);
	for (size_t i = 0; i < 6; i++)
		REQUIRE(!pthread_create(&t[i], NULL, writer, (void *)i), "thread");
	for (size_t i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	for (size_t i = 0; i < 6; i++)
		check(shared_area + i * 4 * MIB, 4 * MIB, 100 * i + 2);
}

static char *alarm_area;
static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	size_t page = ((size_t)alarms * 577) % (8 * MIB / PAGE);

	(void)sig;
	check_from(alarm_area + page * PAGE, PAGE, 5, page);
	alarms++;
}

static void signal_handlers_reach_it(void)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval every = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};

	alarm_area = map_new(8 * MIB);
	fill(alarm_area, 8 * MIB, 5);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < 400 && alarms < 200; i++) {
		char *p = map_new(MIB), *q = malloc(MIB);

		fill(p, MIB, 6);
		memset(q, i, MIB);
		churn();
		check(p, MIB, 6);
		free(q);
		munmap(p, MIB);
	}
	setitimer(ITIMER_REAL, &off, NULL);
	REQUIRE(alarms > 10, "only %d signals came", (int)alarms);
}

/* Its own stack, too, may be remote when a signal comes. */
static void signal_stacks_can_be_in_it(void)
{
	stack_t s = {.ss_sp = map_new(MIB), .ss_size = MIB}, none = {.ss_flags = SS_DISABLE};
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK};

	alarm_area = map_new(8 * MIB);
	fill(alarm_area, 8 * MIB, 5);
	alarms = 0;
	REQUIRE(!sigaltstack(&s, NULL), "sigaltstack: %m");
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < 10; i++) {
		churn();
		raise(SIGUSR1);
	}
	REQUIRE(alarms == 10, "%d signals of 10", (int)alarms);
	sigaltstack(&none, NULL);
}

static void survives_closing_all_descriptors(void)
{
	char *p = map_new(8 * MIB);

	fill(p, 8 * MIB, 7);
	syscall(SYS_close_range, 3, ~0u, 0);
	churn();
	check(p, 8 * MIB, 7);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	for (int fd = 3; fd < 40; fd++)
		dup(2);
	fill(p, 8 * MIB, 8);
	churn();
	check(p, 8 * MIB, 8);
}

static void starts_without_standard_descriptors(void)
{
	int keep = fcntl(2, F_DUPFD, 100);
	char *p;

	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	p = map_new(16 * MIB); /* the heap is opened now */
	fill(p, 16 * MIB, 9);
	REQUIRE(fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0, "somebody took 0 or 1");
	/* Whoever prints now must not write into a connection. */
	for (int i = 0; i < 100; i++)
		REQUIRE(write(1, "garbage\n", 8) < 0 && write(0, "garbage\n", 8) < 0, "written");
	churn();
	check(p, 16 * MIB, 9);
	dup2(keep, 2);
}

static void malloc_family_agrees(void)
{
	char *p, *old = NULL;
	size_t n = 1000;
	void *q;

	for (int i = 0; i < 60; i++) {
		p = malloc(300000);
		memset(p, 0xa5, 300000);
		free(p);
		p = calloc(300, 1000);
		check_zero(p, 300000 / PAGE * PAGE);
		free(p);
	}
	for (p = malloc(n), memset(p, 7, n); n < 30 * MIB; n += n / 3) {
		p = realloc(p, n + n / 3);
		for (size_t i = 0; i < n; i += 997)
			REQUIRE(p[i] == 7, "realloc lost byte %zu of %zu", i, n);
		memset(p + n, 7, n / 3);
		REQUIRE(malloc_usable_size(p) >= n + n / 3, "usable size");
	}
	free(p);
	REQUIRE(!posix_memalign(&q, 2 * MIB, 3 * MIB) && !((uintptr_t)q & (2 * MIB - 1)), "align");
	free(q);
	for (size_t a = 16; a <= MIB; a *= 2) {
		p = memalign(a, 200000);
		q = aligned_alloc(a, 4 * a);
		REQUIRE(p && q && !(((uintptr_t)p | (uintptr_t)q) & (a - 1)), "alignment %zu", a);
		free(p);
		free(q);
	}
	p = valloc(100);
	REQUIRE(!((uintptr_t)p & (PAGE - 1)), "valloc");
	free(p);
	p = pvalloc(PAGE + 1);
	REQUIRE(!((uintptr_t)p & (PAGE - 1)) && malloc_usable_size(p) >= 2 * PAGE, "pvalloc");
	free(p);
	old = reallocarray(NULL, 1000, 1000);
	REQUIRE(old, "reallocarray");
	free(old);
	old = strdup("word");
	REQUIRE(old && !strcmp(old, "word"), "strdup");
	free(old);
	REQUIRE(!malloc((size_t)1 << 62), "an absurd size was given");
	malloc_trim(0);
}

const struct mapping_test use_tests[] = {
	{"system-calls-reach-it", system_calls_reach_it},
	{"sockets-and-pipes-reach-it", sockets_and_pipes_reach_it},
	{"threads-share-it", threads_share_it},
	{"signal-handlers-reach-it", signal_handlers_reach_it},
	{"signal-stacks-can-be-in-it", signal_stacks_can_be_in_it},
	{"survives-closing-all-descriptors", survives_closing_all_descriptors},
	{"starts-without-standard-descriptors", starts_without_standard_descriptors},
	{"malloc-family-agrees", malloc_family_agrees},
	{NULL, NULL},
};
