/* SPDX-License-Identifier: MIT */
/*
 * A majority vote over the distances between a thread's newest faults, after Leap (Al Maruf and
 * Chowdhury, "Effectively Prefetching Remote Memory with Leap", USENIX ATC 2020): Boyer and Moore's
 * vote over the newest 8, then 16, then 32. A stream has to learn again after every break; the
 * vote remembers the trend through noise and goes on from where the program went. Faults that were
 * foretold count as the trend, whatever was installed between them.
 */
#include "libinject/prefetch.h"

#define VOTE_FIRST 8u
#define WINDOW_MIN 4u
#define BOLD_MAX   3u
#define BOLD       2u

/* The distance that more than half of the newest n have; 0: there is none. */
static int32_t vote(const struct prefetch_thread *t, uint32_t n)
{
	int32_t winner = 0;
	uint32_t votes = 0, all = 0;

	for (uint32_t i = 1; i <= n; i++) {
		int32_t d = t->delta[(t->deltas - i) % PREFETCH_DELTAS];

		if (!votes)
			winner = d;
		votes = d == winner ? votes + 1 : votes - 1;
	}
	for (uint32_t i = 1; i <= n; i++)
		all += t->delta[(t->deltas - i) % PREFETCH_DELTAS] == winner;
	return all > n / 2 ? winner : 0;
}

static int32_t trend_of(const struct prefetch_thread *t)
{
	int32_t trend = 0;

	for (uint32_t n = VOTE_FIRST; !trend && n <= PREFETCH_DELTAS && n <= t->deltas; n *= 2)
		trend = vote(t, n);
	return trend;
}

static void delta_add(struct prefetch_thread *t, int64_t d)
{
	bool usual = d <= PREFETCH_STRIDE_MAX && d >= -PREFETCH_STRIDE_MAX;

	t->delta[t->deltas++ % PREFETCH_DELTAS] = usual ? (int32_t)d : 0;
}

/* On a range's grid, and at most one behind what was foretold: how far, or -1. */
static int64_t range_steps(const struct prefetch_range *r, uint32_t page)
{
	int64_t d = (int64_t)page - r->from, n;

	if (!r->trend)
		return -1;
	if (r->trend < 0 ? d > 0 || d < (int64_t)r->trend * r->count
			 : d < 0 || d > (int64_t)r->trend * r->count)
		return -1;
	n = r->trend == 1 ? d : d / r->trend;
	return n * r->trend == d ? n : -1;
}

static unsigned range_ask(const struct prefetch_state *s, const struct prefetch_thread *t,
			  unsigned which, struct prefetch_range *r, const struct prefetch_fault *f,
			  struct prefetch_run *run)
{
	int64_t page = r->from + (int64_t)r->trend * r->count;
	uint32_t most = f->live && r->window > WINDOW_MIN ? r->window : WINDOW_MIN;
	uint32_t count;

	if (most > s->window_max)
		most = s->window_max;
	count = r->count - r->reached < most ? run_within(s, page, r->trend, most) : 0;
	if (!count)
		return 0;
	run[0] = (struct prefetch_run){
		.page = (uint32_t)page,
		.stride = r->trend,
		.count = count,
		.owner = (uint16_t)((t - s->thread) * 2 + which),
		.check = r->check,
	};
	r->count += count;
	return 1;
}

static void bold_change(struct prefetch_thread *t, bool up)
{
	if (up && t->bold < BOLD_MAX)
		t->bold++;
	if (!up && t->bold)
		t->bold--;
}

static struct prefetch_range *range_start(struct prefetch_state *s, struct prefetch_thread *t,
					  uint32_t page, int32_t trend)
{
	struct prefetch_range *old, *r;
	uint16_t window;

	old = &t->range[t->newest];
	if (old->trend && !old->reached)
		bold_change(t, false);
	window = !old->window                    ? PREFETCH_FIRST_ASK
		 : old->reached < old->count / 2 ? old->window / 2
						 : old->window;
	if (window < WINDOW_MIN)
		window = WINDOW_MIN;
	t->newest ^= 1;
	r = &t->range[t->newest];
	*r = (struct prefetch_range){
		.from = (int64_t)page + trend,
		.trend = trend,
		.window = (uint16_t)(window < s->window_max ? window : s->window_max),
		.check = (uint16_t)(r->check + 1),
	};
	return r;
}

/* Another's window stands for faults on each of its pages. */
static void range_adopt(struct prefetch_thread *t, struct prefetch_range *r,
			const struct prefetch_fault *f)
{
	t->last = f->until;
	delta_add(t, f->step);
	r->from = (int64_t)f->until + f->step;
	r->count = r->reached = 0;
}

static unsigned majority_fault(struct prefetch_state *s, struct prefetch_fault *f,
			       struct prefetch_run *run)
{
	struct prefetch_thread *t = thread_of(s, f->thread);
	int64_t distance = t->deltas ? (int64_t)f->page - t->last : 0;
	struct prefetch_range *r;
	int32_t trend;

	t->last = f->page;
	for (unsigned i = 0; i < 2; i++) {
		unsigned which = t->newest ^ i;
		int64_t n;

		r = &t->range[which];
		n = range_steps(r, f->page);
		if (n < 0)
			continue;
		f->foreseen = true;
		if (!r->reached)
			bold_change(t, true);
		/* Missed, though it was asked: there was no room for it. */
		if (f->live && f->event == PREFETCH_MISS && n < r->count)
			r->count = (uint32_t)n + 1;
		if (n >= r->count)
			r->count = (uint32_t)n + 1;
		r->reached = (uint32_t)n + 1;
		delta_add(t, r->trend);
		if (f->step == r->trend)
			range_adopt(t, r, f);
		return range_ask(s, t, which, r, f, run);
	}
	if (f->step) {
		delta_add(t, f->step);
		r = range_start(s, t, f->page, f->step);
		range_adopt(t, r, f);
		return range_ask(s, t, t->newest, r, f, run);
	}
	delta_add(t, distance);
	if (!f->thorough)
		return 0;
	trend = trend_of(t);
	if (!trend || (trend != distance && t->bold < BOLD))
		return 0;
	r = range_start(s, t, f->page, trend);
	return range_ask(s, t, t->newest, r, f, run);
}

static void majority_outcome(struct prefetch_state *s, uint16_t owner, uint16_t check,
			     enum prefetch_outcome o)
{
	struct prefetch_range *r = &s->thread[owner / 2 % PREFETCH_THREADS].range[owner % 2];
	uint32_t twice = r->window * 2u;

	if (!r->trend || r->check != check)
		return;
	if (o == OUTCOME_USED || o == OUTCOME_LATE)
		r->window = (uint16_t)(twice < s->window_max ? twice : s->window_max);
	else
		r->window = r->window / 2 > WINDOW_MIN ? r->window / 2 : WINDOW_MIN;
}

static void majority_refused(struct prefetch_state *s, const struct prefetch_run *run)
{
	struct prefetch_range *r =
		&s->thread[run->owner / 2 % PREFETCH_THREADS].range[run->owner % 2];
	int64_t n;

	if (!r->trend || r->check != run->check)
		return;
	n = ((int64_t)run->page - r->from) / r->trend;
	if (n >= 0 && n < r->count)
		r->count = (uint32_t)n > r->reached ? (uint32_t)n : r->reached;
}

const struct prefetcher prefetch_majority = {"majority", majority_fault, majority_outcome,
					     majority_refused};
