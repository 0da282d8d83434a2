/* SPDX-License-Identifier: MIT */
/* See follow.h. The registry is opened in the thread: a handle belongs to one. */
#include "registry/follow.h"
#include "common/clock.h"
#include "common/error.h"
#include "registry/registry.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 1000u /* of a wait; the flag is looked at in between */

struct follow {
	struct follow_options o;
	pthread_t thread;
	bool stop;
	struct registry *reg; /* for the watch; NULL: not open */
	uint64_t since;
	bool failing;
};

static bool stopped(const struct follow *f)
{
	return __atomic_load_n(&f->stop, __ATOMIC_ACQUIRE);
}

static void nap(const struct follow *f, uint64_t ms)
{
	struct timespec t = {0, 100 * NSEC_PER_MSEC};

	for (; ms >= 100 && !stopped(f); ms -= 100)
		nanosleep(&t, NULL);
}

static void read_donors(struct follow *f)
{
	struct known_donors l;
	int r = donors_known(f->o.url, &l);

	if (r && !f->failing && f->o.failed)
		f->o.failed(err_text(), f->o.arg);
	f->failing = r;
	if (r)
		return;
	f->o.found(&l, f->o.arg);
	donors_free(&l);
}

/* Returns when something has changed, or ms are over. */
static void wait_change(struct follow *f, uint64_t ms)
{
	uint64_t until = clock_ns() + ms * NSEC_PER_MSEC, now;
	int r = 0;

	while (!stopped(f) && (now = clock_ns()) < until) {
		uint64_t left = (until - now) / NSEC_PER_MSEC + 1;

		if (!f->reg && reg_open(f->o.url, &f->reg)) {
			f->reg = NULL;
			nap(f, left < SLICE_MS ? left : SLICE_MS);
			continue;
		}
		r = reg_watch(f->reg, "donor/", &f->since, left < SLICE_MS ? left : SLICE_MS);
		if (!r)
			return;
		if (r == -ETIMEDOUT)
			continue;
		/* Another file, or nobody there: begin anew, and read at once. */
		reg_close(f->reg);
		f->reg = NULL;
		f->since = 0;
		nap(f, SLICE_MS);
		return;
	}
}

static void *run(void *arg)
{
	struct follow *f = arg;

	while (!stopped(f)) {
		wait_change(f, f->o.interval_ms);
		if (!stopped(f))
			read_donors(f);
	}
	reg_close(f->reg);
	return NULL;
}

int follow_start(const struct follow_options *o, struct follow **ret)
{
	struct follow *f = calloc(1, sizeof *f);
	sigset_t all, before;
	int r;

	if (!f)
		return err_fail(-ENOMEM, "out of memory");
	f->o = *o;
	if (!f->o.interval_ms)
		f->o.interval_ms = FOLLOW_INTERVAL_MS;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&f->thread, NULL, run, f);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r) {
		free(f);
		return err_fail(-r, "can't start a thread: %s", strerror(r));
	}
	*ret = f;
	return 0;
}

void follow_stop(struct follow *f)
{
	if (!f)
		return;
	__atomic_store_n(&f->stop, true, __ATOMIC_RELEASE);
	pthread_join(f->thread, NULL);
	free(f);
}
