/* SPDX-License-Identifier: MIT */
/*
 * Threads write, read and check a heap much larger than its local cache, against a shadow copy in
 * plain memory. Every page is shared by all threads (a slice each), so evictions meet writes; and
 * each thread allocates, fills, discards, checks and frees ranges of its own. With --page-out, one
 * more thread asks the kernel again and again to swap out what is local.
 */
#include <infuse/inject.h>

#include "common/clock.h"
#include "common/options.h"
#include "common/parse.h"
#include "common/error.h"

#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_THREADS 16
#define OWN_RANGES  8
#define WORDS       512u /* of a page */

static struct config {
	struct opt_list donor;
	uint64_t size, local, threads, seed, seconds_ns, page_out_ns, replicas, deadline_ns, suspect_ns;
	const char *mode, *prefetch, *code, *health, *series;
} config = {.size = 64 << 20, .local = 4 << 20, .threads = 4, .seed = 1, .seconds_ns = 5000000000,
	    .mode = "handler", .prefetch = "auto"};

#define OPTION(n, t, field, a, h, ...)                                                             \
	{.name = n, .type = t, .offset = offsetof(struct config, field), .arg = a, .help = h, __VA_ARGS__}

static const struct opt table[] = {
	OPTION("donor", OPT_LIST, donor, "ADDR", "a donor"),
	OPTION("size", OPT_SIZE, size, "SIZE", "of the shared area"),
	OPTION("local", OPT_SIZE, local, "SIZE", "local cache"),
	OPTION("threads", OPT_NUMBER, threads, "N", "threads", .min = 1, .max = MAX_THREADS),
	OPTION("seed", OPT_NUMBER, seed, "N", "of the random numbers"),
	OPTION("time", OPT_DURATION, seconds_ns, "TIME", "to run"),
	OPTION("page-out", OPT_DURATION, page_out_ns, "TIME",
	       "swap the area's local pages out so often", .min = 1, .max = 999999999),
	OPTION("replicas", OPT_NUMBER, replicas, "N", "copies"),
	OPTION("code", OPT_STRING, code, "K+M", "fragments and parities"),
	OPTION("health", OPT_STRING, health, "FILE",
	       "keep a line there: slabs degraded, members lost, slabs rebuilt, checks, longest step in ms"),
	OPTION("series", OPT_STRING, series, "FILE",
	       "add lines to it: time in us, steps since the last line, the longest of them in us"),
	OPTION("deadline", OPT_DURATION, deadline_ns, "TIME", "of the heap's requests"),
	OPTION("suspect", OPT_DURATION, suspect_ns, "TIME", "how long a donor may be silent"),
	OPTION("mode", OPT_CHOICE, mode, "MODE", "sigbus or handler", .choices = "sigbus|handler"),
	OPTION("prefetch", OPT_STRING, prefetch, "NAME", "prefetcher"),
};

static struct inject_heap *heap;
static uint64_t *area;
static uint64_t *shadow; /* [thread][page]: what the thread wrote to its slice last */
static size_t pages;
static uint64_t end_ns;
static _Atomic uint64_t differences, checks, writes, longest_ns, steps, recent_ns;
static _Atomic bool done;

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static uint64_t value(uint64_t generation, uint64_t page, uint64_t word)
{
	return generation ? (generation << 40) ^ (page << 12) ^ word ^ 0x9e3779b97f4a7c15ull : 0;
}

static void differ(const char *what, size_t page, size_t word, uint64_t got, uint64_t want)
{
	if (differences++ < 10)
		fprintf(stderr, "%s page %zu word %zu: got %#llx, wrote %#llx\n", what, page, word,
			(unsigned long long)got, (unsigned long long)want);
}

/* Thread t's words of a page: every threads-th. */
static void slice_check(size_t page, unsigned t)
{
	uint64_t generation = shadow[t * pages + page];
	uint64_t *at = area + page * WORDS;

	for (size_t w = t; w < WORDS; w += config.threads)
		if (at[w] != value(generation, page, w))
			differ("shared", page, w, at[w], value(generation, page, w));
	checks++;
}

