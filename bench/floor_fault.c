/* SPDX-License-Identifier: MIT */
/*
 * The bare cycle of a page with userfaultfd: fault, take the oldest pages out, put the wanted ones
 * in, go on. No data moves beyond what the primitive itself copies: it is in the staging area
 * already, as if a transport had put it there. Contents are checked: each frame's first word names
 * its page.
 *
 * The area and its cache are as big as a workload's, since page tables and frames that are hot in
 * the CPU's caches would make it cheaper than it can be there. COPY takes single pages out 64 at
 * once by process_madvise() on oneself, where the kernel lets it; they are scattered, and clean.
 *
 * Pages are touched window by window in an order known beforehand (page_shuffle() for single ones),
 * so the oldest are found without a list.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/sys.h"
#include "libinject/uffd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define REGION_LEAST 4096u /* pages */
#define CHUNK_PAGES  256u
#define CHUNKS_MAX   128u
#define STAGE_PAGES  64u

struct cycle {
	const struct floor_cycle *c;
	int fd;
	int self; /* a pidfd of this process, or -1 */
	uint64_t region_pages, cache_pages;
	uint64_t gone; /* windows evicted */
	char *region;  /* one page more: touching it ends the handler */
	char *stage;
	uint64_t arrived; /* windows installed */
	int error;
	const char *what; /* that failed */
};

/* The SIGBUS handler's. */
static struct cycle *volatile current;

static uint64_t window_page(const struct cycle *y, uint64_t k)
{
	unsigned batch = y->c->batch;

	return batch > 1 ? k * batch : page_shuffle(k, y->region_pages);
}

static char *page_at(const struct cycle *y, uint64_t page)
{
	return y->region + page * BENCH_PAGE;
}

static bool failed(struct cycle *y, int r, const char *what)
{
	if (r && !y->error) {
		y->error = r;
		y->what = what;
	}
	return r;
}

static int drop(char *p, size_t bytes)
{
	return (int)sys_call3(SYS_madvise, SYS_PTR(p), (long)bytes, MADV_DONTNEED);
}

/* The oldest 64 single pages, which lie anywhere, by one system call. */
static int drop_scattered(struct cycle *y)
{
	struct iovec iov[STAGE_PAGES];
	long n;

	for (unsigned i = 0; i < STAGE_PAGES; i++)
		iov[i] = (struct iovec){page_at(y, window_page(y, y->gone + i)), BENCH_PAGE};
	n = sys_call5(SYS_process_madvise, y->self, SYS_PTR(iov), STAGE_PAGES, MADV_DONTNEED, 0);
	y->gone += STAGE_PAGES;
	return n < 0 ? (int)n : n == (long)STAGE_PAGES * BENCH_PAGE ? 0 : -EIO;
}

/* Frees frames for a window; with MOVE they come to the staging area. */
static void take_out(struct cycle *y, size_t bytes)
{
	uint64_t windows = y->cache_pages / y->c->batch;
	size_t done;

	if (!y->c->move && y->c->batch == 1 && y->self >= 0) {
		if (y->arrived - y->gone >= windows)
			failed(y, drop_scattered(y), "process_madvise");
		return;
	}
	if (y->c->move)
		failed(y,
		       uffd_move_out(y->fd, y->stage, page_at(y, window_page(y, y->gone)), bytes,
				 &done),
		       "MOVE out");
	else
		failed(y, drop(page_at(y, window_page(y, y->gone)), bytes), "DONTNEED");
	y->gone++;
}

/* Serves the fault on the next window. Runs in the signal handler or in the handler thread. */
static void resolve(struct cycle *y)
{
	uint64_t page = window_page(y, y->arrived);
	size_t bytes = (size_t)y->c->batch * BENCH_PAGE, done;
	bool full = y->arrived >= y->cache_pages / y->c->batch;

	if (full)
		take_out(y, bytes);
	for (unsigned i = 0; i < y->c->batch && !y->error; i++)
		*(volatile uint64_t *)(void *)(y->stage + i * BENCH_PAGE) = page + i;
	if (y->c->move && full)
		failed(y, uffd_move_in(y->fd, page_at(y, page), y->stage, bytes, &done), "MOVE in");
	else
		failed(y, uffd_copy(y->fd, page_at(y, page), y->stage, bytes, &done), "COPY");
	/* The faulting thread must go on even so; the wrong contents tell. */
	if (y->error)
		uffd_zero(y->fd, page_at(y, page));
	y->arrived++;
	/* From here on frames move: the first window's staging page would be in the way. */
	if (y->c->move && !full && y->arrived == y->cache_pages / y->c->batch)
		failed(y, drop(y->stage, STAGE_PAGES * BENCH_PAGE), "DONTNEED");
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	struct cycle *y = current;

	(void)context;
	if (!y || info->si_code != BUS_ADRERR || y->error) {
		signal(sig, SIG_DFL);
		return;
	}
	resolve(y);
}

