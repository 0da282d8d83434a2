/* SPDX-License-Identifier: MIT */
/*
 * Puts a workload on a kind of memory, several times, and takes the median run. Fill and warm-up
 * are not timed. All contents are checked after each run; one wrong page makes the run an error.
 * The floors are measured before and after, since machines drift.
 *
 * What a heap costs besides its cache is read from the kernel: private memory of the process before
 * the heap is opened and after the timed part.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define RUNS_MAX    64 /* of --runs */
#define LOCAL_LEAST (64u * BENCH_PAGE)

uint64_t runner_local_bytes(const struct bench_options *o, uint64_t bytes)
{
	uint64_t local = o->local.percent ? bytes * o->local.percent / 100 : o->local.bytes;

	return local / BENCH_PAGE * BENCH_PAGE;
}

/* The sum of the lines of a /proc file that begin with one of two words, in bytes; they say kB. */
static double proc_bytes(const char *file, const char *word, const char *other)
{
	FILE *f = fopen(file, "re");
	char line[200];
	double kib = 0, v;

	if (!f)
		return -1;
	while (fgets(line, sizeof line, f)) {
		const char *colon = strchr(line, ':');

		if (colon && sscanf(colon + 1, " %lf kB", &v) == 1 &&
		    (!strncmp(line, word, strlen(word)) || !strncmp(line, other, strlen(other))))
			kib += v;
	}
	fclose(f);
	return kib * 1024;
}

struct footprint {
	double private_bytes, table_bytes;
};

static struct footprint footprint(void)
{
	return (struct footprint){
		.private_bytes =
			proc_bytes("/proc/self/smaps_rollup", "Private_Clean:", "Private_Dirty:"),
		.table_bytes = proc_bytes("/proc/self/status", "VmPTE:", "VmPTE:"),
	};
}

/* What came on top since then, besides the local pages and the workload's own. */
static void overhead(const struct work *w, const struct area_options *ao,
		     const struct footprint *before, struct bench_result *ret)
{
	const struct footprint now = footprint();
	double own = 0, local = (double)(ao->local_bytes < w->bytes ? ao->local_bytes : w->bytes);

	if (now.private_bytes < 0 || now.table_bytes < 0 || before->private_bytes < 0)
		return;
	for (unsigned i = 0; i < sizeof w->own / sizeof *w->own; i++)
		own += (double)w->own[i].bytes;
	ret->overhead_known = true;
	ret->overhead_bytes = now.private_bytes - before->private_bytes - local - own;
	if (ret->overhead_bytes < 0)
		ret->overhead_bytes = 0;
	ret->page_table_bytes = now.table_bytes - before->table_bytes;
	if (ret->page_table_bytes < 0)
		ret->page_table_bytes = 0;
}

