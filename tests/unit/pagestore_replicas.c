/* SPDX-License-Identifier: MIT */
/*
 * Volumes with members to spare over real donors that are killed, stopped and started again, while
 * threads write and read: not one error, not one wrong byte, and after a while everything has all its
 * members again. INFUSE_ROUNDS says how often a donor dies.
 */
#include "pagestore_donor.h"

#include <pthread.h>
#include <stdatomic.h>

#define PAGES     2048u
#define THREADS   2u
#define SLAB_TEXT "64K"
#define MOST      6u
#define SUSPECT   (500 * NSEC_PER_MSEC)

static struct test_donor donor[MOST];
static char address[MOST][160];
static struct ps_volume *volume;
static atomic_bool stop, maintain_stop;
static atomic_uint_fast64_t done_batches, worst_ns;
static uint64_t what[PAGES];
static char label[200];

static unsigned rounds(unsigned few)
{
	const char *s = getenv("INFUSE_ROUNDS");

	return s ? (unsigned)atoi(s) : few;
}

static void *maintenance(void *arg)
{
	(void)arg;
	while (!atomic_load(&maintain_stop)) {
		uint64_t ns = ps_maintain(volume, clock_ns());

		ps_maintain_wait(volume, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
	return NULL;
}

static void open_replicas(unsigned donors, const char *way, struct ps_options o)
{
	const char *list[MOST];

	for (unsigned i = 0; i < donors; i++) {
		donor_start(&donor[i], "32M", SLAB_TEXT);
		list[i] = donor_address(&donor[i], way, address[i]);
	}
	o.name = "test";
	snprintf(label, sizeof label, "%s, %u copies, %u+%u%s", way, o.replicas, o.code_data,
		 o.code_parity, o.seal ? ", sealed" : "");
	/* Machines are busy. */
	o.deadline_ns = 10 * NSEC_PER_SEC;
	if (!o.suspect_ns)
		o.suspect_ns = 3 * NSEC_PER_SEC;
	o.pages = PAGES;
	o.donors = list;
	o.donors_count = donors;
	o.ports = THREADS;
	cr_assert_eq(ps_open(&o, &volume), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	memset(what, 0, sizeof what);
}

static void close_replicas(unsigned donors)
{
	ps_close(volume);
	for (unsigned i = 0; i < donors; i++)
		donor_stop(&donor[i]);
}

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t rng, counter;
	unsigned char buf[16][PS_PAGE_SIZE];
};
static struct worker worker[THREADS];

static uint64_t draw(struct worker *w, uint64_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng % n;
}

/* Each thread has the pages of its own parity of 16. */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct ps_port *p = ps_port(volume, w->index);

	while (!atomic_load(&stop)) {
		uint64_t run = draw(w, PAGES / 16 / THREADS) * THREADS + w->index;
		uint32_t at = (uint32_t)draw(w, 16), n = 1 + (uint32_t)draw(w, 16 - at);
		uint64_t page = run * 16 + at, begin = clock_ns(), took;
		bool write = draw(w, 2);
		struct ps_batch b;
		int r;

		for (uint32_t i = 0; i < n && write; i++) {
			what[page + i] = draw(w, 8) ? ++w->counter * THREADS + w->index : 0;
			fill_page(w->buf[i], what[page + i]);
		}
		r = transfer(p, write ? PS_WRITE : PS_READ, page, n, w->buf, &b);
		cr_assert_eq(r, 0, "%s: %s of page %lu: %s, donor %s", label, write ? "write" : "read",
			     (unsigned long)page, strerror(-r), ps_donor_name(volume, b.donor));
		for (uint32_t i = 0; i < n && !write; i++)
			cr_assert(page_is(w->buf[i], what[page + i]), "page %lu",
				  (unsigned long)(page + i));
		took = clock_ns() - begin;
		atomic_fetch_add(&done_batches, 1);
		if (took > atomic_load(&worst_ns))
			atomic_store(&worst_ns, took);
	}
	return NULL;
}

static pthread_t maintainer;

static void start_all(void)
{
	atomic_store(&stop, false);
	atomic_store(&maintain_stop, false);
	atomic_store(&worst_ns, 0);
	cr_assert_eq(pthread_create(&maintainer, NULL, maintenance, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		worker[i].index = i;
		worker[i].rng = 88172645463325252ull + i;
		worker[i].counter = 0;
		cr_assert_eq(pthread_create(&worker[i].thread, NULL, work, &worker[i]), 0);
	}
}

static void end_all(void)
{
	atomic_store(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	atomic_store(&maintain_stop, true);
	pthread_join(maintainer, NULL);
}

static void until_whole(void)
{
	uint64_t end = clock_ns() + 60 * NSEC_PER_SEC;
	struct ps_health h;

	do {
		usleep(5000);
		ps_health(volume, &h);
		cr_assert_lt(clock_ns(), end, "%lu of %lu slabs lack members", h.degraded, h.slabs);
	} while (h.degraded || h.filling);
	cr_assert_eq(h.lost, 0);
	cr_assert_eq(h.slabs, PAGES / ps_slab_pages(volume));
}

/*
 * It took the donor's end for one: shared memory works for a moment without its server, and a second
 * death meanwhile would be that of two.
 */
static void until_noticed(uint64_t dropped)
{
	uint64_t end = clock_ns() + 30 * NSEC_PER_SEC;
	struct ps_counters c;

	do {
		usleep(500);
		ps_counters(volume, &c);
		cr_assert_lt(clock_ns(), end, "a death is not noticed");
	} while (c.dropped == dropped);
}

static void survive_deaths(unsigned donors, const char *way, struct ps_options o, unsigned n)
{
	struct ps_counters c;

	open_replicas(donors, way, o);
	start_all();
	for (unsigned i = 0; i < n; i++) {
		struct test_donor *d = &donor[i % donors];
		uint64_t before = atomic_load(&done_batches);

		ps_counters(volume, &c);
		donor_kill(d);
		while (atomic_load(&done_batches) < before + 100)
			usleep(500);
		until_noticed(c.dropped);
		donor_run(d);
		until_whole();
	}
	end_all();
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	cr_expect_gt(c.dropped, 0);
	cr_expect_gt(c.rebuilt_slabs, 0);
	fprintf(stderr, "%s: %u deaths, %lu slabs rebuilt, %lu failovers, worst wait %lu ms\n", way, n,
		c.rebuilt_slabs, c.failovers, atomic_load(&worst_ns) / 1000000);
	close_replicas(donors);
}

Test(replicas, of_two_survive_deaths_over_tcp)
{
	survive_deaths(3, "tcp", (struct ps_options){.replicas = 2}, rounds(10));
}

Test(replicas, of_two_survive_deaths_over_shared_memory)
{
	survive_deaths(3, "shm", (struct ps_options){.replicas = 2}, rounds(10));
}

Test(replicas, of_fragments_survive_deaths)
{
	survive_deaths(6, "unix", (struct ps_options){.code_data = 4, .code_parity = 2}, rounds(6));
	survive_deaths(4, "shm", (struct ps_options){.code_data = 2, .code_parity = 1}, rounds(6));
}

Test(replicas, that_are_sealed_survive_deaths)
{
	survive_deaths(3, "tcp", (struct ps_options){.replicas = 2, .seal = true}, rounds(4));
	survive_deaths(4, "tcp",
		       (struct ps_options){.code_data = 2, .code_parity = 1, .seal = true},
		       rounds(4));
}

/* A thread that looked at the clock and was kept from running then makes no donor late. */
Test(replicas, do_not_fail_when_time_goes_back)
{
	static unsigned char page[PS_PAGE_SIZE] = {1};
	struct ps_vec vec = {.page = 1, .count = 1, .buf = page};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &vec}, *done;
	struct ps_counters c;
	struct ps_port *p;

	open_replicas(2, "tcp", (struct ps_options){.replicas = 2});
	p = ps_port(volume, 0);
	for (unsigned i = 0; i < 2; i++)
		donor_freeze(&donor[i]);
	cr_assert_eq(ps_submit(p, &b, clock_ns()), 0);
	cr_assert_eq(ps_poll(p, clock_ns() - 2 * NSEC_PER_SEC, &done, 1), 0);
	cr_assert_eq(ps_poll(p, clock_ns(), &done, 1), 0);
	cr_assert_eq(ps_poll(p, clock_ns(), &done, 1), 0);
	for (unsigned i = 0; i < 2; i++)
		kill(donor[i].pid, SIGCONT);
	while (!ps_poll(p, clock_ns(), &done, 1))
		ps_wait(p, 50 * NSEC_PER_MSEC);
	cr_expect_eq(b.status, 0);
	ps_counters(volume, &c);
	cr_expect_eq(c.dropped + c.timeouts, 0);
	close_replicas(2);
}

/* It wakes up with old contents, and its slabs are not used any more. */
static void survive_a_stop(const char *way, struct ps_options o)
{
	struct ps_counters c;

	open_replicas(3, way, o);
	start_all();
	usleep(100000);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t before = atomic_load(&done_batches);

		donor_freeze(&donor[i]);
		while (atomic_load(&done_batches) < before + 2000)
			usleep(500);
		usleep(700000);
		kill(donor[i].pid, SIGCONT);
		until_whole();
	}
	end_all();
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	cr_expect_gt(c.dropped, 0);
	fprintf(stderr, "%s: 3 stops, %lu hedges, worst wait %lu ms\n", way, c.hedges,
		atomic_load(&worst_ns) / 1000000);
	cr_expect_lt(atomic_load(&worst_ns), 5 * NSEC_PER_SEC);
	close_replicas(3);
}

Test(replicas, of_two_survive_stopped_donors)
{
	survive_a_stop("tcp", (struct ps_options){.replicas = 2, .suspect_ns = SUSPECT});
	survive_a_stop("unix", (struct ps_options){.code_data = 2,
						    .code_parity = 1,
						    .suspect_ns = SUSPECT});
}

static void *wake(void *donors)
{
	usleep(2000000);
	for (unsigned d = 0; d < (unsigned)(uintptr_t)donors; d++)
		kill(donor[d].pid, SIGCONT);
	return NULL;
}

/*
 * Everything stands still for a while, less than the deadline: whoever asks the donors meanwhile, by
 * whatever connection, does not take them for dead together.
 */
static void survive_a_standstill(unsigned donors, struct ps_options o)
{
	struct ps_counters c;
	struct ps_space space;
	pthread_t waker;

	o.suspect_ns = SUSPECT;
	open_replicas(donors, "tcp", o);
	start_all();
	for (unsigned i = 0; i < 3; i++) {
		usleep(100000);
		for (unsigned d = 0; d < donors; d++)
			donor_freeze(&donor[d]);
		cr_assert_eq(pthread_create(&waker, NULL, wake, (void *)(uintptr_t)donors), 0);
		ps_space(volume, &space);
		pthread_join(waker, NULL);
		until_whole();
	}
	end_all();
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	close_replicas(donors);
}

Test(replicas, of_two_survive_a_standstill)
{
	survive_a_standstill(3, (struct ps_options){.replicas = 2});
}

Test(replicas, of_fragments_survive_a_standstill)
{
	survive_a_standstill(4, (struct ps_options){.code_data = 2, .code_parity = 1});
}

/* Every slab away from a donor and back, with one copy each, under load. */
static void move_around(const char *way, struct ps_options o)
{
	struct ps_donor_health h;
	struct ps_counters c;

	/* A donor that is slow as the machine is busy is not to be dropped here. */
	o.suspect_ns = 9 * NSEC_PER_SEC;
	open_replicas(3, way, o);
	start_all();
	for (int i = 0; i < 3; i++) {
		uint64_t end = clock_ns() + 60 * NSEC_PER_SEC;

		cr_assert_eq(ps_evacuate(volume, i, true), 0);
		do {
			usleep(2000);
			cr_assert_eq(ps_donor_health(volume, i, &h), 0);
			cr_assert_lt(clock_ns(), end, "%lu are left", h.members);
		} while (h.members);
		cr_assert_eq(ps_evacuate(volume, i, false), 0);
	}
	end_all();
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	cr_expect_gt(c.moved_slabs, 100);
	cr_expect_eq(c.dropped, 0);
	close_replicas(3);
}

Test(replicas, move_while_they_are_used)
{
	move_around("shm", (struct ps_options){0});
	move_around("tcp", (struct ps_options){0});
	move_around("tcp", (struct ps_options){.replicas = 2});
	move_around("shm", (struct ps_options){.seal = true});
}

Test(replicas, correct_flipped_bits)
{
	struct ps_counters c;

	open_replicas(3, "corrupt,every=20:tcp", (struct ps_options){.replicas = 2});
	start_all();
	while (atomic_load(&done_batches) < 20000)
		usleep(1000);
	end_all();
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	cr_expect_gt(c.bad_hashes, 100);
	cr_expect_gt(c.repairs, 100);
	close_replicas(3);
}