static void *handler_main(void *arg)
{
	struct cycle *y = arg;
	struct uffd_msg m;

	cpu_pin(0);
	while (read(y->fd, &m, sizeof m) == (ssize_t)sizeof m) {
		uint64_t page = (m.arg.pagefault.address - (uintptr_t)y->region) / BENCH_PAGE;

		if (page == y->region_pages) {
			uffd_zero(y->fd, page_at(y, page));
			break;
		}
		resolve(y);
	}
	return NULL;
}

/* Touches every window once. Timed when the cache is full, in chunks whose median counts: what
 * disturbs the machine is no floor. */
static int scan(struct cycle *y, struct floor_time *ret)
{
	unsigned batch = y->c->batch, chunk = CHUNK_PAGES / batch, chunks = 0;
	uint64_t windows = y->region_pages / batch, full = y->cache_pages / batch, then = 0;
	double us[CHUNKS_MAX];

	for (uint64_t k = 0; k < windows && chunks < CHUNKS_MAX; k++) {
		uint64_t page = window_page(y, k), now;

		for (unsigned i = 0; i < batch; i++)
			if (*(volatile uint64_t *)(void *)page_at(y, page + i) != page + i)
				return err_fail(y->error ? y->error : -EILSEQ,
						"bare faults: %s failed (error %d)",
						y->what ? y->what : "the contents", -y->error);
		if (k < full || (k - full) % chunk)
			continue;
		now = clock_ns();
		if (then)
			us[chunks++] = (double)(now - then) / 1e3 / CHUNK_PAGES;
		then = now;
	}
	ret->us = sample_median(us, chunks);
	return 0;
}

static int scan_with_handler(struct cycle *y, struct floor_time *ret)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, handler_main, y);

	if (r)
		return err_fail(-r, "can't start a handler thread");
	r = scan(y, ret);
	*(volatile char *)page_at(y, y->region_pages);
	pthread_join(thread, NULL);
	return r;
}

static int scan_with_sigbus(struct cycle *y, struct floor_time *ret)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction old;
	int r;

	sigaction(SIGBUS, &sa, &old);
	current = y;
	r = scan(y, ret);
	current = NULL;
	sigaction(SIGBUS, &old, NULL);
	return r;
}

static char *map_small_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

int floor_fault(const struct floor_cycle *c, struct floor_time *ret)
{
	struct cycle y = {.c = c, .self = -1};
	const size_t stage = STAGE_PAGES * (size_t)BENCH_PAGE;
	struct uffd_caps caps;
	size_t region;
	int r;

	/* Whole windows, and a quarter of the area to be brought in again when the cache is full.
	 */
	y.region_pages = c->region_pages < REGION_LEAST ? REGION_LEAST : c->region_pages / 64 * 64;
	y.cache_pages = c->cache_pages / 64 * 64;
	if (y.cache_pages < STAGE_PAGES)
		y.cache_pages = STAGE_PAGES;
	if (y.cache_pages > y.region_pages / 256 * 192)
		y.cache_pages = y.region_pages / 256 * 192;
	region = (y.region_pages + 1) * (size_t)BENCH_PAGE;
	if (floor_can_drop())
		y.self = (int)sys_call2(SYS_pidfd_open, sys_call0(SYS_getpid), 0);

	*ret = (struct floor_time){0};
	y.fd = uffd_open(-1, !c->handler, &caps);
	if (y.fd < 0) {
		if (y.self >= 0)
			close(y.self);
		return y.fd;
	}
	y.region = map_small_pages(region);
	y.stage = map_small_pages(stage);
	r = y.region && y.stage ? 0 : -ENOMEM;
	if (!r)
		r = uffd_register(y.fd, y.region, region);
	if (!r && c->move) {
		/* Frames are moved out to the staging area: both ends must be registered. Its own
		 * pages exist until then. */
		memset(y.stage, 1, stage);
		r = uffd_register(y.fd, y.stage, stage);
	}
	cpu_pin(0);
	if (r)
		r = err_fail(r, "can't prepare an area for bare faults: error %d", -r);
	else
		r = c->handler ? scan_with_handler(&y, ret) : scan_with_sigbus(&y, ret);
	cpu_unpin();
	close(y.fd);
	if (y.self >= 0)
		close(y.self);
	if (y.region)
		munmap(y.region, region);
	if (y.stage)
		munmap(y.stage, stage);
	return r;
}

bool floor_can_drop(void)
{
	int self = (int)sys_call2(SYS_pidfd_open, sys_call0(SYS_getpid), 0);
	char *p = map_small_pages(BENCH_PAGE);
	struct iovec iov = {p, BENCH_PAGE};
	bool can = false;

	if (self >= 0 && p) {
		*p = 1;
		can = sys_call5(SYS_process_madvise, self, SYS_PTR(&iov), 1, MADV_DONTNEED, 0) ==
		      BENCH_PAGE;
	}
	if (self >= 0)
		close(self);
	if (p)
		munmap(p, BENCH_PAGE);
	return can;
}

bool floor_can_move(void)
{
	struct uffd_caps caps;
	int fd = uffd_open(-1, true, &caps);

	if (fd < 0)
		return false;
	close(fd);
	return caps.move;
}
