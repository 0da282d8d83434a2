/* SPDX-License-Identifier: MIT */
/* The list of workloads, and what those that touch whole pages share. To add one: write its file
 * and add a line. */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define WARM_MORE 1024

static const struct workload *const workloads[] = {
	&workload_seq,  &workload_random, &workload_transpose, &workload_stencil,
	&workload_zipf, &workload_chase,  &workload_join,      &workload_sort,
	&workload_spmv, &workload_bfs,    &workload_scans,     &workload_turn,
	&workload_fresh,
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

int work_alloc(struct work *w, size_t bytes, void *ret)
{
	void *p;

	for (unsigned i = 0; i < sizeof w->own / sizeof *w->own; i++) {
		if (w->own[i].p)
			continue;
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p == MAP_FAILED)
			break;
		w->own[i].p = p;
		w->own[i].bytes = bytes;
		*(void **)ret = p;
		return 0;
	}
	return err_fail(-ENOMEM, "no %zu bytes for the workload", bytes);
}

bool work_writes(const struct work *w, uint64_t turn)
{
	uint64_t percent = w->o->write_percent;

	return percent && (percent == 100 || page_mix(turn) % 100 < percent);
}

void work_touch(struct work *w, uint64_t page, uint64_t turn)
{
	volatile uint64_t *word = (volatile uint64_t *)(void *)(w->mem + page * BENCH_PAGE);

	if (work_writes(w, turn)) {
		word[0] = page_marked(page);
		w->written[page] = 1;
	} else if (word[page_probe(page)] != page_word(page, page_probe(page))) {
		work_bad(w, page);
	}
}

uint64_t work_warm_pages(const struct work *w)
{
	uint64_t warm = w->local_pages + WARM_MORE;

	/* A cache as big as the area evicts nothing: then the whole of it is timed. */
	return warm < w->pages * 3 / 4 ? warm : 0;
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
