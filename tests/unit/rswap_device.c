/* SPDX-License-Identifier: MIT */
/*
 * nbdkit-rswap's device without nbdkit: many threads with requests of any offset and length, more of
 * them than ports, so that they share batches and drive each other's. Each thread owns stripes that
 * are no whole pages; a write that took its neighbours' bytes along would be seen by them.
 */
#include "nbdkit-rswap/device.h"
#include "nbdkit-rswap/ranges.h"
#include "pagestore_donor.h"

#include <pthread.h>

#define THREADS 8u
#define STRIPE  1500u /* bytes a thread owns, then the next one's */
#define BYTES   (2u << 20)
#define MOST    70000u

static struct test_donor donor[2];
static struct device *device;
static unsigned char model[BYTES];
static uint64_t until_ns;

static void start(const char *way, unsigned ports, uint64_t bytes, uint64_t spin_ns,
		  uint64_t deadline_ms)
{
	char text[2][160];
	const char *address[2];
	struct device_options o = {.name = "test",
				   .donors = address,
				   .donors_count = 2,
				   .bytes = bytes,
				   .ports = ports,
				   .replicas = 1,
				   .deadline_ns = deadline_ms * NSEC_PER_MSEC,
				   .spin_ns = spin_ns};

	for (unsigned i = 0; i < 2; i++) {
		donor_start(&donor[i], "8M", "64K");
		address[i] = donor_address(&donor[i], way, text[i]);
	}
	cr_assert_eq(device_open(&o, &device), 0, "%s: %s", way, err_text());
	cr_assert_eq(device_start(device, NULL), 0, "%s", err_text());
}

static void stop(void)
{
	device_close(device);
	device = NULL;
	for (unsigned i = 0; i < 2; i++)
		donor_stop(&donor[i]);
}

static uint32_t rnd(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

static unsigned owner(uint64_t at)
{
	return (unsigned)(at / STRIPE % THREADS);
}

struct worker {
	pthread_t thread;
	unsigned id;
	uint32_t seed;
	uint64_t done;
	char wrong[200];
	unsigned char buf[MOST];
};

/* Only the stripes of ours within what was read can be compared: the others are in others' hands. */
static void compare(struct worker *w, uint64_t at, uint64_t len)
{
	for (uint64_t i = 0; i < len && !w->wrong[0]; i++)
		if (owner(at + i) == w->id && w->buf[i] != model[at + i])
			snprintf(w->wrong, sizeof w->wrong, "byte %llu is %02x, not %02x",
				 (unsigned long long)(at + i), w->buf[i], model[at + i]);
}

/* One request within one of our stripes, or a read across many. */
static int request(struct worker *w)
{
	uint64_t stripes = BYTES / STRIPE / THREADS;
	uint64_t at = (rnd(&w->seed) % stripes * THREADS + w->id) * STRIPE;
	uint64_t from = rnd(&w->seed) % STRIPE, len = 1 + rnd(&w->seed) % (STRIPE - from);
	int r;

	at += from;
	switch (rnd(&w->seed) % 8) {
	case 0:
		len = 1 + rnd(&w->seed) % MOST;
		if (len > BYTES - at)
			len = BYTES - at;
		r = device_read(device, w->buf, len, at);
		if (!r)
			compare(w, at, len);
		return r;
	case 1:
		memset(model + at, 0, len);
		return device_zero(device, len, at);
	case 2:
	case 3:
	case 4:
		r = device_read(device, w->buf, len, at);
		if (!r)
			compare(w, at, len);
		return r;
	default:
		for (uint64_t i = 0; i < len; i++)
			w->buf[i] = model[at + i] = (unsigned char)rnd(&w->seed);
		return device_write(device, w->buf, len, at);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (clock_ns() < until_ns && !w->wrong[0]) {
		if (request(w))
			snprintf(w->wrong, sizeof w->wrong, "%s", err_text());
		w->done++;
	}
	return NULL;
}

static void neighbours_keep_their_bytes(const char *way, unsigned ports, uint64_t spin_ns)
{
	static struct worker w[THREADS];
	static unsigned char all[BYTES];
	struct ps_counters c;
	uint64_t done = 0;

	memset(model, 0, sizeof model);
	start(way, ports, BYTES, spin_ns, 20000);
	until_ns = clock_ns() + 1500 * NSEC_PER_MSEC;
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.id = i, .seed = 77 + i};
		cr_assert_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		cr_assert(!w[i].wrong[0], "%s: thread %u: %s", way, i, w[i].wrong);
		cr_assert_gt(w[i].done, 0);
		done += w[i].done;
	}
	cr_assert_eq(device_read(device, all, BYTES, 0), 0, "%s", err_text());
	cr_assert_eq(memcmp(all, model, BYTES), 0, "%s: not what was written", way);
	device_counters(device, &c);
	printf("%s, %u ports: %llu requests in %llu batches\n", way, ports,
	       (unsigned long long)done, (unsigned long long)c.batches);
	stop();
}

Test(rswap_device, neighbours_keep_their_bytes_on_one_port, .timeout = 60)
{
	neighbours_keep_their_bytes("unix", 1, 20 * NSEC_PER_USEC);
}

Test(rswap_device, neighbours_keep_their_bytes_without_spinning, .timeout = 60)
{
	neighbours_keep_their_bytes("tcp", 1, 0);
}

