/* SPDX-License-Identifier: MIT */
/*
 * fail,every=N: each Nth read or write fails, and isn't sent. fail,after=N: the connection breaks
 * after N of them, as if the donor had died. Control operations pass.
 */
#include "pagestore/transport/filter.h"
#include "common/error.h"

#include <errno.h>

static int fail_check(struct tp_conn *c)
{
	int r = filter_args(c, "every|after|seed");

	if (!r && !filter_of(c)->every == !filter_of(c)->after)
		return err_fail(-EINVAL, "filter 'fail' needs every=N or after=N");
	return r;
}

static int fail_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct filter *f = filter_of(c);
	int r;

	if (!filter_is_data(op))
		return filter_submit(c, op, now_ns);
	if (f->after && f->counted == f->after)
		f->dead = true;
	if (f->dead)
		return -EPIPE;
	if (!filter_has_room(f))
		return -EAGAIN;
	if (f->every && (f->counted + 1) % f->every == 0) {
		filter_answer(f, op, -EIO, now_ns);
		f->counted++;
		return 0;
	}
	r = filter_submit(c, op, now_ns);
	f->counted += !r;
	return r;
}

const struct tp_transport tp_fail = {
	FILTER_TABLE("fail"),
	.check = fail_check,
	.poll = filter_poll,
	.submit = fail_submit,
};
