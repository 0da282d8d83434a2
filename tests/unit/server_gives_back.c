/* SPDX-License-Identifier: MIT */
/*
 * How a donor gets its memory back: the policy, as the pure function that it is; the choice of
 * slabs that borrowers are asked for, draining and quotas, against a real server.
 */
#include "server_client.h"
#include "server/reclaim.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct donor d;
static char buf[16 * PAGE];

static void start(void)
{
	donor_start(&d, NULL);
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_policy, .timeout = 10);
TestSuite(server_gives_back, .init = start, .fini = stop, .timeout = 60);
TestSuite(server_quota, .fini = stop, .timeout = 60);

#define MIB    (1ull << 20)
#define SECOND 1000000000ull

/* 100 slabs of 4 MiB; below 100 MiB it shrinks, to 200 MiB. */
static struct srv_reclaim_policy policy = {
	.below_bytes = 100 * MIB, .target_bytes = 200 * MIB, .some_percent = 20};

static int64_t decide(uint64_t available_mib, double psi, uint32_t owed, uint32_t away,
		      uint32_t parked, uint64_t seconds)
{
	struct srv_pressure now = {available_mib * MIB, 1000 * MIB, psi};
	struct srv_arena_state a = {
		.total = 100, .room = 10, .owed = owed, .away = away, .parked = parked};

	return srv_reclaim_decide(&policy, &now, &a, 4 * MIB, (1000 + seconds) * SECOND);
}

Test(server_policy, shrinks_to_the_target_at_once_and_asks_for_nothing_twice)
{
	cr_assert_eq(decide(100, 0, 0, 0, 0, 0), 0);
	cr_assert_eq(decide(98, 0, 0, 0, 0, 1), 26, "102 MiB, rounded up");
	cr_assert_eq(decide(98, 0, 26, 0, 0, 2), 0, "they are coming");
	cr_assert_eq(decide(50, 0, 10, 5, 1, 3), 0, "14 are coming: 106 MiB is not below");
	cr_assert_eq(decide(30, 0, 10, 5, 1, 3), 29, "86 MiB is");
	cr_assert_eq(decide(0, 0, 0, 95, 95, 4), 5, "no more than there are");
	cr_assert_eq(decide(0, 0, 30, 70, 70, 5), 0);
}

Test(server_policy, grows_back_slowly_and_only_far_above_the_target)
{
	cr_assert_eq(decide(900, 0, 0, 50, 50, 0), 0);
	cr_assert_eq(decide(900, 0, 0, 50, 50, 19), 0, "not calm for long enough");
	cr_assert_eq(decide(900, 0, 0, 50, 50, 21), -3);
	cr_assert_eq(decide(900, 0, 0, 47, 47, 22), 0, "a step each two seconds");
	cr_assert_eq(decide(900, 0, 0, 47, 47, 24), -3);
	cr_assert_eq(decide(310, 0, 0, 44, 44, 27), -2, "to 300 MiB, no further");
	cr_assert_eq(decide(299, 0, 0, 44, 44, 30), 0);
	cr_assert_eq(decide(900, 0, 0, 1, 1, 33), -1);
	cr_assert_eq(decide(900, 0, 0, 0, 0, 36), 0);
	cr_assert_geq(decide(99, 0, 0, 10, 10, 37), 1);
	cr_assert_eq(decide(900, 0, 0, 10, 10, 38), 0, "the calm begins anew");
}

Test(server_policy, people_who_wait_for_memory_count_below_the_target)
{
	cr_assert_eq(decide(150, 19, 0, 0, 0, 0), 0);
	cr_assert_eq(decide(150, 20, 0, 0, 0, 1), 5);
	cr_assert_eq(decide(150, 90, 5, 0, 0, 2), 0, "a step each two seconds");
	cr_assert_eq(decide(150, 90, 5, 0, 0, 4), 5);
	cr_assert_eq(decide(201, 90, 0, 0, 0, 10), 0, "it is not for memory that they wait");
	policy.some_percent = 0;
	cr_assert_eq(decide(150, 90, 0, 0, 0, 20), 0);
}

static uint32_t drain(int fd, uint32_t what, uint32_t slabs)
{
	struct wire_drain m = {.what = htole32(what), .slabs = htole32(slabs)};

	return client_ask(fd, WIRE_DRAIN, 1, &m, sizeof m, NULL, NULL);
}

/* How many would do; those that are listed in slabs[64], *n of them. */
static uint32_t wanted(int fd, uint64_t *slabs, uint32_t *n)
{
	struct {
		struct wire_wanted head;
		struct wire_slab slab[64];
	} answer;
	size_t bytes = sizeof answer;

	cr_assert_eq(client_ask(fd, WIRE_WANTED, 64, NULL, 0, &answer, &bytes), WIRE_OK);
	cr_assert_eq(bytes, sizeof answer);
	*n = le32toh(answer.head.listed);
	cr_assert_leq(*n, 64);
	for (uint32_t i = 0; i < *n; i++)
		slabs[i] = le64toh(answer.slab[i].slab);
	return le32toh(answer.head.slabs);
}

static void use(int fd, uint64_t slab, int times)
{
	struct wire_seg seg = client_seg(slab, 0, 1);

	while (times--)
		cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
}

