/* SPDX-License-Identifier: MIT */
/*
 * fork. Heaps are MADV_DONTFORK, so a child made behind our back (a raw clone) dies at its first
 * touch instead of reading zeros. Around a fork through libc everything in flight is brought to an
 * end, donors clone the slabs, and for that moment the area is inherited: the child finds local
 * pages by the kernel's copy-on-write and remote ones in the clones, through a userfaultfd,
 * connections and handlers of its own. After that pages that are shared between both can't be
 * moved any more (EBUSY), only copied out: heap->forked.
 */
#include "libinject/fork.h"
#include "libinject/page.h"
#include "libinject/runtime.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Guarded by the first open heap's control lock, which prepare keeps until parent or child. */
static uint64_t fork_signals;
static bool fork_blocked;

static void port_drain(struct port *p)
{
	uint64_t start = clock_ns(), now = start;

	out_flush(p, now);
	while (p->in_flight && now - start < 2 * p->heap->deadline_ns) {
		if (!port_poll(p, now))
			ps_wait(p->ps, NSEC_PER_MSEC);
		now = clock_ns();
	}
	while (p->arrived)
		window_install(p, p->arrived);
}

int heap_quiesce(struct inject_heap *h)
{
	for (unsigned i = 0; i < h->ports; i++)
		lock_take(&h->port[i]->lock);
	for (unsigned i = 0; i < h->ports; i++) {
		port_drain(h->port[i]);
		if (h->port[i]->in_flight)
			return err_fail(-ETIMEDOUT, "requests did not end");
		if (h->port[i]->failed_status)
			return err_fail(h->port[i]->failed_status, "pages written back are lost");
	}
	return ps_snapshot(h->volume);
}

static void say(const char *text)
{
	sys_call3(SYS_write, 2, SYS_PTR(text), (long)strlen(text));
}

static void prepare_one(struct inject_heap *h)
{
	struct request rq = {.kind = REQ_QUIESCE};
	char line[512];
	int r;

	lock_take(&h->control);
	r = heap_call_locked(h, &rq);
	if (!r) {
		r = ps_snapshot_carry(h->volume);
		if (r)
			ps_snapshot_drop(h->volume, false);
	}
	h->snapshot = !r;
	if (!r) {
		sys_call3(SYS_madvise, SYS_PTR(h->base), (long)((size_t)h->pages * PAGE), MADV_DOFORK);
		return;
	}
	snprintf(line, sizeof line,
		 "infuse: heap '%s': no snapshot for a forked child, which will die if it touches "
		 "injected memory: %s\n",
		 h->name, err_text());
	say(line);
}

void fork_prepare(void)
{
	uint64_t signals = signals_block();
	bool any = false;

	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *h = atomic_load(&heap_table[i]);

		if (!h)
			continue;
		prepare_one(h);
		any = true;
	}
	if (any) {
		fork_signals = signals;
		fork_blocked = true;
	} else {
		signals_restore(signals);
	}
}

static void dont_fork(struct inject_heap *h)
{
	sys_call3(SYS_madvise, SYS_PTR(h->base), (long)((size_t)h->pages * PAGE), MADV_DONTFORK);
}

void fork_parent(void)
{
	uint64_t signals = fork_signals;
	bool blocked = fork_blocked;

	fork_blocked = false;
	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *h = atomic_load(&heap_table[i]);

		if (!h)
			continue;
		if (h->snapshot) {
			dont_fork(h);
			ps_snapshot_drop(h->volume, true);
			h->forked = true;
			h->snapshot = false;
		}
		for (unsigned k = h->ports; k-- > 0;)
			lock_drop(&h->port[k]->lock);
		lock_drop(&h->control);
	}
	if (blocked)
		signals_restore(signals);
}

/* The parent's handlers, locks and staging are not ours. */
static int child_one(struct inject_heap *h)
{
	uint32_t high = atomic_load(&h->high);
	int carried = ps_snapshot_carried(h->volume), r;

	dont_fork(h);
	h->forked = true;
	h->snapshot = false;
	h->unfollow = NULL; /* that thread is the parent's */
	/* Write protection is the parent's userfaultfd's. */
	for (uint32_t i = 0; i < high; i++)
		if (page_load(h, i) & PG_PROT)
			page_flag(h, i, 0, PG_PROT);
	for (unsigned i = 0; i < h->ports; i++) {
		struct port *p = h->port[i];

		atomic_store(&p->lock.word, 0);
		memset(p->tray, 0, sizeof p->tray);
		p->out = NULL;
		p->failed_status = 0;
	}
	atomic_store(&h->res.lock.word, 0);
	atomic_store(&h->ranges.lock.word, 0);
	atomic_store(&h->prefetch_lock.word, 0);
	atomic_store(&h->control.word, 0);
	atomic_store(&h->handlers_up, 0);
	r = handlers_start(h, true);
	/* The handlers have it in a table of their own. */
	if (h->raw && carried >= 0)
		sys_call1(SYS_close, carried);
	return r;
}

void fork_child(void)
{
	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *h = atomic_load(&heap_table[i]);
		char line[512];

		if (!h)
			continue;
		if (h->snapshot && !child_one(h))
			continue;
		if (h->snapshot || h->forked) {
			snprintf(line, sizeof line,
				 "infuse: heap '%s': a forked child can't go on with its memory: %s\n",
				 h->name, err_text());
			say(line);
		}
		/* Nothing else may be mapped there: who touches it dies. */
		sys_call6(SYS_mmap, SYS_PTR(h->base), (long)((size_t)h->pages * PAGE), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		atomic_store(&heap_table[i], NULL);
		h->dead = true;
	}
	if (fork_blocked) {
		fork_blocked = false;
		signals_restore(fork_signals);
	}
}
