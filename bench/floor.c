/* SPDX-License-Identifier: MIT */
/*
 * What the machine can do at best, put together from bare parts measured in the same minute:
 *
 *	random = round trip of the transport + fault cycle, one page
 *	seq    = stream of the transport, a page's share + fault cycle, a page's share of 64
 *
 * and the stream once more for the pages that are written, whose way back is aggregated in both.
 * Each cycle is run in both ways, MOVE and COPY, on an area and a cache of the workload's size: the
 * lower one is the floor.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	enum floor_wire wire;
} wires[] = {{"tcp", FLOOR_TCP}, {"unix", FLOOR_UNIX}, {"shm", FLOOR_SHM}};

#define WIRES (sizeof wires / sizeof *wires)

static int wire_of(const char *transport, enum floor_wire *ret)
{
	/* What encryption costs is not the floor's. */
	if (!strcmp(transport, "tls"))
		transport = "tcp";
	for (unsigned i = 0; i < WIRES; i++)
		if (!strcmp(transport, wires[i].name)) {
			*ret = wires[i].wire;
			return 0;
		}
	return err_fail(-EINVAL, "no floor is known for transport %s", transport);
}

static struct floor_cycle cycle_of(const struct bench_options *o, bool handler, bool single)
{
	uint64_t pages = o->size_bytes / BENCH_PAGE;

	return (struct floor_cycle){
		.handler = handler,
		.batch = single ? 1 : 64,
		.region_pages = pages,
		.cache_pages = runner_local_bytes(o, pages * BENCH_PAGE) / BENCH_PAGE,
	};
}

/* The lower one of the ways that this kernel has. */
static int best_cycle(const struct bench_options *o, bool single, double *us)
{
	struct floor_cycle c = cycle_of(o, !strcmp(o->mode, "handler"), single);
	struct floor_time copy, move;
	int r = floor_fault(&c, &copy);

	if (r)
		return r;
	*us = copy.us;
	c.move = true;
	if (!floor_can_move())
		return 0;
	r = floor_fault(&c, &move);
	if (!r && move.us < *us)
		*us = move.us;
	return r;
}

int floor_path(const struct bench_options *o, const struct workload *w, double *us)
{
	bool one_core = o->same_core || cpu_count() < 2;
	struct floor_time way, back = {0};
	enum floor_wire wire = FLOOR_TCP;
	double cycle;
	int r = wire_of(o->transport, &wire);

	if (!r)
		r = w->single ? floor_trip(wire, one_core, &way)
			      : floor_stream(wire, one_core, &way);
	if (!r)
		r = best_cycle(o, w->single, &cycle);
	if (!r && w->writes && o->write_percent)
		r = floor_stream(wire, one_core, &back);
	if (r)
		return r;
	/* The median trip: what disturbs the machine is no floor. */
	*us = (w->single ? way.p50_us : way.us) + cycle + back.us * (double)o->write_percent / 100;
	return 0;
}

/* Median of --runs, printed as a result like any other. */
static int report(const struct bench_options *o, struct bench_result *r,
		  int (*measure)(const void *arg, struct floor_time *ret), const void *arg)
{
	double us[64], p50[64], p99[64];
	unsigned n = o->runs < 64 ? (unsigned)o->runs : 64;

	for (unsigned i = 0; i < n; i++) {
		struct floor_time t;
		int e = measure(arg, &t);

		if (e)
			return e;
		us[i] = t.us;
		p50[i] = t.p50_us;
		p99[i] = t.p99_us;
	}
	r->runs = n;
	r->us_per_page = sample_median(us, n);
	r->us_min = us[0];
	r->us_max = us[n - 1];
	r->p50_us = sample_median(p50, n);
	r->p99_us = sample_median(p99, n);
	result_print(o, r);
	return 0;
}

struct wire_arg {
	enum floor_wire wire;
	bool one_core, stream;
};

static int measure_wire(const void *arg, struct floor_time *ret)
{
	const struct wire_arg *a = arg;

	return a->stream ? floor_stream(a->wire, a->one_core, ret)
			 : floor_trip(a->wire, a->one_core, ret);
}

static int measure_fault(const void *arg, struct floor_time *ret)
{
	return floor_fault(arg, ret);
}

