/* SPDX-License-Identifier: MIT */
/*
 * A borrower for the tests: writes, reads and checks pages of a volume until it gets SIGTERM, with
 * the maintenance beside it. volume-load MEGABYTES COPIES DONOR... A line each second ("t batches
 * longest_ms"), at the end one that says what went wrong; exits with 1 if anything did.
 */
#include "common/clock.h"
#include "common/error.h"
#include <infuse/pagestore.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 2u
#define RUN     8u /* pages in a batch */

static struct ps_volume *volume;
static uint64_t pages, *what;
static atomic_bool ended;
static atomic_uint_fast64_t batches, errors, wrong, longest_ns;

static void on_term(int sig)
{
	(void)sig;
	atomic_store(&ended, true);
}

static void *maintenance(void *arg)
{
	(void)arg;
	while (!atomic_load(&ended)) {
		uint64_t ns = ps_maintain(volume, clock_ns());

		ps_maintain_wait(volume, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
	return NULL;
}

static void fill(uint64_t *page, uint64_t value)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		page[i] = value * 0x9e3779b97f4a7c15ull + i;
}

static bool holds(const uint64_t *page, uint64_t value)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		if (page[i] != (value ? value * 0x9e3779b97f4a7c15ull + i : 0))
			return false;
	return true;
}

static void note_error(const struct ps_batch *b)
{
	if (!atomic_fetch_add(&errors, 1))
		fprintf(stderr, "volume-load: page %llu: %s, donor %s\n",
			(unsigned long long)b->page, strerror(-b->status),
			ps_donor_name(volume, b->donor));
}

static void one(struct ps_port *p, uint64_t page, bool write, uint64_t mem[RUN][PS_PAGE_SIZE / 8])
{
	struct ps_vec vec = {.page = page, .count = RUN, .buf = mem};
	struct ps_batch b = {.kind = write ? PS_WRITE : PS_READ, .vecs = 1, .vec = &vec}, *done;
	uint64_t begun = clock_ns(), took;

	if (ps_submit(p, &b, begun))
		abort();
	while (!ps_poll(p, clock_ns(), &done, 1))
		ps_wait(p, 50 * NSEC_PER_MSEC);
	took = clock_ns() - begun;
	if (took > atomic_load(&longest_ns))
		atomic_store(&longest_ns, took);
	atomic_fetch_add(&batches, 1);
	if (b.status) {
		note_error(&b);
		return;
	}
	for (unsigned i = 0; i < RUN; i++)
		if (!holds(mem[i], what[page + i]))
			atomic_fetch_add(&wrong, 1);
}

static void *work(void *arg)
{
	static uint64_t mem[THREADS][RUN][PS_PAGE_SIZE / 8];
	unsigned me = (unsigned)(uintptr_t)arg, state = me + 7;
	uint64_t counter = 1, runs = pages / (RUN * THREADS);

	/* Each run of pages is one thread's; the first round writes them all. */
	for (uint64_t n = 0; !atomic_load(&ended); n++) {
		uint64_t run = n < runs ? n : (uint64_t)rand_r(&state) % runs;
		uint64_t page = (run * THREADS + me) * RUN;
		bool write = n < runs || rand_r(&state) % 3 == 0;

		for (unsigned i = 0; i < RUN && write; i++) {
			what[page + i] = counter++ * THREADS + me;
			fill(mem[me][i], what[page + i]);
		}
		one(ps_port(volume, me), page, write, mem[me]);
	}
	return NULL;
}

static void report(void)
{
	struct timespec second = {1, 0};

	for (unsigned t = 1; !atomic_load(&ended); t++) {
		nanosleep(&second, NULL);
		printf("%u %llu %llu\n", t, (unsigned long long)atomic_exchange(&batches, 0),
		       (unsigned long long)(atomic_exchange(&longest_ns, 0) / NSEC_PER_MSEC));
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct ps_options o = {.name = "volume-load",
			       .ports = THREADS,
			       .suspect_ns = 2 * NSEC_PER_SEC,
			       .deadline_ns = 20 * NSEC_PER_SEC};
	pthread_t t[THREADS + 1];

	if (argc < 4)
		return 2;
	signal(SIGTERM, on_term);
	pages = strtoull(argv[1], NULL, 10) << 8;
	o.pages = pages;
	o.replicas = (unsigned)atoi(argv[2]);
	o.donors = (const char *const *)(uintptr_t)&argv[3];
	o.donors_count = (unsigned)argc - 3;
	what = calloc(pages, sizeof *what);
	if (!what || ps_open(&o, &volume) || ps_reserve(volume, 0, pages)) {
		fprintf(stderr, "volume-load: %s\n", err_text());
		return 1;
	}
	pthread_create(&t[THREADS], NULL, maintenance, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, work, (void *)(uintptr_t)i);
	report();
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(t[i], NULL);
	ps_close(volume);
	printf("%llu errors, %llu wrong pages\n", (unsigned long long)atomic_load(&errors),
	       (unsigned long long)atomic_load(&wrong));
	return atomic_load(&errors) || atomic_load(&wrong);
}
