/* SPDX-License-Identifier: MIT */
/*
 * Prefetchers only decide: a fault's page goes in, runs of pages worth fetching come out. They
 * know no ports, locks or clocks, so a replay of a trace runs the same code. To add one, write its
 * file and add a line to the table in prefetch.c. The part above the line is for them; below it is
 * what the fault path calls. Nothing here allocates after prefetch_init().
 */
#ifndef LIBINJECT_PREFETCH_H
#define LIBINJECT_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFETCH_RUNS       4u
#define PREFETCH_WINDOW_MAX 64u
#define PREFETCH_STREAMS    64u
#define PREFETCH_THREADS    16u
#define PREFETCH_RECENT     256u      /* slots of the memory for faults that nobody had foreseen */
#define PREFETCH_AGE        64u       /* faults that one is kept for; more with many threads */
#define PREFETCH_STRIDE_MAX (1 << 18) /* 1 GiB */
#define PREFETCH_DELTAS     32u
#define PREFETCH_WINDOWS    512u  /* asked and not settled */
#define PREFETCH_SLOTS      8192u /* their pages */
#define PREFETCH_KINDS      5u
#define PREFETCH_REGION     13 /* log2 of a region's pages: 32 MiB */
#define PREFETCH_FIRST_ASK  8u /* pages: of a new stream, of a gate's probe */

enum prefetch_event {
	PREFETCH_MISS,   /* a fault on a page that nobody has asked for */
	PREFETCH_LATE,   /* on one that was asked ahead and is still on its way */
	PREFETCH_FIRST,  /* the first touch of a window that has arrived: it was used */
	PREFETCH_WASTED, /* a window is thrown away untouched; page is its first */
};

/* count pages from page on, stride apart (never 0); with a list, its pages instead. */
struct prefetch_run {
	uint32_t page;
	int32_t stride;
	uint32_t count;
	const uint32_t *list;
	uint32_t region; /* of the fault; this and what follows is for prefetch_asked() */
	uint16_t owner;  /* the prefetcher's stream */
	uint16_t check;  /* and which one it was, as streams are used again */
	uint8_t by;      /* whose it is */
};

/* What a prefetcher is told of a fault, and answers. */
struct prefetch_fault {
	enum prefetch_event event;
	uint32_t page, thread;
	bool live;             /* what it asks for will be fetched; else it runs in the shadow */
	bool thorough;         /* look for what is dear to find, too */
	uint8_t by;            /* whose window it is that was touched, */
	uint16_t owner, check; /* and its stream. No window: by is PREFETCH_KINDS */
	bool inside;           /* it is not the window's first page */
	int32_t step; /* another's window was touched: it ends at page `until`; 0: none was */
	uint32_t until;
	uint32_t weight; /* pages that come by this fault */
	bool foreseen;   /* answer: it knew */
};

enum prefetch_outcome { OUTCOME_USED, OUTCOME_LATE, OUTCOME_WASTED, OUTCOME_LOCAL };

/* A sequence of faults that is followed by address: any handler may read a thread's fault. */
struct prefetch_stream {
	int64_t last;    /* page of its newest fault */
	int64_t asked;   /* page that would be asked next */
	int32_t stride;  /* 0: free */
	uint16_t window; /* pages asked at once */
	uint16_t check;  /* counts the streams that were here */
	uint8_t ahead;   /* windows kept on the way behind the one that is read */
	uint8_t off;     /* faults elsewhere than at a window's start, more than those at one */
	uint8_t wasted;  /* windows in a row */
	uint8_t late;
	bool proven;   /* somebody has gone on where it foresaw */
	uint32_t used; /* for replacement */
};

/* Of a majority vote: pages [from, from + trend * count) have been foretold. */
struct prefetch_range {
	int64_t from;
	int32_t trend;
	uint32_t count, reached;
	uint16_t window, check;
};

struct prefetch_thread {
	uint32_t thread; /* + 1; 0: nobody */
	uint32_t unforeseen[8];
	uint32_t unforeseen_at;
	int64_t last;
	int32_t delta[PREFETCH_DELTAS];
	uint32_t deltas;
	uint8_t bold; /* 0..3: ask at once after a break? */
	uint8_t newest;
	struct prefetch_range range[2];
};

