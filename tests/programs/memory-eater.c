/* SPDX-License-Identifier: MIT */
/*
 * A program that needs memory: memory-eater MEGABYTES STEP_MS takes it 4 MiB a step, says "eaten",
 * and then works on all of it, pass after pass, until SIGTERM. A line a pass: the microseconds of
 * processor time that it took (which a busy machine does not change, but faults and reclaim do).
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STEP ((size_t)4 << 20)

static volatile sig_atomic_t ended;

static void on_term(int sig)
{
	(void)sig;
	ended = 1;
}

static uint64_t cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 2 ? strtoull(argv[1], NULL, 10) << 20 : 0;
	struct timespec nap = {0, argc > 2 ? atol(argv[2]) * 1000000 : 0};
	unsigned char *p =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;

	if (p == MAP_FAILED)
		return 2;
	signal(SIGTERM, on_term);
	for (size_t at = 0; at < bytes && !ended; at += STEP) {
		memset(p + at, 0x5a, at + STEP < bytes ? STEP : bytes - at);
		nanosleep(&nap, NULL);
	}
	puts("eaten");
	fflush(stdout);
	while (!ended) {
		uint64_t begun = cpu_us();

		for (size_t i = 0; i < bytes; i += 64)
			sum += p[i]++;
		printf("%llu\n", (unsigned long long)(cpu_us() - begun));
		fflush(stdout);
		nap.tv_nsec = 20000000;
		nanosleep(&nap, NULL);
	}
	return sum == 1; /* never; but the sum must be computed */
}
