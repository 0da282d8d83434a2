/* SPDX-License-Identifier: MIT */
/* See device.h. */
#include "nbdkit-rswap/device.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "nbdkit-rswap/lane.h"
#include "nbdkit-rswap/ranges.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define PAGE    PS_PAGE_SIZE
#define ZEROS   ((size_t)PS_BATCH_PAGES * PAGE)
#define LOOK_NS (100 * NSEC_PER_MSEC) /* the maintenance is told to end by a flag */

struct device {
	uint64_t bytes;
	struct ps_volume *volume;
	struct ranges ranges;
	pthread_t maintenance;
	bool started, stop;
	bool kept;       /* zeros are written: the next writer must see them */
	unsigned char *zeros; /* then: a batch of them */
	void (*changed)(const struct ps_health *h);
	unsigned lanes;
	struct lane lane[DEVICE_MAX_PORTS];
};

static int open_volume(struct device *d, const struct device_options *o)
{
	const struct ps_options po = {
		.name = o->name,
		.pages = (o->bytes - 1) / PAGE + 1,
		.donors = o->donors,
		.donors_count = o->donors_count,
		.ports = o->ports,
		.depth = LANE_DEPTH,
		.deadline_ns = o->deadline_ns,
		.suspect_ns = o->suspect_ns,
		.replicas = o->replicas,
		.code_data = o->code_data,
		.code_parity = o->code_parity,
		.spill = o->spill,
		.spill_bytes = o->spill_bytes,
		.key_file = o->key_file,
		.seal = o->seal,
		.transient = !o->borrower,
		.borrower = o->borrower,
		.epoch = o->epoch,
		.keep = o->borrower,
		.publishes = o->borrower,
		.lenient = o->borrower,
	};
	int r = ps_open(&po, &d->volume);

	d->kept = o->borrower;
	if (!r && d->kept && !(d->zeros = mem_map(ZEROS)))
		r = err_fail(-ENOMEM, "no memory for a device");
	if (!r && o->opened)
		r = o->opened(d->volume, o->arg);
	return r ? r : ps_reserve(d->volume, 0, po.pages);
}

int device_open(const struct device_options *o, struct device **ret)
{
	struct device *d;
	int r;

	if (!o->bytes)
		return err_fail(-EINVAL, "a device of no bytes is none");
	if (!o->ports || o->ports > DEVICE_MAX_PORTS)
		return err_fail(-EINVAL, "%u ports are not between 1 and %u", o->ports,
				DEVICE_MAX_PORTS);
	d = mem_map(sizeof *d);
	if (!d)
		return err_fail(-ENOMEM, "no memory for a device");
	d->bytes = o->bytes;
	ranges_init(&d->ranges);
	r = open_volume(d, o);
	for (; !r && d->lanes < o->ports; d->lanes++)
		r = lane_open(&d->lane[d->lanes], ps_port(d->volume, d->lanes), o->spin_ns);
	if (r) {
		device_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

/* --- maintenance --- */

static void *maintain(void *arg)
{
	struct device *d = arg;
	uint64_t seen = ps_where_changes(d->volume);

	while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE)) {
		uint64_t rest = ps_maintain(d->volume, clock_ns());
		uint64_t changes = ps_where_changes(d->volume);

		if (changes != seen && d->changed) {
			struct ps_health h;

			ps_health(d->volume, &h);
			d->changed(&h);
		}
		seen = changes;
		if (rest)
			ps_maintain_wait(d->volume, rest < LOOK_NS ? rest : LOOK_NS);
	}
	return NULL;
}