/* How well a prefetcher does in a region: moving averages, 65535 is always. */
struct prefetch_score {
	uint16_t foreseen; /* faults */
	uint16_t vain;     /* windows that nobody reached */
	bool pending;      /* a window of the shadow's that nobody has reached yet */
};

struct prefetch_region {
	struct prefetch_score score[PREFETCH_KINDS];
	uint16_t asked, used, wasted, local; /* pages of late, by the ruling one */
	uint16_t closed_for, wait; /* faults: since the gate closed or probed, till it probes */
	uint16_t credit, bar;      /* foreseen behind the gate; so many open it */
	uint8_t ruler;             /* index in the table */
	uint8_t cap;               /* pages a window, while the gate has just opened */
	uint8_t idle;              /* faults since one was foreseen, up to 255 */
	uint8_t since;             /* faults since the ruler changed, up to 255 */
	bool closed;
	bool known; /* the other fields are set up */
};

/* A window that was asked. */
struct prefetch_window {
	uint32_t region, first, last;
	int32_t stride;
	uint16_t pages; /* 0: settled */
	uint16_t owner, check;
	uint16_t turn; /* counts the windows that were here */
	uint8_t by;
};

/* A recorded sequence of faults. */
struct prefetch_trace {
	uint32_t *page; /* in order; TRACE_MAX of address space */
	uint32_t *next; /* the same page's next position, the last one's is the first */
	uint32_t *head; /* by page: a position + 1; 0: it is not in the trace */
	uint32_t count;
	uint32_t head_count;
	uint32_t cursor; /* position that is expected next */
	uint32_t asked;  /* asked up to here */
	uint32_t window;
	uint16_t fit;  /* how well the program follows; 65535: always */
	uint16_t lost; /* faults in a row that were not near the cursor */
	bool recording;
	int pid;    /* who records */
	char *path; /* TRACE_PATH bytes */
};

struct prefetch_state {
	uint32_t pages;
	uint32_t window_max; /* now */
	uint32_t window_limit;
	uint32_t faults;
	uint32_t crowd; /* how short staging was of late */
	uint64_t hits;  /* pages of windows asked ahead that were touched */
	uint64_t asked, wasted, local;
	uint8_t candidate[PREFETCH_KINDS], candidates; /* whom the tournament has */
	struct prefetch_region *region;
	uint32_t regions;

	uint32_t low[PREFETCH_STREAMS], span[PREFETCH_STREAMS]; /* where a stream's faults may be */
	uint32_t streams;                                       /* those from here on are free */
	struct prefetch_stream stream[PREFETCH_STREAMS];
	struct prefetch_recent {
		uint32_t page, at;
	} recent[PREFETCH_RECENT];
	uint32_t age, threads;
	struct prefetch_thread thread[PREFETCH_THREADS];

	struct prefetch_window window[PREFETCH_WINDOWS];
	uint32_t window_at;
	struct prefetch_slot {
		uint32_t page;
		uint16_t window, turn;
	} slot[PREFETCH_SLOTS];
	struct prefetch_trace trace;
};

struct prefetcher {
	const char *name;
	/* Learns from a fault. Returns how many runs it put into run[PREFETCH_RUNS]. */
	unsigned (*fault)(struct prefetch_state *s, struct prefetch_fault *f,
			  struct prefetch_run *run);
	/* What became of a window that was really asked. May be NULL. */
	void (*outcome)(struct prefetch_state *s, uint16_t owner, uint16_t check,
			enum prefetch_outcome o);
	/* There was no room for a run: it may be asked again. May be NULL. */
	void (*refused)(struct prefetch_state *s, const struct prefetch_run *run);
};

extern const struct prefetcher prefetch_none, prefetch_sequential, prefetch_stride,
	prefetch_majority, prefetch_replay;
extern const struct prefetcher *const prefetch_table[PREFETCH_KINDS];

/* NULL: no such prefetcher. */
const struct prefetcher *prefetch_find(const char *name);

