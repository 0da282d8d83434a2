/* SPDX-License-Identifier: MIT */
/*
 * Operations on the control connections: each donor's side by side with the others', with one
 * deadline for all. A connection that missed it is never polled again (its answer would land in
 * memory that is used anew), but stays open until the volume closes: other ports may be using the
 * slabs that it has mapped.
 */
#include "common/clock.h"
#include "common/error.h"
#include "common/sys.h"
#include "pagestore/volume.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define WAIT_NS (20 * NSEC_PER_MSEC) /* of one wait; the loop looks at its deadline */

uint64_t control_live(const struct ps_volume *v)
{
	uint64_t mask = 0, gone = map_gone(&v->map);

	for (unsigned d = 0; d < v->donors; d++)
		if (!v->donor[d].dead && !(gone >> d & 1))
			mask |= 1ull << d;
	return mask;
}

static void end_call(struct ps_volume *v, unsigned d, int status)
{
	v->call[d].done = true;
	v->call[d].status = status;
	v->donor[d].dead = true;
	volume_donor_error(v, d, status);
}

/* Moves one donor's call on. */
static void step(struct ps_volume *v, unsigned d)
{
	struct control_call *call = &v->call[d];
	struct tp_conn *c = v->donor[d].control;
	struct tp_done done;
	uint64_t now = clock_ns();
	int r;

	if (!call->sent) {
		r = c->t->submit(c, &call->op, now);
		if (r && r != -EAGAIN) {
			end_call(v, d, r);
			return;
		}
		call->sent = !r;
	}
	r = c->t->poll(c, now, &done, 1);
	if (r < 0) {
		end_call(v, d, r);
	} else if (r > 0 && done.tag != call->op.tag) {
		end_call(v, d, -EPROTO);
	} else if (r > 0) {
		call->done = true;
		call->status = done.status;
		call->wire = done.wire;
		if (done.wire == WIRE_EEPOCH && v->epoch)
			__atomic_store_n(&v->stale, true, __ATOMIC_RELAXED);
	}
}

static void wait_any(struct ps_volume *v, uint64_t mask)
{
	struct pollfd fds[PS_MAX_DONORS];
	uint64_t now = clock_ns(), until = now + WAIT_NS;
	struct timespec t;
	unsigned n = 0;

	for (; mask; mask &= mask - 1) {
		struct tp_conn *c = v->donor[__builtin_ctzll(mask)].control;
		uint64_t due = c->t->due ? c->t->due(c) : UINT64_MAX;

		fds[n].fd = c->t->fd(c, &fds[n].events);
		n += fds[n].fd >= 0;
		if (due < until)
			until = due;
	}
	if (until <= now)
		return;
	t = (struct timespec){0, (long)(until - now)};
	sys_call5(SYS_ppoll, SYS_PTR(fds), n, SYS_PTR(&t), 0, 0);
}

static void begin(struct ps_volume *v, uint64_t mask)
{
	for (; mask; mask &= mask - 1) {
		struct control_call *call = &v->call[__builtin_ctzll(mask)];

		call->sent = call->done = false;
		call->status = 0;
		call->wire = 0;
		call->op.tag = 1;
	}
}

/* Those that are not done by then. */
static uint64_t run_until(struct ps_volume *v, uint64_t mask, uint64_t until)
{
	for (;;) {
		for (uint64_t left = mask; left; left &= left - 1) {
			unsigned d = (unsigned)__builtin_ctzll(left);

			step(v, d);
			if (v->call[d].done)
				mask &= ~(1ull << d);
		}
		if (!mask || clock_ns() >= until)
			return mask;
		wait_any(v, mask);
	}
}

static void end_late(struct ps_volume *v, uint64_t mask)
{
	for (; mask; mask &= mask - 1)
		end_call(v, (unsigned)__builtin_ctzll(mask), -ETIMEDOUT);
}

void control_run(struct ps_volume *v, uint64_t mask, uint64_t timeout_ns)
{
	uint64_t until = clock_ns() + timeout_ns;

	begin(v, mask);
	end_late(v, run_until(v, mask, until));
}

