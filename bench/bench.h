/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share. A workload is a table entry that works on an area; an area is a kind
 * of memory (plain, a heap, a mapped network disk); the runner puts one on the other, several
 * times, measures the floors beside it, and gives back one result. Everything returns 0 or a
 * negative errno with err_text() set; main.c prints.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "common/options.h"

#include <infuse/inject.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PAGE  4096u
#define BENCH_WORDS (BENCH_PAGE / 8)

struct bench_options {
	uint64_t size_bytes;
	const char *locals;     /* "25%" or "10%,256M": measured one after the other */
	struct opt_share local; /* the one measured now */
	const char *transport;  /* "tcp", "tls", "unix", "shm", or "local" for plain memory */
	const char *seal;       /* "off", "on", or "both": in turns */
	uint64_t donors; /* 0: as many as replicas or code want */
	uint64_t replicas;
	const char *code; /* "4+2"; NULL: copies */
	struct opt_list donor; /* addresses of donors that run already */
	uint64_t threads;
	const char *prefetch;
	uint64_t window_pages;
	const char *mode; /* "sigbus" or "handler" */
	uint64_t runs;
	uint64_t touches;    /* of random, zipf and chase, timed; 0: the workload's own number */
	uint64_t steps;      /* of stencil, spmv and turn */
	uint64_t block;      /* of transpose, elements a side; 0: naive */
	uint64_t node_bytes; /* of chase */
	uint64_t write_percent;
	bool write; /* write_percent is 100 */
	uint64_t staged_pages; /* of residency */
	bool same_core;
	bool no_floor;
	bool json;
	struct opt_list peer; /* of compare; none: all */
	struct opt_list device; /* of device: NAME=PATH */
	const char *jobs;       /* of device: the folder of fio's job files */
	uint64_t seconds;       /* of device: a job's */
	bool overwrite;         /* of device: its contents may be lost */
	uint64_t minutes, faults, seed; /* of chaos */
	bool plan;                      /* of chaos: only say what would happen */
};

/* --- cpu.c: the CPUs this process was given, by index --- */

/* Remembers the mask it was started with. Call once, first. */
int cpu_init(void);
unsigned cpu_count(void);
/* Pins the calling thread to the i-th of its CPUs, counted round. */
void cpu_pin(unsigned i);
/* Back to all of them. */
void cpu_unpin(void);

/* --- sample.c --- */

double sample_median(double *v, size_t n); /* sorts v */
/* q-th quantile (0..1) in us of n times in ns; sorts v. 0 when there are none. */
double sample_quantile_us(uint32_t *v, size_t n, double q);
/* The same from a heap's histogram of powers of two, linear within one. */
double sample_histogram_us(const uint64_t histogram[32], double q);

/* --- area*.c: where a workload's memory comes from --- */

struct area_options {
	const char *const *donors;
	unsigned donors_count;
	uint64_t bytes;
	uint64_t local_bytes;
	unsigned threads;
	const char *prefetch;
	unsigned window_pages;
	enum inject_mode mode;
	bool seal;
	unsigned replicas, code_data, code_parity; /* 0: one copy; no code */
	const char *key_file; /* of the donors; NULL: they have none */
	bool scattered; /* the peer must not read around a touched page: each is to miss */
};

struct area {
	const struct area_kind *kind;
	char *mem;
	uint64_t bytes;
	void *priv; /* the kind's */
};

struct area_kind {
	const char *name;
	/* Zeroed memory in a->mem. */
	int (*open)(struct area *a, const struct area_options *o);
	/* After the fill: whatever makes the next touches cold. NULL: nothing. */
	int (*settle)(struct area *a);
	/* NULL: there are none. */
	int (*stats)(struct area *a, struct inject_stats *ret);
	void (*close)(struct area *a); /* also after a failed open */
};
extern const struct area_kind area_plain, area_heap, area_nbd;

