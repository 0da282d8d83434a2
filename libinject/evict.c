/* SPDX-License-Identifier: MIT */
/*
 * Evictions. Pages that were write-protected since they came are dropped, many in one call. Any
 * other is taken out atomically, so that no write can be missed: moved out (UFFDIO_MOVE), or
 * write-protected, copied and dropped where moving can't be done (after a fork) or does not pay
 * (single pages while several threads run). Its bytes wait in a staging tray: clean ones (same hash
 * as the stored page) are forgotten at once, dirty ones are written back a tray at a time while the
 * next faults go on, and a fault finds them there.
 */
#include "libinject/page.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define MOVE_RUN 8u /* from so many neighbours on, moving wins also with several threads */

#define WRITTEN  96  /* of 255: from here on an area counts as written */

/* Victims of one round and how each went. */
struct round {
	uint32_t page[TRAY_FRAMES];
	int8_t taken[TRAY_FRAMES]; /* 1: in its frame; 0: gone (a hole); -1: can't be taken */
	bool mapped[TRAY_FRAMES];  /* copied: still to be dropped */
	unsigned count;
	unsigned frame; /* of the first */
	uint32_t protected[TRAY_FRAMES];
	unsigned protected_count;
};

bool area_is_written(const struct inject_heap *h, uint32_t page)
{
	return atomic_load_explicit(&h->writes[page >> AREA_SHIFT], memory_order_relaxed) >= WRITTEN;
}

void area_count(struct inject_heap *h, uint32_t page, int written)
{
	_Atomic uint8_t *at = &h->writes[page >> AREA_SHIFT];
	int old = atomic_load_explicit(at, memory_order_relaxed), now = old + written;

	/* Lost updates are harmless. */
	now = now < 0 ? 0 : now > 255 ? 255 : now;
	if (now != old)
		atomic_store_explicit(at, (uint8_t)now, memory_order_relaxed);
}

/*
 * While several threads run, each page that is taken out unprotected interrupts the other cores,
 * which costs more than a second fault: then only second faults speak against protecting, and each
 * of them louder.
 */
void area_count_writable(struct inject_heap *h, uint32_t page, int written)
{
	if (!atomic_load_explicit(&h->crowded, memory_order_relaxed))
		area_count(h, page, written);
}

void area_count_second(struct inject_heap *h, uint32_t page)
{
	area_count(h, page, atomic_load_explicit(&h->crowded, memory_order_relaxed) ? 64 : 24);
}

/* A local page whose bytes may go; *word is what it was. */
static bool victim_claim(struct inject_heap *h, uint32_t page, uint32_t *word)
{
	*word = page_load(h, page);
	if (page_state(*word) != PG_LOCAL || *word & PG_WRITING ||
	    __atomic_load_n(&h->pins[page], __ATOMIC_SEQ_CST))
		return false;
	if (!page_claim(h, page, *word, page_word(PG_TAKING, *word & PG_KEEP, 0)))
		return false;
	/* A pin that came in between saw a local page and relies on it. */
	if (!__atomic_load_n(&h->pins[page], __ATOMIC_SEQ_CST))
		return true;
	page_become(h, page, PG_LOCAL, *word & PG_PROT, 0);
	return false;
}

static void insert_sorted(uint32_t *list, unsigned *count, uint32_t page)
{
	unsigned at = (*count)++;

	for (; at && list[at - 1] > page; at--)
		list[at] = list[at - 1];
	list[at] = page;
}

/* Claims up to `most` victims, sorted by address. */
static void victims_claim(struct inject_heap *h, struct round *v, unsigned most)
{
	int64_t looks = 2 * atomic_load_explicit(&h->cache.resident, memory_order_relaxed) + 64;
	uint32_t page[TRAY_FRAMES], word;

	v->count = v->protected_count = 0;
	while (v->count + v->protected_count < most && looks > 0) {
		unsigned n = residency_pick(&h->res, page, most - v->count - v->protected_count);

		if (!n)
			break;
		looks -= n;
		for (unsigned i = 0; i < n; i++) {
			if (victim_claim(h, page[i], &word)) {
				if (word & PG_PROT)
					insert_sorted(v->protected, &v->protected_count, page[i]);
				else
					insert_sorted(v->page, &v->count, page[i]);
			} else if (page_state(word) == PG_LOCAL || page_state(word) == PG_TAKING) {
				/* Taken: for a moment only, by a first write to it. */
				residency_add(&h->res, &page[i], 1, RESIDENCY_KEPT);
			}
		}
	}
}

