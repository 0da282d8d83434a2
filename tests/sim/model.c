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

struct sim_model {
	unsigned owner; /* two volumes' pages differ too */
	struct page *page, *saved;
	uint64_t pages;
	uint32_t writes;
};

static uint64_t word_of(const struct sim_model *m, uint64_t number, uint32_t write)
{
	return (((uint64_t)m->owner << 60 | number << 32 | write) + 1) * 0x9e3779b97f4a7c15ull;
}

static void fill(const struct sim_model *m, uint64_t number, uint32_t write, uint64_t *w)
{
	uint64_t first = word_of(m, number, write);

	if (!write) {
		memset(w, 0, PS_PAGE_SIZE);
		return;
	}
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		w[i] = first + i * 0xd6e8feb86659fd93ull;
}

struct sim_model *sim_model_open(unsigned owner, uint64_t pages)
{
	struct sim_model *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	m->owner = owner;
	m->pages = pages;
	m->page = calloc(pages, sizeof *m->page);
	m->saved = calloc(pages, sizeof *m->saved);
	if (!m->page || !m->saved)
		abort();
	return m;
}

void sim_model_close(struct sim_model *m)
{
	free(m->page);
	free(m->saved);
	free(m);
}

bool sim_model_take(struct sim_model *m, uint64_t n)
{
	sim_must(n < m->pages);
	if (m->page[n].busy)
		return false;
	m->page[n].busy = true;
	return true;
}

void sim_model_give(struct sim_model *m, uint64_t n)
{
	sim_must(m->page[n].busy);
	m->page[n].busy = false;
}

void sim_model_write(struct sim_model *m, uint64_t n, void *buf, bool zeros)
{
	m->page[n].now = zeros ? 0 : ++m->writes;
	fill(m, n, m->page[n].now, buf);
}

void sim_model_written(struct sim_model *m, uint64_t n, bool acknowledged)
{
	struct page *p = &m->page[n];

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

void sim_model_zero(struct sim_model *m, uint64_t n)
{
	m->page[n].is = 0;
	m->page[n].maybes = 0;
}

/* Whose contents they are, for the message. */
static void tell(const struct sim_model *m, uint64_t n, const uint64_t *w)
{
	const struct page *p = &m->page[n];

	for (uint64_t i = 0; i < m->pages; i++)
		for (uint32_t k = 1; k <= m->writes; k++)
			if (word_of(m, i, k) == w[0])
				sim_fail("page %llu: read write %u of page %llu, acknowledged was "
					 "%u (and %u writes are uncertain)",
					 (unsigned long long)n, k, (unsigned long long)i, p->is,
					 p->maybes);
	sim_fail("page %llu: read bytes that it never had (%016llx), acknowledged was %u",
		 (unsigned long long)n, (unsigned long long)w[0], p->is);
}

void sim_model_read(struct sim_model *m, uint64_t n, const void *buf)
{
	static uint64_t want[PS_PAGE_SIZE / 8];
	struct page *p = &m->page[n];

	fill(m, n, p->is, want);
	if (!memcmp(buf, want, sizeof want))
		return;
	for (uint32_t i = p->maybes; i-- > 0;) {
		fill(m, n, p->maybe[i], want);
		if (memcmp(buf, want, sizeof want))
			continue;
		p->is = p->maybe[i];
		memmove(p->maybe, p->maybe + i + 1, (p->maybes - i - 1) * sizeof *p->maybe);
		p->maybes -= i + 1;
		return;
	}
	tell(m, n, buf);
}

void sim_model_save(struct sim_model *m)
{
	memcpy(m->saved, m->page, m->pages * sizeof *m->page);
}

void sim_model_restore(struct sim_model *m)
{
	memcpy(m->page, m->saved, m->pages * sizeof *m->page);
}