int area_open(const struct area_kind *kind, const struct area_options *o, struct area *ret);
int area_settle(struct area *a);
/* Zeros where the kind has none. */
int area_stats(struct area *a, struct inject_stats *ret);
void area_close(struct area *a); /* takes one that is closed or zeroed */

/* 0, or -ENOENT with the reason why the peer can't run here. */
int area_nbd_available(void);

/* --- pages.c: contents that are derived from a page's number --- */

void page_fill(void *page, uint64_t number);
/* What word i of the page holds after page_fill(). */
uint64_t page_word(uint64_t number, unsigned i);
/* What page_mark() puts into word 0, so that the page is dirty and differs. */
uint64_t page_marked(uint64_t number);
bool page_check(const void *page, uint64_t number, bool marked);
/* A word of the page that differs from page to page, for a single read. */
unsigned page_probe(uint64_t number);
/* The i-th of a fixed random order of 0..n-1, each once; without a pattern a prefetcher could see.
 */
uint64_t page_shuffle(uint64_t i, uint64_t n);
/* A random number that follows from x; a bijection. */
uint64_t page_mix(uint64_t x);

/* --- workloads --- */

struct work {
	const struct bench_options *o;
	char *mem;
	uint64_t bytes;
	uint64_t pages;       /* of mem */
	uint64_t local_pages; /* of the cache; what a warm-up has to pass */
	unsigned threads;
	unsigned step; /* of what goes step by step */

	/* said by run() */
	uint64_t done_pages; /* what the time is divided by */
	/* Share of them that no cache of this size could have had; 0: all. Scales the floor. */
	double misses;
	uint32_t *sample_ns; /* each touch's time if the workload takes it; work_alloc()ed */
	size_t samples;
	/* Touches of the timed part, and what an exact LRU of the cache's size would have found
	 * of them, if hits mean something; else 0. */
	uint64_t touches;
	double lru_hit_ratio;
	void *priv; /* the workload's */

	/* work_alloc() */
	struct {
		void *p;
		size_t bytes;
	} own[4];

	unsigned char *written; /* pages changed since the fill; the runner's */
	uint64_t bad;           /* 1 + a page with wrong contents, or 0 */
};

struct workload {
	const char *name;
	const char *summary;
	/* Its floor is the same work on plain memory; else the raw path of a page: a single one, or
	 * its share of a window. */
	bool floor_is_plain;
	bool single;
	bool writes; /* heeds --write-percent */
	/* Bytes it really uses of a wanted size; 0: too small. */
	uint64_t (*shape)(uint64_t size_bytes);
	int (*fill)(struct work *w);
	int (*warm)(struct work *w); /* may be NULL */
	int (*run)(struct work *w);  /* the timed part */
	/* All contents. The digest must be that of the same run on plain memory. */
	int (*check)(struct work *w, uint64_t *digest);
};
const struct workload *workload_find(const char *name); /* NULL: unknown */
const struct workload *workload_at(unsigned i);         /* NULL: past the end */
extern const struct workload workload_seq, workload_random, workload_transpose, workload_stencil,
	workload_zipf, workload_chase, workload_join, workload_sort, workload_spmv, workload_bfs,
	workload_scans, workload_turn, workload_fresh;

/* Whole pages carry page_fill(): what seq and random begin and end with. */
int work_fill_pages(struct work *w);
int work_check_pages(struct work *w, uint64_t *digest);
/* Remembers a page with wrong contents; the first one told stays. */
void work_bad(struct work *w, uint64_t page);
/* Zeroed, there already, and not counted as the heap's overhead; the runner frees it. [text] */
int work_alloc(struct work *w, size_t bytes, void *ret);
/* --- unhashed.c, in infuse-bench-unhashed only --- */

/* False: pages have a stand-in for their hash, to see what hashing costs. */
extern const bool bench_hashes;