static void slice_write(size_t page, unsigned t)
{
	uint64_t generation = ++shadow[t * pages + page];
	uint64_t *at = area + page * WORDS;

	for (size_t w = t; w < WORDS; w += config.threads)
		at[w] = value(generation, page, w);
	writes++;
}

struct own {
	uint64_t *at;
	size_t pages, gone_from, gone_to; /* discarded */
	uint64_t generation;
};

static void own_check(const struct own *o)
{
	for (size_t p = 0; p < o->pages; p++) {
		uint64_t g = p >= o->gone_from && p < o->gone_to ? 0 : o->generation;

		for (size_t w = 0; w < WORDS; w += 37)
			if (o->at[p * WORDS + w] != value(g, p, w))
				differ("own", p, w, o->at[p * WORDS + w], value(g, p, w));
	}
	checks += o->pages;
}

static void own_step(struct own *o, uint64_t *s)
{
	if (!o->at) {
		void *p;

		o->pages = 1 + rnd(s) % 64;
		o->generation = 1 + rnd(s) % 100000;
		o->gone_from = o->gone_to = 0;
		if (inject_alloc(heap, o->pages * INJECT_PAGE_SIZE, &p))
			errx(1, "inject_alloc: %s", inject_error());
		o->at = p;
		for (size_t i = 0; i < o->pages * WORDS; i++)
			if (i % 61 == 0 && o->at[i])
				differ("fresh", i / WORDS, i % WORDS, o->at[i], 0);
		for (size_t i = 0; i < o->pages * WORDS; i++)
			o->at[i] = value(o->generation, i / WORDS, i % WORDS);
		return;
	}
	own_check(o);
	if (o->pages > 3 && !o->gone_to && rnd(s) % 2) {
		o->gone_from = 1;
		o->gone_to = o->pages - 1;
		if (inject_discard(heap, o->at + WORDS, (o->pages - 2) * INJECT_PAGE_SIZE))
			errx(1, "inject_discard: %s", inject_error());
		own_check(o);
		return;
	}
	if (inject_free(heap, o->at))
		errx(1, "inject_free: %s", inject_error());
	o->at = NULL;
}

static void *work(void *arg)
{
	unsigned t = (unsigned)(uintptr_t)arg;
	uint64_t s = config.seed * 7919 + t + 1;
	struct own own[OWN_RANGES] = {0};
	size_t scan = rnd(&s) % pages;

	while (clock_ns() < end_ns) {
		for (int i = 0; i < 64; i++) {
			/* Half random, half one scan: prefetching and eviction at once. */
			size_t page = i % 2 ? rnd(&s) % pages : (scan = (scan + 1) % pages);

			uint64_t begin = clock_ns(), took;

			slice_check(page, t);
			if (rnd(&s) % 2)
				slice_write(page, t);
			took = clock_ns() - begin;
			if (took > longest_ns)
				longest_ns = took;
			if (took > recent_ns)
				recent_ns = took;
			steps++;
		}
		own_step(&own[rnd(&s) % OWN_RANGES], &s);
	}
	for (int i = 0; i < OWN_RANGES; i++)
		if (own[i].at)
			own_check(&own[i]);
	return NULL;
}

/* It never touches the area itself: the kernel does, as it would when memory is short. */
static void *page_out(void *unused)
{
	const struct timespec pause = {.tv_nsec = (long)config.page_out_ns};

	while (clock_ns() < end_ns) {
		if (madvise(area, config.size, MADV_PAGEOUT))
			err(1, "MADV_PAGEOUT");
		nanosleep(&pause, NULL);
	}
	return unused;
}

/* Renamed over the old one, so that a reader finds a whole line. */
static void tell_health(void)
{
	char name[4096];
	struct inject_stats st;
	FILE *f;

	snprintf(name, sizeof name, "%s.new", config.health);
	f = fopen(name, "w");
	if (!f)
		err(1, "%s", name);
	inject_stats(heap, &st);
	fprintf(f, "%llu %llu %llu %llu %llu\n", (unsigned long long)st.slabs_degraded,
		(unsigned long long)st.members_lost, (unsigned long long)st.slabs_rebuilt,
		(unsigned long long)checks, (unsigned long long)longest_ns / 1000000);
	fclose(f);
	if (rename(name, config.health))
		err(1, "%s", config.health);
}