Test(rswap_device, neighbours_keep_their_bytes_on_three_ports, .timeout = 60)
{
	neighbours_keep_their_bytes("shm", 3, 20 * NSEC_PER_USEC);
}

Test(rswap_device, neighbours_keep_their_bytes_behind_slow_networks, .timeout = 60)
{
	neighbours_keep_their_bytes("reorder,depth=3:delay,us=300,jitter=200:unix", 2,
				    20 * NSEC_PER_USEC);
}

Test(rswap_device, reads_and_writes_more_than_a_batch_at_once, .timeout = 60)
{
	const uint64_t bytes = (6u << 20) + 1234;
	unsigned char *a = malloc(bytes), *b = malloc(bytes);
	uint32_t seed = 5;

	for (uint64_t i = 0; i < bytes; i++)
		a[i] = (unsigned char)rnd(&seed);
	start("unix", 2, bytes, 0, 20000);
	cr_assert_eq(device_write(device, a, bytes, 0), 0, "%s", err_text());
	cr_assert_eq(device_read(device, b, bytes - 7, 7), 0, "%s", err_text());
	cr_assert_eq(memcmp(a + 7, b, bytes - 7), 0);
	stop();
	free(a);
	free(b);
}

Test(rswap_device, trim_and_zero_make_holes_of_whole_pages, .timeout = 60)
{
	static unsigned char buf[BYTES];
	bool zeros;

	start("tcp", 2, BYTES, 0, 20000);
	cr_assert_eq(device_run(device, BYTES, 0, &zeros), BYTES);
	cr_assert(zeros);
	memset(buf, 7, sizeof buf);
	cr_assert_eq(device_write(device, buf, 100000, 0), 0);
	cr_assert_eq(device_run(device, BYTES, 0, &zeros), 102400);
	cr_assert(!zeros);
	cr_assert_eq(device_run(device, 50, 10, &zeros), 50);
	device_trim(device, 8192, 4095); /* a byte, a page, and all of a page but a byte */
	cr_assert_eq(device_run(device, BYTES, 0, &zeros), 4096);
	cr_assert_eq(device_run(device, BYTES - 4096, 4096, &zeros), 4096);
	cr_assert(zeros);
	cr_assert_eq(device_zero(device, 10000, 20001), 0);
	cr_assert_eq(device_run(device, BYTES - 20480, 20480, &zeros), 8192);
	cr_assert(zeros);
	cr_assert_eq(device_read(device, buf, 102400, 0), 0);
	for (uint64_t i = 0; i < 102400; i++) {
		bool zero = (i >= 4096 && i < 8192) || (i >= 20001 && i < 30001) || i >= 100000;

		cr_assert_eq(buf[i], zero ? 0 : 7, "byte %llu", (unsigned long long)i);
	}
	stop();
}

Test(rswap_device, a_dead_donor_is_an_error_that_names_it, .timeout = 60)
{
	static unsigned char buf[BYTES];
	uint64_t begin;
	unsigned good = 0, bad = 0;

	start("unix", 2, BYTES, 0, 1000);
	memset(buf, 7, sizeof buf);
	cr_assert_eq(device_write(device, buf, BYTES, 0), 0);
	donor_kill(&donor[0]);
	begin = clock_ns();
	for (uint64_t at = 0; at < BYTES; at += 4096) {
		if (!device_read(device, buf, 4096, at)) {
			good++;
			continue;
		}
		bad++;
		cr_assert(strstr(err_text(), donor[0].path), "%s", err_text());
	}
	cr_assert(good && bad, "%u pages read, %u not", good, bad);
	cr_assert_lt(clock_ns() - begin, 20 * NSEC_PER_SEC);
	stop();
}

Test(rswap_device, a_silent_donor_ends_in_its_deadline, .timeout = 60)
{
	static unsigned char buf[BYTES];
	uint64_t begin;

	start("tcp", 1, BYTES, 0, 500);
	donor_freeze(&donor[0]);
	donor_freeze(&donor[1]);
	memset(buf, 7, sizeof buf);
	begin = clock_ns();
	cr_assert_neq(device_write(device, buf, 8192, 0), 0);
	cr_assert_lt(clock_ns() - begin, 10 * NSEC_PER_SEC);
	stop();
}

/* --- ranges --- */

static struct ranges ranges;
static unsigned inside[64]; /* by page; unlocked on purpose: the range is the lock */

static void *take_and_drop(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;
	struct range r;

	for (unsigned i = 0; i < 3000; i++) {
		uint64_t first = rnd(&seed) % 64, last = first + rnd(&seed) % (64 - first);

		range_take(&ranges, &r, first, last);
		for (uint64_t p = first; p <= last; p++)
			if (inside[p]++)
				return arg;
		if (i % 16 == 0)
			sched_yield();
		for (uint64_t p = first; p <= last; p++)
			inside[p]--;
		range_drop(&ranges, &r);
	}
	return NULL;
}

Test(rswap_ranges, nobody_shares_a_page, .timeout = 60)
{
	pthread_t t[THREADS];
	void *wrong;

	ranges_init(&ranges);
	for (uintptr_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, take_and_drop, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(t[i], &wrong);
		cr_assert_null(wrong, "two threads were on one page");
	}
}