/* Write-protects and copies; the page is dropped later, many at a time. */
static int take_by_copy(struct port *p, struct round *v, unsigned i)
{
	struct inject_heap *h = p->heap;
	unsigned char *from = page_address(h, v->page[i]);
	size_t done;
	int r = uffd_protect(h->uffd, from, PAGE, true);

	if (!r)
		r = uffd_copy(h->uffd, frame_address(p, v->frame + i), from, PAGE, &done);
	if (r) {
		uffd_protect(h->uffd, from, PAGE, false);
		return -1;
	}
	v->mapped[i] = true;
	return 1;
}

/* Takes the run [first, first + count) of neighbours out. */
static void take_run(struct port *p, struct round *v, unsigned first, unsigned count)
{
	struct inject_heap *h = p->heap;
	bool move = h->caps.move && (count >= MOVE_RUN || !atomic_load_explicit(
								  &h->crowded, memory_order_relaxed));

	for (unsigned i = first; i < first + count;) {
		size_t done = 0;
		int r = -EINVAL;

		if (move)
			r = uffd_move_out(h->uffd, frame_address(p, v->frame + i),
				      page_address(h, v->page[i]), (first + count - i) * PAGE, &done);
		for (size_t k = 0; k < done / PAGE; k++)
			v->taken[i++] = 1;
		if (i == first + count)
			break;
		if (r == -ENOENT)
			v->taken[i] = 0;
		else if (r == -EBUSY && !h->forked)
			v->taken[i] = -1; /* pinned by the kernel, for I/O that is under way */
		else
			v->taken[i] = (int8_t)take_by_copy(p, v, i);
		i++;
	}
}

/* Pages that nobody needs mapped, of a sorted list. */
static void pages_drop(struct inject_heap *h, const uint32_t *page, unsigned count)
{
	struct iovec iov[TRAY_FRAMES];
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		struct iovec *last = n ? &iov[n - 1] : NULL;
		unsigned char *at = page_address(h, page[i]);

		if (last && (unsigned char *)last->iov_base + last->iov_len == at)
			last->iov_len += PAGE;
		else
			iov[n++] = (struct iovec){at, PAGE};
	}
	/* One interrupt of the other cores for all of them (on oneself: Linux 6.13). */
	if (n > 1 && h->self_fd >= 0 &&
	    sys_call5(SYS_process_madvise, h->self_fd, SYS_PTR(iov), n, MADV_DONTNEED, 0) ==
		    (long)(count * PAGE))
		return;
	for (unsigned i = 0; i < n; i++)
		sys_call3(SYS_madvise, SYS_PTR(iov[i].iov_base), (long)iov[i].iov_len, MADV_DONTNEED);
}

static void drop_copied(struct inject_heap *h, const struct round *v)
{
	uint32_t page[TRAY_FRAMES];
	unsigned n = 0;

	for (unsigned i = 0; i < v->count; i++)
		if (v->mapped[i])
			page[n++] = v->page[i];
	if (n)
		pages_drop(h, page, n);
}

/* Nobody can have written to them: a write would have waited for us. */
static void drop_protected(struct port *p, const struct round *v)
{
	struct inject_heap *h = p->heap;
	unsigned n = v->protected_count;

	if (!n)
		return;
	pages_drop(h, v->protected, n);
	atomic_fetch_sub(&h->cache.resident, n);
	for (unsigned i = 0; i < n; i++) {
		page_become(h, v->protected[i], PG_ABSENT, 0, 0);
		area_count(h, v->protected[i], -8);
	}
	COUNT(p, pages_clean, n);
}

static bool is_clean(const struct inject_heap *h, uint32_t page, const void *bytes, uint64_t *hash)
{
	uint64_t stored = ps_page_hash(h->volume, page);

	*hash = 0;
	if (!stored)
		return ps_page_is_zero(bytes);
	*hash = ps_hash(bytes);
	return *hash == stored;
}