/* prefetch_stream.c: a stream that this fault continues, moved on; or NULL. */
struct prefetch_stream *stream_follow(struct prefetch_state *s, struct prefetch_fault *f);
/* Another's window stands for faults on each of its pages. */
void stream_adopt(struct prefetch_state *s, struct prefetch_stream *t,
		  const struct prefetch_fault *f);
struct prefetch_stream *stream_start(struct prefetch_state *s, int64_t page, int32_t stride);
/* Asks for what the stream will need. */
unsigned stream_ask(struct prefetch_state *s, struct prefetch_stream *t,
		    const struct prefetch_fault *f, struct prefetch_run *run);
void stream_outcome(struct prefetch_state *s, uint16_t owner, uint16_t check,
		    enum prefetch_outcome o);
void stream_refused(struct prefetch_state *s, const struct prefetch_run *run);
/* Was the page's fault one of the newest that nobody had foreseen? */
bool recent_has(const struct prefetch_state *s, int64_t page);
void recent_add(struct prefetch_state *s, const struct prefetch_fault *f);
struct prefetch_thread *thread_of(struct prefetch_state *s, uint32_t thread);
/* How many of count pages from page on, stride apart, are in the heap. */
uint32_t run_within(const struct prefetch_state *s, int64_t page, int32_t stride, uint32_t count);

/* prefetch_window.c */
void window_add(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages);
/* Settles the window that a page was asked in; a copy in *ret. */
bool window_take(struct prefetch_state *s, uint32_t page, struct prefetch_window *ret);

/* prefetch_tournament.c */
unsigned tournament_fault(struct prefetch_state *s, struct prefetch_fault *f,
			  struct prefetch_run *run);
void tournament_outcome(struct prefetch_state *s, const struct prefetch_window *w,
			enum prefetch_outcome o);
void tournament_asked(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages);
struct prefetch_region *region_of(struct prefetch_state *s, uint32_t page);

/* prefetch_trace.c: files of recorded faults, read and written outside the fault path. [text] */
int trace_open(struct prefetch_state *s, const char *path);
void trace_close(struct prefetch_state *s);
void trace_add(struct prefetch_state *s, uint32_t page);
int prefetch_trace_save(const struct prefetch_state *s, const char *path);
/* -ENODATA: there is nothing in the file, or no file. */
int prefetch_trace_load(struct prefetch_state *s, const char *path);

/* --- what the fault path calls; one caller at a time (the heap's prefetch lock) --- */

struct prefetch {
	struct prefetch_state state;
};

/* "none, sequential, ... or replay:FILE", for people. */
const char *prefetch_names(void);
/*
 * name: NULL is the default, "auto". "replay:FILE" records the faults to FILE until
 * prefetch_free(), or follows what is there. pages: of the heap. -EINVAL: no such prefetcher, or
 * FILE is something else. [text]
 */
int prefetch_init(struct prefetch *p, const char *name, uint32_t pages, uint32_t window_max);
/* Takes a zeroed one. Saves what was recorded. */
void prefetch_free(struct prefetch *p);
/* Saves what was recorded so far, if anything is. In a child of a fork: does nothing. [text] */
int prefetch_save(struct prefetch *p);
/*
 * thread: who faulted, 0: unknown. Returns how many runs it put into run[PREFETCH_RUNS]; for each
 * of them prefetch_asked() follows.
 */
unsigned prefetch_event(struct prefetch *p, enum prefetch_event e, uint32_t page, uint32_t thread,
			struct prefetch_run *run);
/* Of a run's pages so many are on their way now; the others were local already. */
void prefetch_asked(struct prefetch *p, const struct prefetch_run *run, uint32_t pages);
/* Instead of it: there was no room for the run. */
void prefetch_refused(struct prefetch *p, const struct prefetch_run *run);
/* The program said that [page, page + count) will be read in order. */
void prefetch_expect_scan(struct prefetch *p, uint32_t page, uint32_t count);
/* Staging is short, or no longer: windows have so many pages at most; 0: as many as at first. */
void prefetch_pressure(struct prefetch *p, uint32_t window_max_now);

#endif
