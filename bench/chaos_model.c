/* SPDX-License-Identifier: MIT */
/*
 * What a client does: each page carries its number and a version in every word, and a thread knows which
 * version it wrote last. Pages are read whole, and every word is compared. A page whose write failed
 * may hold the old or the new version, and is not read before it is written again.
 */
#include "bench/chaos.h"
#include "common/clock.h"
#include "common/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST 32 /* pages, then a moment for the others on this machine */
#define UNKNOWN UINT32_MAX

struct model {
	struct chaos_client *c;
	unsigned thread;
	uint64_t random, sweeps;
	uint32_t *version; /* 0: zeros */
	uint64_t *buf;
	const struct chaos_access *access;
	void *arg;
};

static uint64_t word(uint64_t page, uint32_t version, unsigned i)
{
	return version ? page_mix(page << 32 | version) + i : 0;
}

static void fill(uint64_t *p, uint64_t page, uint32_t version)
{
	for (unsigned i = 0; i < BENCH_WORDS; i++)
		p[i] = word(page, version, i);
}

static void compare(struct model *m, const uint64_t *p, uint64_t page)
{
	char text[200];

	for (unsigned i = 0; i < BENCH_WORDS; i++) {
		if (p[i] == word(page, m->version[page], i))
			continue;
		atomic_fetch_add(&m->c->mismatches, 1);
		snprintf(text, sizeof text, "page %llu, word %u: got %#llx, not %#llx (version %u)",
			 (unsigned long long)page, i, (unsigned long long)p[i],
			 (unsigned long long)word(page, m->version[page], i), m->version[page]);
		chaos_client_error(m->c, text);
		return;
	}
	atomic_fetch_add(&m->c->checks, 1);
}

void chaos_client_error(struct chaos_client *c, const char *text)
{
	if (atomic_exchange(&c->told, true))
		return;
	snprintf(c->error, sizeof c->error, "%s", text);
}

static void failed(struct model *m, uint64_t page)
{
	char text[300];

	atomic_fetch_add(&m->c->errors, 1);
	snprintf(text, sizeof text, "page %llu: %s", (unsigned long long)page, err_text());
	chaos_client_error(m->c, text);
}

static void read_page(struct model *m, uint64_t page)
{
	if (m->version[page] == UNKNOWN)
		return;
	if (!m->access) /* in place */
		compare(m, (uint64_t *)m->arg + page * BENCH_WORDS, page);
	else if (m->access->read(m->arg, page, m->buf))
		failed(m, page);
	else
		compare(m, m->buf, page);
}

static void write_page(struct model *m, uint64_t page)
{
	uint32_t next = m->version[page] == UNKNOWN ? 1u << 30 : m->version[page] + 1;

	m->version[page] = next;
	if (!m->access) {
		fill((uint64_t *)m->arg + page * BENCH_WORDS, page, next);
		return;
	}
	fill(m->buf, page, next);
	if (m->access->write(m->arg, page, m->buf)) {
		failed(m, page);
		m->version[page] = UNKNOWN;
	}
}

static void timed(struct model *m, void (*fn)(struct model *, uint64_t), uint64_t page)
{
	uint64_t begun = clock_ns(), took;

	atomic_store(&m->c->began_ns[m->thread], begun);
	fn(m, page);
	took = clock_ns() - begun;
	atomic_store(&m->c->began_ns[m->thread], 0);
	if (took > atomic_load(&m->c->longest_ns))
		atomic_store(&m->c->longest_ns, took);
}

static uint64_t any_page(struct model *m)
{
	m->random = page_mix(m->random + 0x9e3779b97f4a7c15ull);
	return m->random % (CHAOS_PAGES / CHAOS_THREADS) * CHAOS_THREADS + m->thread;
}

static void sweep(struct model *m)
{
	for (uint64_t p = m->thread; p < CHAOS_PAGES; p += CHAOS_THREADS)
		timed(m, write_page, p);
	for (uint64_t p = m->thread; p < CHAOS_PAGES; p += CHAOS_THREADS)
		timed(m, read_page, p);
	m->sweeps++;
	atomic_fetch_add(&m->c->sweeps_done, 1);
}

void chaos_model_run(struct chaos_client *c, unsigned thread, uint64_t seed,
		     const struct chaos_access *access, void *arg)
{
	const struct timespec nap = {.tv_nsec = 2 * (long)NSEC_PER_MSEC};
	struct model m = {.c = c,
			  .thread = thread,
			  .random = seed * CHAOS_THREADS + thread,
			  .version = calloc(CHAOS_PAGES, sizeof *m.version),
			  .buf = aligned_alloc(BENCH_PAGE, BENCH_PAGE),
			  .access = access,
			  .arg = arg};

	if (!m.version || !m.buf)
		abort();
	while (!atomic_load(&c->stop)) {
		for (unsigned i = 0; i < BURST; i++) {
			uint64_t page = any_page(&m);

			timed(&m, read_page, page);
			if (m.random >> 40 & 1)
				timed(&m, write_page, page);
		}
		if (atomic_load(&c->sweep_wanted) > m.sweeps)
			sweep(&m);
		nanosleep(&nap, NULL);
	}
	free(m.version);
	free(m.buf);
}
