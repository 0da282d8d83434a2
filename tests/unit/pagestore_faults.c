/* SPDX-License-Identifier: MIT */
/*
 * Donors that die, stop or spoil what they send: every request ends, in time, with an error that
 * names the donor, and never with wrong bytes.
 */
#include "pagestore_donor.h"

#define PAGES    512u
#define RUNNING  8u
#define DEADLINE 1000u /* ms */

#define RUN 16u /* a slab: one donor's */
static unsigned char data[RUNNING][RUN][PS_PAGE_SIZE];

static void write_all(struct ps_volume *v)
{
	static unsigned char buf[64][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t page = 0; page < PAGES; page += 64) {
		for (unsigned k = 0; k < 64; k++)
			fill_page(buf[k], 1 + page + k);
		cr_assert_eq(transfer(ps_port(v, 0), PS_WRITE, page, 64, buf, &b), 0);
	}
}

static struct ps_volume *filled(struct test_donor *d, unsigned donors, const char *way)
{
	struct ps_volume *v;

	for (unsigned i = 0; i < donors; i++)
		donor_start(&d[i], "8M", "64K");
	v = open_volume(d, donors, way, PAGES, 1, DEADLINE);
	cr_assert_eq(ps_reserve(v, 0, PAGES), 0, "%s", err_text());
	return v;
}

/* A slab's pages into a buffer that is ours until the batch is done. */
static void start_read(struct ps_port *p, struct ps_batch *b, struct ps_vec *vec, void *buf,
		       uint64_t page)
{
	memset(buf, 0xee, sizeof data[0]);
	*vec = (struct ps_vec){.page = page, .count = RUN, .buf = buf};
	*b = (struct ps_batch){.vecs = 1, .vec = vec};
	cr_assert_eq(ps_submit(p, b, clock_ns()), 0);
}

/*
 * Reads all the time and calls `hurt` in the middle; counts good and bad ends. Goes on until the
 * hurt shows: the kernel takes its time to close a killed process's sockets, and until then shm
 * reads what is there.
 */
static void read_on(struct ps_volume *v, void (*hurt)(struct test_donor *d), struct test_donor *d,
		    unsigned ends[2], int *status, int *donor)
{
	uint64_t page = 0, until = clock_ns() + (DEADLINE + 1000) * NSEC_PER_MSEC;
	struct ps_port *p = ps_port(v, 0);
	struct ps_batch b[RUNNING], *done;
	struct ps_vec vec[RUNNING];

	for (unsigned i = 0; i < RUNNING; i++, page += RUN)
		start_read(p, &b[i], &vec[i], data[i], page);
	for (unsigned i = 0; ps_inflight(p); i++) {
		if (i == 300)
			hurt(d);
		done = wait_done(p, (DEADLINE + 1000) * NSEC_PER_MSEC);
		ends[done->status != 0]++;
		if (done->status && *status != -ETIMEDOUT) {
			*status = done->status;
			*donor = done->donor;
		}
		for (unsigned k = 0; k < RUN && !done->status; k++)
			cr_assert(page_is((char *)done->vec->buf + k * PS_PAGE_SIZE,
					  1 + done->vec->page + k));
		page = (page + RUN) % PAGES;
		if (i < 600 || (!ends[1] && clock_ns() < until))
			start_read(p, done, done->vec, done->vec->buf, page);
	}
}

static void a_killed_donor_is_an_error(const char *way)
{
	unsigned ends[2] = {0};
	int status = 0, donor = -1;
	struct test_donor d[2];
	struct ps_volume *v = filled(d, 2, way);
	struct ps_batch b;
	uint64_t begin;

	write_all(v);
	read_on(v, donor_kill, &d[1], ends, &status, &donor);
	cr_expect_gt(ends[0], 300, "the other donor's pages are read still");
	cr_expect_gt(ends[1], 0);
	cr_expect_eq(status, -EIO);
	cr_expect_eq(donor, 1);
	cr_expect(strstr(ps_donor_name(v, 1), "("), "'%s' tells why", ps_donor_name(v, 1));
	/* What is asked now fails at once, without waiting. */
	begin = clock_ns();
	for (uint64_t page = 0; page < PAGES; page++)
		if (transfer(ps_port(v, 0), PS_READ, page, 1, data, &b))
			cr_assert_eq(b.donor, 1);
		else
			cr_assert(page_is(data, 1 + page));
	cr_expect_lt(clock_ns() - begin, NSEC_PER_SEC);
	cr_expect_eq(ps_snapshot(v), -EIO);
	cr_expect_eq(ps_release(v, 0, PAGES), 0, "what is dead needs no freeing");
	cr_expect_eq(ps_reserve(v, 0, PAGES), 0, "the other donor has room");
	write_all(v);
	ps_close(v);
	donor_stop(&d[0]);
	donor_stop(&d[1]);
}

Test(faults, tcp_donor_that_is_killed_is_an_error)
{
	a_killed_donor_is_an_error("tcp");
}
Test(faults, unix_donor_that_is_killed_is_an_error)
{
	a_killed_donor_is_an_error("unix");
}
Test(faults, rdma_donor_that_is_killed_is_an_error)
{
	if (!test_rdma())
		cr_skip_test("INFUSE_TEST_RDMA names no RDMA device's address");
	a_killed_donor_is_an_error("rdma");
}
Test(faults, shm_donor_that_is_killed_is_an_error)
{
	a_killed_donor_is_an_error("shm");
}

