/* SPDX-License-Identifier: MIT */
/*
 * The inside of a heap.
 *
 * A page has one atomic word: its state, flags, and where its bytes are while they are on the way.
 * Whoever moves a page from one state to another by compare-and-swap owns the transition; there is
 * no lock over a page. Ports (one a core) own connections, staging frames and requests in flight;
 * a port's lock is held for short stretches and never while waiting, so any thread that waits for
 * a page can drive the port that fetches it.
 *
 * Locks, in the order they are taken: control > ports (by index) > residency, prefetch, ranges.
 */
#ifndef LIBINJECT_HEAP_H
#define LIBINJECT_HEAP_H

#include "libinject/lock.h"
#include "libinject/prefetch.h"
#include "libinject/residency.h"
#include "libinject/uffd.h"

#include <infuse/inject.h>
#include <infuse/pagestore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define PAGE          4096ul
#define PAGE_SHIFT    12
#define TRAY_FRAMES   64u /* one bit each in a word */
#define TRAYS         16u /* 4 MiB of staging a port */
#define PORT_FRAMES   (TRAYS * TRAY_FRAMES)
#define PORT_OPS      64u
#define MAX_PORTS     64u
#define MAX_WASTED    4u
#define FRESH_PAGES   32u
#define NO_PAGE       UINT32_MAX
#define MIN_LOCAL_PAGES 16
#define AREA_SHIFT    8
#define MAX_STRAYS      16u

/* --- a page's word --- */

enum page_state {
	PG_UNUSED, /* not allocated: touching it is a bug of the program */
	PG_ABSENT, /* at the donors, or zeros */
	PG_FETCH,  /* on its way in, or in staging till somebody wants it; where: the request */
	PG_LOCAL,  /* mapped; with PG_WRITING also on its way out; where: the frame */
	PG_TAKING, /* being taken out, or changed by its owner: wait */
	PG_STAGED, /* taken out, its bytes are in a staging frame; where: the frame */
};
#define PG_STATE    0x07u
#define PG_PROT     0x08u /* local, mapped write-protected: its bytes are the stored ones */
#define PG_WRITING  0x20u /* local again while its last write is in flight */
#define PG_RANDOM   0x40u /* advised: never prefetch from here */
#define PG_KEEP     PG_RANDOM /* flags that outlive a change of state */
#define PG_WHERE    8

static inline enum page_state page_state(uint32_t word)
{
	return (enum page_state)(word & PG_STATE);
}

static inline uint32_t page_where(uint32_t word)
{
	return word >> PG_WHERE;
}

static inline uint32_t page_word(enum page_state s, uint32_t flags, uint32_t where)
{
	return (uint32_t)s | flags | where << PG_WHERE;
}

/* --- staging --- */

struct tray {
	uint64_t mapped; /* the frame has memory behind it */
	uint64_t busy;   /* and its contents matter, or soon will */
};

/* Who waits for a demand fetch. On the waiter's stack, under the port's lock. */
struct waiter {
	bool done;
	int status;
	int donor;
};

enum op_kind { OP_FREE, OP_FETCH, OP_OUT };

/*
 * A request in flight: up to a tray of pages, all frames of one tray. One that was asked ahead is
 * installed when any of its pages is touched, all of it at once: so a scan faults once a window,
 * whoever takes the answer in, and the touch tells that the window was of use.
 */
struct op {
	struct ps_batch batch;
	struct ps_vec vec[TRAY_FRAMES];
	uint64_t hash[TRAY_FRAMES];
	uint32_t page[TRAY_FRAMES];  /* NO_PAGE: taken back before it was sent */
	uint16_t frame[TRAY_FRAMES]; /* of the port */
	unsigned count;
	enum op_kind kind;
	bool ahead;    /* nobody waits for it yet */
	bool wanted;   /* ahead, but to be installed as soon as it is there */
	bool arrived;  /* ahead, in staging */
	bool protect;  /* install write-protected */
	uint64_t age;  /* the port's faults when it arrived */
	uint64_t arrived_ns;
	struct waiter *waiter;
	struct op *next; /* free, or arrived before */
};