/* The bytes are out: forget what is clean, collect what is dirty. */
static void round_settle(struct port *p, const struct round *v)
{
	struct inject_heap *h = p->heap;
	struct op *op = p->out;

	for (unsigned i = 0; i < v->count; i++) {
		unsigned frame = v->frame + i;
		uint32_t page = v->page[i];
		uint64_t hash;

		if (v->taken[i] < 0) {
			page_become(h, page, PG_LOCAL, 0, 0);
			residency_add(&h->res, &page, 1, RESIDENCY_KEPT);
			frame_put(p, frame, false);
			continue;
		}
		atomic_fetch_sub(&h->cache.resident, 1);
		if (!v->taken[i]) {
			/* Nothing was mapped: the program dropped it by a raw system call. */
			ps_discard(h->volume, page, 1);
			page_become(h, page, PG_ABSENT, 0, 0);
			frame_put(p, frame, false);
		} else if (is_clean(h, page, frame_address(p, frame), &hash)) {
			page_become(h, page, PG_ABSENT, 0, 0);
			frame_put(p, frame, true);
			area_count(h, page, -8);
			COUNT(p, pages_clean, 1);
		} else {
			unsigned at = op->count++;

			area_count_writable(h, page, 6);
			op->page[at] = page;
			op->frame[at] = (uint16_t)frame;
			op->hash[at] = hash ? hash : ps_hash(frame_address(p, frame));
			p->frame_op[frame] = (uint32_t)(op - p->ops) * TRAY_FRAMES + at;
			page_become(h, page, PG_STAGED, 0, p->index * PORT_FRAMES + frame);
		}
	}
}

static bool out_open(struct port *p)
{
	int tray;

	if (p->out)
		return true;
	tray = frames_take_out_tray(p);
	if (tray < 0)
		return false;
	p->out = op_get(p);
	if (!p->out) {
		for (unsigned f = 0; f < TRAY_FRAMES; f++)
			frame_put(p, (unsigned)tray * TRAY_FRAMES + f, false);
		return false;
	}
	p->out->kind = OP_OUT;
	p->out_tray = (unsigned)tray;
	p->out_next = 0;
	return true;
}

/* Write-backs this long are worth a message; small caches can't wait for so many. */
static unsigned out_batch(const struct inject_heap *h)
{
	int64_t n = atomic_load_explicit(&h->cache.limit, memory_order_relaxed) / 16;

	return n < 1 ? 1 : n > 32 ? 32 : (unsigned)n;
}

unsigned evict(struct port *p, unsigned most, uint64_t now)
{
	struct inject_heap *h = p->heap;
	struct round v;
	unsigned taken;

	/* A tray with little room left would make small batches of pages that need none. */
	if (p->out && most > TRAY_FRAMES - p->out_next && p->out_next > TRAY_FRAMES / 2)
		out_flush(p, now);
	if (!out_open(p))
		return 0;
	if (most > TRAY_FRAMES - p->out_next)
		most = TRAY_FRAMES - p->out_next;
	port_queue_fresh(p);
	victims_claim(h, &v, most);
	drop_protected(p, &v);
	v.frame = p->out_tray * TRAY_FRAMES + p->out_next;
	for (unsigned i = 0; i < v.count; i++)
		v.mapped[i] = false;
	for (unsigned i = 0; i < v.count;) {
		unsigned n = 1;

		while (i + n < v.count && v.page[i + n] == v.page[i] + n)
			n++;
		take_run(p, &v, i, n);
		i += n;
	}
	drop_copied(h, &v);
	round_settle(p, &v);
	taken = v.protected_count;
	for (unsigned i = 0; i < v.count; i++)
		taken += v.taken[i] >= 0;
	p->out_next += v.count;
	if (p->out->count >= out_batch(h) || p->out_next == TRAY_FRAMES)
		out_flush(p, now);
	return taken;
}

bool out_forget(struct port *p, uint32_t page)
{
	uint32_t word = page_load(p->heap, page), item;
	unsigned frame = page_where(word) % PORT_FRAMES;
	struct op *op;

	item = p->frame_op[frame];
	op = &p->ops[item / TRAY_FRAMES];
	if (op != p->out)
		return false;
	assert(op->page[item % TRAY_FRAMES] == page);
	op->page[item % TRAY_FRAMES] = NO_PAGE;
	frame_put(p, frame, true);
	return true;
}
