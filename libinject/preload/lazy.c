/* SPDX-License-Identifier: MIT */
/*
 * The process's one heap. Most programs in a shell pipeline are small: the heap, its connections
 * and its threads come to be only when something asks for memory that shall be in it, which is
 * usually inside malloc or mmap, with the caller's locks held. So all signals are blocked
 * meanwhile, and requests that opening itself makes are plain.
 */
#include "libinject/preload/preload.h"

#include "common/error.h"
#include "common/sys.h"
#include "libinject/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

static struct inject_heap *_Atomic heap;
static struct lock lock;
static uint64_t lock_signals; /* the holder's */
static _Atomic int opener;    /* the thread that is opening the heap */
static _Atomic int owner;
static _Atomic uint64_t plain_used, heap_used, heap_peak;
static _Atomic bool full_said;

void lazy_lock(void)
{
	uint64_t signals = signals_block();

	lock_take(&lock);
	lock_signals = signals;
}

void lazy_unlock(void)
{
	uint64_t signals = lock_signals;

	lock_drop(&lock);
	signals_restore(signals);
}

void lazy_child(void)
{
	atomic_store(&owner, (int)sys_call0(SYS_getpid));
	atomic_store(&full_said, false);
}

struct inject_heap *lazy_peek(void)
{
	return atomic_load_explicit(&heap, memory_order_acquire);
}

bool lazy_contains(const void *p)
{
	struct inject_heap *h = lazy_peek();

	return h && heap_contains(h, p);
}

int lazy_owner(void)
{
	return atomic_load(&owner);
}

/*
 * A daemon may have closed 0, 1 or 2; a connection that got such a number would be written to by
 * whoever prints. Returns which were filled, as bits.
 */
static unsigned fill_standard(void)
{
	unsigned filled = 0;

	for (int fd = 0; fd <= 2; fd++) {
		if (sys_call2(SYS_fcntl, fd, F_GETFD) != -EBADF)
			continue;
		if (sys_call4(SYS_openat, AT_FDCWD, SYS_PTR("/dev/null"), O_RDWR, 0) == fd)
			filled |= 1u << fd;
	}
	return filled;
}

static void open_heap(void)
{
	const struct settings *s = settings_get();
	struct inject_options o = {.size = sizeof o, .mode = INJECT_MODE_HANDLER};
	struct inject_heap *h = NULL;
	unsigned filled;
	int r;

	if (!s)
		return;
	o.donors = s->donors_count ? s->donors : NULL;
	o.donors_count = s->donors_count;
	o.heap_bytes = s->heap_bytes;
	o.local_bytes = s->local_bytes;
	o.local_percent = s->local_percent;
	o.prefetch = s->prefetch;
	o.replicas = s->replicas;
	o.code_data = s->code_data;
	o.code_parity = s->code_parity;
	o.spill = s->spill;
	o.spill_bytes = s->spill_bytes;
	o.seal = s->seal;
	o.key_file = s->key_file;
	o.tls_ca = s->tls_ca;
	o.tls_cert = s->tls_cert;
	o.tls_cert_key = s->tls_cert_key;

	atomic_store(&opener, (int)sys_call0(SYS_gettid));
	filled = fill_standard();
	r = settings_wrong() ? err_fail(-EINVAL, "%s", settings_wrong())
			     : heap_open(&o, HEAP_RAW_HANDLERS | HEAP_OWN_FORK_HOOKS, &h);
	for (int fd = 0; fd <= 2; fd++)
		if (filled & 1u << fd)
			sys_call1(SYS_close, fd);
	if (r) {
		report_line("the heap can't be opened: %s", err_text());
		for (;;)
			sys_call1(SYS_exit_group, EXIT_NO_HEAP);
	}
	if (s->donor_file)
		heap_donor_file(h, s->donor_file);
	atomic_store(&owner, (int)sys_call0(SYS_getpid));
	atomic_store(&opener, 0);
	atomic_store_explicit(&heap, h, memory_order_release);
}

/* True in the thread that is opening the heap right now: what it needs for that stays plain. */
static bool opening(void)
{
	int tid = atomic_load(&opener);

	return tid && tid == (int)sys_call0(SYS_gettid);
}

static struct inject_heap *get_heap(void)
{
	struct inject_heap *h = lazy_peek();

	if (h)
		return h;
	if (opening())
		return NULL;
	lazy_lock();
	if (!lazy_peek())
		open_heap();
	lazy_unlock();
	return lazy_peek();
}

static void say_full(int error)
{
	if (!atomic_exchange(&full_said, true))
		report_line("%s: %s",
			    error == -ENOSPC ? "donors are full" : "a request for memory failed",
			    err_text());
}

static void count_more(uint64_t bytes)
{
	uint64_t now = atomic_fetch_add(&heap_used, bytes) + bytes, peak = atomic_load(&heap_peak);

	while (now > peak && !atomic_compare_exchange_weak(&heap_peak, &peak, now))
		;
}

static void *alloc(size_t bytes, size_t align, bool say)
{
	struct inject_heap *h = get_heap();
	void *p;
	int r;

	if (!h)
		return NULL;
	r = range_alloc(h, bytes, align, &p);
	if (r) {
		if (say)
			say_full(r);
		return NULL;
	}
	count_more(PAGE_UP(bytes));
	return p;
}

void *lazy_alloc(size_t bytes, size_t align)
{
	return alloc(bytes, align, true);
}

void *lazy_try(size_t bytes)
{
	return alloc(bytes, PAGE, false);
}

bool lazy_grow(void *p, size_t old_bytes, size_t new_bytes)
{
	if (range_grow(lazy_peek(), p, old_bytes, new_bytes))
		return false;
	count_more(PAGE_UP(new_bytes) - PAGE_UP(old_bytes));
	return true;
}

int lazy_free(void *p, size_t bytes)
{
	int r = range_free(lazy_peek(), p, bytes);

	if (!r)
		atomic_fetch_sub(&heap_used, PAGE_UP(bytes));
	return r;
}

bool lazy_plain(size_t bytes)
{
	const struct settings *s = settings_get();
	uint64_t used;

	if (!s)
		return true;
	if (opening())
		return true;
	used = atomic_fetch_add(&plain_used, bytes);
	if (used + bytes <= s->plain_bytes)
		return true;
	atomic_fetch_sub(&plain_used, bytes);
	return false;
}

void lazy_plain_back(size_t bytes)
{
	uint64_t used = atomic_load(&plain_used);

	/* What was taken before the settings were known was not counted. */
	while (!atomic_compare_exchange_weak(&plain_used, &used, used > bytes ? used - bytes : 0))
		;
}

uint64_t lazy_peak(void)
{
	return atomic_load(&heap_peak);
}
