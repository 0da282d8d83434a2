/* SPDX-License-Identifier: MIT */
/*
 * A store, asked for one page at a time at random. The client blocks; which is better for it, the
 * server's CPU or another one, depends on the machine, so both are tried and the better one counts.
 */
#include "bench/peers/peers.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 64
#define GETS_MAX 16384
#define WARM     512

struct round {
	double us, p50_us, p99_us, seconds;
};

static int get(const struct store *s, void *priv, uint64_t page, char *buf)
{
	int r = s->get(priv, page, buf);
	const uint64_t *word = (const uint64_t *)(const void *)buf;

	if (!r && word[page_probe(page)] != page_word(page, page_probe(page)))
		r = err_fail(-EILSEQ, "%s: wrong contents in page %llu", s->name,
			     (unsigned long long)page);
	return r;
}

/* One round of gets; at is where in the random order it begins. */
static int one_round(const struct store *s, void *priv, uint64_t pages, uint64_t at, uint32_t *ns,
		     size_t n, struct round *ret)
{
	static _Alignas(8) char buf[BENCH_PAGE];
	uint64_t start, then;
	int r = 0;

	for (uint64_t i = 0; i < WARM && !r; i++)
		r = get(s, priv, page_shuffle((at + i) % pages, pages), buf);
	start = then = clock_ns();
	for (size_t i = 0; i < n && !r; i++) {
		uint64_t now;

		r = get(s, priv, page_shuffle((at + WARM + i) % pages, pages), buf);
		now = clock_ns();
		ns[i] = now - then > UINT32_MAX ? UINT32_MAX : (uint32_t)(now - then);
		then = now;
	}
	if (r)
		return r;
	ret->seconds = (double)(then - start) / 1e9;
	ret->us = ret->seconds * 1e6 / (double)n;
	ret->p50_us = sample_quantile_us(ns, n, 0.5);
	ret->p99_us = sample_quantile_us(ns, n, 0.99);
	return 0;
}

static int by_time(const void *a, const void *b)
{
	double x = ((const struct round *)a)->us, y = ((const struct round *)b)->us;

	return (x > y) - (x < y);
}

static int rounds(const struct bench_options *o, const struct store *s, void *priv,
		  struct bench_result *ret)
{
	uint64_t pages = ret->size_bytes / BENCH_PAGE;
	size_t n = o->touches < GETS_MAX ? o->touches : GETS_MAX;
	uint32_t *ns = calloc(n, sizeof *ns);
	struct round round[RUNS_MAX];
	int r = ns ? 0 : err_fail(-ENOMEM, "no memory for %zu times", n);

	/* Servers are on CPU 1. */
	for (unsigned cpu = 0; cpu < 2 && !r; cpu++) {
		cpu_pin(cpu);
		for (unsigned i = 0; i < o->runs && !r; i++)
			r = one_round(s, priv, pages, i * n, ns, n, &round[i]);
		qsort(round, o->runs, sizeof *round, by_time);
		if (r || (ret->us_per_page > 0 && round[o->runs / 2].us > ret->us_per_page))
			continue;
		ret->us_per_page = round[o->runs / 2].us;
		ret->us_min = round[0].us;
		ret->us_max = round[o->runs - 1].us;
		ret->p50_us = round[o->runs / 2].p50_us;
		ret->p99_us = round[o->runs / 2].p99_us;
		ret->seconds = round[o->runs / 2].seconds;
		ret->runs = (unsigned)o->runs;
		ret->variant = cpu ? "get, one CPU" : "get, two CPUs";
	}
	cpu_unpin();
	free(ns);
	return r;
}

int peer_store_run(const struct bench_options *o, const struct store *s, struct bench_result *ret)
{
	uint64_t pages = ret->size_bytes / BENCH_PAGE;
	void *priv = NULL;
	int r = s->available();

	if (r)
		return r;
	r = s->open(pages, &priv);
	if (!r)
		r = s->fill(priv, 0, pages);
	if (!r)
		r = rounds(o, s, priv, ret);
	s->close(priv);
	return r;
}