static void a_frozen_donor_is_a_timeout(const char *way)
{
	unsigned ends[2] = {0};
	int status = 0, donor = -1;
	struct test_donor d[2];
	struct ps_volume *v = filled(d, 2, way);
	struct ps_counters count;
	struct ps_batch b;

	write_all(v);
	read_on(v, donor_freeze, &d[0], ends, &status, &donor);
	cr_expect_gt(ends[0], 300);
	cr_expect_gt(ends[1], 0);
	cr_expect_eq(status, -ETIMEDOUT);
	cr_expect_eq(donor, 0);
	ps_counters(v, &count);
	cr_expect_gt(count.timeouts, 0);
	/* It wakes up and answers late: nobody listens, no buffer changes. */
	memset(data, 0x5a, sizeof data);
	kill(d[0].pid, SIGCONT);
	for (unsigned i = 0; i < 50; i++) {
		struct ps_batch *done;

		cr_assert_eq(ps_poll(ps_port(v, 0), clock_ns(), &done, 1), 0);
		usleep(2000);
	}
	for (size_t i = 0; i < sizeof data; i++)
		cr_assert_eq(((unsigned char *)data)[i], 0x5a);
	for (uint64_t page = 0; page < PAGES; page++)
		if (transfer(ps_port(v, 0), PS_READ, page, 1, data, &b))
			cr_assert(b.status == -EIO && b.donor == 0);
	ps_close(v);
	donor_stop(&d[0]);
	donor_stop(&d[1]);
}

Test(faults, tcp_donor_that_is_frozen_is_a_timeout)
{
	a_frozen_donor_is_a_timeout("tcp");
}
Test(faults, unix_donor_that_is_frozen_is_a_timeout)
{
	a_frozen_donor_is_a_timeout("unix");
}

static void frozen_control_ends(const char *way)
{
	struct test_donor d[1];
	struct ps_volume *v = filled(d, 1, way);
	uint64_t begin = clock_ns();
	struct ps_space s;

	donor_freeze(d);
	cr_expect_eq(ps_release(v, 0, PAGES), 0);
	cr_expect_eq(ps_reserve(v, 0, PAGES), -EIO);
	cr_expect(strstr(err_text(), d->tcp) || strstr(err_text(), d->path), "%s", err_text());
	cr_expect_eq(ps_space(v, &s), -EIO);
	cr_expect_eq(ps_snapshot(v), 0, "nothing is left to clone");
	ps_close(v);
	cr_expect_lt(clock_ns() - begin, (DEADLINE + 2000) * NSEC_PER_MSEC);
	donor_stop(d);
}

Test(faults, granting_and_freeing_end_when_a_donor_is_frozen)
{
	frozen_control_ends("tcp");
	frozen_control_ends("shm");
}

static void spoiled(const char *way, enum ps_kind kind, int expected)
{
	struct test_donor d;
	struct ps_volume *v = filled(&d, 1, way);
	unsigned bad = 0;
	struct ps_batch b;

	for (uint64_t page = 0; page < PAGES; page += 8) {
		for (unsigned k = 0; k < 8; k++)
			fill_page(data[0][k], 1 + page + k);
		if (!transfer(ps_port(v, 0), PS_WRITE, page, 8, data, &b))
			continue;
		cr_assert_eq(kind, PS_WRITE);
		cr_assert_eq(b.status, expected);
		cr_assert_eq(b.donor, 0);
		bad++;
		/* Nobody knows what it left. */
		cr_assert_eq(transfer(ps_port(v, 0), PS_READ, page, 8, data, &b), -EIO);
	}
	for (uint64_t page = 0; page < PAGES; page += 8) {
		int r = transfer(ps_port(v, 0), PS_READ, page, 8, data, &b);

		for (unsigned k = 0; k < 8 && !r; k++)
			cr_assert(page_is(data[0][k], 1 + page + k));
		if (!r || kind == PS_WRITE)
			continue;
		cr_assert_eq(r, expected);
		cr_assert_eq(b.donor, 0);
		cr_assert(b.page >= page && b.page < page + 8);
		bad++;
	}
	cr_expect(bad >= 5 && bad < 60, "%u of %u", bad, PAGES / 8);
	ps_close(v);
	donor_stop(&d);
}

Test(faults, corrupted_pages_are_an_error)
{
	spoiled("corrupt,every=7:tcp", PS_READ, -EBADMSG);
	spoiled("corrupt,every=7,seed=4:unix", PS_READ, -EBADMSG);
	spoiled("corrupt,every=7:shm", PS_READ, -EBADMSG);
	spoiled("corrupt,every=5:reorder:tcp", PS_READ, -EBADMSG);
}

Test(faults, failing_requests_are_an_error)
{
	spoiled("fail,every=9:tcp", PS_WRITE, -EIO);
	spoiled("fail,every=9:unix", PS_WRITE, -EIO);
	spoiled("fail,every=9:shm", PS_WRITE, -EIO);
}

Test(faults, a_connection_that_breaks_stays_broken)
{
	struct test_donor d;
	struct ps_volume *v = filled(&d, 1, "fail,after=10:tcp");
	struct ps_batch b;

	for (unsigned i = 0; i < 20; i++) {
		fill_page(data[0][0], 5 + i);
		cr_expect_eq(transfer(ps_port(v, 0), PS_WRITE, i, 1, data, &b), i < 10 ? 0 : -EIO);
	}
	cr_expect(strstr(ps_donor_name(v, 0), "Broken pipe"), "%s", ps_donor_name(v, 0));
	ps_close(v);
	donor_stop(&d);
}
