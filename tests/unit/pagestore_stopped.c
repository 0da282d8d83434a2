/* SPDX-License-Identifier: MIT */
/*
 * A donor is stopped (SIGSTOP) for 30 s under a volume with two copies that one thread reads and another one
 * writes. Once that is noticed reads take no more than three times what their 99th percentile was before;
 * every page is written anew meanwhile; and when the donor goes on, nothing of what it holds is believed, or
 * read at all: it gets slabs again when another donor has died. INFUSE_SECONDS says how long (30).
 */
#include "pagestore_donor.h"

#include <pthread.h>
#include <stdatomic.h>

#define PAGES   4096u
#define DONORS  3u
#define SAMPLES (1u << 22)
#define BEFORE  (4 * NSEC_PER_SEC)

static struct test_donor donor[DONORS];
static struct ps_volume *volume;
static atomic_bool stop;
static atomic_uint_fast64_t what[PAGES]; /* what was acknowledged,*/
static uint64_t written[PAGES];          /* rounds of the writer */
static atomic_uint_fast64_t writes, longest_write_ns;

/* Latencies of reads in the order of their ends. */
static struct sample {
	uint64_t end_ns;
	uint32_t ns;
} *sample;
static atomic_uint samples;

static void *maintenance(void *arg)
{
	while (!atomic_load(&stop)) {
		uint64_t ns = ps_maintain(volume, clock_ns());

		ps_maintain_wait(volume, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
	return arg;
}

static uint64_t draw(uint64_t *s, uint64_t n)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s % n;
}

/* The reader's pages are the even ones; the writer writes the odd ones, and all on request. */
static atomic_bool quiet; /* nobody touches anything */
static atomic_uint resting;

static void rest(void)
{
	if (!atomic_load(&quiet))
		return;
	atomic_fetch_add(&resting, 1);
	while (atomic_load(&quiet))
		usleep(200);
	atomic_fetch_sub(&resting, 1);
}

static void *read_pages(void *arg)
{
	static unsigned char page[PS_PAGE_SIZE];
	uint64_t s = 88172645463325252ull;
	struct ps_batch b;

	while (!atomic_load(&stop)) {
		uint64_t at = 2 * draw(&s, PAGES / 2), begin = clock_ns();
		unsigned n = atomic_load(&samples);
		int r = transfer(ps_port(volume, 0), PS_READ, at, 1, page, &b);

		cr_assert_eq(r, 0, "page %lu: %s", (unsigned long)at, strerror(-r));
		cr_assert(page_is(page, atomic_load(&what[at])), "page %lu is another", (unsigned long)at);
		if (n < SAMPLES) {
			sample[n] = (struct sample){clock_ns(), (uint32_t)(clock_ns() - begin)};
			atomic_store(&samples, n + 1);
		}
		rest();
	}
	return arg;
}

static void write_page(struct ps_port *p, uint64_t at)
{
	static unsigned char page[PS_PAGE_SIZE];
	uint64_t value = ++written[at] * PAGES + at + 1, begin = clock_ns(), took;
	struct ps_batch b;
	int r;

	fill_page(page, value);
	r = transfer(p, PS_WRITE, at, 1, page, &b);
	cr_assert_eq(r, 0, "page %lu: %s", (unsigned long)at, strerror(-r));
	atomic_store(&what[at], value);
	took = clock_ns() - begin;
	if (took > atomic_load(&longest_write_ns))
		atomic_store(&longest_write_ns, took);
	atomic_fetch_add(&writes, 1);
}

static void *write_pages(void *arg)
{
	uint64_t s = 0x2545f4914f6cdd1dull;

	while (!atomic_load(&stop)) {
		write_page(ps_port(volume, 1), 2 * draw(&s, PAGES / 2) + 1);
		usleep(500);
		rest();
	}
	return arg;
}

static int less(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The 99th percentile of the reads that ended in [from, to), and the longest. */
static uint32_t p99(uint64_t from, uint64_t to, uint32_t *longest, unsigned *count)
{
	static uint32_t ns[SAMPLES];
	unsigned n = 0;

	for (unsigned i = 0, all = atomic_load(&samples); i < all; i++)
		if (sample[i].end_ns >= from && sample[i].end_ns < to)
			ns[n++] = sample[i].ns;
	cr_assert_gt(n, 100, "only %u reads", n);
	qsort(ns, n, sizeof *ns, less);
	*longest = ns[n - 1];
	*count = n;
	return ns[n - 1 - n / 100];
}

static enum ps_donor_state state_of(int d, uint64_t *members)
{
	struct ps_donor_health h;

	cr_assert_eq(ps_donor_health(volume, d, &h), 0);
	*members = h.members;
	return h.state;
}

static void until_state(int d, bool up, uint64_t limit_ns)
{
	uint64_t end = clock_ns() + limit_ns, members;

	while ((state_of(d, &members) == PS_DONOR_UP) != up) {
		cr_assert_lt(clock_ns(), end, "donor %d is not %s", d, up ? "up" : "missed");
		usleep(1000);
	}
}

static void until_whole(void)
{
	uint64_t end = clock_ns() + 60 * NSEC_PER_SEC;
	struct ps_health h;

	do {
		usleep(5000);
		ps_health(volume, &h);
		cr_assert_lt(clock_ns(), end, "%lu slabs lack members", h.degraded);
	} while (h.degraded || h.filling);
	cr_assert_eq(h.lost, 0);
}

/* All pages, by the caller, while nobody else does anything. */
static void all_pages(bool write)
{
	static unsigned char page[PS_PAGE_SIZE];
	struct ps_batch b;

	atomic_store(&quiet, true);
	while (atomic_load(&resting) < 2)
		usleep(200);
	for (uint64_t at = 0; at < PAGES; at++) {
		if (write) {
			write_page(ps_port(volume, 1), at);
			continue;
		}
		cr_assert_eq(transfer(ps_port(volume, 0), PS_READ, at, 1, page, &b), 0);
		cr_assert(page_is(page, atomic_load(&what[at])), "page %lu is another", (unsigned long)at);
	}
	atomic_store(&quiet, false);
	while (atomic_load(&resting))
		usleep(200);
}

static void open_it(pthread_t thread[3])
{
	char text[DONORS][160];
	const char *list[DONORS];
	struct ps_options o = {.name = "test", .pages = PAGES, .donors = list, .donors_count = DONORS,
			       .ports = 2, .replicas = 2, .deadline_ns = 10 * NSEC_PER_SEC};

	sample = calloc(SAMPLES, sizeof *sample);
	cr_assert(sample);
	for (unsigned i = 0; i < DONORS; i++) {
		donor_start(&donor[i], "64M", "256K");
		list[i] = donor_address(&donor[i], "tcp", text[i]);
	}
	cr_assert_eq(ps_open(&o, &volume), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	for (uint64_t at = 0; at < PAGES; at++)
		write_page(ps_port(volume, 1), at);
	atomic_store(&longest_write_ns, 0);
	pthread_create(&thread[0], NULL, maintenance, NULL);
	pthread_create(&thread[1], NULL, read_pages, NULL);
	pthread_create(&thread[2], NULL, write_pages, NULL);
}

Test(stopped, donors_cost_little_and_are_not_believed)
{
	const char *text = getenv("INFUSE_SECONDS");
	uint64_t length = (text ? strtoull(text, NULL, 10) : 30) * NSEC_PER_SEC, members, begin, stopped, missed;
	uint32_t usual, after, longest, stall;
	struct ps_counters c;
	pthread_t thread[3];
	unsigned n, m;

	open_it(thread);
	usleep(500000);
	begin = clock_ns();
	usleep(BEFORE / 1000);
	stopped = clock_ns();
	donor_freeze(&donor[0]);
	until_state(0, false, 5 * NSEC_PER_SEC);
	missed = clock_ns();
	/* Everything that it has is old soon; and what it held is made anew elsewhere. */
	usleep(1500000);
	cr_expect_eq(state_of(0, &members), PS_DONOR_GONE);
	cr_expect_eq(members, 0, "it has %lu members still", (unsigned long)members);
	all_pages(true);
	while (clock_ns() < stopped + length)
		usleep(10000);
	usual = p99(begin, stopped, &longest, &n);
	after = p99(missed, clock_ns(), &longest, &m);
	(void)p99(stopped, missed + NSEC_PER_SEC, &stall, &m);
	fprintf(stderr, "reads: p99 %u us before (%u of them); missed after %lu ms, the longest then %u us; p99 %u us "
		"afterwards, the longest %u us; the longest write %lu ms\n", usual / 1000, n,
		(unsigned long)(missed - stopped) / 1000000, stall / 1000, after / 1000, longest / 1000,
		(unsigned long)atomic_load(&longest_write_ns) / 1000000);
	cr_expect_leq(after, 3 * usual, "reads are slow");
	cr_expect_lt(stall, NSEC_PER_SEC);
	cr_expect_lt(atomic_load(&longest_write_ns), NSEC_PER_SEC);

	/* It wakes up. It is one of ours again, and empty. */
	kill(donor[0].pid, SIGCONT);
	until_state(0, true, 20 * NSEC_PER_SEC);
	until_whole();
	all_pages(false);
	cr_expect_eq(state_of(0, &members), PS_DONOR_UP);
	cr_expect_eq(members, 0, "it has %lu members that it had before", (unsigned long)members);
	/* Of use again: another one dies, and slabs are made anew on it. */
	donor_kill(&donor[1]);
	until_state(1, false, 5 * NSEC_PER_SEC);
	until_whole();
	(void)state_of(0, &members);
	cr_expect_gt(members, 0);
	all_pages(false);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	ps_counters(volume, &c);
	cr_expect_eq(c.errors, 0);
	cr_expect_eq(c.bad_hashes, 0, "old contents were read");
	ps_close(volume);
	for (unsigned i = 0; i < DONORS; i++)
		donor_stop(&donor[i]);
}
