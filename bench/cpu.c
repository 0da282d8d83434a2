/* SPDX-License-Identifier: MIT */
/*
 * Pinning. A wake-up of another core costs tens of microseconds and the scheduler moves threads as
 * it likes, so a figure without pinned ends means little. CPUs are counted among those the process
 * was given, so that taskset and containers work.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <sched.h>

static cpu_set_t given;

int cpu_init(void)
{
	CPU_ZERO(&given);
	if (sched_getaffinity(0, sizeof given, &given))
		return err_fail(-errno, "can't learn which CPUs there are");
	return 0;
}

unsigned cpu_count(void)
{
	return (unsigned)CPU_COUNT(&given);
}

void cpu_pin(unsigned i)
{
	cpu_set_t one;
	unsigned left = i % cpu_count();

	for (unsigned c = 0; c < CPU_SETSIZE; c++) {
		if (!CPU_ISSET(c, &given) || left--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(c, &one);
		sched_setaffinity(0, sizeof one, &one);
		return;
	}
}

void cpu_unpin(void)
{
	sched_setaffinity(0, sizeof given, &given);
}
