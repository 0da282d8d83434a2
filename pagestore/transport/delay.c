/* SPDX-License-Identifier: MIT */
/* delay,us=N,jitter=N,seed=N: every answer comes N us after its request at the earliest. */
#include "pagestore/transport/filter.h"
#include "common/clock.h"

#include <errno.h>

static int delay_check(struct tp_conn *c)
{
	return filter_args(c, "us|jitter|seed");
}

static int delay_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct filter *f = filter_of(c);
	uint64_t us = f->us + (f->jitter ? filter_random(f) % (f->jitter + 1) : 0);
	int r = filter_has_room(f) ? c->inner->t->submit(c->inner, op, now_ns) : -EAGAIN;

	if (!r)
		filter_record(f, op, now_ns + us * NSEC_PER_USEC);
	return r;
}

const struct tp_transport tp_delay = {
	FILTER_TABLE("delay"),
	.check = delay_check,
	.poll = filter_poll,
	.submit = delay_submit,
};