static int measure_memcpy(const void *arg, struct floor_time *ret)
{
	return floor_memcpy(*(const bool *)arg, ret);
}

static int report_wires(const struct bench_options *o)
{
	for (unsigned i = 0; i < 4 * WIRES; i++) {
		const struct wire_arg a = {
			.wire = wires[i % WIRES].wire,
			.one_core = i / WIRES % 2,
			.stream = i / (2 * WIRES),
		};
		struct bench_result r = {
			.workload = a.stream ? "stream" : "trip",
			.transport = wires[i % WIRES].name,
			.variant = a.one_core ? "one core, blocking" : "two cores, spinning",
			.size_bytes = a.stream ? 64 * BENCH_PAGE : BENCH_PAGE,
			.threads = 1,
		};
		int e;

		if (a.wire == FLOOR_SHM) {
			if (a.one_core)
				continue;
			r.variant = "copy out";
		} else if (!a.one_core && cpu_count() < 2) {
			continue;
		}
		e = report(o, &r, measure_wire, &a);
		if (e)
			return e;
	}
	return 0;
}

static int report_faults(const struct bench_options *o)
{
	bool can_move = floor_can_move();

	for (unsigned i = 0; i < 8; i++) {
		struct floor_cycle c = cycle_of(o, i / 4, !(i % 2));
		bool move = !(i / 2 % 2);
		struct bench_result r = {
			.workload = "fault",
			.variant = move          ? c.batch > 1 ? "MOVE, 64 pages" : "MOVE, 1 page"
				   : c.batch > 1 ? "COPY, 64 pages"
						 : "COPY, 1 page",
			.mode = c.handler ? "handler" : "sigbus",
			.size_bytes = c.batch * BENCH_PAGE,
			.local_bytes = c.cache_pages * BENCH_PAGE,
			.threads = 1,
		};
		int e;

		c.move = move;
		if (c.move && !can_move)
			continue;
		e = report(o, &r, measure_fault, &c);
		if (e)
			return e;
	}
	return 0;
}

static int measure_huge(const void *arg, struct floor_time *ret)
{
	return floor_huge(*(const bool *)arg, ret);
}

static int report_huge(const struct bench_options *o)
{
	int r = 0;

	for (unsigned i = 0; i < 2 && !r && floor_can_move(); i++) {
		bool huge = i;
		struct bench_result m = {
			.workload = "scan",
			.variant = huge ? "MOVE, huge pages" : "MOVE, 64 pages",
			.size_bytes = huge ? 2u << 20 : 64 * BENCH_PAGE,
			.threads = 1,
		};

		r = report(o, &m, measure_huge, &huge);
	}
	return r;
}

struct crowd_arg {
	unsigned count;
	bool processes;
};

static int measure_crowd(const void *arg, struct floor_time *ret)
{
	const struct crowd_arg *a = arg;

	return floor_threads(a->count, a->processes, ret);
}

static int report_crowd(const struct bench_options *o)
{
	int r = 0;

	for (unsigned i = 0; i < 3 && !r && cpu_count() > 1 && floor_can_drop(); i++) {
		const struct crowd_arg a = {.count = i ? 2 : 1, .processes = i == 2};
		struct bench_result m = {
			.workload = "fault",
			.variant = i == 2 ? "2 processes" : i ? "2 threads" : "1 thread",
			.mode = "sigbus",
			.size_bytes = BENCH_PAGE,
			.threads = a.count,
		};

		r = report(o, &m, measure_crowd, &a);
	}
	return r;
}

int floor_all(const struct bench_options *o)
{
	int r = report_wires(o);

	if (!r)
		r = report_faults(o);
	if (!r)
		r = report_crowd(o);
	if (!r)
		r = report_huge(o);
	for (unsigned i = 0; i < 2 && !r; i++) {
		bool random = !i;
		struct bench_result m = {
			.workload = "memcpy",
			.variant = random ? "random pages" : "8 MiB blocks",
			.size_bytes = random ? BENCH_PAGE : 8u << 20,
			.threads = 1,
		};

		r = report(o, &m, measure_memcpy, &random);
	}
	return r;
}
