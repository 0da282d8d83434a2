/* SPDX-License-Identifier: MIT */
/*
 * How good the choice of victims is: traces of touches are replayed through libinject's own
 * residency.c, which sees faults only, as in a heap, and beside it through a FIFO, an exact LRU and
 * Belady's MIN, which see every touch. A hit is a touch that fetched nothing; a page that came
 * ahead was fetched, so that prefetching can't hide a bad choice.
 */
#include "bench/bench.h"
#include "bench/lru.h"
#include "bench/min.h"
#include "bench/trace.h"
#include "common/clock.h"
#include "common/error.h"
#include "libinject/residency.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 64u /* pages that a miss in a scan brings, if they are a small part of the cache */
#define BATCH  16u /* victims at once, as the heap takes them */
#define NOT    0u  /* of replay.where */
#define LOCAL  1u
#define STAGED 2u /* + place in the ring */

struct replay {
	struct residency res;
	const struct trace *trace;
	uint32_t *where;
	uint32_t *ring; /* victims on their way out, UINT32_MAX: found again */
	uint32_t room, at;
	uint64_t count, limit; /* local pages, without the staged ones */
	uint64_t fetched, back;
};

struct figures {
	double ours, fifo, lru, min;
	double back;        /* touches that found their page staged */
	double ns_per_page; /* of ours, the replay itself included */
};

static void make_room(struct replay *r)
{
	uint32_t victim[BATCH];

	while (r->count > r->limit) {
		uint64_t over = r->count - r->limit;
		unsigned n = residency_pick(&r->res, victim, over < BATCH ? (unsigned)over : BATCH);

		if (!n)
			return;
		r->count -= n;
		for (unsigned i = 0; i < n; i++) {
			r->where[victim[i]] = r->room ? STAGED + r->at : NOT;
			if (!r->room)
				continue;
			if (r->ring[r->at] != UINT32_MAX)
				r->where[r->ring[r->at]] = NOT;
			r->ring[r->at] = victim[i];
			r->at = (r->at + 1) % r->room;
		}
	}
}

static void fetch(struct replay *r, uint32_t page, bool window)
{
	uint64_t most = r->limit / 8 < WINDOW ? r->limit / 8 + 1 : WINDOW;
	uint32_t come[WINDOW];
	unsigned n = 0;

	for (uint32_t p = page; p < r->trace->pages && n < (window ? most : 1); p++) {
		if (r->where[p] != NOT)
			break;
		r->where[p] = LOCAL;
		come[n++] = p;
	}
	r->count += n;
	r->fetched += n;
	make_room(r);
	residency_add(&r->res, come, n, window ? RESIDENCY_AHEAD : RESIDENCY_DEMAND);
}

static void touch(struct replay *r, uint32_t what)
{
	uint32_t page = what & ~TRACE_SCAN, where = r->where[page];

	if (where == LOCAL)
		return;
	if (where == NOT) {
		fetch(r, page, what & TRACE_SCAN);
		return;
	}
	r->ring[where - STAGED] = UINT32_MAX;
	r->where[page] = LOCAL;
	r->count++;
	r->back++;
	residency_add(&r->res, &page, 1, RESIDENCY_BACK);
	make_room(r);
}

static int replay_ours(const struct trace *t, uint32_t local, uint32_t staged, struct figures *f)
{
	struct replay r = {.trace = t, .room = staged, .limit = local - staged};
	double timed = (double)(t->touches - t->warm);
	int err = -ENOMEM;
	uint64_t start;

	r.where = calloc(t->pages, sizeof *r.where);
	r.ring = malloc((staged + 1) * sizeof *r.ring);
	if (!r.where || !r.ring || residency_init(&r.res, t->pages)) {
		err_fail(err, "no memory to replay a trace");
		goto out;
	}
	err = 0;
	memset(r.ring, 0xff, (staged + 1) * sizeof *r.ring);
	residency_limit(&r.res, r.limit);
	for (uint64_t i = 0; i < t->warm; i++)
		touch(&r, t->page[i]);
	r.fetched = r.back = 0;
	start = clock_ns();
	for (uint64_t i = t->warm; i < t->touches; i++)
		touch(&r, t->page[i]);
	f->ns_per_page = r.fetched ? (double)(clock_ns() - start) / (double)r.fetched : 0;
	f->ours = 1 - (double)r.fetched / timed;
	f->back = (double)r.back / timed;
	residency_free(&r.res);
out:
	free(r.where);
	free(r.ring);
	return err;
}

static int replay_fifo(const struct trace *t, uint32_t local, struct figures *f)
{
	uint32_t *ring = malloc(local * sizeof *ring);
	bool *is_local = calloc(t->pages, sizeof *is_local);
	uint64_t hits = 0, came = 0;

	for (uint64_t i = 0; ring && is_local && i < t->touches; i++) {
		uint32_t page = t->page[i] & ~TRACE_SCAN;

		if (is_local[page]) {
			hits += i >= t->warm;
			continue;
		}
		if (came >= local)
			is_local[ring[came % local]] = false;
		is_local[page] = true;
		ring[came++ % local] = page;
	}
	free(is_local);
	free(ring);
	f->fifo = (double)hits / (double)(t->touches - t->warm);
	return ring && is_local ? 0 : err_fail(-ENOMEM, "no memory to simulate FIFO");
}

