/* SPDX-License-Identifier: MIT */
#include "pagestore/wanted.h"
#include "common/clock.h"
#include "pagestore/maintain.h"

#include <endian.h>
#include <string.h>

#define EACH_NS     NSEC_PER_SEC
#define OPEN_NS     (250 * NSEC_PER_MSEC)
#define PATIENCE_NS (10 * NSEC_PER_SEC)
#define AGAIN_NS    (5 * NSEC_PER_SEC) /* after a failure */

static void hang_up(struct ask *a, uint64_t next_ns)
{
	tp_free(a->conn);
	a->conn = NULL;
	a->asked = false;
	a->next_ns = next_ns;
}

static bool open_conn(struct ps_volume *v, unsigned d, struct ask *a)
{
	struct tp_hello h = {0};

	if (tp_clone(v->donor[d].control, UINT32_MAX, &a->conn))
		return false;
	/* It maps no slabs, and needs no table of them. */
	tp_share(a->conn, v->donor[d].control);
	memcpy(h.borrower, v->borrower, sizeof h.borrower);
	if (volume_hello(v, a->conn, &h, OPEN_NS < v->connect_ns ? OPEN_NS : v->connect_ns) ||
	    memcmp(h.welcome.boot, v->donor[d].hello.welcome.boot, sizeof h.welcome.boot)) {
		tp_free(a->conn);
		a->conn = NULL;
		return false;
	}
	return true;
}

/* Moves away from the donor that are asked for and not done. The lock is held. */
static uint64_t pending(const struct ps_volume *v, unsigned d)
{
	uint64_t n = 0;

	for (uint64_t i = 0; v->maintain->moves && i < v->map.slabs; i++)
		n += v->maintain->from[i] == d + 1;
	return n;
}

/* The donor has enough memory again. The one that is under way ends as it would. */
static void take_back(struct ps_volume *v, unsigned d)
{
	struct maintain *m = v->maintain;

	for (uint64_t i = 0; m->moves && i < v->map.slabs; i++) {
		if (m->from[i] != d + 1 || (m->job.used && m->job.slab == i))
			continue;
		m->from[i] = 0;
		m->moves--;
	}
}

/* The donor's answer: `wanted` slabs of those listed, the least active first. */
static void take_answer(struct ps_volume *v, unsigned d, struct ask *a)
{
	uint32_t wanted = (uint32_t)a->word[0], listed = (uint32_t)(a->word[0] >> 32);
	uint64_t have;

	if (listed > WANTED_MOST)
		listed = WANTED_MOST;
	lock_take(&v->lock);
	if (!wanted)
		take_back(v, d);
	have = pending(v, d);
	lock_give(&v->lock);
	for (uint32_t i = 0; i < listed && have < wanted; i++) {
		int64_t slab = ps_slab_of(v, (int)d, a->word[1 + i]);
		bool asked;

		if (slab < 0)
			continue;
		lock_take(&v->lock);
		asked = v->maintain->from[slab];
		lock_give(&v->lock);
		if (!asked)
			have += !ps_move(v, (uint64_t)slab, (int)d, -1);
	}
}

static void drive(struct ps_volume *v, unsigned d, struct ask *a, uint64_t now_ns)
{
	struct tp_done done;
	int r = 0;

	if (!a->asked) {
		a->op = (struct tp_op){
			.kind = TP_WANTED, .tag = 1, .count = WANTED_MOST, .slabs = a->word};
		r = a->conn->t->submit(a->conn, &a->op, now_ns);
		a->asked = true;
		a->patience_ns = now_ns + PATIENCE_NS;
	}
	if (!r)
		r = a->conn->t->poll(a->conn, now_ns, &done, 1);
	if (r < 0 || (!r && now_ns >= a->patience_ns)) {
		hang_up(a, now_ns + AGAIN_NS);
		return;
	}
	if (!r)
		return;
	a->asked = false;
	a->next_ns = now_ns + EACH_NS;
	if (!done.status)
		take_answer(v, d, a);
	else if (done.wire == WIRE_EEPOCH && v->epoch)
		__atomic_store_n(&v->stale, true, __ATOMIC_RELAXED);
	else
		hang_up(a, UINT64_MAX); /* it doesn't know the question */
}

static bool is_asked(const struct ps_volume *v, unsigned d)
{
	return d != v->spill && !v->donor[d].dead && !(map_gone(&v->map) >> d & 1) &&
	       v->donor[d].held &&
	       le16toh(v->donor[d].hello.welcome.minor) >= 2;
}

uint64_t wanted_step(struct ps_volume *v, uint64_t now_ns)
{
	uint64_t next = now_ns + EACH_NS;

	for (unsigned d = 0; d < v->donors; d++) {
		struct ask *a = &v->maintain->ask[d];

		if (!is_asked(v, d)) {
			if (a->conn)
				hang_up(a, now_ns + EACH_NS);
			continue;
		}
		if (!a->asked && now_ns < a->next_ns) {
			next = a->next_ns < next ? a->next_ns : next;
			continue;
		}
		if (!a->conn && !open_conn(v, d, a)) {
			a->next_ns = clock_ns() + AGAIN_NS;
			continue;
		}
		drive(v, d, a, now_ns);
	}
	return next;
}

void wanted_restart(struct ps_volume *v, unsigned d)
{
	hang_up(&v->maintain->ask[d], 0);
}

void wanted_forget(struct ps_volume *v, bool inherited)
{
	for (unsigned d = 0; d < v->donors; d++) {
		struct ask *a = &v->maintain->ask[d];

		if (a->conn)
			a->conn->t->forget(a->conn, inherited);
		hang_up(a, 0);
	}
}

void wanted_close(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++)
		hang_up(&v->maintain->ask[d], 0);
}