/* --- counters: relaxed atomics, for people; a port each, so that cores share no cache line --- */
#define HEAP_COUNTERS(X)                                                                           \
	X(faults) X(faults_zero) X(faults_staged) X(faults_shared) X(faults_write) X(pages_in)     \
	X(pages_out) X(pages_clean) X(prefetched) X(prefetch_hits) X(prefetch_late)                \
	X(prefetch_wasted) X(fault_ns)
struct counters {
#define X(name) _Atomic uint64_t name;
	HEAP_COUNTERS(X)
#undef X
	_Atomic uint64_t latency[32];
};
#define COUNT(p, what, n) atomic_fetch_add_explicit(&(p)->count.what, (n), memory_order_relaxed)

struct port {
	struct lock lock;
	unsigned index;
	struct inject_heap *heap;
	struct ps_port *ps;
	unsigned char *stage; /* PORT_FRAMES frames, registered with the userfaultfd */
	struct tray tray[TRAYS];
	uint32_t frame_op[PORT_FRAMES]; /* STAGED frames: index in ops * TRAY_FRAMES + item */
	struct op ops[PORT_OPS];
	struct op *free_ops;
	unsigned ops_used; /* from here on never taken */
	struct op *arrived, **arrived_end; /* oldest first */
	uint64_t faults;
	uint64_t polled_ns;
	uint32_t wasted[MAX_WASTED]; /* first pages of windows thrown away, not told yet */
	unsigned wasted_count;
	struct op *out;       /* being filled with evicted pages, not sent yet */
	unsigned out_next;    /* next frame of its tray */
	unsigned out_tray;
	unsigned in_flight;
	int failed_status;    /* a write-back that lost pages; told when the lock is dropped */
	int failed_donor;
	uint32_t fresh[FRESH_PAGES]; /* local now, not in the residency queue yet */
	unsigned fresh_count;
	struct counters count;
};

/* --- the local cache, in pages --- */

struct cache {
	_Atomic int64_t resident; /* local, or claimed to become so */
	_Atomic int64_t ahead;    /* of them asked ahead and not installed yet */
	_Atomic int64_t limit;
	_Atomic int64_t pinned;
};

/* --- free ranges of pages --- */

struct extent {
	uint32_t page, count;
};

struct ranges {
	struct lock lock;
	struct extent *free; /* sorted by page */
	uint32_t count, max;
	_Atomic uint64_t allocated;
};

/* --- calls that a handler carries out, for callers without the heap's descriptors --- */

enum request_kind {
	REQ_ALLOC, REQ_FREE, REQ_GROW, REQ_DISCARD, REQ_ADVISE, REQ_PIN, REQ_UNPIN,
	REQ_QUIESCE,
};
struct request {
	enum request_kind kind;
	uint32_t page, count, align; /* pages */
	int arg;
	int result;
	char text[384]; /* the words of an error */
};

struct inject_heap {
	unsigned char *base;
	uint32_t pages;
	_Atomic uint32_t *word; /* a page's word */
	_Atomic uint8_t *writes; /* how much of late was written, by areas of 1 << AREA_SHIFT pages */
	_Atomic uint32_t high;  /* pages from here on were never allocated */
	uint16_t *pins;
	uint32_t *extent; /* first page of an inject_alloc(): its pages */
	int uffd, dev_fd;
	int self_fd; /* pidfd of this process, or -1 */
	struct uffd_caps caps;
	enum inject_mode mode;
	bool raw;
	bool forked;   /* pages may be shared with a child or parent: moving them is EBUSY */
	bool dead;     /* in a child that got no snapshot of it */
	bool snapshot; /* between fork_prepare() and its end */
	_Atomic bool crowded; /* several threads fault: unmapping one page costs an interrupt */
	_Atomic uint32_t first_thread;
	unsigned ports, window;
	uint64_t spin_ns, deadline_ns;
	unsigned percent;
	struct ps_volume *volume;
	uint32_t slab_pages;
	struct port *port[MAX_PORTS];
	/* All cores write to these: not in one cache line with what each fault reads. */
	_Alignas(64) struct cache cache;
	_Alignas(64) struct residency res;
	_Alignas(64) struct ranges ranges;
	_Alignas(64) struct lock prefetch_lock;
	struct prefetch prefetch;

