/* SPDX-License-Identifier: MIT */
/*
 * Handler threads, one pinned to each core, all reading one userfaultfd: the one on the faulting
 * thread's core needs no wake-up of another. Raw ones (for the preload library) are bare clone()s
 * that share their creator's TLS block, so they use no libc call that writes to it; they have a
 * descriptor table of their own, so that a program that closes what it does not know goes on.
 */
#include "libinject/page.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "libinject/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define STACK_BYTES  (128u << 10)
#define STRAY_TIMES  8u /* touches of unused memory that make a SIGSEGV */
#define START_FAILED 0x80000000u
#define START_WAIT_S 60

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/*
 * A thread that touched memory which is not allocated gets the signal the kernel would send, but
 * for si_code: only the kernel, and a thread to itself, may say SEGV_MAPERR.
 */
static void segv_send(pid_t thread, void *address)
{
	siginfo_t info = {0};

	info.si_signo = SIGSEGV;
	info.si_code = SI_QUEUE;
	info.si_addr = address;
	sys_call4(SYS_rt_tgsigqueueinfo, sys_call0(SYS_getpid), thread, SIGSEGV, SYS_PTR(&info));
}

/*
 * A message may be older than it looks: its thread was served by another handler, went on, and
 * freed the page. So the thread is woken first; one that really is lost comes back at once, with
 * the same address, again and again.
 */
static void unused_touched(struct inject_heap *h, pid_t thread, unsigned char *at)
{
	struct stray *s = &h->stray[(uint32_t)thread % MAX_STRAYS];
	bool lost;

	lock_take(&h->stray_lock);
	if (s->thread != thread || s->at != at) {
		__atomic_store_n(&s->thread, thread, __ATOMIC_RELAXED);
		s->at = at;
		s->times = 0;
	}
	lost = ++s->times == STRAY_TIMES;
	if (lost)
		s->times = 0;
	lock_drop(&h->stray_lock);
	if (lost)
		segv_send(thread, at);
	else
		uffd_wake(h->uffd, at - (uintptr_t)at % PAGE, PAGE);
}

/* It goes on, so what it touched before was not lost. */
static void thread_served(struct inject_heap *h, pid_t thread)
{
	struct stray *s = &h->stray[(uint32_t)thread % MAX_STRAYS];

	if (__atomic_load_n(&s->thread, __ATOMIC_RELAXED) != thread)
		return;
	lock_take(&h->stray_lock);
	if (s->thread == thread)
		__atomic_store_n(&s->thread, 0, __ATOMIC_RELAXED);
	lock_drop(&h->stray_lock);
}

static void handle(struct inject_heap *h, unsigned index, const struct uffd_msg *m)
{
	unsigned char *at = (unsigned char *)(uintptr_t)m->arg.pagefault.address;
	uint32_t thread = m->arg.pagefault.feat.ptid;
	struct fault f = {
		.thread = thread,
		.write = m->arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP),
	};
	int r;

	if (m->event != UFFD_EVENT_PAGEFAULT)
		return;
	if (at >= h->control_page && at < h->control_page + PAGE) {
		if (!atomic_load(&h->stopping))
			request_serve(h, index);
		uffd_zero(h->uffd, h->control_page);
		return;
	}
	if (!heap_contains(h, at))
		return;
	if (crowd_join(h, thread))
		turn_end(h);
	f.page = page_of(h, at);
	r = fault_resolve(h, index, &f);
	if (r == -EFAULT)
		unused_touched(h, (pid_t)thread, at);
	else if (r)
		heap_failure(h, at, r, f.donor);
	else
		thread_served(h, (pid_t)thread);
	turn_served(h, index, thread);
}

static void handler_loop(struct inject_heap *h, unsigned index)
{
	struct uffd_msg m;

	/* One message at a time: the next may be read by another core. */
	for (;;) {
		turn_await(h, index);
		if (atomic_load(&h->stopping))
			return;
		if (sys_call3(SYS_read, h->uffd, SYS_PTR(&m), sizeof m) == sizeof m)
			handle(h, index, &m);
	}
}

