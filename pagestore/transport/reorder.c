/* SPDX-License-Identifier: MIT */
/*
 * reorder,depth=N,seed=N: holds answers back until N are there (or no more are to come, or the
 * first of them has waited 200 us) and gives them out in a random order.
 */
#include "pagestore/transport/filter.h"
#include "common/clock.h"

#include <errno.h>

#define REORDER_HOLD (200 * NSEC_PER_USEC)

static int reorder_check(struct tp_conn *c)
{
	int r = filter_args(c, "depth|seed");

	if (!filter_of(c)->depth)
		filter_of(c)->depth = 4;
	return r;
}

static void hold(struct filter *f, struct filter_op *o, uint64_t now_ns)
{
	(void)f;
	o->due_ns = now_ns + REORDER_HOLD;
}

static bool may_release(const struct filter *f, uint64_t now_ns)
{
	if (f->held >= f->depth || f->held == f->count)
		return f->held > 0;
	for (unsigned i = 0; i < f->count; i++)
		if (f->ops[i].held && f->ops[i].due_ns <= now_ns)
			return true;
	return false;
}

static int reorder_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct filter *f = filter_of(c);
	int r = filter_collect(f, now_ns, hold);
	unsigned out = 0;

	if (r)
		return r;
	while (out < n && may_release(f, now_ns)) {
		uint64_t pick = filter_random(f) % f->held;
		unsigned i = 0;

		while (!f->ops[i].held || pick--)
			i++;
		filter_release(f, i, &done[out++]);
	}
	return (int)out;
}

const struct tp_transport tp_reorder = {
	FILTER_TABLE("reorder"),
	.check = reorder_check,
	.submit = filter_submit,
	.poll = reorder_poll,
};
