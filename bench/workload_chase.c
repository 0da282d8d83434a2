/* SPDX-License-Identifier: MIT */
/*
 * A pointer chase: each node (--node bytes, a page or less) says which one is next, along one
 * random cycle through all of them. The next address is known only when the page is here, so
 * nothing can be fetched ahead. Threads start at different places of the cycle. The order of the
 * cycle is known, and so is each node's content.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>

#define WARM_MORE 1024
static uint64_t chase_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

/* Nodes don't cross pages. */
static uint64_t nodes_a_page(const struct work *w)
{
	return BENCH_PAGE / w->o->node_bytes;
}

static uint64_t nodes(const struct work *w)
{
	return w->pages * nodes_a_page(w);
}

static uint64_t *node(const struct work *w, uint64_t n)
{
	uint64_t a_page = nodes_a_page(w), words = w->o->node_bytes / 8;

	return (uint64_t *)(void *)(w->mem + n / a_page * BENCH_PAGE) + n % a_page * words;
}

static uint64_t nth(const struct work *w, uint64_t k)
{
	return page_shuffle(k % nodes(w), nodes(w));
}

static int fill_nodes(struct work *w, unsigned t)
{
	uint64_t a_page = nodes_a_page(w), from, to;
	const uint64_t *next = w->priv;

	team_share(w, t, w->pages, 64, &from, &to);
	for (uint64_t n = from * a_page; n < to * a_page; n++)
		for (unsigned i = 0; i < w->o->node_bytes / 8; i++)
			node(w, n)[i] = i ? page_word(n, i) : next[n];
	return 0;
}

static int chase_fill(struct work *w)
{
	uint64_t *next;
	int r;

	w->samples = w->o->touches;
	r = work_alloc(w, w->samples * sizeof *w->sample_ns, &w->sample_ns);
	if (!r)
		r = work_alloc(w, nodes(w) * sizeof *next, &next);
	if (r)
		return r;
	/* The way back from a node to its place in the cycle: nodes are then written in order. */
	for (uint64_t k = 0; k < nodes(w); k++)
		next[nth(w, k)] = nth(w, k + 1);
	w->priv = next;
	return team_run(w, fill_nodes);
}

static uint64_t warm_steps(const struct work *w)
{
	return w->local_pages + WARM_MORE;
}

static int chase_warm(struct work *w)
{
	uint64_t at = nth(w, 0);

	for (uint64_t k = 0; k < warm_steps(w); k++)
		at = *node(w, at);
	return at == nth(w, warm_steps(w)) ? 0 : err_fail(-EILSEQ, "the chase lost its way");
}

static int chase_share(struct work *w, unsigned t)
{
	uint64_t share = w->samples / w->threads, from = share * t, then = clock_ns();
	uint64_t to = t + 1 == w->threads ? w->samples : from + share;
	/* Far from the others, so that none walks where another has been. */
	uint64_t first = warm_steps(w) + nodes(w) / w->threads * t, at = nth(w, first);

	for (uint64_t k = from; k < to; k++) {
		uint64_t now;

		at = *(volatile uint64_t *)node(w, at);
		if (at >= nodes(w))
			return err_fail(-EILSEQ, "a node names node %llu, which is none",
					(unsigned long long)at);
		now = clock_ns();
		w->sample_ns[k] = now - then > UINT32_MAX ? UINT32_MAX : (uint32_t)(now - then);
		then = now;
	}
	return at == nth(w, first + (to - from)) ? 0 : err_fail(-EILSEQ, "the chase lost its way");
}

static int chase_run(struct work *w)
{
	w->done_pages = w->samples;
	/* A node of a page comes again when all others have been; one that shares its page may be
	 * there. */
	if (nodes_a_page(w) > 1 && w->local_pages < w->pages)
		w->misses = 1 - (double)w->local_pages / (double)w->pages;
	return team_run(w, chase_share);
}

static int chase_check(struct work *w, uint64_t *digest)
{
	const uint64_t *next = w->priv;

	*digest = nodes(w);
	for (uint64_t n = 0; n < nodes(w); n++) {
		const uint64_t *word = node(w, n);

		if (word[0] != next[n])
			work_bad(w, n / nodes_a_page(w));
		for (unsigned i = 1; i < w->o->node_bytes / 8; i++)
			if (word[i] != page_word(n, i))
				work_bad(w, n / nodes_a_page(w));
	}
	return w->bad ? err_fail(-EILSEQ, "wrong contents in page %llu",
				 (unsigned long long)(w->bad - 1))
		      : 0;
}

const struct workload workload_chase = {
	.name = "chase",
	.summary = "a pointer chase through a random cycle of nodes (--node)",
	.single = true,
	.shape = chase_shape,
	.fill = chase_fill,
	.warm = chase_warm,
	.run = chase_run,
	.check = chase_check,
};