/* To the index-th core this process may use; -1: not pinned. */
static int pin_to_core(unsigned index)
{
	unsigned long mask[128] = {0}, one[128] = {0};
	long bytes = sys_call3(SYS_sched_getaffinity, 0, sizeof mask, SYS_PTR(mask));
	unsigned seen = 0, cores = 0;

	for (unsigned i = 0; bytes > 0 && i < sizeof mask * 8; i++)
		cores += mask[i / 64] >> i % 64 & 1;
	for (unsigned i = 0; cores && i < sizeof mask * 8; i++) {
		if (!(mask[i / 64] >> i % 64 & 1) || seen++ != index % cores)
			continue;
		one[i / 64] = 1ul << i % 64;
		return sys_call3(SYS_sched_setaffinity, 0, bytes, SYS_PTR(one)) ? -1 : (int)i;
	}
	return -1;
}

static void started(struct inject_heap *h, int error)
{
	if (error) {
		h->start_error = error;
		snprintf(h->start_text, sizeof h->start_text, "%s", err_text());
		atomic_store(&h->handlers_up, START_FAILED);
	} else {
		atomic_fetch_add(&h->handlers_up, 1);
	}
	sys_call3(SYS_futex, SYS_PTR(&h->handlers_up), FUTEX_WAKE_PRIVATE, 64);
}

/*
 * Nobody serves the control page any more, so nobody may wait on it. Once is not enough: a fault
 * that was under way may go to sleep after unregistering has woken the sleepers (seen on 6.18).
 */
static void last_out(struct inject_heap *h)
{
	const struct timespec nap = {.tv_nsec = 1000000};

	uffd_unregister(h->uffd, h->control_page, PAGE);
	while (!atomic_load(&h->stopped)) {
		uffd_wake(h->uffd, h->control_page, PAGE);
		sys_call2(SYS_nanosleep, SYS_PTR(&nap), 0);
	}
}

/*
 * What goes on without anybody's fault: members of lost donors are made anew, slabs are moved. It
 * sleeps on its connections while it copies, else where inject_close() can wake it.
 */
static void maintain_loop(struct inject_heap *h)
{
	while (!atomic_load(&h->maintain_stop)) {
		uint64_t ns = ps_maintain(h->volume, clock_ns());
		struct timespec t = {.tv_sec = (time_t)(ns / NSEC_PER_SEC),
				     .tv_nsec = (long)(ns % NSEC_PER_SEC)};

		donor_file_look(h);
		if (ps_maintain_busy(h->volume))
			ps_maintain_wait(h->volume, ns);
		else if (ns)
			sys_call4(SYS_futex, SYS_PTR(&h->maintain_stop), FUTEX_WAIT_PRIVATE, 0,
				  SYS_PTR(&t));
	}
}

static void *pthread_maintainer(void *arg)
{
	sys_call5(SYS_prctl, PR_SET_NAME, SYS_PTR("infuse-maintain"), 0, 0, 0);
	maintain_loop(arg);
	return NULL;
}

static void *pthread_handler(void *arg)
{
	struct handler_seat *seat = arg;

	atomic_store(&seat->core, pin_to_core(seat->index));
	started(seat->heap, 0);
	handler_loop(seat->heap, seat->index);
	if (atomic_fetch_sub(&seat->heap->handlers_up, 1) == 1)
		last_out(seat->heap);
	return NULL;
}

static void close_between(int above, int below)
{
	if (below - above > 1)
		sys_call3(SYS_close_range, above + 1, below - 1, 0);
}

/*
 * Keeps standard error (a lost donor must be told), the device, and what a forked child was given;
 * everything else is closed.
 */
static void own_descriptors(struct inject_heap *h)
{
	int keep[2] = {h->dev_fd, h->child ? ps_snapshot_carried(h->volume) : -1}, last = 2;
	int null = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR("/dev/null"), O_RDWR, 0);

	for (int fd = 0; fd < 2 && null >= 0; fd++)
		sys_call3(SYS_dup3, null, fd, 0);
	if (keep[0] > keep[1]) {
		int low = keep[1];

		keep[1] = keep[0];
		keep[0] = low;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (keep[i] <= last)
			continue;
		close_between(last, keep[i]);
		last = keep[i];
	}
	sys_call3(SYS_close_range, last + 1, ~0u, 0);
}

static int raw_clone(struct inject_heap *h, unsigned index);

static int raw_handler(void *arg)
{
	struct handler_seat *seat = arg;
	struct inject_heap *h = seat->heap;
	uint64_t all = ~0ull;
	int r = 0;

	sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, SYS_PTR(&all), 0, 8);
	if (seat->index == h->ports) {
		sys_call5(SYS_prctl, PR_SET_NAME, SYS_PTR("infuse-maintain"), 0, 0, 0);
		maintain_loop(h);
		sys_call1(SYS_exit, 0);
	}
	sys_call5(SYS_prctl, PR_SET_NAME, SYS_PTR("infuse-fault"), 0, 0, 0);
	atomic_store(&seat->core, pin_to_core(seat->index));
	if (!seat->index) {
		own_descriptors(h);
		r = heap_attach(h, h->child);
		for (unsigned i = 1; !r && i <= h->ports; i++)
			r = raw_clone(h, i);
	}
	started(h, r);
	if (!r)
		handler_loop(h, seat->index);
	sys_call1(SYS_exit, 0);
	return 0;
}