static void subtract(struct inject_stats *a, const struct inject_stats *before)
{
#define SUB(field) a->field -= before->field
	SUB(faults);
	SUB(faults_zero);
	SUB(faults_staged);
	SUB(faults_shared);
	SUB(pages_in);
	SUB(pages_out);
	SUB(pages_clean);
	SUB(prefetched);
	SUB(prefetch_hits);
	SUB(bytes_in);
	SUB(bytes_out);
	SUB(fault_ns);
	for (unsigned i = 0; i < 32; i++)
		SUB(latency_ns[i]);
#undef SUB
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int timed(struct area *a, const struct workload *wl, struct work *w,
		 struct bench_result *ret)
{
	struct inject_stats before;
	uint64_t start;
	double cpu;
	int r = area_stats(a, &before);

	if (r)
		return r;
	cpu = cpu_seconds();
	start = clock_ns();
	r = wl->run(w);
	ret->seconds = (double)(clock_ns() - start) / 1e9;
	cpu = cpu_seconds() - cpu;
	if (!r)
		r = area_stats(a, &ret->stats);
	if (r)
		return r;
	subtract(&ret->stats, &before);
	ret->us_per_page = ret->seconds * 1e6 / (double)w->done_pages;
	ret->cpu_us_per_page = cpu * 1e6 / (double)w->done_pages;
	if (w->samples) {
		ret->p50_us = sample_quantile_us(w->sample_ns, w->samples, 0.5);
		ret->p99_us = sample_quantile_us(w->sample_ns, w->samples, 0.99);
	} else {
		ret->p50_us = sample_histogram_us(ret->stats.latency_ns, 0.5);
		ret->p99_us = sample_histogram_us(ret->stats.latency_ns, 0.99);
	}
	return 0;
}

/* Nothing but the result is left of it. */
static void work_free(struct work *w)
{
	for (unsigned i = 0; i < sizeof w->own / sizeof *w->own; i++)
		if (w->own[i].p)
			munmap(w->own[i].p, w->own[i].bytes);
}

/* Hits: touches for which nobody had to wait. */
static void hits(const struct work *w, struct bench_result *ret)
{
	if (!w->touches)
		return;
	ret->hits_known = true;
	ret->hit_ratio = 1 - (double)ret->stats.faults / (double)w->touches;
	ret->lru_hit_ratio = w->lru_hit_ratio;
}

static int one_run(const struct bench_options *o, const struct workload *wl,
		   const struct area_kind *kind, const struct area_options *ao,
		   struct bench_result *ret)
{
	struct work w = {
		.o = o,
		.bytes = ao->bytes,
		.pages = ao->bytes / BENCH_PAGE,
		.local_pages = ao->local_bytes / BENCH_PAGE,
		.threads = (unsigned)o->threads,
	};
	struct footprint before;
	struct area a = {0};
	int r = work_alloc(&w, w.pages, &w.written);

	if (r)
		return r;
	cpu_pin(0);
	before = footprint();
	/* It is in the figures before; what a workload takes later is not. */
	w.own[0].bytes = 0;
	r = area_open(kind, ao, &a);
	if (!r) {
		w.mem = a.mem;
		r = wl->fill(&w);
	}
	if (!r) {
		r = area_settle(&a);
		w.mem = a.mem;
	}
	if (!r && wl->warm)
		r = wl->warm(&w);
	if (!r)
		r = timed(&a, wl, &w, ret);
	if (!r && kind == &area_heap)
		overhead(&w, ao, &before, ret);
	if (!r)
		r = wl->check(&w, &ret->digest);
	if (!r)
		hits(&w, ret);
	/* Such a floor is for pages that have to come. */
	ret->misses = w.misses > 0 ? w.misses : 1;
	area_close(&a);
	cpu_unpin();
	w.own[0].bytes = w.pages;
	work_free(&w);
	return r;
}

static int by_time(const void *a, const void *b)
{
	double x = ((const struct bench_result *)a)->us_per_page;
	double y = ((const struct bench_result *)b)->us_per_page;

	return (x > y) - (x < y);
}

int runner_measure(const struct bench_options *o, const struct workload *w,
		   const struct area_kind *kind, const struct area_options *ao,
		   struct bench_result *ret)
{
	struct bench_result run[RUNS_MAX];
	unsigned n = (unsigned)o->runs;

	for (unsigned i = 0; i < n; i++) {
		int r;

		run[i] = *ret;
		r = one_run(o, w, kind, ao, &run[i]);
		if (r)
			return r;
		if (run[i].digest != run[0].digest)
			return err_fail(-EILSEQ, "%s: run %u has another result than run 1",
					w->name, i + 1);
	}
	qsort(run, n, sizeof *run, by_time);
	*ret = run[n / 2];
	ret->us_min = run[0].us_per_page;
	ret->us_max = run[n - 1].us_per_page;
	ret->runs = n;
	return 0;
}

/* Donors of our own, unless there are addresses. */
static int with_donors(const struct bench_options *o, const struct workload *w,
		       struct area_options *ao, struct bench_result *ret)
{
	/* Room for the data, a slab or two a donor, and what uneven placement needs. */
	unsigned donors = ret->donors;
	uint64_t stored = ao->code_data ? ao->bytes / ao->code_data *
						  (ao->code_data + ao->code_parity)
					: ao->bytes * ao->replicas;
	uint64_t each = stored / donors + ao->bytes / 4 + (64u << 20);
	struct donors d = {0};
	int r;

	if (o->donor.count) {
		ao->donors = o->donor.item;
		ao->donors_count = o->donor.count;
		return runner_measure(o, w, &area_heap, ao, ret);
	}
	r = donors_start(&d, o->transport, donors, each, o->same_core);
	if (r)
		return r;
	ao->donors = d.list;
	ao->donors_count = d.count;
	ao->key_file = *d.key_file ? d.key_file : NULL;
	r = runner_measure(o, w, &area_heap, ao, ret);
	donors_stop(&d);
	return r;
}

static int plain(const struct bench_options *o, const struct workload *w,
		 const struct area_options *ao, struct bench_result *ret)
{
	struct bench_options once = *o;

	once.runs = o->runs < 3 ? o->runs : 3;
	return runner_measure(&once, w, &area_plain, ao, ret);
}

/* Where the floor is the path: before and after; where it is plain memory: that run's result must
 * be the heap's, too. */
static int with_floor(const struct bench_options *o, const struct workload *w,
		      struct area_options *ao, struct bench_result *ret)
{
	struct bench_result local = *ret;
	double before = 0, after = 0;
	int r = 0;

	if (w->floor_is_plain)
		r = plain(o, w, ao, &local);
	else if (!o->no_floor)
		r = floor_path(o, w, &before);
	if (!r)
		r = with_donors(o, w, ao, ret);
	if (!r && w->floor_is_plain && local.digest != ret->digest)
		r = err_fail(-EILSEQ, "%s: the heap's result is not plain memory's", w->name);
	if (!r && !w->floor_is_plain && !o->no_floor)
		r = floor_path(o, w, &after);
	if (r || o->no_floor)
		return r;
	ret->floor_us = w->floor_is_plain ? local.us_per_page
					  : (before < after ? before : after) * ret->misses;
	ret->floor_kind = w->floor_is_plain ? "plain memory" : "raw path";
	ret->ratio = ret->us_per_page / ret->floor_us;
	return 0;
}

int runner_donors(const struct bench_options *o, struct area_options *ao, unsigned *ret)
{
	unsigned given = o->donor.count ? o->donor.count : (unsigned)o->donors, want;
	int r = o->code ? parse_code(o->code, &ao->code_data, &ao->code_parity) : 0;

	if (r)
		return r;
	if (o->code && o->replicas > 1)
		return err_fail(-EINVAL, "--replicas or --code, not both");
	want = o->code ? ao->code_data + ao->code_parity : (unsigned)o->replicas;
	ao->replicas = o->code ? 1 : want;
	if (want > DONORS_MAX || (given && given < want))
		return err_fail(-EINVAL, "%s%s want %u donors, %u are there",
				o->code ? "the fragments of --code " : "the copies of --replicas",
				o->code ? o->code : "", want, given ? given : DONORS_MAX);
	*ret = given ? given : want;
	return 0;
}

int runner_run(const struct bench_options *o, const struct workload *w, struct bench_result *ret)
{
	bool is_plain = !strcmp(o->transport, "local"), handler = !strcmp(o->mode, "handler");
	uint64_t bytes = w->shape(o->size_bytes);
	unsigned donors = 0;
	struct area_options ao = {
		.bytes = bytes,
		.local_bytes = runner_local_bytes(o, bytes),
		.threads = (unsigned)o->threads,
		.prefetch = o->prefetch,
		.window_pages = (unsigned)o->window_pages,
		.mode = handler ? INJECT_MODE_HANDLER : INJECT_MODE_SIGBUS,
		.seal = !is_plain && !strcmp(o->seal, "on"),
		.replicas = (unsigned)o->replicas,
	};
	int r = is_plain ? 0 : runner_donors(o, &ao, &donors);

	if (r)
		return r;
	if (!bytes)
		return err_fail(-EINVAL, "%s needs a bigger --size than %llu bytes", w->name,
				(unsigned long long)o->size_bytes);
	if (o->local.percent > 100)
		return err_fail(-EINVAL, "--local %u%% is more than all", o->local.percent);
	if (ao.local_bytes < LOCAL_LEAST)
		return err_fail(-EINVAL, "--local is less than 256K (64 pages)");
	if (is_plain)
		ao.local_bytes = bytes;
	*ret = (struct bench_result){
		.workload = w->name,
		.transport = o->transport,
		.variant = !w->writes                ? ""
			   : !o->write_percent       ? "read"
			   : o->write_percent == 100 ? "write"
						     : "mixed",
		.write_percent = w->writes ? (unsigned)o->write_percent : 0,
		.mode = is_plain ? NULL : o->mode,
		.sealed = ao.seal,
		.prefetch = is_plain ? NULL : o->prefetch,
		.size_bytes = bytes,
		.local_bytes = ao.local_bytes,
		.threads = (unsigned)o->threads,
		.donors = donors,
		.replicas = is_plain || o->code ? 0 : ao.replicas,
		.code = is_plain ? NULL : o->code,
	};
	return is_plain ? runner_measure(o, w, &area_plain, &ao, ret) : with_floor(o, w, &ao, ret);
}