/* Reads a word of the page and compares it, or marks the page, in --write-percent of the turns. */
void work_touch(struct work *w, uint64_t page, uint64_t turn);
/* Whether the turn is one of those that write. */
bool work_writes(const struct work *w, uint64_t turn);
/* A page's worth of passing in front of what is timed, so that the cache is full of clean pages. */
uint64_t work_warm_pages(const struct work *w);

/* --- team.c: fn(w, t) for t < w->threads, thread t pinned to CPU t, with one in place --- */

int team_run(struct work *w, int (*fn)(struct work *w, unsigned t));
/* Thread t's share of 0..n-1, cut at multiples of grain. */
void team_share(const struct work *w, unsigned t, uint64_t n, uint64_t grain, uint64_t *from,
		uint64_t *to);

/* --- child.c: programs beside this one, and a scratch folder, none of which outlive it --- */

/* Call once. SIGINT, SIGTERM and SIGHUP then end the children and remove the folder first. */
void child_init(void);
/* The folder; made when first asked for. */
int child_folder(const char **ret);
/* Runs argv[0] (from $PATH) pinned to a CPU; its output goes to FOLDER/name.log. */
int child_start(const char *name, const char *const *argv, unsigned cpu, int *pid);
/* Where else: fields that are 0 mean nothing. */
struct child_place {
	bool pinned;
	unsigned cpu;
	bool apart; /* a terminal's signals are not for it */
	bool in_space;
	int space;       /* a network namespace */
	const char *log; /* the folder of its log, which is kept when it starts again; it is killed,
			    not asked to end, when we die without a word */
};
int child_start_at(const char *name, const char *const *argv, const struct child_place *place,
		   int *pid);
/* It was ended otherwise, and waited for. */
void child_gone(int pid);
/* A program beside this one if it is there (a build folder), else its name, for $PATH. */
const char *child_program(const char *name, char *buf, size_t len);
/* Until the file has something in it; an early death is told with the log's last line. */
int child_wait(const char *name, int pid, const char *file, uint64_t timeout_ns);
/* SIGTERM, and SIGKILL if that takes too long; waits. Takes 0. */
void child_stop(int pid);
/* A fork() whose child dies with us and ends none of our programs when it is ended. */
int child_fork(void);
/* A process that undoes things when fd is hung up: a signal that ends us waits for it. 0: none. */
void child_keep(int pid, int fd);
/* Stops what is left and removes the folder. */
void child_exit(void);

/* --- donors.c: memory servers of our own, pinned away from the client --- */

#define DONORS_MAX 16

struct donors {
	unsigned count;
	int pid[DONORS_MAX];
	char address[DONORS_MAX][160];
	const char *list[DONORS_MAX];
	char key_file[300]; /* for "tls"; else "" */
};
/* Starts count servers with `bytes` of room each, and waits until they serve. */
int donors_start(struct donors *d, const char *transport, unsigned count, uint64_t bytes,
		 bool same_core);
/* Ends them by pid and waits; takes a zeroed struct. */
void donors_stop(struct donors *d);

/* --- results --- */

struct bench_result {
	const char *workload;
	const char *transport;
	const char *variant; /* "read", "spinning, 2 cores"; "" */
	const char *mode;    /* NULL where it means nothing */
	bool sealed;
	unsigned replicas; /* 0: not a heap */
	const char *code;  /* NULL: none */
	const char *prefetch;
	uint64_t size_bytes, local_bytes;
	unsigned threads, donors, runs;
	double seconds;
	double us_per_page, us_min, us_max; /* median, and the runs around it */
	double p50_us, p99_us;
	double cpu_us_per_page;          /* of this process, all threads: what it computed, not waited */
	double floor_us; /* 0: none */
	double ratio;
	const char *floor_kind; /* "raw path", "plain memory", NULL */
	unsigned write_percent;
	double misses;                   /* of a work; 1: all */
	bool hits_known, overhead_known; /* else the next ones mean nothing */
	double hit_ratio, lru_hit_ratio;
	/* Private memory of the process besides the local cache and what the workload itself took,
	 * and page tables. */
	double overhead_bytes, page_table_bytes;
	struct inject_stats stats; /* of the timed part */
	uint64_t digest;
	double factor_tcp, factor_shm; /* a peer's time over that of our heap; 0: none */
	const char *skipped;           /* why a peer was not measured, or NULL */
};
/* The first one prints the table's head, too. */
void result_print(const struct bench_options *o, const struct bench_result *r);

