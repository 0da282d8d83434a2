/* SPDX-License-Identifier: MIT */
/*
 * The contract of the page store over every transport: what was written is read back, to the last
 * byte, or there is an error. Real memory servers, a shadow of what every page should hold.
 */
#include "pagestore_donor.h"

#include <pthread.h>
#include <sys/prctl.h>

#define PAGES   768u
#define RUNNING 6u
#define VECS    6u

/* One port's random work on pages [first, first + PAGES), and what it knows of them. */
struct work {
	struct ps_volume *v;
	struct ps_port *port;
	uint64_t first, rng, what;
	unsigned rounds;
	uint64_t content[PAGES];
	bool in_use[PAGES];
	struct job {
		struct ps_batch b;
		struct ps_vec vec[VECS];
		unsigned char data[VECS * 24][PS_PAGE_SIZE];
		uint64_t hashes[VECS * 24];
		bool busy;
	} job[RUNNING];
	uint64_t done;
};

static uint64_t draw(struct work *w, uint64_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng % n;
}

static struct work *new_work(struct ps_volume *v, unsigned port, uint64_t seed)
{
	struct work *w = calloc(1, sizeof *w);

	cr_assert(w);
	w->v = v;
	w->port = ps_port(v, port);
	w->first = (uint64_t)port * PAGES;
	w->rng = seed * 0x9e3779b97f4a7c15ull | 1;
	w->what = (uint64_t)port << 40;
	return w;
}

static void add_vec(struct work *w, struct job *j, unsigned *used, bool hashes)
{
	uint64_t at = draw(w, PAGES), count = 1 + draw(w, draw(w, 4) ? 3 : 24);
	unsigned char *data = j->data[*used];

	for (uint64_t k = 0; k < count; k++)
		if (at + k >= PAGES || w->in_use[at + k])
			count = k;
	if (!count)
		return;
	j->vec[j->b.vecs++] = (struct ps_vec){.page = w->first + at,
					      .count = (uint32_t)count,
					      .buf = data,
					      .hashes = hashes ? &j->hashes[*used] : NULL};
	for (uint64_t k = 0; k < count; k++, data += PS_PAGE_SIZE) {
		w->in_use[at + k] = true;
		if (j->b.kind == PS_READ) {
			memset(data, 0xa5, PS_PAGE_SIZE);
			continue;
		}
		w->content[at + k] = draw(w, 6) ? ++w->what : 0;
		fill_page(data, w->content[at + k]);
		j->hashes[*used + k] = ps_hash(data);
	}
	*used += (unsigned)count;
}

static void start_job(struct work *w, struct job *j)
{
	unsigned used = 0, vecs = 1 + (unsigned)draw(w, VECS);
	bool hashes = draw(w, 2);

	j->b = (struct ps_batch){.kind = draw(w, 2) ? PS_READ : PS_WRITE, .vec = j->vec};
	for (unsigned i = 0; i < vecs; i++)
		add_vec(w, j, &used, hashes);
	if (!j->b.vecs)
		return;
	cr_assert_eq(ps_submit(w->port, &j->b, clock_ns()), 0);
	j->busy = true;
}

static void end_job(struct work *w, struct job *j)
{
	cr_assert_eq(j->b.status, 0, "%d: page %lu at %s", j->b.status, (unsigned long)j->b.page,
		     ps_donor_name(w->v, j->b.donor));
	for (unsigned i = 0; i < j->b.vecs; i++)
		for (uint32_t k = 0; k < j->vec[i].count; k++) {
			uint64_t at = j->vec[i].page - w->first + k;

			w->in_use[at] = false;
			if (j->b.kind == PS_READ)
				cr_assert(page_is((char *)j->vec[i].buf + k * PS_PAGE_SIZE,
						  w->content[at]),
					  "page %lu", (unsigned long)at);
		}
	j->busy = false;
	w->done++;
}

/* Pages that read as zeros from now on; with their slabs, or without. */
static void forget_pages(struct work *w)
{
	uint64_t at = draw(w, PAGES), count = 1 + draw(w, 100);
	bool release = !draw(w, 3);

	for (uint64_t k = 0; k < count; k++)
		if (at + k >= PAGES || w->in_use[at + k])
			count = k;
	if (!count)
		return;
	if (release) {
		cr_assert_eq(ps_release(w->v, w->first + at, count), 0, "%s", err_text());
		cr_assert_eq(ps_reserve(w->v, w->first + at, count), 0, "%s", err_text());
	} else {
		ps_discard(w->v, w->first + at, count);
	}
	memset(&w->content[at], 0, count * sizeof w->content[0]);
}