Test(server_gives_back, asks_for_the_least_active_slabs_and_some_to_choose_from)
{
	int a = client_open(&d, false, 1), b = client_open(&d, true, 2);
	uint64_t of_a[40], of_b[20], list[64];
	uint32_t n;

	cr_assert_eq(client_grant(a, 40, of_a), WIRE_OK);
	cr_assert_eq(client_grant(b, 20, of_b), WIRE_OK);
	cr_assert_eq(wanted(a, list, &n), 0);
	cr_assert_eq(n, 0);
	for (int i = 0; i < 40; i++)
		use(a, of_a[i], i < 8 ? 0 : 20);
	for (int i = 0; i < 20; i++)
		use(b, of_b[i], i < 4 ? 1 : 30);
	cr_assert_eq(drain(a, WIRE_DRAIN_SOME, 10), WIRE_OK);
	until(wanted(a, list, &n) == 8);
	cr_assert_geq(n, 8);
	cr_assert_eq(le32toh(client_stat(a).slabs_wanted), 10);
	/* those that were never touched come first */
	for (uint32_t i = 0; i < 8; i++) {
		bool cold = false;

		for (int k = 0; k < 8; k++)
			cold |= list[i] == of_a[k];
		cr_assert(cold, "slab %u is used", i);
	}
	cr_assert_eq(client_free(a, list, 8), WIRE_OK);
	cr_assert_eq(wanted(a, list, &n), 0);
	cr_assert_eq(wanted(b, list, &n), 2);
	cr_assert_geq(n, 4, "two more to choose from");
	cr_assert_eq(client_free(b, list, 2), WIRE_OK);
	until(!le32toh(client_stat(a).slabs_wanted));
	cr_assert_eq(wanted(a, list, &n), 0);
	cr_assert_eq(n, 0);
	cr_assert_eq(client_grant(a, 5, list), WIRE_OK, "it grants all the time");
	close(a);
	close(b);
}

Test(server_gives_back, a_drained_donor_grants_nothing_and_wants_all_back_until_that_is_undone)
{
	int fd = client_open(&d, false, 1);
	uint64_t slab[30], list[64];
	struct wire_stat st;
	uint32_t n;

	cr_assert_eq(client_grant(fd, 30, slab), WIRE_OK);
	cr_assert_eq(drain(fd, WIRE_DRAIN_ALL, 0), WIRE_OK);
	cr_assert_eq(client_grant(fd, 1, list), WIRE_EDRAINING);
	until(wanted(fd, list, &n) == 30);
	cr_assert_eq(n, 30);
	st = client_stat(fd);
	cr_assert_eq(le64toh(st.slabs_free), 0);
	cr_assert_eq(le32toh(st.slabs_lent), 30);
	cr_assert_eq(le32toh(st.flags), WIRE_STAT_F_EMPTYING);
	use(fd, slab[3], 1);
	cr_assert_eq(client_clone(fd, 5, slab, 2, list), WIRE_OK, "a fork must not fail for that");
	cr_assert_eq(client_free(fd, slab, 20), WIRE_OK);
	until(wanted(fd, list, &n) == 10);
	cr_assert_eq(drain(fd, WIRE_DRAIN_UNDO, 0), WIRE_OK);
	until(wanted(fd, list, &n) == 0);
	cr_assert_eq(n, 0);
	cr_assert_eq(client_grant(fd, 1, list), WIRE_OK);
	cr_assert_eq(drain(fd, 3, 0), WIRE_EPROTO);
	cr_assert_eq(drain(fd, WIRE_DRAIN_ALL, 1), WIRE_EPROTO);
	close(fd);
}

Test(server_gives_back, who_only_asks_has_nothing_that_is_wanted)
{
	int fd = client_open(&d, false, 0);

	cr_assert_eq(client_ask(fd, WIRE_WANTED, 1, NULL, 0, NULL, NULL), WIRE_EDENIED);
	close(fd);
}

Test(server_quota, is_the_most_that_one_borrower_gets)
{
	char path[] = "/tmp/infuse-quota.XXXXXX";
	int fd = mkstemp(path), a, b;
	uint64_t slab[64];

	cr_assert(write(fd, "quota = 512K\nquota borrower 2 = 1M\n", 36) > 0);
	donor_start(&d, (const char *[]){"--config", path, NULL});
	close(fd);
	a = client_open(&d, false, 1);
	b = client_open(&d, true, 2);
	cr_assert_eq(client_grant(a, 9, slab), WIRE_EQUOTA);
	cr_assert_eq(client_grant(a, 8, slab), WIRE_OK);
	cr_assert_eq(client_grant(a, 1, slab + 8), WIRE_EQUOTA);
	cr_assert_eq(client_free(a, slab, 1), WIRE_OK);
	cr_assert_eq(client_grant(a, 1, slab), WIRE_OK);
	cr_assert_eq(client_grant(b, 16, slab + 8), WIRE_OK);
	cr_assert_eq(client_grant(b, 1, slab + 24), WIRE_EQUOTA);
	cr_assert_eq(client_clone(b, 3, slab + 8, 9, slab + 24), WIRE_EQUOTA,
		     "a clone is its owner's");
	cr_assert_eq(client_clone(b, 3, slab + 8, 8, slab + 24), WIRE_OK);
	cr_assert_eq(client_slabs_free(a), 64 - 8 - 16 - 8);
	/* read again */
	fd = creat(path, 0600);
	cr_assert(write(fd, "quota = 640K\n", 13) > 0);
	close(fd);
	kill(d.pid, SIGHUP);
	until(client_grant(a, 2, slab + 40) == WIRE_OK);
	cr_assert_eq(client_grant(b, 1, slab + 42), WIRE_EQUOTA, "it keeps what it has, no more");
	unlink(path);
	close(a);
	close(b);
}
