/* SPDX-License-Identifier: MIT */
/*
 * Work for a volume whose slabs move: two threads that write, read and check every page, and the maintenance
 * beside them, until `ended`. For tests that have donors come, leave and be emptied meanwhile.
 */
#ifndef TESTS_UNIT_PAGESTORE_WORK_H
#define TESTS_UNIT_PAGESTORE_WORK_H

#include "pagestore_donor.h"

#include <pthread.h>
#include <stdatomic.h>

#define DONORS  3u
#define PAGES   1024u
#define THREADS 2u

static struct test_donor donor[DONORS];
static char address[DONORS][160], bin[512];
static struct ps_volume *volume;
static atomic_bool ended;
static atomic_uint_fast64_t batches;
static uint64_t what[PAGES];

static void *maintenance(void *arg)
{
	(void)arg;
	while (!atomic_load(&ended)) {
		uint64_t ns = ps_maintain(volume, clock_ns());

		ps_maintain_wait(volume, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
	return NULL;
}

/* Pages of its own parity, over and over. */
static void *work(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, state = me + 1;
	static unsigned char mem[THREADS][8][PS_PAGE_SIZE];
	struct ps_port *p = ps_port(volume, me);

	for (uint64_t counter = 1; !atomic_load(&ended); counter++) {
		uint64_t page = (uint64_t)(rand_r(&state) % (PAGES / 16)) * 16 + me * 8;
		bool write = rand_r(&state) % 2;
		struct ps_batch b;
		int r;

		for (unsigned i = 0; i < 8 && write; i++) {
			what[page + i] = counter << 8 | i;
			fill_page(mem[me][i], what[page + i]);
		}
		r = transfer(p, write ? PS_WRITE : PS_READ, page, 8, mem[me], &b);
		cr_assert_eq(r, 0, "page %lu: %d, donor %s", (unsigned long)page, r,
			     ps_donor_name(volume, b.donor));
		for (unsigned i = 0; i < 8; i++)
			cr_assert(page_is(mem[me][i], what[page + i]), "page %lu is wrong",
				  (unsigned long)page + i);
		atomic_fetch_add(&batches, 1);
	}
	return NULL;
}

#endif