static void finish(struct work *w)
{
	while (ps_inflight(w->port))
		end_job(w, (struct job *)(void *)wait_done(w->port, 20 * NSEC_PER_SEC));
}

static void run_work(struct work *w, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		struct ps_batch *done[RUNNING];
		unsigned n;

		if (!draw(w, 40))
			forget_pages(w);
		for (unsigned k = 0; k < RUNNING; k++)
			if (!w->job[k].busy && draw(w, 2))
				start_job(w, &w->job[k]);
		n = ps_poll(w->port, clock_ns(), done, RUNNING);
		for (unsigned k = 0; k < n; k++)
			end_job(w, (struct job *)(void *)done[k]);
		if (!n)
			ps_wait(w->port, 10 * NSEC_PER_MSEC);
	}
	finish(w);
}

/* Every page, one last time. */
static void check_all(struct work *w)
{
	static _Thread_local unsigned char buf[64][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t at = 0; at < PAGES; at += 64) {
		cr_assert_eq(transfer(w->port, PS_READ, w->first + at, 64, buf, &b), 0);
		for (unsigned k = 0; k < 64; k++)
			cr_assert(page_is(buf[k], w->content[at + k]), "page %lu",
				  (unsigned long)(at + k));
	}
}

/* Skips the test where there is no RDMA device. */
static const char *rdma(void)
{
	if (!test_rdma())
		cr_skip_test("INFUSE_TEST_RDMA names no RDMA device's address");
	return "rdma";
}

static void reads_what_was_written(const char *way, unsigned donors, unsigned rounds)
{
	struct test_donor d[TEST_MAX_DONORS];
	struct ps_counters count;
	struct ps_volume *v;
	struct work *w;

	for (unsigned i = 0; i < donors; i++)
		donor_start(&d[i], "8M", "64K");
	v = open_volume(d, donors, way, PAGES, 1, 10000);
	cr_assert_eq(ps_reserve(v, 0, PAGES), 0, "%s", err_text());
	w = new_work(v, 0, donors + rounds);
	run_work(w, rounds);
	check_all(w);
	cr_expect_gt(w->done, rounds / 4);
	ps_counters(v, &count);
	cr_expect_gt(count.pages_read, 0);
	cr_expect_gt(count.pages_written, 0);
	cr_expect_gt(count.zero_reads, 0);
	cr_expect_gt(count.zero_writes, 0);
	cr_expect_eq(count.errors, 0);
	free(w);
	ps_close(v);
	for (unsigned i = 0; i < donors; i++)
		donor_stop(&d[i]);
}

Test(contract, tcp_reads_what_was_written)
{
	reads_what_was_written("tcp", 1, 2500);
}
Test(contract, tcp_reads_what_was_written_to_three_donors)
{
	reads_what_was_written("tcp", 3, 2500);
}
Test(contract, unix_reads_what_was_written)
{
	reads_what_was_written("unix", 1, 2500);
}
Test(contract, unix_reads_what_was_written_to_three_donors)
{
	reads_what_was_written("unix", 3, 2500);
}
Test(contract, shm_reads_what_was_written)
{
	reads_what_was_written("shm", 1, 2500);
}
Test(contract, shm_reads_what_was_written_to_three_donors)
{
	reads_what_was_written("shm", 3, 2500);
}
Test(contract, rdma_reads_what_was_written)
{
	reads_what_was_written(rdma(), 1, 300);
}
Test(contract, rdma_reads_what_was_written_to_three_donors)
{
	reads_what_was_written(rdma(), 3, 200);
}
Test(contract, rdma_with_keys_reads_what_was_written)
{
	const char *way = rdma();

	donors_with_key();
	reads_what_was_written(way, 2, 200);
	donors_without_key();
}
Test(contract, rdma_answers_reordered_are_right_all_the_same)
{
	reads_what_was_written(rdma() ? "reorder,depth=4,seed=5:rdma" : NULL, 2, 150);
}
Test(contract, delayed_answers_are_right_all_the_same)
{
	reads_what_was_written("delay,us=100,jitter=2000,seed=3:tcp", 2, 400);
}
Test(contract, reordered_answers_are_right_all_the_same)
{
	reads_what_was_written("reorder,depth=4,seed=5:unix", 2, 1000);
}
Test(contract, filters_stack_on_shm_too)
{
	reads_what_was_written("reorder,depth=3:delay,us=50,jitter=300:shm", 2, 400);
}