/* --- sweep.c, runner.c, compare.c --- */

/* Every workload named (or "all", "floors") with every local share asked for. Prints. */
int sweep_run(const struct bench_options *o, const char *const *word, unsigned words);
/* The i-th share in o->locals. 1: there is no such. [text] */
int sweep_local(const struct bench_options *o, unsigned i, struct opt_share *ret);

int runner_run(const struct bench_options *o, const struct workload *w, struct bench_result *ret);
/* On an area kind of the caller's choice, without floors. */
int runner_measure(const struct bench_options *o, const struct workload *w,
		   const struct area_kind *kind, const struct area_options *ao,
		   struct bench_result *ret);
/* [text] How many donors; and --replicas and --code into ao. */
int runner_donors(const struct bench_options *o, struct area_options *ao, unsigned *ret);
uint64_t runner_local_bytes(const struct bench_options *o, uint64_t bytes);
/* The named workloads, or all. Each result is printed when it is there; a peer that can't run here
 * is left out with the reason. */
int compare_run(const struct bench_options *o, const char *const *names, unsigned count);

/* --- residency.c --- */

/* Replays the named traces (trace.c) and files of page numbers, or all traces at their own shares,
 * through libinject's choice of victims, FIFO, LRU and MIN. */
int residency_run(const struct bench_options *o, const char *const *names, unsigned count);

/* --- device.c --- */

/* fio's jobs and swap on each block device in o->device, whose contents are lost. */
int device_run(struct bench_options *o);

/* --- floor*.c: what the machine can do at best --- */

/* Sizes are those of the workload, so that page tables are as cold as its own. */
enum floor_wire { FLOOR_TCP, FLOOR_UNIX, FLOOR_SHM };

struct floor_time {
	double us, p50_us, p99_us; /* p50, p99: 0 where single ones are not timed */
};

/* One 4 KiB page asked for and received. one_core: both ends on one CPU, blocking; else spinning on
 * two. shm is a copy out of shared memory: no other process takes part. */
int floor_trip(enum floor_wire wire, bool one_core, struct floor_time *ret);
/* A page's share of a stream of 256 KiB messages, two in flight. */
int floor_stream(enum floor_wire wire, bool one_core, struct floor_time *ret);

struct floor_cycle {
	bool handler; /* a handler thread on the same core; else SIGBUS, in the thread */
	/* Frames move in and out; else COPY and DONTNEED, single pages 64 at once by
	 * process_madvise() on oneself. */
	bool move;
	unsigned batch; /* pages a fault brings and evicts: 1 or 64 */
	uint64_t region_pages, cache_pages;
};
/* A page's share of fault, eviction and installation, the data being there already. */
int floor_fault(const struct floor_cycle *c, struct floor_time *ret);
bool floor_can_move(void);
/* Whether process_madvise() drops pages of the caller. */
bool floor_can_drop(void);

int floor_memcpy(bool random, struct floor_time *ret);
/* A scanned page's bare work, moved in huge pages or in windows of 64 small ones. [text] */
int floor_huge(bool huge, struct floor_time *ret);
/* Bare faults of n (1 or 2) threads, or processes, at once: of all of them together. [text] */
int floor_threads(unsigned n, bool processes, struct floor_time *ret);

/* The floor of a workload that has the raw path for it: the lowest of the ways. */
int floor_path(const struct bench_options *o, const struct workload *w, double *us);
/* Prints all of them. */
int floor_all(const struct bench_options *o);

#endif
