/* SPDX-License-Identifier: MIT */
/*
 * The fault path as far as prefetchers see it: pages that are here don't fault; a window waits in
 * staging until one of its pages is touched and then comes as a whole; staging is short, and what
 * waits in it for long is thrown away; the cache is first in, first out.
 */
#ifndef TESTS_UNIT_PREFETCH_MODEL_H
#define TESTS_UNIT_PREFETCH_MODEL_H

#include "libinject/prefetch.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <string.h>

#define PAGES         (1u << 20)
#define MODEL_WINDOWS 4096u
#define MODEL_LOCAL   UINT16_MAX /* a page is absent (0), local, or in the window of that number */
#define PATIENCE      64u

static struct prefetch prefetch;
static uint16_t at[PAGES];
static struct model_window {
	uint32_t page[PREFETCH_WINDOW_MAX];
	uint32_t count;
	uint64_t asked; /* faults */
	bool waiting;
} windows[MODEL_WINDOWS];
static uint32_t window_next, window_oldest;
static uint32_t fifo[PAGES], fifo_at, fifo_count, fifo_limit;
static uint64_t faults, misses, runs, fetched, wasted, thrown;
static unsigned staging; /* windows that may wait */
static uint32_t thread;
static enum prefetch_event touched; /* when windows come: in time, or late */

static void start(const char *name)
{
	prefetch_free(&prefetch);
	cr_assert_eq(prefetch_init(&prefetch, name, PAGES, 64), 0, "%s: %s", name, err_text());
	memset(at, 0, sizeof at);
	memset(windows, 0, sizeof windows);
	window_next = window_oldest = 1;
	fifo_at = fifo_count = 0;
	fifo_limit = PAGES;
	staging = 22;
	thread = 0;
	touched = PREFETCH_FIRST;
	faults = misses = runs = fetched = wasted = thrown = 0;
}

static void model_evict(void)
{
	while (fifo_count >= fifo_limit) {
		at[fifo[fifo_at % PAGES]] = 0;
		fifo_at++;
		fifo_count--;
	}
}

static void model_install(uint32_t page)
{
	model_evict();
	at[page] = MODEL_LOCAL;
	fifo[(fifo_at + fifo_count++) % PAGES] = page;
}

/* The oldest window that waits, thrown away when it has waited for long. */
static bool model_drop(void)
{
	struct prefetch_run run[PREFETCH_RUNS];
	struct model_window *w;

	while (window_oldest != window_next && !windows[window_oldest % MODEL_WINDOWS].waiting)
		window_oldest++;
	w = &windows[window_oldest % MODEL_WINDOWS];
	if (window_oldest == window_next || faults - w->asked < PATIENCE)
		return false;
	w->waiting = false;
	for (uint32_t i = 0; i < w->count; i++)
		at[w->page[i]] = 0;
	thrown++;
	wasted += w->count;
	cr_assert_eq(prefetch_event(&prefetch, PREFETCH_WASTED, w->page[0], 0, run), 0);
	return true;
}

static unsigned model_waiting(void)
{
	unsigned n = 0;

	for (uint32_t i = window_oldest; i != window_next; i++)
		n += windows[i % MODEL_WINDOWS].waiting;
	return n;
}

static uint32_t run_page(const struct prefetch_run *run, uint32_t k)
{
	int64_t page = run->list ? run->list[k] : run->page + (int64_t)run->stride * k;

	cr_assert(page >= 0 && page < PAGES, "page %lld asked", (long long)page);
	return (uint32_t)page;
}

static void model_ask(const struct prefetch_run *run)
{
	struct model_window *w = &windows[window_next % MODEL_WINDOWS];

	cr_assert(run->list || run->stride);
	cr_assert(run->count > 0 && run->count <= 64, "%u pages asked", run->count);
	runs++;
	while (model_waiting() >= staging && model_drop())
		;
	if (model_waiting() >= staging || (window_next % MODEL_WINDOWS == 0 && window_next++)) {
		prefetch_refused(&prefetch, run);
		return;
	}
	w->count = 0;
	for (uint32_t k = 0; k < run->count; k++) {
		uint32_t page = run_page(run, k);

		if (at[page])
			continue;
		at[page] = (uint16_t)(window_next % MODEL_WINDOWS);
		w->page[w->count++] = page;
	}
	prefetch_asked(&prefetch, run, w->count);
	fetched += w->count;
	if (!w->count)
		return;
	w->asked = faults;
	w->waiting = true;
	window_next++;
}

/* True: it had to be waited for. */
static bool touch(uint32_t page)
{
	struct prefetch_run run[PREFETCH_RUNS];
	struct model_window *w = NULL;
	unsigned n;

	if (at[page] == MODEL_LOCAL)
		return false;
	faults++;
	if (at[page])
		w = &windows[at[page]];
	n = prefetch_event(&prefetch, w ? touched : PREFETCH_MISS, page, thread, run);
	cr_assert_leq(n, PREFETCH_RUNS);
	if (w) {
		w->waiting = false;
		for (uint32_t i = 0; i < w->count; i++)
			model_install(w->page[i]);
	} else {
		misses++;
		model_install(page);
	}
	for (unsigned i = 0; i < n; i++)
		model_ask(&run[i]);
	return !w;
}

static inline uint32_t random_below(uint32_t n)
{
	static uint64_t s = 88172645463325252ull;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return (uint32_t)(s >> 16) % n;
}

#endif
