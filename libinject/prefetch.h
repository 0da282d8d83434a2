/* SPDX-License-Identifier: MIT */
/*
 * Prefetchers only decide: a fault's page goes in, runs of pages worth fetching come out. They
 * know no ports, locks or clocks, so a replay of a trace runs the same code. To add one, write its
 * file and add a line to the table in prefetch.c.
 */
#ifndef LIBINJECT_PREFETCH_H
#define LIBINJECT_PREFETCH_H

#include <stdbool.h>
#include <stdint.h>

#define PREFETCH_STREAMS 16u
#define PREFETCH_HISTORY 16u
#define PREFETCH_RUNS    4u

/* count pages from page on, stride apart (never 0), for a stream of the table. */
struct prefetch_run {
	uint32_t page;
	int32_t stride;
	uint32_t count;
	uint32_t stream;
};

/* A sequence of faults that has been followed for a while. */
struct prefetch_stream {
	int64_t last;    /* page of its newest fault */
	int64_t asked;   /* page that would be asked next */
	int32_t stride;  /* 0: free */
	uint32_t window; /* pages asked at once */
	uint32_t off; /* faults in a row within a window */
	uint32_t fetched; /* pages really fetched ahead and not reached yet */
	uint64_t used;    /* for replacement */
};

struct prefetch_state {
	struct prefetch_stream stream[PREFETCH_STREAMS];
	uint32_t history[PREFETCH_HISTORY]; /* newest faults that no stream owns */
	uint32_t at;
	uint64_t faults;
	uint32_t window_max;
	uint64_t hits; /* pages asked ahead that their stream has reached */
};

struct prefetcher {
	const char *name;
	/* Returns how many runs it put into run[PREFETCH_RUNS]. */
	unsigned (*fault)(struct prefetch_state *s, uint32_t page, struct prefetch_run *run);
};

extern const struct prefetcher prefetch_none, prefetch_sequential, prefetch_stride;

/* NULL: no such prefetcher. */
const struct prefetcher *prefetch_find(const char *name);
void prefetch_state_init(struct prefetch_state *s, uint32_t window_max);

/* For prefetchers: a stream that this fault continues, moved on; or NULL. */
struct prefetch_stream *stream_follow(struct prefetch_state *s, uint32_t page);
struct prefetch_stream *stream_start(struct prefetch_state *s, uint32_t page, int32_t stride);
/* Asks for what the stream will need: keeps two windows ahead of the fault. */
unsigned stream_ask(struct prefetch_state *s, struct prefetch_stream *t, struct prefetch_run *run);
bool history_has(const struct prefetch_state *s, int64_t page);
/* Of a run's pages so many are on their way; the others were local already. */
void stream_fetched(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages);
void history_add(struct prefetch_state *s, uint32_t page);

/* --- what the fault path calls; one caller at a time (the heap's prefetch lock) --- */

struct prefetch {
	const struct prefetcher *prefetcher;
	struct prefetch_state state;
};

enum prefetch_event {
	PREFETCH_MISS,   /* a fault on a page that nobody has asked for */
	PREFETCH_LATE,   /* on one that was asked ahead and is still on its way */
	PREFETCH_FIRST,  /* the first touch of a window that has arrived: it was used */
	PREFETCH_WASTED, /* a window is thrown away untouched; page is its first. No runs come out */
};

/* name: NULL is the default. pages: of the heap. -EINVAL: no such prefetcher. */
int prefetch_init(struct prefetch *p, const char *name, uint32_t pages, uint32_t window_max);
void prefetch_free(struct prefetch *p); /* takes a zeroed one */
/*
 * thread: who faulted, 0: unknown. Returns how many runs it put into run[PREFETCH_RUNS]; for each of
 * them prefetch_asked() follows.
 */
unsigned prefetch_event(struct prefetch *p, enum prefetch_event e, uint32_t page, uint32_t thread,
			struct prefetch_run *run);
/* Of a run's pages so many are on their way now; the others were local already, or there was no
 * room. */
void prefetch_asked(struct prefetch *p, const struct prefetch_run *run, uint32_t pages);
/* The program said that [page, page + count) will be read in order. */
void prefetch_expect_scan(struct prefetch *p, uint32_t page, uint32_t count);

#endif