Test(contract, sealed_tcp_reads_what_was_written)
{
	reads_what_was_written("seal:tcp", 3, 2500);
}
Test(contract, sealed_shm_reads_what_was_written)
{
	reads_what_was_written("seal:shm", 2, 2500);
}
Test(contract, sealed_answers_may_be_reordered)
{
	reads_what_was_written("seal:reorder,depth=4,seed=5:unix", 2, 1000);
}

Test(contract, tls_reads_what_was_written)
{
	donors_with_key();
	reads_what_was_written("tcp", 3, 2500);
	donors_without_key();
}
Test(contract, sealed_tls_may_be_reordered)
{
	donors_with_key();
	reads_what_was_written("seal:reorder,depth=4,seed=5:tcp", 2, 1000);
	donors_without_key();
}

/* --- several ports --- */

static void *work_thread(void *arg)
{
	struct work *w = arg;

	run_work(w, w->rounds);
	check_all(w);
	return NULL;
}

static void ports_work_side_by_side(const char *way, unsigned rounds)
{
	struct test_donor d[2];
	struct work *w[3];
	pthread_t thread[3];
	struct ps_volume *v;

	for (unsigned i = 0; i < 2; i++)
		donor_start(&d[i], "16M", "64K");
	v = open_volume(d, 2, way, 3 * PAGES, 3, 10000);
	cr_assert_eq(ps_reserve(v, 0, 3 * PAGES), 0, "%s", err_text());
	for (unsigned i = 0; i < 3; i++) {
		w[i] = new_work(v, i, i + 17);
		w[i]->rounds = rounds;
		cr_assert_eq(pthread_create(&thread[i], NULL, work_thread, w[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		free(w[i]);
	}
	ps_close(v);
	for (unsigned i = 0; i < 2; i++)
		donor_stop(&d[i]);
}

Test(contract, tcp_ports_work_side_by_side)
{
	ports_work_side_by_side("tcp", 800);
}
Test(contract, unix_ports_work_side_by_side)
{
	ports_work_side_by_side("unix", 800);
}
Test(contract, rdma_ports_work_side_by_side)
{
	ports_work_side_by_side(rdma(), 100);
}
Test(contract, shm_ports_work_side_by_side)
{
	ports_work_side_by_side("shm", 800);
}

Test(contract, sealed_ports_work_side_by_side)
{
	ports_work_side_by_side("seal:unix", 800);
}

Test(contract, tls_ports_work_side_by_side)
{
	donors_with_key();
	ports_work_side_by_side("tcp", 800);
	donors_without_key();
}

/* --- space --- */

static void says_how_much_there_is(const char *way)
{
	struct test_donor d[2];
	struct ps_volume *v, *w;
	struct ps_space s;

	for (unsigned i = 0; i < 2; i++)
		donor_start(&d[i], "4M", "64K");
	v = open_volume(d, 2, way, 1 << 20, 1, 5000);
	w = open_volume(d, 2, way, 1 << 20, 1, 5000);
	cr_assert_eq(ps_space(v, &s), 0);
	cr_expect_eq(s.pages_total, 2048);
	cr_expect_eq(s.pages_free, 2048);
	cr_assert_eq(ps_reserve(v, 100, 1024), 0);
	cr_assert_eq(ps_space(w, &s), 0);
	cr_expect_eq(s.pages_free, 2048 - 1040, "whole slabs: pages 96 to 1136");
	cr_assert_eq(ps_reserve(w, 1 << 16, 1024), -ENOSPC);
	cr_expect_str_eq(err_text(), "donors have 3.9 MiB free of 8 MiB; 4 MiB asked");
	cr_assert_eq(ps_space(w, &s), 0);
	cr_expect_eq(s.pages_free, 2048 - 1040, "all or nothing");
	cr_assert_eq(ps_reserve(v, 100, 1024), 0, "it has them");
	cr_assert_eq(ps_reserve(v, 1 << 20, 1), -EINVAL);
	cr_assert_eq(ps_release(v, 100, 1024), 0);
	cr_assert_eq(ps_space(w, &s), 0);
	cr_expect_eq(s.pages_free, 2048 - 32, "the slabs at both ends are not wholly covered");
	cr_assert_eq(ps_reserve(w, 1 << 16, 2016), 0);
	ps_close(v);
	ps_close(w);
	w = open_volume(d, 2, way, 64, 1, 5000);
	cr_assert_eq(ps_space(w, &s), 0);
	cr_expect_eq(s.pages_free, 2048, "a goodbye gives all back at once");
	ps_close(w);
	for (unsigned i = 0; i < 2; i++)
		donor_stop(&d[i]);
}

Test(contract, tcp_says_how_much_there_is)
{
	says_how_much_there_is("tcp");
}
Test(contract, rdma_says_how_much_there_is)
{
	says_how_much_there_is(rdma());
}
Test(contract, shm_says_how_much_there_is)
{
	says_how_much_there_is("shm");
}

/* Takes 5 MiB of the donors' 8 and gives them back, again and again. */
static void *take_and_give(void *arg)
{
	struct ps_volume *v = arg;
	unsigned got = 0;

	for (unsigned i = 0; i < 300; i++) {
		int r = ps_reserve(v, 0, 1280);

		cr_assert(!r || r == -ENOSPC, "%d: %s", r, err_text());
		if (r)
			continue;
		got++;
		cr_assert_eq(ps_release(v, 0, 1280), 0);
	}
	return (void *)(uintptr_t)got;
}

Test(contract, borrowers_that_race_for_the_last_slabs_leak_none)
{
	struct ps_volume *v[2];
	struct test_donor d[2];
	pthread_t thread[2];
	struct ps_space s;
	uintptr_t sum = 0;

	for (unsigned i = 0; i < 2; i++)
		donor_start(&d[i], "4M", "64K");
	for (unsigned i = 0; i < 2; i++) {
		v[i] = open_volume(d, 2, i ? "tcp" : "unix", 1280, 1, 5000);
		cr_assert_eq(pthread_create(&thread[i], NULL, take_and_give, v[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		void *got;

		pthread_join(thread[i], &got);
		sum += (uintptr_t)got;
	}
	cr_expect_gt(sum, 0);
	cr_assert_eq(ps_space(v[0], &s), 0);
	cr_expect_eq(s.pages_free, 2048, "what was granted in part was given back");
	for (unsigned i = 0; i < 2; i++)
		ps_close(v[i]);
	for (unsigned i = 0; i < 2; i++)
		donor_stop(&d[i]);
}

Test(contract, pages_that_were_not_reserved_are_an_error)
{
	static unsigned char buf[2][PS_PAGE_SIZE];
	struct test_donor d;
	struct ps_volume *v;
	struct ps_batch b;

	donor_start(&d, "4M", "64K");
	v = open_volume(&d, 1, "unix", 1024, 1, 5000);
	cr_assert_eq(ps_reserve(v, 0, 16), 0);
	cr_expect_eq(transfer(ps_port(v, 0), PS_READ, 15, 2, buf, &b), -ENXIO);
	cr_expect_eq(b.page, 16);
	cr_expect_eq(b.donor, -1);
	ps_close(v);
	donor_stop(&d);
}

Test(contract, donors_with_other_slab_sizes_are_refused)
{
	struct test_donor d[2];
	struct ps_volume *v = NULL;

	donor_start(&d[0], "4M", "64K");
	donor_start(&d[1], "4M", "128K");
	cr_expect_eq(try_open(d, 2, "tcp", 1024, 1, 5000, &v), -EINVAL);
	cr_expect(strstr(err_text(), d[0].tcp) && strstr(err_text(), d[1].tcp), "%s", err_text());
	cr_expect(strstr(err_text(), "16") && strstr(err_text(), "32"));
	cr_expect_null(v);
	donor_stop(&d[0]);
	donor_stop(&d[1]);
}

/* --- snapshots --- */

static int check_snapshot(struct ps_volume *v, bool inherited, uint64_t what, unsigned rounds)
{
	static unsigned char buf[64][PS_PAGE_SIZE];
	struct ps_batch b;

	if (ps_adopt(v, inherited)) {
		fprintf(stderr, "%s\n", err_text());
		return 2;
	}
	for (unsigned round = 0; round < rounds; round++)
		for (uint64_t page = 0; page < PAGES; page += 64) {
			struct ps_vec vec = {.page = page, .count = 64, .buf = buf};
			struct ps_batch *done;

			b = (struct ps_batch){.kind = PS_READ, .vecs = 1, .vec = &vec};
			if (ps_submit(ps_port(v, 0), &b, clock_ns()))
				return 3;
			while (!ps_poll(ps_port(v, 0), clock_ns(), &done, 1))
				ps_wait(ps_port(v, 0), NSEC_PER_SEC);
			if (b.status)
				return 4;
			for (unsigned k = 0; k < 64; k++)
				if (!page_is(buf[k], (page + k) % 7 ? what + page + k : 0))
					return 5;
		}
	/* The child's own writes are its own. */
	fill_page(buf[0], 1234567);
	if (transfer(ps_port(v, 0), PS_WRITE, 5, 1, buf[0], &b) ||
	    transfer(ps_port(v, 0), PS_READ, 5, 1, buf[1], &b) || !page_is(buf[1], 1234567))
		return 6;
	ps_close(v);
	return 0;
}

static void write_all(struct ps_volume *v, uint64_t what)
{
	static unsigned char buf[64][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t page = 0; page < PAGES; page += 64) {
		for (unsigned k = 0; k < 64; k++)
			fill_page(buf[k], (page + k) % 7 ? what + page + k : 0);
		cr_assert_eq(transfer(ps_port(v, 0), PS_WRITE, page, 64, buf, &b), 0);
	}
}

static void expect_all(struct ps_volume *v, uint64_t what)
{
	static unsigned char buf[64][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t page = 0; page < PAGES; page += 64) {
		cr_assert_eq(transfer(ps_port(v, 0), PS_READ, page, 64, buf, &b), 0);
		for (unsigned k = 0; k < 64; k++)
			cr_assert(page_is(buf[k], (page + k) % 7 ? what + page + k : 0));
	}
}

static void a_child_sees_the_moment_of_the_fork(const char *way, unsigned rounds)
{
	struct test_donor d[2];
	struct ps_volume *v;
	struct ps_space s;

	for (unsigned i = 0; i < 2; i++)
		donor_start(&d[i], "16M", "64K");
	v = open_volume(d, 2, way, PAGES, 2, 5000);
	cr_assert_eq(ps_reserve(v, 0, PAGES), 0);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t what = 1000000 * (round + 1), end = clock_ns() + 60 * NSEC_PER_SEC;
		bool inherited = round != 1;
		int status;
		pid_t pid;

		write_all(v, what);
		cr_assert_eq(ps_snapshot(v), 0, "%s", err_text());
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			/* As if the parent's descriptors were in another table. */
			if (!inherited)
				close_range(3, 4096, 0);
			_exit(check_snapshot(v, inherited, what, rounds));
		}
		ps_snapshot_drop(v, true);
		while (!waitpid(pid, &status, WNOHANG)) {
			write_all(v, ++what + 500000);
			cr_assert_lt(clock_ns(), end);
		}
		cr_expect(WIFEXITED(status) && !WEXITSTATUS(status), "status %x", status);
		write_all(v, 77);
		expect_all(v, 77);
	}
	/* One that nobody took is given back at once. */
	cr_assert_eq(ps_snapshot(v), 0);
	ps_snapshot_drop(v, false);
	cr_expect_eq(ps_adopt(v, true), -ENOENT);
	cr_assert_eq(ps_space(v, &s), 0);
	cr_expect_eq(s.pages_free, s.pages_total - PAGES);
	expect_all(v, 77);
	ps_close(v);
	for (unsigned i = 0; i < 2; i++)
		donor_stop(&d[i]);
}

Test(contract, tcp_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork("tcp", 20);
}
Test(contract, unix_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork("unix", 20);
}
Test(contract, shm_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork("shm", 20);
}
Test(contract, sealed_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork("seal:unix", 20);
}
Test(contract, tls_child_sees_the_moment_of_the_fork)
{
	donors_with_key();
	a_child_sees_the_moment_of_the_fork("tcp", 20);
	donors_without_key();
}
Test(contract, rdma_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork(rdma(), 3);
}
Test(contract, filtered_child_sees_the_moment_of_the_fork)
{
	a_child_sees_the_moment_of_the_fork("reorder,depth=2:delay,us=20:shm", 20);
}

Test(contract, a_snapshot_without_room_is_refused_whole)
{
	struct test_donor d;
	struct ps_volume *v;
	struct ps_space s;

	donor_start(&d, "4M", "64K");
	v = open_volume(&d, 1, "tcp", 1024, 1, 5000);
	cr_assert_eq(ps_reserve(v, 0, 768), 0);
	cr_expect_eq(ps_snapshot(v), -ENOSPC);
	cr_expect(strstr(err_text(), d.tcp), "%s", err_text());
	cr_expect_eq(ps_adopt(v, true), -ENOENT);
	cr_assert_eq(ps_space(v, &s), 0);
	cr_expect_eq(s.pages_free, 256);
	ps_close(v);
	donor_stop(&d);
}