int device_start(struct device *d, void (*changed)(const struct ps_health *h))
{
	sigset_t all, before;
	int r;

	d->changed = changed;
	/* Signals are the other threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&d->maintenance, NULL, maintain, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_fail(-r, "can't start the maintenance: %s", strerror(r));
	d->started = true;
	return 0;
}

void device_close(struct device *d)
{
	if (!d)
		return;
	__atomic_store_n(&d->stop, true, __ATOMIC_RELEASE);
	if (d->started)
		pthread_join(d->maintenance, NULL);
	for (unsigned i = 0; i < d->lanes; i++)
		lane_close(&d->lane[i]);
	ps_close(d->volume);
	mem_unmap(d->zeros, ZEROS);
	mem_unmap(d, sizeof *d);
}

/* The first lane that is free, so that few requests use few connections; else the emptiest. */
static struct lane *pick_lane(struct device *d)
{
	struct lane *best = NULL;
	uint32_t least = UINT32_MAX;

	for (unsigned i = 0; i < d->lanes && least; i++) {
		uint32_t load = __atomic_load_n(&d->lane[i].load, __ATOMIC_RELAXED);

		if (load < least) {
			best = &d->lane[i];
			least = load;
		}
	}
	return best;
}

static int run(struct device *d, enum ps_kind kind, uint64_t page, uint32_t count, void *buf)
{
	struct lane_op op = {.kind = kind, .page = page, .count = count, .buf = buf};

	lane_run(pick_lane(d), &op);
	if (!op.status)
		return 0;
	return err_fail(op.status, "page %llu can't be %s: donor %s: %s",
			(unsigned long long)op.failed, kind == PS_READ ? "read" : "written",
			ps_donor_name(d->volume, op.donor), strerrordesc_np(-op.status));
}

/* Part of a page: read into buf, or written from it; written without one it becomes zeros. */
static int run_part(struct device *d, enum ps_kind kind, uint64_t page, unsigned at, unsigned len,
		    void *buf)
{
	_Alignas(64) unsigned char whole[PAGE];
	int r = run(d, PS_READ, page, 1, whole);

	if (r)
		return r;
	if (kind == PS_READ) {
		memcpy(buf, whole + at, len);
		return 0;
	}
	if (buf)
		memcpy(whole + at, buf, len);
	else
		memset(whole + at, 0, len);
	return run(d, PS_WRITE, page, 1, whole);
}

static void own(struct device *d, struct range *r, uint64_t len, uint64_t at)
{
	assert(len && len <= d->bytes && at <= d->bytes - len);
	range_take(&d->ranges, r, at / PAGE, (at + len - 1) / PAGE);
}

/* How much of a request is dealt with next: a part of a page, or a run of whole ones. */
static uint64_t step(uint64_t len, uint64_t at)
{
	const uint64_t most = (uint64_t)PS_BATCH_PAGES * PAGE;
	uint64_t to_border = PAGE - at % PAGE;

	if (at % PAGE || len < PAGE)
		return len < to_border ? len : to_border;
	return len < most ? len / PAGE * PAGE : most;
}

static int transfer(struct device *d, enum ps_kind kind, unsigned char *p, uint64_t len,
		    uint64_t at)
{
	struct range range;
	int r = 0;

	if (!len)
		return 0;
	own(d, &range, len, at);
	for (uint64_t n; len && !r; len -= n, at += n, p += n) {
		n = step(len, at);
		if (n % PAGE)
			r = run_part(d, kind, at / PAGE, at % PAGE, (unsigned)n, p);
		else
			r = run(d, kind, at / PAGE, (uint32_t)(n / PAGE), p);
	}
	range_drop(&d->ranges, &range);
	return r;
}

int device_read(struct device *d, void *buf, uint64_t len, uint64_t at)
{
	return transfer(d, PS_READ, buf, len, at);
}

int device_write(struct device *d, const void *buf, uint64_t len, uint64_t at)
{
	/* The page store reads from it only. */
	return transfer(d, PS_WRITE, (unsigned char *)(uintptr_t)buf, len, at);
}

int device_zero(struct device *d, uint64_t len, uint64_t at)
{
	struct range range;
	int r = 0;

	if (!len)
		return 0;
	own(d, &range, len, at);
	for (uint64_t n; len && !r; len -= n, at += n) {
		n = at % PAGE || d->kept ? step(len, at) : len / PAGE * PAGE;
		if (!n)
			n = len;
		if (n % PAGE)
			r = run_part(d, PS_WRITE, at / PAGE, at % PAGE, (unsigned)n, NULL);
		else if (d->kept)
			r = run(d, PS_WRITE, at / PAGE, (uint32_t)(n / PAGE), d->zeros);
		else
			ps_discard(d->volume, at / PAGE, n / PAGE);
	}
	range_drop(&d->ranges, &range);
	return r;
}

void device_trim(struct device *d, uint64_t len, uint64_t at)
{
	uint64_t first = (at + PAGE - 1) / PAGE, end = (at + len) / PAGE;
	struct range range;

	/* The rest of the last page is nobody's. */
	if (at + len == d->bytes)
		end = (d->bytes - 1) / PAGE + 1;
	/* The next writer would find the old bytes, which is allowed, but surprises. */
	if (!len || first >= end || d->kept)
		return;
	range_take(&d->ranges, &range, first, end - 1);
	ps_discard(d->volume, first, end - first);
	range_drop(&d->ranges, &range);
}

uint64_t device_run(const struct device *d, uint64_t len, uint64_t at, bool *zeros)
{
	uint64_t page = at / PAGE, last = (at + len - 1) / PAGE, end;

	*zeros = !ps_page_hash(d->volume, page);
	do
		page++;
	while (page <= last && !ps_page_hash(d->volume, page) == *zeros);
	end = page * PAGE;
	return end - at < len ? end - at : len;
}

int device_update_donors(struct device *d, const char *const *addresses, unsigned count)
{
	return ps_update_donors(d->volume, addresses, count);
}

struct ps_volume *device_volume(struct device *d)
{
	return d->volume;
}

void device_counters(const struct device *d, struct ps_counters *ret)
{
	ps_counters(d->volume, ret);
}
