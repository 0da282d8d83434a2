/* SPDX-License-Identifier: MIT */
/* The list of workloads, and what the two that touch whole pages share. To add one: write its file
 * and add a line. */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <string.h>

static const struct workload *const workloads[] = {
	&workload_seq,
	&workload_random,
	&workload_transpose,
	&workload_stencil,
};

const struct workload *workload_at(unsigned i)
{
	return i < sizeof workloads / sizeof *workloads ? workloads[i] : NULL;
}

const struct workload *workload_find(const char *name)
{
	const struct workload *w;

	for (unsigned i = 0; (w = workload_at(i)); i++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

void work_bad(struct work *w, uint64_t page)
{
	uint64_t none = 0;

	__atomic_compare_exchange_n(&w->bad, &none, page + 1, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
}

static int fill_share(struct work *w, unsigned t)
{
	uint64_t from, to;

	team_share(w, t, w->pages, 64, &from, &to);
	for (uint64_t p = from; p < to; p++)
		page_fill(w->mem + p * BENCH_PAGE, p);
	return 0;
}

int work_fill_pages(struct work *w)
{
	return team_run(w, fill_share);
}

int work_check_pages(struct work *w, uint64_t *digest)
{
	/* Contents are known without a second run: the digest only says that all were right. */
	*digest = w->pages;
	for (uint64_t p = 0; p < w->pages; p++)
		if (!page_check(w->mem + p * BENCH_PAGE, p, w->written[p]))
			work_bad(w, p);
	return w->bad ? err_fail(-EILSEQ, "wrong contents in page %llu",
				 (unsigned long long)(w->bad - 1))
		      : 0;
}