static int raw_clone(struct inject_heap *h, unsigned index)
{
	unsigned char *top = h->stacks + (size_t)(index + 1) * STACK_BYTES;
	int flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

	/* The first gets a table of its own, which the others share. */
	if (index)
		flags |= CLONE_FILES;
	if (clone(raw_handler, top, flags, &h->seat[index]) < 0)
		return err_fail(-EAGAIN, "can't start a handler thread");
	return 0;
}

/* The creator only waits: the handlers use its TLS block until they are up. */
static int handlers_await(struct inject_heap *h)
{
	struct timespec limit = {.tv_sec = START_WAIT_S};

	for (;;) {
		uint32_t up = atomic_load(&h->handlers_up);

		if (up & START_FAILED)
			return err_fail(h->start_error, "%s", h->start_text);
		if (up == h->ports)
			return 0;
		if (sys_call4(SYS_futex, SYS_PTR(&h->handlers_up), FUTEX_WAIT_PRIVATE, up,
			      SYS_PTR(&limit)) == -ETIMEDOUT)
			return err_fail(-ETIMEDOUT, "handler threads did not start");
	}
}

static int start_raw(struct inject_heap *h)
{
	int r;

	if (!h->stacks)
		h->stacks = mem_map((size_t)(h->ports + 1) * STACK_BYTES);
	if (!h->stacks)
		return err_fail(-ENOMEM, "no memory for handler threads");
	r = raw_clone(h, 0);
	return r ? r : handlers_await(h);
}

static int start_pthreads(struct inject_heap *h)
{
	for (unsigned i = 0; i < h->ports; i++) {
		pthread_t t;
		int r = pthread_create(&t, NULL, pthread_handler, &h->seat[i]);

		if (r)
			return err_fail(-r, "can't start a handler thread: %s", strerror(r));
		h->threads[i] = t;
	}
	return handlers_await(h);
}

static int start_maintainer(struct inject_heap *h)
{
	pthread_t t;
	int r = pthread_create(&t, NULL, pthread_maintainer, h);

	if (r)
		return err_fail(-r, "can't start the maintenance's thread: %s", strerror(r));
	h->maintainer = t;
	return 0;
}

int handlers_start(struct inject_heap *h, bool child)
{
	uint64_t signals;
	int r;

	h->child = child;
	h->maintainer = 0;
	/* One thread came along. */
	if (child) {
		atomic_store(&h->first_thread, 0);
		atomic_store(&h->crowded, false);
	}
	atomic_store(&h->maintain_stop, 0);
	for (unsigned i = 0; i <= h->ports; i++)
		h->seat[i] = (struct handler_seat){.heap = h, .index = i, .core = -1};
	turn_begin(h);
	signals = signals_block();
	if (h->raw) {
		r = start_raw(h);
	} else {
		r = heap_attach(h, child);
		if (!r && h->mode == INJECT_MODE_HANDLER)
			r = start_pthreads(h);
		if (!r)
			r = start_maintainer(h);
	}
	signals_restore(signals);
	return r;
}

void handlers_stop(struct inject_heap *h)
{
	atomic_store(&h->maintain_stop, 1);
	sys_call3(SYS_futex, SYS_PTR(&h->maintain_stop), FUTEX_WAKE_PRIVATE, 1);
	if (h->maintainer)
		pthread_join(h->maintainer, NULL);
	if (h->mode != INJECT_MODE_HANDLER)
		return;
	atomic_store(&h->stopping, true);
	turn_end(h);
	for (unsigned i = 0; i < h->ports && h->threads[i]; i++) {
		/* Each touch is a message for one that still reads. */
		(void)*(volatile unsigned char *)h->control_page;
		sys_call3(SYS_madvise, SYS_PTR(h->control_page), PAGE, 4 /* MADV_DONTNEED */);
	}
	atomic_store(&h->stopped, true);
	for (unsigned i = 0; i < h->ports && h->threads[i]; i++)
		pthread_join(h->threads[i], NULL);
}
