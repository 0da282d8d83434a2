/* SPDX-License-Identifier: MIT */
/*
 * Ten thousand connections that only sit there and 64 that work hold at once, in little memory and
 * without one wrong byte. A program of its own, since it is skipped (77) where the host does not
 * allow so many descriptors.
 */
#include "server_client.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define IDLE    10000u
#define BUSY    64u
#define THREADS 4u
#define ROUNDS  60u
#define BATCH   8u /* pages */

/* What 10,000 connections may cost, where no sanitizer keeps its own accounts of them. */
#ifdef INFUSE_SANITIZED
#define RSS_LIMIT_KB (512u * 1024)
#else
#define RSS_LIMIT_KB (16u * 1024)
#endif

static struct donor d;
static atomic_uint faults;

static unsigned long rss_kb(pid_t pid)
{
	char path[64], line[128];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "VmRSS:", 6))
			kb = strtoul(line + 6, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

static void *work(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	int fd[BUSY / THREADS];
	uint64_t slab[BUSY / THREADS];
	char *buf = malloc(BATCH * PAGE);

	for (unsigned i = 0; i < BUSY / THREADS; i++) {
		fd[i] = client_open(&d, i & 1, 100 + me * 100 + i);
		if (client_grant(fd[i], 1, &slab[i]))
			atomic_fetch_add(&faults, 1);
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < BUSY / THREADS; i++) {
			struct wire_seg seg = client_seg(slab[i], round % 8, BATCH);
			uint64_t seed = me * 1000000 + i * 1000 + round;

			fill(buf, BATCH * PAGE, seed);
			if (client_write(fd[i], &seg, 1, buf))
				atomic_fetch_add(&faults, 1);
			memset(buf, 0, BATCH * PAGE);
			if (client_read(fd[i], &seg, 1, buf) || !is_filled(buf, BATCH * PAGE, seed))
				atomic_fetch_add(&faults, 1);
		}
	}
	for (unsigned i = 0; i < BUSY / THREADS; i++)
		close(fd[i]);
	free(buf);
	return NULL;
}

static void work_all(const char *when)
{
	struct timespec a, b;
	pthread_t t[THREADS];
	double s;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, work, (void *)i);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("%u busy connections %s: %u batches written and read in %.2f s\n", BUSY, when,
	       BUSY * ROUNDS, s);
}

int main(void)
{
	static const char *const more[] = {"--size", "16M", "--slab", "64K", NULL};
	struct rlimit lim;
	unsigned long before, after;
	int *idle = malloc(IDLE * sizeof *idle);

	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < IDLE + 2000) {
		printf("SKIP: the limit of open files is %llu (ulimit -Hn); this needs %u\n",
		       (unsigned long long)lim.rlim_max, IDLE + 2000);
		return 77;
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	signal(SIGPIPE, SIG_IGN);
	donor_start(&d, more);
	work_all("alone");
	before = rss_kb(d.pid);
	/* Every other one has said hello and borrows; all count. */
	for (unsigned i = 0; i < IDLE; i++)
		idle[i] = client_open(&d, i & 1, i % 4 ? 0 : 100000 + i);
	after = rss_kb(d.pid);
	printf("%u idle connections: %lu KiB more resident memory (%lu KiB in all)\n", IDLE,
	       after - before, after);
	work_all("beside them");
	/* They are all still there. */
	for (unsigned i = 0; i < IDLE; i += 97)
		if (client_ask(idle[i], WIRE_PING, 0, NULL, 0, NULL, NULL))
			atomic_fetch_add(&faults, 1);
	if (le32toh(client_stat(idle[0]).sessions) != IDLE)
		atomic_fetch_add(&faults, 1);
	for (unsigned i = 0; i < IDLE; i++)
		close(idle[i]);
	donor_stop(&d);
	free(idle);
	if (faults || after - before > RSS_LIMIT_KB) {
		printf("FAIL: %u faults, limit of memory %u KiB\n", faults, RSS_LIMIT_KB);
		return 1;
	}
	return 0;
}