static void tell_series(FILE *f)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	fprintf(f, "%lld%06ld %llu %llu\n", (long long)t.tv_sec, t.tv_nsec / 1000,
		(unsigned long long)atomic_exchange(&steps, 0),
		(unsigned long long)atomic_exchange(&recent_ns, 0) / 1000);
	fflush(f);
}

static void *tell(void *unused)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	FILE *series = config.series ? fopen(config.series, "a") : NULL;

	if (config.series && !series)
		err(1, "%s", config.series);
	while (!done) {
		if (config.health)
			tell_health();
		if (series)
			tell_series(series);
		nanosleep(&pause, NULL);
	}
	if (series)
		fclose(series);
	return unused;
}

int main(int argc, char **argv)
{
	static const struct opt_command cmd = {
		.name = "inject-stress", .usage = "[OPTIONS]", .summary = "Checks a heap under load.",
		.table = table, .count = sizeof table / sizeof *table};
	struct inject_stats st;
	pthread_t thread[MAX_THREADS], pager, teller;
	unsigned k = 0, m = 0;
	int first, r = opt_parse(&cmd, argc, argv, &config, &first);
	void *p;

	if (r)
		errx(r > 0 ? 0 : 2, "%s", r > 0 ? "" : err_text());
	if (config.code && parse_code(config.code, &k, &m))
		errx(2, "%s", err_text());
	if (inject_open(&(struct inject_options){
				.size = sizeof(struct inject_options), .name = "stress",
				.donors = config.donor.item, .donors_count = config.donor.count,
				.heap_bytes = config.size + (256 << 20), .local_bytes = config.local,
				.mode = config.mode[0] == 's' ? INJECT_MODE_SIGBUS : INJECT_MODE_HANDLER,
				.replicas = (unsigned)config.replicas, .code_data = k, .code_parity = m,
				.deadline_ns = config.deadline_ns, .suspect_ns = config.suspect_ns,
				.prefetch = config.prefetch}, &heap) ||
	    inject_alloc(heap, config.size, &p))
		errx(1, "%s", inject_error());
	area = p;
	pages = config.size / INJECT_PAGE_SIZE;
	shadow = calloc(config.threads * pages, sizeof *shadow);
	if (!shadow)
		err(1, "shadow");
	end_ns = clock_ns() + config.seconds_ns;
	for (uintptr_t t = 0; t < config.threads; t++)
		if (pthread_create(&thread[t], NULL, work, (void *)t))
			err(1, "pthread_create");
	if (pthread_create(&teller, NULL, tell, NULL))
		err(1, "pthread_create");
	if (config.page_out_ns && pthread_create(&pager, NULL, page_out, NULL))
		err(1, "pthread_create");
	if (config.page_out_ns)
		pthread_join(pager, NULL);
	for (unsigned t = 0; t < config.threads; t++)
		pthread_join(thread[t], NULL);
	for (size_t page = 0; page < pages; page++)
		for (unsigned t = 0; t < config.threads; t++)
			slice_check(page, t);
	done = true;
	pthread_join(teller, NULL);
	inject_stats(heap, &st);
	printf("checks %llu, writes %llu, differences %llu; faults %llu (staged %llu, shared %llu), in %llu, "
	       "out %llu, clean %llu, prefetched %llu, hits %llu, resident %llu of %llu\n",
	       (unsigned long long)checks, (unsigned long long)writes, (unsigned long long)differences,
	       (unsigned long long)st.faults, (unsigned long long)st.faults_staged,
	       (unsigned long long)st.faults_shared, (unsigned long long)st.pages_in,
	       (unsigned long long)st.pages_out, (unsigned long long)st.pages_clean,
	       (unsigned long long)st.prefetched, (unsigned long long)st.prefetch_hits,
	       (unsigned long long)st.resident_bytes, (unsigned long long)st.local_bytes);
	if (!st.pages_out || !st.pages_in)
		errx(1, "the heap never went remote");
	if (st.resident_bytes > st.local_bytes + (64 << 12))
		errx(1, "more is local than allowed");
	inject_close(heap);
	free(shadow);
	return differences ? 1 : 0;
}
