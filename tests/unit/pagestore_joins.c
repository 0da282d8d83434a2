/* SPDX-License-Identifier: MIT */
/*
 * Donors that join a volume in use: what lost a copy is whole again on a donor that was not there
 * when the volume was opened, a rebalancing moves slabs onto one, a new reservation is placed there;
 * two threads write, read and check every page meanwhile. Who leaves makes room in the table.
 */
#include "pagestore_work.h"

#define LIMIT (60 * NSEC_PER_SEC)

static const char *list[DONORS];
static pthread_t thread[THREADS + 1];

/* With the first n donors. */
static void begin(const char *way, unsigned n, unsigned replicas)
{
	struct ps_options o = {.name = "test",
			       .pages = 2 * PAGES,
			       .donors = list,
			       .donors_count = n,
			       .ports = THREADS,
			       .replicas = replicas,
			       .deadline_ns = 20 * NSEC_PER_SEC,
			       .suspect_ns = 5 * NSEC_PER_SEC};

	for (unsigned i = 0; i < DONORS; i++) {
		donor_start(&donor[i], "16M", "64K");
		list[i] = donor_address(&donor[i], way, address[i]);
	}
	cr_assert_eq(ps_open(&o, &volume), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	memset(what, 0, sizeof what);
	atomic_store(&ended, false);
	pthread_create(&thread[THREADS], NULL, maintenance, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i);
}

static void some_work(void)
{
	uint64_t before = atomic_load(&batches), begun = clock_ns();

	while (atomic_load(&batches) < before + 200) {
		cr_assert_lt(clock_ns() - begun, LIMIT, "nothing is done any more");
		usleep(1000);
	}
}

static void end(void)
{
	some_work();
	atomic_store(&ended, true);
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(thread[i], NULL);
	ps_close(volume);
	for (unsigned i = 0; i < DONORS; i++)
		donor_stop(&donor[i]);
}

static uint64_t members(int d)
{
	struct ps_donor_health h = {0};

	return ps_donor_health(volume, d, &h) ? 0 : h.members;
}

static void wait_members(int d, uint64_t least)
{
	uint64_t begun = clock_ns();

	while (members(d) < least) {
		cr_assert_lt(clock_ns() - begun, LIMIT, "donor %d has %lu slabs", d,
			     (unsigned long)members(d));
		usleep(20000);
	}
}

static void wait_degraded(bool degraded)
{
	uint64_t begun = clock_ns();
	struct ps_health h;

	do {
		usleep(20000);
		ps_health(volume, &h);
		cr_assert_lt(clock_ns() - begun, LIMIT, "%lu of %lu slabs are degraded",
			     (unsigned long)h.degraded, (unsigned long)h.slabs);
		cr_assert_eq(h.lost, 0);
	} while ((h.degraded > 0) != degraded);
}

static void becomes_whole(const char *way)
{
	begin(way, 2, 2);
	some_work();
	donor_kill(&donor[1]);
	wait_degraded(true);
	some_work();
	cr_assert_eq(ps_update_donors(volume, list, 2), 0);
	wait_degraded(true);
	cr_assert_eq(ps_update_donors(volume, list, 3), 0, "%s", err_text());
	cr_assert_eq(ps_donors(volume), 3);
	wait_degraded(false);
	/* The survivor goes, too: all is on the new one. */
	donor_kill(&donor[0]);
	wait_degraded(true);
	end();
}

TestSuite(joins, .timeout = 200);

Test(joins, a_degraded_volume_becomes_whole_over_tcp)
{
	becomes_whole("tcp");
}

Test(joins, a_degraded_volume_becomes_whole_over_shm)
{
	becomes_whole("shm");
}

Test(joins, one_copy_is_placed_and_rebalanced_there)
{
	char line[2048];
	ssize_t n = readlink("/proc/self/exe", bin, sizeof bin - 1);

	cr_assert_gt(n, 0);
	*strrchr(bin, '/') = 0;
	begin("tcp", 1, 1);
	cr_assert_eq(ps_update_donors(volume, list, 2), 0, "%s", err_text());
	snprintf(line, sizeof line,
		 "%s/infuse rebalance --margin 1 --timeout 20s --donor %s --donor %s > /dev/null",
		 bin, list[0], list[1]);
	cr_assert_eq(system(line), 0);
	wait_members(1, PAGES / 16 / 3);
	/* The next one joins, and is a new slab's place at once: donors not yet used are first. */
	cr_assert_eq(ps_update_donors(volume, list, 3), 0, "%s", err_text());
	for (uint64_t begun = clock_ns(), i = 0; !members(2); i++) {
		cr_assert_lt(clock_ns() - begun, LIMIT);
		cr_assert_eq(ps_reserve(volume, PAGES + i % PAGES, 1), 0, "%s", err_text());
		ps_release(volume, PAGES, PAGES);
		cr_assert_eq(ps_reserve(volume, PAGES + i % PAGES, 1), 0, "%s", err_text());
		usleep(20000);
	}
	end();
}

Test(joins, the_table_has_room_again_for_others)
{
	char text[PS_MAX_DONORS][32];
	const char *many[PS_MAX_DONORS + 1];
	unsigned n = 0;
	uint64_t begun = clock_ns();

	begin("tcp", 2, 2);
	/* Two are there; nobody answers at the others. */
	many[n++] = list[0];
	many[n++] = list[1];
	for (; n < PS_MAX_DONORS; n++) {
		snprintf(text[n], sizeof text[n], "tcp:127.0.0.1:%u", n);
		many[n] = text[n];
	}
	cr_assert_eq(ps_update_donors(volume, many, n), 0, "%s", err_text());
	some_work();
	many[n++] = list[2];
	cr_assert_eq(ps_update_donors(volume, many, n), -E2BIG);
	donor_kill(&donor[1]);
	wait_degraded(true);
	/* None of them was ever seen, so none is waited for. */
	while (ps_update_donors(volume, list, DONORS)) {
		cr_assert_lt(clock_ns() - begun, LIMIT, "%s", err_text());
		usleep(50000);
	}
	wait_degraded(false);
	cr_assert_eq(ps_donors(volume), PS_MAX_DONORS);
	end();
}

/* The same server under another name is nobody new: two copies there would be one. */
Test(joins, a_donor_joins_once)
{
	const char *both[3];
	char other[160];

	begin("tcp", 2, 2);
	donor_kill(&donor[1]);
	wait_degraded(true);
	both[0] = list[0];
	both[1] = donor_address(&donor[0], "unix", other);
	cr_assert_eq(ps_update_donors(volume, both, 2), 0);
	some_work();
	usleep(1500000);
	wait_degraded(true);
	both[2] = list[2];
	cr_assert_eq(ps_update_donors(volume, both, 3), 0);
	wait_degraded(false);
	cr_assert_eq(members(2), 0, "copies on a donor that has them already");
	end();
}
