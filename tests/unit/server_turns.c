/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is, counted in bytes: connections with endless or little work, no sockets and no
 * clock. What is told here is what server/turns.h promises.
 */
#include "server/turns.h"

#include <criterion/criterion.h>
#include <stdint.h>

#define MESSAGE (256u * 1024) /* what a turn of a greedy one may overdraw by at most */

struct conn {
	struct srv_place place;
	size_t work; /* bytes wanted */
	size_t done;
	bool leaves; /* when it is done, and at its next turn */
};

static struct srv_turns turns;
static struct srv_flow *seat[8];
static struct conn conns[64];
static size_t others; /* bytes done by all */

TestSuite(server_turns, .timeout = 20);

static size_t serve(void *arg, struct srv_place *p, size_t share)
{
	struct conn *c = (struct conn *)(void *)p;
	size_t n = c->work < share ? c->work : share;

	(void)arg;
	cr_assert_gt(share, 0);
	cr_assert(!p->queued);
	c->work -= n;
	c->done += n;
	others += n;
	if (c->leaves)
		srv_turns_leave(&turns, p);
	else if (c->work)
		srv_turns_queue(&turns, p);
	return n;
}

static struct conn *conn(unsigned i, unsigned borrower, size_t work)
{
	struct conn *c = &conns[i];

	cr_assert(srv_turns_join(&c->place));
	srv_turns_seat(&c->place, &seat[borrower]);
	c->work = work;
	srv_turns_queue(&turns, &c->place);
	return c;
}

static void round_once(void)
{
	srv_turns_round(&turns, serve, NULL);
}

/* The bytes that others got between a small request and its answer. */
static size_t wait_of_small(struct conn *small)
{
	size_t before = others;

	small->work = 4096;
	srv_turns_queue(&turns, &small->place);
	while (small->work)
		round_once();
	return others - before - 4096;
}

Test(server_turns, a_small_request_waits_for_one_share_of_a_greedy_borrower)
{
	struct conn *small = conn(0, 0, 0);

	for (unsigned i = 1; i <= 8; i++)
		conn(i, 1, SIZE_MAX);
	for (unsigned i = 0; i < 1000; i++) {
		if (!small->place.queued)
			cr_assert_leq(wait_of_small(small), SRV_SHARE_MUCH);
		round_once();
	}
}

Test(server_turns, a_small_request_waits_for_one_share_of_each_busy_borrower)
{
	struct conn *small = conn(0, 0, 4096);

	round_once();
	for (unsigned b = 1; b < 8; b++)
		for (unsigned i = 0; i < 4; i++)
			conn(b * 4 + i, b, SIZE_MAX);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_leq(wait_of_small(small), 7 * SRV_SHARE_MUCH);
}

Test(server_turns, borrowers_get_the_same_whatever_number_of_connections_they_have)
{
	size_t one = 0, many = 0;

	conn(0, 0, SIZE_MAX / 2);
	for (unsigned i = 1; i <= 16; i++)
		conn(i, 1, SIZE_MAX / 2);
	for (unsigned i = 0; i < 10000; i++)
		round_once();
	one = conns[0].done;
	for (unsigned i = 1; i <= 16; i++) {
		many += conns[i].done;
		cr_assert_leq(conns[i].done, conns[1].done + 2 * SRV_SHARE_MUCH);
		cr_assert_geq(conns[i].done + 2 * SRV_SHARE_MUCH, conns[1].done);
	}
	cr_assert_leq(one, many + 2 * SRV_SHARE_MUCH);
	cr_assert_leq(many, one + 2 * SRV_SHARE_MUCH);
}

static size_t overdraw(void *arg, struct srv_place *p, size_t share)
{
	struct conn *c = (struct conn *)(void *)p;

	(void)arg;
	(void)share;
	c->done += c->work;
	srv_turns_queue(&turns, p);
	return c->work;
}

Test(server_turns, who_takes_more_than_his_share_pays_with_the_next_ones)
{
	conn(0, 0, MESSAGE);
	conn(1, 1, 4096);
	for (unsigned i = 0; i < 16384; i++)
		srv_turns_round(&turns, overdraw, NULL);
	/* One message of 64 pages takes four rounds' shares, one page costs no other round. */
	cr_assert_leq(conns[0].done, (16384 + 8) * (size_t)SRV_SHARE);
	cr_assert_geq(conns[1].done, 12000u * 4096);
}

Test(server_turns, connections_come_and_go_at_any_time)
{
	unsigned seed = 1;

	for (unsigned i = 0; i < 200000; i++) {
		struct conn *c;

		seed = seed * 1103515245 + 12345;
		c = &conns[seed >> 16 & 63];
		if (!c->place.flow) {
			conn((unsigned)(c - conns), seed >> 24 & 7, seed % 300000);
		} else if (seed >> 8 & 1) {
			srv_turns_leave(&turns, &c->place);
			cr_assert_null(c->place.flow);
		} else if (!c->place.queued) {
			c->work = seed % 300000;
			c->leaves = seed >> 10 & 1;
			srv_turns_queue(&turns, &c->place);
		}
		if (seed >> 12 & 1)
			round_once();
	}
	for (unsigned i = 0; i < 64; i++)
		if (conns[i].place.flow)
			srv_turns_leave(&turns, &conns[i].place);
	cr_assert_eq(turns.flows, 0);
	cr_assert_eq(turns.queued, 0);
	cr_assert_eq(turns.small, 0);
	cr_assert_null(turns.first);
	for (unsigned b = 0; b < 8; b++)
		cr_assert_null(seat[b], "the last one leaves the seat empty");
}
