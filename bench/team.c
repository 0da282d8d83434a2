/* SPDX-License-Identifier: MIT */
/* The threads of a workload. One works in place, so that a single thread's figure has no start of
 * a thread in it. */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <pthread.h>

#define TEAM_MAX 64

struct member {
	pthread_t thread;
	struct work *w;
	unsigned t;
	int (*fn)(struct work *w, unsigned t);
	int status;
};

static void *member_main(void *arg)
{
	struct member *m = arg;

	cpu_pin(m->t);
	m->status = m->fn(m->w, m->t);
	return NULL;
}

int team_run(struct work *w, int (*fn)(struct work *w, unsigned t))
{
	struct member member[TEAM_MAX];
	unsigned n = w->threads, started = 1;
	int status, r = 0;

	if (n > TEAM_MAX)
		return err_fail(-E2BIG, "%u threads; %d are the limit", n, TEAM_MAX);
	for (; started < n; started++) {
		member[started] = (struct member){.w = w, .t = started, .fn = fn};
		r = pthread_create(&member[started].thread, NULL, member_main, &member[started]);
		if (r)
			break;
	}
	status = r ? err_fail(-r, "can't start thread %u", started) : fn(w, 0);
	for (unsigned t = 1; t < started; t++) {
		pthread_join(member[t].thread, NULL);
		if (!status)
			status = member[t].status;
	}
	return status;
}

void team_share(const struct work *w, unsigned t, uint64_t n, uint64_t grain, uint64_t *from,
		uint64_t *to)
{
	uint64_t cuts = (n + grain - 1) / grain;

	*from = cuts * t / w->threads * grain;
	*to = cuts * (t + 1) / w->threads * grain;
	if (*to > n)
		*to = n;
	if (*from > n)
		*from = n;
}