	/* requests: see request.c */
	_Alignas(64) struct lock control;
	struct request request;
	unsigned char *control_page;

	/* handlers */
	_Alignas(64) _Atomic uint32_t handlers_up; /* futex: START_FAILED or how many run */
	_Atomic bool stopping;
	_Atomic bool stopped; /* nobody touches the control page any more */
	bool child;
	int start_error;
	char start_text[384];
	unsigned char *stacks; /* of raw handlers, and of the maintenance */
	struct handler_seat {
		struct inject_heap *heap;
		unsigned index;
		_Atomic int core; /* it is pinned to; -1: to none */
		unsigned look_in; /* faults; see turn.c */
	} seat[MAX_PORTS + 1];
	_Atomic uint32_t turn; /* futex: the index of the handler that reads, or everybody */
	unsigned long threads[MAX_PORTS]; /* pthread_t */
	unsigned long maintainer;         /* pthread_t; 0: none, or raw */
	_Atomic uint32_t maintain_stop;   /* a futex */

	struct lock stray_lock;
	struct stray {
		pid_t thread;
		unsigned char *at;
		unsigned times;
	} stray[MAX_STRAYS];

	char name[64];
	void (*failed)(const struct inject_failure *, void *);
	void *failed_arg;
	const char *donor_file;         /* donor_file.c; NULL: none */
	uint64_t donor_file_ns;         /* when it is looked at next */
	char donor_now[8192], donor_before[8192];
	void (*unfollow)(void *follow); /* open.c: ends what follows the registry; NULL: nothing does */
	void *follow;
	struct ps_options ps_options; /* its strings live in donor_text */
	const char *donor[PS_MAX_DONORS];
	char donor_text[PS_MAX_DONORS][128], spill[512];
};

static inline unsigned char *page_address(const struct inject_heap *h, uint32_t page)
{
	return h->base + ((size_t)page << PAGE_SHIFT);
}

static inline unsigned char *frame_address(const struct port *p, unsigned frame)
{
	return p->stage + ((size_t)frame << PAGE_SHIFT);
}

static inline uint32_t page_of(const struct inject_heap *h, const void *address)
{
	return (uint32_t)(((const unsigned char *)address - h->base) >> PAGE_SHIFT);
}

/* frames.c; the port's lock held. A frame number, or -1 when all are busy. */
int frame_take(struct port *p);
/* count frames in a row, with memory behind them; returns the first. */
int frames_take_window(struct port *p, unsigned count);
/* A tray without memory behind it, all of it marked busy; returns its number. */
int frames_take_out_tray(struct port *p);
void frame_put(struct port *p, unsigned frame, bool mapped);
unsigned trays_idle(const struct port *p);
/* Gives the memory of one idle tray back if there is more of it than the next windows need. */
void frames_trim(struct port *p);

/* ops.c; the port's lock held. */
struct op *op_get(struct port *p);
void op_put(struct port *p, struct op *op);
/* Starts a fetch of op->count claimed pages in op->page/frame. */
int op_fetch(struct port *p, struct op *op, uint64_t now);
/* Sends the evicted pages collected so far. */
void out_flush(struct port *p, uint64_t now);
/* Takes answers in: installs pages, ends writes. Returns how many requests ended. */
unsigned port_poll(struct port *p, uint64_t now);

/* Queues what became local of late. */
void port_queue_fresh(struct port *p);
/* A window asked ahead that has arrived: its pages become local. */
void window_install(struct port *p, struct op *op);
/* Throws the oldest arrived window away if it has waited for long, or any if force is set. */
bool window_drop(struct port *p, bool force);
/* The same if it has waited since before that time: for ports that nobody may use any more. */
bool window_drop_old(struct port *p, uint64_t before_ns);

