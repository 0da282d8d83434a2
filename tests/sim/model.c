/* SPDX-License-Identifier: MIT */
/*
 * What each page may hold. Every write has contents of its own, made from the page's number and
 * the write's, so that a page that is stale, torn or another one's is told apart from a right one.
 *
 * A write that was not acknowledged may have happened or not: the page is one of either until the
 * next acknowledged write. Once a newer one of them was read, an older one must not come back.
 */
#include "sim.h"

#include <infuse/pagestore.h>
#include <stdlib.h>
#include <string.h>

#define MAYBES 8u

struct page {
	uint32_t is; /* the write that is there; 0: zeros */
	uint32_t maybe[MAYBES];
	uint32_t maybes;
	uint32_t now; /* the write under way */
	bool busy;
};

static struct page *page, *saved;
static uint64_t pages;
static uint32_t writes;

static uint64_t word_of(uint64_t number, uint32_t write)
{
	return ((number << 32 | write) + 1) * 0x9e3779b97f4a7c15ull;
}

static void fill(uint64_t number, uint32_t write, uint64_t *w)
{
	uint64_t first = word_of(number, write);

	if (!write) {
		memset(w, 0, PS_PAGE_SIZE);
		return;
	}
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		w[i] = first + i * 0xd6e8feb86659fd93ull;
}

void sim_model_open(uint64_t n)
{
	pages = n;
	writes = 0;
	page = calloc(n, sizeof *page);
	saved = calloc(n, sizeof *saved);
	if (!page || !saved)
		abort();
}

void sim_model_close(void)
{
	free(page);
	free(saved);
	page = saved = NULL;
}

bool sim_model_take(uint64_t n)
{
	sim_must(n < pages);
	if (page[n].busy)
		return false;
	page[n].busy = true;
	return true;
}

void sim_model_give(uint64_t n)
{
	sim_must(page[n].busy);
	page[n].busy = false;
}

void sim_model_write(uint64_t n, void *buf, bool zeros)
{
	page[n].now = zeros ? 0 : ++writes;
	fill(n, page[n].now, buf);
}

void sim_model_written(uint64_t n, bool acknowledged)
{
	struct page *p = &page[n];

	if (acknowledged) {
		p->is = p->now;
		p->maybes = 0;
		return;
	}
	if (p->maybes == MAYBES) {
		memmove(p->maybe, p->maybe + 1, sizeof p->maybe - sizeof *p->maybe);
		p->maybes--;
	}
	p->maybe[p->maybes++] = p->now;
}

void sim_model_zero(uint64_t n)
{
	page[n].is = 0;
	page[n].maybes = 0;
}

/* Whose contents they are, for the message. */
static void tell(uint64_t n, const uint64_t *w)
{
	for (uint64_t i = 0; i < pages; i++)
		for (uint32_t k = 1; k <= writes; k++)
			if (word_of(i, k) == w[0])
				sim_fail("page %llu: read write %u of page %llu, acknowledged was "
					 "%u (and %u writes are uncertain)",
					 (unsigned long long)n, k, (unsigned long long)i,
					 page[n].is, page[n].maybes);
	sim_fail("page %llu: read bytes that nobody wrote (%016llx), acknowledged was %u",
		 (unsigned long long)n, (unsigned long long)w[0], page[n].is);
}

void sim_model_read(uint64_t n, const void *buf)
{
	static uint64_t want[PS_PAGE_SIZE / 8];
	struct page *p = &page[n];

	fill(n, p->is, want);
	if (!memcmp(buf, want, sizeof want))
		return;
	for (uint32_t i = p->maybes; i-- > 0;) {
		fill(n, p->maybe[i], want);
		if (memcmp(buf, want, sizeof want))
			continue;
		p->is = p->maybe[i];
		memmove(p->maybe, p->maybe + i + 1, (p->maybes - i - 1) * sizeof *p->maybe);
		p->maybes -= i + 1;
		return;
	}
	tell(n, buf);
}

void sim_model_save(void)
{
	memcpy(saved, page, pages * sizeof *page);
}

void sim_model_restore(void)
{
	memcpy(page, saved, pages * sizeof *page);
}
