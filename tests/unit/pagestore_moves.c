/* SPDX-License-Identifier: MIT */
/*
 * Donors that want their memory back get it while two threads write, read and check every page: a
 * drained donor is empty within seconds, one that is not drained any more gets its share by a
 * rebalancing, and no request notices. One copy and two, over tcp and shm.
 */
#include "pagestore_work.h"

static int infuse(const char *words, const char *addr)
{
	char line[2048];

	snprintf(line, sizeof line, "%s/infuse %s %s > /dev/null", bin, words, addr);
	return system(line);
}

static uint64_t members(int d)
{
	struct ps_donor_health h;

	cr_assert_eq(ps_donor_health(volume, d, &h), 0);
	return h.members;
}

/* Polls: for how many ms did it take? */
static uint64_t wait_members(int d, uint64_t least, uint64_t most)
{
	uint64_t begun = clock_ns();

	while (members(d) < least || members(d) > most) {
		cr_assert_lt(clock_ns() - begun, 60 * NSEC_PER_SEC, "donor %d has %lu", d,
			     (unsigned long)members(d));
		usleep(20000);
	}
	return (clock_ns() - begun) / NSEC_PER_MSEC;
}

static void moves(const char *way, unsigned replicas)
{
	struct ps_options o = {.name = "test",
			       .pages = PAGES,
			       .donors_count = DONORS,
			       .ports = THREADS,
			       .replicas = replicas,
			       .deadline_ns = 20 * NSEC_PER_SEC,
			       .suspect_ns = 10 * NSEC_PER_SEC};
	const char *list[DONORS];
	char all[600];
	pthread_t t[THREADS + 1];
	uint64_t before, ms;
	ssize_t n = readlink("/proc/self/exe", bin, sizeof bin - 1);

	cr_assert_gt(n, 0);
	*strrchr(bin, '/') = 0;
	for (unsigned i = 0; i < DONORS; i++) {
		donor_start(&donor[i], "16M", "64K");
		list[i] = donor_address(&donor[i], way, address[i]);
	}
	o.donors = list;
	cr_assert_eq(ps_open(&o, &volume), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	memset(what, 0, sizeof what);
	atomic_store(&ended, false);
	pthread_create(&t[THREADS], NULL, maintenance, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, work, (void *)(uintptr_t)i);

	before = members(0);
	cr_assert_gt(before, 4);
	cr_assert_eq(infuse("drain --timeout 20s", donor[0].tcp), 0);
	ms = wait_members(0, 0, 0);
	printf("%s, %u copies: %lu slabs left the drained donor in %lu ms\n", way, replicas,
	       (unsigned long)before, (unsigned long)ms);
	cr_assert_eq(infuse("drain --wait-at-most 30s --timeout 20s", donor[0].tcp), 0);
	cr_assert_eq(infuse("drain --undo --timeout 20s", donor[0].tcp), 0);
	snprintf(all, sizeof all, "--donor %s --donor %s --donor %s", donor[0].tcp, donor[1].tcp,
		 donor[2].tcp);
	cr_assert_eq(infuse("rebalance --margin 1 --timeout 20s", all), 0);
	/* a third of all, more or less; those that move choose the better of two */
	ms = wait_members(0, before / 3, PAGES);
	printf("and a share of them was back in %lu ms\n", (unsigned long)ms);
	before = atomic_load(&batches);
	while (atomic_load(&batches) < before + 200)
		usleep(1000);
	atomic_store(&ended, true);
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(t[i], NULL);
	ps_close(volume);
	for (unsigned i = 0; i < DONORS; i++)
		donor_stop(&donor[i]);
}

TestSuite(moves, .timeout = 200);

Test(moves, one_copy_over_tcp)
{
	moves("tcp", 1);
}

Test(moves, two_copies_over_tcp)
{
	moves("tcp", 2);
}

Test(moves, one_copy_over_shm)
{
	moves("shm", 1);
}
