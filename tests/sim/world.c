/* SPDX-License-Identifier: MIT */
/* The simulation's time and chance: a heap of events, and one generator of random numbers. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_EVENTS 20000000ull
#define MOST_TIME   (4 * 3600 * SIM_SEC)

struct event {
	uint64_t when, order;
	sim_fn *fn;
	void *arg;
	uint64_t n;
};

static struct {
	uint64_t seed, fail_at, state, now, order, digest, events;
	bool verbose;
	struct event *heap;
	size_t count, room;
} w;

void sim_world_open(uint64_t seed, uint64_t fail_at, bool verbose)
{
	struct event *heap = w.heap;
	size_t room = w.room;

	memset(&w, 0, sizeof w);
	w.heap = heap;
	w.room = room;
	w.seed = seed;
	w.fail_at = fail_at;
	w.verbose = verbose;
	/* Not a multiple of what a draw adds: the next seed would be this one, a draw later. */
	w.state = (seed + 1) * 0xd1342543de82ef95ull;
	w.state = sim_random() ^ seed;
	w.now = SIM_SEC;
	w.digest = 0xcbf29ce484222325ull;
}

void sim_world_close(void)
{
	free(w.heap);
	w.heap = NULL;
	w.count = w.room = 0;
}

uint64_t sim_now(void)
{
	return w.now;
}

uint64_t sim_digest(void)
{
	return w.digest;
}

uint64_t sim_events(void)
{
	return w.events;
}

/* --- chance: splitmix64 --- */

uint64_t sim_random(void)
{
	uint64_t z = w.state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t sim_below(uint64_t n)
{
	return n ? sim_random() % n : 0;
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
	return low + sim_below(high - low + 1);
}

bool sim_chance(uint64_t per_million)
{
	return per_million && sim_below(1000000) < per_million;
}

/* --- events: a binary heap --- */

static bool before(const struct event *a, const struct event *b)
{
	return a->when != b->when ? a->when < b->when : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
	struct event e = w.heap[a];

	w.heap[a] = w.heap[b];
	w.heap[b] = e;
}

void sim_at(uint64_t when_ns, sim_fn *fn, void *arg, uint64_t n)
{
	size_t i = w.count++;

	if (w.count > w.room) {
		w.room = w.room ? 2 * w.room : 1024;
		w.heap = realloc(w.heap, w.room * sizeof *w.heap);
		if (!w.heap)
			abort();
	}
	w.heap[i] = (struct event){when_ns > w.now ? when_ns : w.now, w.order++, fn, arg, n};
	for (; i && before(&w.heap[i], &w.heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static struct event pop(void)
{
	struct event first = w.heap[0];
	size_t i = 0;

	w.heap[0] = w.heap[--w.count];
	for (;;) {
		size_t least = i, l = 2 * i + 1, r = l + 1;

		if (l < w.count && before(&w.heap[l], &w.heap[least]))
			least = l;
		if (r < w.count && before(&w.heap[r], &w.heap[least]))
			least = r;
		if (least == i)
			return first;
		swap(i, least);
		i = least;
	}
}

void sim_run(uint64_t linger_ns)
{
	uint64_t end = UINT64_MAX;

	while (w.count) {
		struct event e;

		if (end == UINT64_MAX && !sim_tasks_left())
			end = w.now + linger_ns;
		if (w.heap[0].when > end)
			break;
		e = pop();
		w.now = e.when;
		if (++w.events > MOST_EVENTS || w.now > MOST_TIME)
			sim_fail("it does not end: %llu events, %llu s, %u tasks are left",
				 (unsigned long long)w.events,
				 (unsigned long long)(w.now / SIM_SEC), sim_tasks_left());
		e.fn(e.arg, e.n);
	}
	if (sim_tasks_left())
		sim_fail("%u tasks wait for something that never comes", sim_tasks_left());
	if (end != UINT64_MAX && end > w.now)
		w.now = end;
	w.count = 0;
}

/* --- words --- */

void sim_say(const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	for (int i = 0; i < n && i < (int)sizeof text - 1; i++)
		w.digest = (w.digest ^ (unsigned char)text[i]) * 0x100000001b3ull;
	w.digest = (w.digest ^ w.now) * 0x100000001b3ull;
	if (w.verbose)
		printf("%4llu.%06llu  %s\n", (unsigned long long)(w.now / SIM_SEC),
		       (unsigned long long)(w.now % SIM_SEC / 1000), text);
}

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "seed %llu failed at %llu.%06llu s: ", (unsigned long long)w.seed,
		(unsigned long long)(w.now / SIM_SEC),
		(unsigned long long)(w.now % SIM_SEC / 1000));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nplay it again: infuse-sim --seed %llu --verbose",
		(unsigned long long)w.seed);
	if (w.fail_at)
		fprintf(stderr, " --fail %llu", (unsigned long long)w.fail_at);
	fputc('\n', stderr);
	fflush(stderr);
	_exit(1);
}
