/* SPDX-License-Identifier: MIT */
/* corrupt,every=N,seed=N: flips one bit in the data of each Nth READ, as a bad cable would. */
#include "pagestore/transport/filter.h"
#include "common/error.h"

#include <errno.h>

static int corrupt_check(struct tp_conn *c)
{
	int r = filter_args(c, "every|seed");

	if (!r && !filter_of(c)->every)
		return err_fail(-EINVAL, "filter 'corrupt' needs every=N");
	return r;
}

static void flip(struct filter *f, struct filter_op *o, uint64_t now_ns)
{
	const struct tp_seg *seg;
	uint64_t bit;

	(void)now_ns;
	if (!tp_reads(o->op->kind) || o->done.status || ++f->counted % f->every)
		return;
	seg = &o->op->seg[filter_random(f) % o->op->count];
	bit = filter_random(f) % (seg->pages * tp_unit(o->op->kind) * 8ull);
	((unsigned char *)seg->buf)[bit / 8] ^= (unsigned char)(1u << bit % 8);
}

static int corrupt_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct filter *f = filter_of(c);
	int r = filter_collect(f, now_ns, flip);

	return r ? r : (int)filter_release_due(f, now_ns, done, n);
}

const struct tp_transport tp_corrupt = {
	FILTER_TABLE("corrupt"),
	.check = corrupt_check,
	.submit = filter_submit,
	.poll = corrupt_poll,
};