/* Rule 6: of those that are late one is given up, and only while nothing hangs on it. */
static uint64_t give_up(struct ps_volume *v, uint64_t late)
{
	for (uint64_t m = late; m; m &= m - 1) {
		unsigned d = (unsigned)__builtin_ctzll(m);

		if (!map_give_up(&v->map, d))
			continue;
		end_call(v, d, -ETIMEDOUT);
		late &= ~(1ull << d);
	}
	return late;
}

void control_ask(struct ps_volume *v, uint64_t mask)
{
	uint64_t now = clock_ns(), end = now + v->deadline_ns;

	begin(v, mask);
	while (v->map.members > v->map.need && mask && now + 2 * v->suspect_ns < end) {
		now += 2 * v->suspect_ns;
		mask = give_up(v, run_until(v, mask, now));
	}
	end_late(v, run_until(v, mask, end));
}

int control_stat(struct ps_volume *v)
{
	uint64_t live = control_live(v);

	for (uint64_t m = live; m; m &= m - 1) {
		unsigned d = (unsigned)__builtin_ctzll(m);

		v->call[d].op = (struct tp_op){.kind = TP_STAT, .stat = &v->donor[d].stat};
	}
	control_ask(v, live);
	for (uint64_t m = live; m; m &= m - 1) {
		unsigned d = (unsigned)__builtin_ctzll(m);

		if (v->call[d].status)
			memset(&v->donor[d].stat, 0, sizeof v->donor[d].stat);
	}
	if (!control_live(v))
		return err_fail(-EIO, "no donor is left: %s", ps_donor_name(v, 0));
	return 0;
}

void lists_lay_out(struct slab_lists *l, unsigned donors)
{
	uint64_t at = 0;

	for (unsigned d = 0; d < donors; d++) {
		l->first[d] = at;
		l->done[d] = 0;
		at += l->count[d];
	}
}

static uint32_t chunk(const struct ps_volume *v, unsigned d, enum tp_kind kind, uint64_t left)
{
	uint64_t max = le32toh(v->donor[d].hello.welcome.max_slabs);

	if (kind == TP_MAP && max > WIRE_MAX_FDS)
		max = WIRE_MAX_FDS;
	return (uint32_t)(left < max ? left : max);
}

/* One message for every donor that has something left. Returns their bits. */
static uint64_t prepare(struct ps_volume *v, enum tp_kind kind, const struct wire_clone *clone,
			uint64_t skip)
{
	struct slab_lists *l = &v->lists;
	uint64_t mask = 0;

	for (unsigned d = 0; d < v->donors; d++) {
		uint64_t left = l->count[d] - l->done[d];

		if (!left || skip >> d & 1)
			continue;
		v->call[d].op = (struct tp_op){
			.kind = kind,
			.count = chunk(v, d, kind, left),
			.slabs = &l->slabs[l->first[d] + l->done[d]],
			.clone = clone,
		};
		mask |= 1ull << d;
	}
	return mask;
}

int control_lists(struct ps_volume *v, enum tp_kind kind, const struct wire_clone *clone)
{
	struct slab_lists *l = &v->lists;
	uint64_t failed = 0, mask;

	l->failed = -1;
	l->wire = 0;
	l->status = 0;
	while ((mask = prepare(v, kind, clone, failed))) {
		uint64_t live = mask & control_live(v);

		for (uint64_t m = mask & ~live; m; m &= m - 1)
			v->call[__builtin_ctzll(m)].status = -EIO;
		control_ask(v, live);
		for (; mask; mask &= mask - 1) {
			unsigned d = (unsigned)__builtin_ctzll(mask);

			if (!v->call[d].status) {
				l->done[d] += v->call[d].op.count;
				continue;
			}
			failed |= 1ull << d;
			if (l->status)
				continue;
			l->status = v->call[d].status;
			l->failed = (int)d;
			l->wire = v->call[d].wire;
		}
	}
	return l->status == -ENOSPC || l->status == -ETIMEDOUT || l->status == -ESTALE || !l->status
		       ? l->status
		       : -EIO;
}

int control_told(const struct ps_volume *v, int r, const char *what)
{
	const struct slab_lists *l = &v->lists;

	return err_fail(r, "donor '%s' %s: %s", v->donor[l->failed].control->addr.text, what,
			l->wire ? tp_wire_text(l->wire) : strerrordesc_np(-l->status));
}
