/* SPDX-License-Identifier: MIT */
/*
 * How far the kernel lets two threads of one process fault at the same time: in halves of one
 * area with one userfaultfd, as a heap has them, each takes bare SIGBUS faults (COPY in, 64 pages out
 * by one process_madvise). They share no data but the kernel's. Two processes share nothing at all.
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
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS     2u
#define AREA_PAGES  65536u
#define CACHE_PAGES 16384u
#define OUT_PAGES   64u

struct worker {
	unsigned index;
	int fd, self;
	char *area; /* NULL: it makes its own */
	size_t area_bytes;
	char stage[BENCH_PAGE] __attribute__((aligned(BENCH_PAGE)));
	uint64_t in, out;
	int error;
	uint64_t start_ns, end_ns;
	pthread_barrier_t *ready;
};

struct shared {
	pthread_barrier_t ready;
	struct worker worker[WORKERS];
};

static _Thread_local struct worker *mine __attribute__((tls_model("initial-exec")));

static char *page_at(const struct worker *w, uint64_t k)
{
	return w->area + page_shuffle(k % AREA_PAGES, AREA_PAGES) * BENCH_PAGE;
}

static int take_out(struct worker *w)
{
	struct iovec iov[OUT_PAGES];
	long n;

	for (unsigned i = 0; i < OUT_PAGES; i++)
		iov[i] = (struct iovec){page_at(w, w->out + i), BENCH_PAGE};
	w->out += OUT_PAGES;
	n = sys_call5(SYS_process_madvise, w->self, SYS_PTR(iov), OUT_PAGES, MADV_DONTNEED, 0);
	return n < 0 ? (int)n : 0;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	struct worker *w = mine;
	size_t done;

	(void)context;
	if (!w || info->si_code != BUS_ADRERR || w->error) {
		signal(sig, SIG_DFL);
		return;
	}
	if (w->in - w->out >= CACHE_PAGES)
		w->error = take_out(w);
	if (!w->error)
		w->error = uffd_copy(w->fd, page_at(w, w->in), w->stage, BENCH_PAGE, &done);
	if (w->error)
		uffd_zero(w->fd, page_at(w, w->in));
	w->in++;
}

static int faults_open(struct worker *w, unsigned workers)
{
	size_t bytes = (size_t)workers * AREA_PAGES * BENCH_PAGE;
	struct uffd_caps caps;

	w->fd = uffd_open(-1, true, &caps);
	if (w->fd < 0)
		return w->fd;
	w->self = (int)sys_call2(SYS_pidfd_open, sys_call0(SYS_getpid), 0);
	w->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->area == MAP_FAILED)
		return -ENOMEM;
	w->area_bytes = bytes;
	madvise(w->area, bytes, MADV_NOHUGEPAGE);
	return uffd_register(w->fd, w->area, bytes);
}

static void faults_close(struct worker *w)
{
	if (w->area_bytes)
		munmap(w->area, w->area_bytes);
	if (w->self >= 0)
		close(w->self);
	if (w->fd >= 0)
		close(w->fd);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	bool own = !w->area;
	int r = own ? faults_open(w, 1) : 0;
	uint64_t k = 0;

	cpu_pin(w->index);
	mine = w;
	for (; k < CACHE_PAGES && !r; k++)
		*(volatile char *)page_at(w, k);
	pthread_barrier_wait(w->ready);
	w->start_ns = clock_ns();
	for (; k < AREA_PAGES && !r; k++)
		*(volatile char *)page_at(w, k);
	w->end_ns = clock_ns();
	mine = NULL;
	if (r && !w->error)
		w->error = r;
	if (own)
		faults_close(w);
	return NULL;
}

static int start_threads(struct shared *s, unsigned n)
{
	struct worker *first = &s->worker[0];
	pthread_t thread[WORKERS];
	int r = faults_open(first, n);

	for (unsigned i = 1; i < n && !r; i++) {
		s->worker[i].fd = first->fd;
		s->worker[i].self = first->self;
		s->worker[i].area = first->area + (size_t)i * AREA_PAGES * BENCH_PAGE;
	}
	if (r) {
		faults_close(first);
		return err_fail(r, "no area for bare faults: error %d", -r);
	}
	for (unsigned i = 1; i < n; i++)
		if (pthread_create(&thread[i], NULL, worker_run, &s->worker[i]))
			return err_fail(-EAGAIN, "can't start a thread");
	worker_run(&s->worker[0]);
	for (unsigned i = 1; i < n; i++)
		pthread_join(thread[i], NULL);
	faults_close(first);
	return 0;
}

static int start_processes(struct shared *s, unsigned n)
{
	pid_t pid[WORKERS];
	int status, r = 0;

	for (unsigned i = 1; i < n; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			return err_fail(-errno, "can't fork");
		if (!pid[i]) {
			worker_run(&s->worker[i]);
			_exit(0);
		}
	}
	worker_run(&s->worker[0]);
	for (unsigned i = 1; i < n; i++)
		if (waitpid(pid[i], &status, 0) < 0 || status)
			r = err_fail(-ECHILD, "a process of bare faults ended badly");
	return r;
}

int floor_threads(unsigned n, bool processes, struct floor_time *ret)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start = UINT64_MAX, end = 0;
	pthread_barrierattr_t attr;
	struct sigaction old;
	int r;

	*ret = (struct floor_time){0};
	if (s == MAP_FAILED)
		return err_fail(-ENOMEM, "no memory for the floors");
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&s->ready, &attr, n);
	for (unsigned i = 0; i < n; i++) {
		s->worker[i].index = i;
		s->worker[i].ready = &s->ready;
		s->worker[i].fd = s->worker[i].self = -1;
	}
	sigaction(SIGBUS, &sa, &old);
	r = processes ? start_processes(s, n) : start_threads(s, n);
	sigaction(SIGBUS, &old, NULL);
	cpu_unpin();
	for (unsigned i = 0; i < n && !r; i++) {
		const struct worker *w = &s->worker[i];

		if (w->error)
			r = err_fail(w->error, "bare faults of %u threads: error %d", n, -w->error);
		start = w->start_ns < start ? w->start_ns : start;
		end = w->end_ns > end ? w->end_ns : end;
	}
	ret->us = (double)(end - start) / 1e3 / (n * (AREA_PAGES - CACHE_PAGES));
	munmap(s, sizeof *s);
	return r;
}
