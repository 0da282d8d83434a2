/* SPDX-License-Identifier: MIT */
/*
 * The bare cycle of a page with userfaultfd: fault, take the oldest pages out, put the wanted ones
 * in, go on. No data moves beyond what the primitive itself copies: it is in the staging area
 * already, as if a transport had put it there. Contents are checked: each frame's first word names
 * its page.
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
#include <unistd.h>

#define REGION_PAGES 32768u
#define CACHE_PAGES  4096u
#define STAGE_PAGES  64u

struct cycle {
	const struct floor_cycle *c;
	int fd;
	char *region; /* one page more: touching it ends the handler */
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

	return batch > 1 ? k * batch : page_shuffle(k, REGION_PAGES);
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

/* Frees frames for a window; with MOVE they come to the staging area. */
static void take_out(struct cycle *y, size_t bytes)
{
	char *old = page_at(y, window_page(y, y->arrived - CACHE_PAGES / y->c->batch));
	size_t done;

	if (y->c->move)
		failed(y, uffd_move(y->fd, y->stage, old, bytes, &done), "MOVE out");
	else
		failed(y, (int)sys_call3(SYS_madvise, SYS_PTR(old), (long)bytes, MADV_DONTNEED),
		       "DONTNEED");
}

/* Serves the fault on the next window. Runs in the signal handler or in the handler thread. */
static void resolve(struct cycle *y)
{
	uint64_t page = window_page(y, y->arrived);
	size_t bytes = (size_t)y->c->batch * BENCH_PAGE, done;
	bool full = y->arrived >= CACHE_PAGES / y->c->batch;

	if (full)
		take_out(y, bytes);
	for (unsigned i = 0; i < y->c->batch && !y->error; i++)
		*(volatile uint64_t *)(void *)(y->stage + i * BENCH_PAGE) = page + i;
	if (y->c->move && full)
		failed(y, uffd_move(y->fd, page_at(y, page), y->stage, bytes, &done), "MOVE in");
	else
		failed(y, uffd_copy(y->fd, page_at(y, page), y->stage, bytes, &done), "COPY");
	/* The faulting thread must go on even so; the wrong contents tell. */
	if (y->error)
		uffd_zero(y->fd, page_at(y, page));
	y->arrived++;
	/* From here on frames move: the first window's staging page would be in the way. */
	if (y->c->move && !full && y->arrived == CACHE_PAGES / y->c->batch)
		failed(y,
		       (int)sys_call3(SYS_madvise, SYS_PTR(y->stage), STAGE_PAGES * BENCH_PAGE,
				      MADV_DONTNEED),
		       "DONTNEED");
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

		if (page == REGION_PAGES) {
			uffd_zero(y->fd, page_at(y, page));
			break;
		}
		resolve(y);
	}
	return NULL;
}

/* Touches every window once; the time is taken when the cache is full. */
static int scan(struct cycle *y, struct floor_time *ret)
{
	unsigned batch = y->c->batch;
	uint64_t windows = REGION_PAGES / batch, full = CACHE_PAGES / batch + 8, start = 0;

	for (uint64_t k = 0; k < windows; k++) {
		uint64_t page = window_page(y, k);

		if (k == full)
			start = clock_ns();
		for (unsigned i = 0; i < batch; i++)
			if (*(volatile uint64_t *)(void *)page_at(y, page + i) != page + i)
				return err_fail(y->error ? y->error : -EILSEQ,
						"bare faults: %s failed (error %d)",
						y->what ? y->what : "the contents", -y->error);
	}
	ret->us = (double)(clock_ns() - start) / 1e3 / (double)((windows - full) * batch);
	return 0;
}

static int scan_with_handler(struct cycle *y, struct floor_time *ret)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, handler_main, y);

	if (r)
		return err_fail(-r, "can't start a handler thread");
	r = scan(y, ret);
	*(volatile char *)page_at(y, REGION_PAGES);
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
	const size_t region = (REGION_PAGES + 1) * (size_t)BENCH_PAGE;
	const size_t stage = STAGE_PAGES * (size_t)BENCH_PAGE;
	struct cycle y = {.c = c};
	struct uffd_caps caps;
	int r;

	*ret = (struct floor_time){0};
	y.fd = uffd_open(-1, !c->handler, &caps);
	if (y.fd < 0)
		return y.fd;
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
	if (y.region)
		munmap(y.region, region);
	if (y.stage)
		munmap(y.stage, stage);
	return r;
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