static int replay_lru(const struct trace *t, uint32_t local, struct figures *f)
{
	struct lru l;
	int r = lru_create(&l, t->pages, local);

	if (r)
		return r;
	for (uint64_t i = 0; i < t->touches; i++) {
		if (i == t->warm)
			lru_reset(&l);
		lru_touch(&l, t->page[i] & ~TRACE_SCAN);
	}
	f->lru = lru_hit_ratio(&l);
	lru_free(&l);
	return 0;
}

/* Changes the trace: the last one. */
static int replay_min(struct trace *t, uint32_t local, struct figures *f)
{
	uint64_t hits;
	int r;

	for (uint64_t i = 0; i < t->touches; i++)
		t->page[i] &= ~TRACE_SCAN;
	r = min_replay(t->page, t->touches, t->warm, t->pages, local, &hits);
	if (!r)
		f->min = (double)hits / (double)(t->touches - t->warm);
	return r;
}

static void print(const struct bench_options *o, const char *name, const struct trace *t,
		  uint32_t local, const struct figures *f)
{
	static bool headed;
	double share = (double)local / t->pages;

	if (o->json) {
		struct json_object *j = json_object_new_object();
		const struct {
			const char *key;
			double value;
		} numbers[] = {
			{"hits", f->ours},        {"hits_fifo", f->fifo},
			{"hits_lru", f->lru},     {"hits_min", f->min},
			{"hits_staged", f->back}, {"ns_per_page", f->ns_per_page},
		};

		json_object_object_add(j, "trace", json_object_new_string(name));
		json_object_object_add(j, "pages", json_object_new_int64(t->pages));
		json_object_object_add(j, "local_pages", json_object_new_int64(local));
		json_object_object_add(j, "staged_pages",
				       json_object_new_int64((int64_t)o->staged_pages));
		json_object_object_add(j, "touches",
				       json_object_new_int64((int64_t)(t->touches - t->warm)));
		for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
			json_object_object_add(j, numbers[i].key,
					       json_object_new_double(numbers[i].value));
		printf("%s\n", json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN));
		json_object_put(j);
	} else {
		if (!headed)
			printf("%-14s %9s %6s %8s %8s %8s %8s %8s %8s %8s\n", "trace", "pages",
			       "local", "hits", "staged", "fifo", "lru", "min", "x lru", "x min");
		headed = true;
		printf("%-14s %9u %5.1f%% %8.4f %8.4f %8.4f %8.4f %8.4f ", name, t->pages,
		       share * 100, f->ours, f->back, f->fifo, f->lru, f->min);
		if (f->lru > 0.001)
			printf("%8.3f ", f->ours / f->lru);
		else
			printf("%8s ", "-");
		printf(f->min > 0.001 ? "%8.3f\n" : "%8.0f\n", f->min > 0 ? f->ours / f->min : 0);
	}
	fflush(stdout);
}

/* Frees the trace. */
static int replay_all(const struct bench_options *o, const char *name, struct trace *t,
		      uint32_t local)
{
	uint32_t staged = o->staged_pages < local / 2 ? (uint32_t)o->staged_pages : local / 2;
	struct figures f = {0};
	int r = replay_ours(t, local, staged, &f);

	if (!r)
		r = replay_fifo(t, local, &f);
	if (!r)
		r = replay_lru(t, local, &f);
	if (!r)
		r = replay_min(t, local, &f);
	if (!r)
		print(o, name, t, local, &f);
	trace_free(t);
	return r;
}

static uint32_t local_pages(const struct opt_share *share, uint32_t pages)
{
	uint64_t n =
		share->percent ? (uint64_t)pages * share->percent / 100 : share->bytes / BENCH_PAGE;

	return n < 1 ? 1 : n < pages ? (uint32_t)n : pages;
}

static int one_kind(const struct bench_options *o, const struct trace_kind *k,
		    const struct opt_share *share)
{
	uint32_t pages = (uint32_t)(o->size_bytes / BENCH_PAGE), local = local_pages(share, pages);
	struct trace t;
	int r = trace_make(&t, k, pages, local);

	return r ? r : replay_all(o, k->name, &t, local);
}

static int one_file(const struct bench_options *o, const char *file, const struct opt_share *share)
{
	struct trace t;
	int r = trace_read(&t, file);

	return r ? r : replay_all(o, file, &t, local_pages(share, t.pages));
}

static const struct trace_kind *kind_find(const char *name)
{
	const struct trace_kind *k;

	for (unsigned i = 0; (k = trace_kind(i)); i++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

int residency_run(const struct bench_options *o, const char *const *names, unsigned count)
{
	const struct trace_kind *k;
	struct opt_share share;
	int r = 0;

	if (o->size_bytes / BENCH_PAGE >= TRACE_SCAN)
		return err_fail(-EINVAL, "residency: --size is too big to simulate");
	for (unsigned i = 0; !count && !r && (k = trace_kind(i)); i++)
		for (unsigned n = 0; k->percent[n] && !r; n++) {
			share = (struct opt_share){.percent = k->percent[n]};
			r = one_kind(o, k, &share);
		}
	for (unsigned i = 0; i < count && !r; i++) {
		for (unsigned n = 0; !(r = sweep_local(o, n, &share)); n++) {
			k = kind_find(names[i]);
			r = k ? one_kind(o, k, &share) : one_file(o, names[i], &share);
			if (r)
				break;
		}
		r = r < 0 ? r : 0;
	}
	return r;
}