/* evict.c; p's lock held. Takes up to `most` pages out; returns how many. 0: all frames are busy, or
 * nothing can be evicted. */
unsigned evict(struct port *p, unsigned most, uint64_t now);
/* p's lock held: forgets a staged page that was not sent; false: it is in flight. */
bool out_forget(struct port *p, uint32_t page);
/* Was much of the page's neighbourhood written of late? Then write-protecting does not pay. */
bool area_is_written(const struct inject_heap *h, uint32_t page);
void area_count(struct inject_heap *h, uint32_t page, int written);
/* The same for a page that comes in writable or went so, and for one whose first write was a fault
 * of its own. */
void area_count_writable(struct inject_heap *h, uint32_t page, int written);
void area_count_second(struct inject_heap *h, uint32_t page);

struct fault {
	uint32_t page;
	uint32_t thread; /* who, 0: nobody in particular */
	bool write;
	int donor;       /* answer: the index of the one that failed, or -1 */
};
/* fault.c: makes a page local, through this port, and writable if that is wanted. 0; -EFAULT: not
 * allocated; else why not. Takes ports' locks. */
int fault_resolve(struct inject_heap *h, unsigned port, struct fault *f);
/* Waits until the page's word is another one, driving the port that has it in flight. */
void page_settle(struct inject_heap *h, uint32_t page, uint32_t word);
/* Tells the program, or ends it. */
void heap_failure(struct inject_heap *h, const void *address, int error, int donor);
/* Evicts until the local cache is within its limit, for `page`. p's lock held, dropped while frames
 * are waited for. */
void make_room(struct port *p, uint32_t page, uint64_t now);
/* Fetches ahead: claims what it can of a run. p's lock held. Returns pages asked, or -1: no room.
 * eager: it becomes local when it arrives, not when it is touched. */
int fetch_ahead(struct port *p, const struct prefetch_run *run, bool eager, uint64_t now);

/* ranges.c */
int ranges_init(struct ranges *r, uint32_t pages);
uint32_t ranges_take(struct ranges *r, uint32_t count, uint32_t align);
bool ranges_take_at(struct ranges *r, uint32_t page, uint32_t count);
/* Puts back; *around is the whole free extent it became part of. */
void ranges_put(struct ranges *r, uint32_t page, uint32_t count, struct extent *around);

/* request.c */
int heap_call(struct inject_heap *h, struct request *rq);
int heap_call_locked(struct inject_heap *h, struct request *rq); /* control lock held */
void request_serve(struct inject_heap *h, unsigned port);	  /* in a handler */
void heap_limit_update(struct inject_heap *h);

/* discard.c: the pages read as zeros and have the state `to` afterwards. */
void pages_discard(struct inject_heap *h, uint32_t page, uint32_t count, enum page_state to);

/* handler.c, sigbus.c */
/* Attaches and starts what serves faults; child: after fork. [text] */
int handlers_start(struct inject_heap *h, bool child);
void handlers_stop(struct inject_heap *h);
int sigbus_install(void);
/* The port this thread uses now. */
unsigned thread_port(struct inject_heap *h);
/* Userfaultfd, staging, donors. In the thread whose descriptor table is to hold them. [text] */
int heap_attach(struct inject_heap *h, bool child);

/* turn.c: which handlers read the userfaultfd. */
void turn_begin(struct inject_heap *h); /* none runs yet */
void turn_end(struct inject_heap *h);	/* all may, from now on */
void turn_await(struct inject_heap *h, unsigned index);
void turn_served(struct inject_heap *h, unsigned index, uint32_t thread); /* a thread's fault */

/* heap.c: open heaps, for the signal handler and the fork hooks. */
#define MAX_HEAPS 16
extern _Atomic(struct inject_heap *) heap_table[MAX_HEAPS];
struct inject_heap *heap_of(const void *address);

/* donor_file.c: the maintenance's; donors that are new in the file join. */
void donor_file_look(struct inject_heap *h);

#endif
