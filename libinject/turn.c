/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is to read the userfaultfd. A fault wakes all that wait in read(), on all their
 * cores, and all but one for nothing: each costs the faulting core an interrupt to send, and what
 * runs on the other cores (a donor's server, say) its cache. So while only one thread faults, only
 * the handler of its core reads and the others sleep; every so many faults the reader looks where the
 * thread has gone and hands over. Once several threads fault, all read: then it is worth more that
 * one's fault does not wait for another's.
 */
#include "libinject/heap.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>

#define EVERYBODY  UINT32_MAX
#define LOOK_EVERY 64u /* faults */
#define CORE_FIELD 39u /* of proc_pid_stat(5) */

static void wake(struct inject_heap *h)
{
	sys_call3(SYS_futex, SYS_PTR(&h->turn), FUTEX_WAKE_PRIVATE, INT_MAX);
}

/* From the one whose turn it is; not if it is everybody's by now, for that is for good. */
static void hand_over(struct inject_heap *h, uint32_t from, uint32_t to)
{
	if (atomic_compare_exchange_strong(&h->turn, &from, to))
		wake(h);
}

void turn_begin(struct inject_heap *h)
{
	for (unsigned i = 0; i < h->ports; i++)
		h->seat[i].look_in = 1;
	atomic_store(&h->turn, h->ports == 1 ? EVERYBODY : 0);
}

void turn_end(struct inject_heap *h)
{
	if (atomic_exchange(&h->turn, EVERYBODY) != EVERYBODY)
		wake(h);
}

void turn_await(struct inject_heap *h, unsigned index)
{
	uint32_t turn;

	while ((turn = atomic_load(&h->turn)) != index && turn != EVERYBODY)
		sys_call4(SYS_futex, SYS_PTR(&h->turn), FUTEX_WAIT_PRIVATE, turn, 0);
}

/* Without libc: a raw handler has no TLS block of its own. */
static long stat_read(uint32_t thread, char *text, long bytes)
{
	char path[40] = "/proc/self/task/", digits[10], *at = path + 16;
	unsigned n = 0;
	long fd, got;

	do
		digits[n++] = (char)('0' + thread % 10);
	while (thread /= 10);
	while (n)
		*at++ = digits[--n];
	for (const char *end = "/stat"; *end; end++)
		*at++ = *end;
	*at = 0;
	fd = sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(path), O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	got = sys_call3(SYS_read, fd, SYS_PTR(text), bytes);
	sys_call1(SYS_close, fd);
	return got;
}

/* The core that a thread runs on, or ran on last; -1: not known. */
static int thread_core(uint32_t thread)
{
	char text[1024];
	long n = stat_read(thread, text, sizeof text), at;
	unsigned field = 2;
	int core = -1;

	/* The second field, a name in brackets, may have anything in it. */
	for (at = n - 1; at >= 0 && text[at] != ')'; at--)
		;
	for (at++; at < n && at > 0 && field <= CORE_FIELD; at++) {
		if (text[at] == ' ')
			field++;
		else if (field == CORE_FIELD && text[at] >= '0' && text[at] <= '9' && core < INT_MAX / 16)
			core = (core < 0 ? 0 : core) * 10 + text[at] - '0';
	}
	return core;
}

void turn_served(struct inject_heap *h, unsigned index, uint32_t thread)
{
	struct handler_seat *s = &h->seat[index];
	int core;

	if (atomic_load_explicit(&h->turn, memory_order_relaxed) == EVERYBODY || --s->look_in)
		return;
	s->look_in = LOOK_EVERY;
	core = atomic_load_explicit(&h->crowded, memory_order_relaxed) ? -1 : thread_core(thread);
	if (core < 0)
		turn_end(h);
	if (core < 0 || atomic_load(&s->core) == core)
		return;
	for (unsigned i = 0; i < h->ports; i++)
		if (atomic_load(&h->seat[i].core) == core) {
			h->seat[i].look_in = LOOK_EVERY;
			hand_over(h, index, i);
			return;
		}
}
