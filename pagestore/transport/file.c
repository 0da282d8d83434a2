/* SPDX-License-Identifier: MIT */
/*
 * file: the spill file as a donor (file_store.h), reached by io_uring (file_ring.h). A connection
 * has its own ring, so threads don't meet. Slabs are granted by allocating their blocks and freed by
 * giving those back; there is no server, no wire and no word that could be wrong.
 *
 * A message has one run of pages here (max_segs is 1): an error of the disk is an error for those pages
 * and no others, and the connection lives on.
 */
#include "pagestore/transport/file_ring.h"
#include "pagestore/transport/file_store.h"
#include "pagestore/transport/transport.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/sys.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define POOL_PAGES 256u
#define MAX_PAGES  128u /* in one message */
#define ASKS       256u /* requests with the kernel */
#define WORKS      256u
#define TRIES      64u  /* of a request that the kernel gave back undone */
#define PUSH_NS    (200 * NSEC_PER_USEC)
#define CHUNK      32u
#define NONE       UINT16_MAX

/* A request with the kernel: a stretch of the file. */
struct ask {
	uint16_t next_free, work; /* work NONE: nobody waits for it */
	uint16_t page, pages;     /* in the pool */
	uint16_t tries;
	uint8_t kind;             /* enum file_io */
	uint64_t at, bytes, done;
	uint64_t slab;            /* ALLOCATE, PUNCH: which of the op's */
};

/* An op. */
struct work {
	struct tp_op *op;
	uint32_t next; /* GRANT, FREE: slabs that were begun */
	uint32_t out;  /* requests with the kernel */
	int status;
	uint16_t next_free;
	bool used, undo; /* undo: a GRANT that failed gives back what it got */
};

struct file {
	struct tp_conn base;
	struct file_store *store;
	struct file_ring *ring; /* NULL: not open */
	unsigned char borrower[16];
	bool unpushed;
	uint64_t free_page[POOL_PAGES / 64];
	unsigned pages_free, asks_free, works_free;
	uint16_t first_ask, first_work;
	struct ask ask[ASKS];
	struct work work[WORKS];
	struct tp_done done[WORKS]; /* a ring */
	uint32_t done_first, done_count;
};

static struct file *file_of(struct tp_conn *c)
{
	return (struct file *)(void *)c;
}

/* --- bookkeeping --- */

static void lists_reset(struct file *f)
{
	memset(f->free_page, 0xff, sizeof f->free_page);
	f->pages_free = POOL_PAGES;
	f->asks_free = ASKS;
	f->works_free = WORKS;
	f->first_ask = f->first_work = 0;
	for (uint16_t i = 0; i < ASKS; i++)
		f->ask[i] = (struct ask){.next_free = (uint16_t)(i + 1)};
	for (uint16_t i = 0; i < WORKS; i++)
		f->work[i] = (struct work){.next_free = (uint16_t)(i + 1)};
	f->done_first = f->done_count = 0;
	f->unpushed = false;
}

static uint16_t work_take(struct file *f, struct tp_op *op)
{
	uint16_t i = f->first_work;

	f->first_work = f->work[i].next_free;
	f->works_free--;
	f->work[i] = (struct work){.op = op, .used = true};
	return i;
}

static void work_give(struct file *f, uint16_t i)
{
	f->work[i] = (struct work){.next_free = f->first_work};
	f->first_work = i;
	f->works_free++;
}

/* Done ones wait in a ring; those under way and those are never more than WORKS. */
static void finish(struct file *f, uint64_t tag, int status)
{
	uint32_t wire = status == -ENOSPC ? WIRE_ENOSPC : 0;

	assert(f->done_count < WORKS);
	f->done[(f->done_first + f->done_count++) % WORKS] = (struct tp_done){tag, status, wire};
}

static bool has_room(const struct file *f)
{
	return f->works_free > f->done_count;
}

static bool is_free(const struct file *f, unsigned page)
{
	return f->free_page[page / 64] >> page % 64 & 1;
}

/* A run of free pages in the pool, as long as there is one up to most; there is a free page. */
static unsigned pool_take(struct file *f, unsigned most, unsigned *ret)
{
	unsigned first = 0, n = 0;

	while (!is_free(f, first))
		first++;
	while (n < most && first + n < POOL_PAGES && is_free(f, first + n)) {
		f->free_page[(first + n) / 64] &= ~(1ull << (first + n) % 64);
		n++;
	}
	f->pages_free -= n;
	*ret = first;
	return n;
}

static void ask_give(struct file *f, uint16_t i)
{
	struct ask *a = &f->ask[i];

	for (unsigned p = a->page; p < (unsigned)a->page + a->pages; p++)
		f->free_page[p / 64] |= 1ull << p % 64;
	f->pages_free += a->pages;
	*a = (struct ask){.next_free = f->first_ask};
	f->first_ask = i;
	f->asks_free++;
}

static void ask_start(struct file *f, uint16_t i)
{
	const struct ask *a = &f->ask[i];
	struct file_ask to = {.kind = (enum file_io)a->kind,
			      .fd = f->store->fd,
			      .at = a->at + a->done,
			      .bytes = a->bytes - a->done,
			      .tag = i};

	if (a->kind == FILE_READ || a->kind == FILE_WRITE)
		to.buf = file_ring_pool(f->ring) + (size_t)a->page * WIRE_PAGE_SIZE + a->done;
	file_ring_ask(f->ring, &to);
	f->unpushed = true;
}

static struct ask *ask_take(struct file *f, uint16_t work, enum file_io kind, uint16_t *ret)
{
	uint16_t i = f->first_ask;

	f->first_ask = f->ask[i].next_free;
	f->asks_free--;
	f->work[work].out++;
	f->ask[i] = (struct ask){.work = work, .kind = (uint8_t)kind};
	*ret = i;
	return &f->ask[i];
}

/* --- pages --- */

static int begin_pages(struct file *f, struct tp_op *op)
{
	const struct tp_seg *seg = op->seg;
	uint32_t unit = tp_unit(op->kind), most = f->store->slab_pages * (WIRE_PAGE_SIZE / unit);
	uint64_t bytes = (uint64_t)seg->pages * unit, at, left = bytes;
	unsigned need = (unsigned)((bytes + WIRE_PAGE_SIZE - 1) / WIRE_PAGE_SIZE);
	uint64_t slot = file_store_slot(f->store, seg->slab);
	const unsigned char *from = seg->buf;
	uint16_t w;

	if (op->count != 1 || !bytes || need > MAX_PAGES || slot == UINT64_MAX ||
	    seg->page >= most || seg->pages > most - seg->page || !file_ring_pool(f->ring)) {
		finish(f, op->tag, -EIO);
		return 0;
	}
	if (need > f->pages_free || need > f->asks_free)
		return -EAGAIN;
	at = slot * file_store_bytes(f->store) + (uint64_t)seg->page * unit;
	w = work_take(f, op);
	while (left) {
		unsigned page, n = pool_take(f, need, &page);
		uint64_t here = (uint64_t)n * WIRE_PAGE_SIZE < left ? (uint64_t)n * WIRE_PAGE_SIZE
								    : left;
		uint16_t i;
		struct ask *a = ask_take(f, w, tp_reads(op->kind) ? FILE_READ : FILE_WRITE, &i);

		a->page = (uint16_t)page;
		a->pages = (uint16_t)n;
		a->at = at + (bytes - left);
		a->bytes = here;
		a->slab = bytes - left; /* where in the op's memory */
		if (a->kind == FILE_WRITE)
			memcpy(file_ring_pool(f->ring) + (size_t)page * WIRE_PAGE_SIZE,
			       from + a->slab, here);
		ask_start(f, i);
		left -= here;
		need -= n;
	}
	return 0;
}

/* --- slabs --- */

/* The next requests of a GRANT (allocating, or undoing it) or a FREE. */
static void more_slabs(struct file *f, uint16_t w)
{
	struct work *k = &f->work[w];
	bool take = k->op->kind == TP_GRANT && !k->undo;

	while (k->next < k->op->count && f->asks_free && !(take && k->status)) {
		uint64_t slot = file_store_slot(f->store, k->op->slabs[k->next]);
		uint16_t i;
		struct ask *a;

		k->next++;
		if (slot == UINT64_MAX) {
			k->status = k->status ? k->status : -EIO;
			continue;
		}
		if (!take)
			file_store_revoke(f->store, slot);
		a = ask_take(f, w, take ? FILE_ALLOCATE : FILE_PUNCH, &i);
		a->at = slot * file_store_bytes(f->store);
		a->bytes = file_store_bytes(f->store);
		a->slab = slot;
		ask_start(f, i);
	}
}

/* Nothing of it is with the kernel: is it done? */
static void settle_slabs(struct file *f, uint16_t w)
{
	struct work *k = &f->work[w];

	if (k->op->kind == TP_GRANT && k->status && !k->undo) {
		k->undo = true;
		k->next = 0;
		more_slabs(f, w);
	}
	if (k->out)
		return;
	finish(f, k->op->tag, k->status);
	work_give(f, w);
}

static void begin_grant(struct file *f, struct tp_op *op)
{
	uint16_t w;

	for (uint32_t i = 0; i < op->count; i++) {
		op->slabs[i] = file_store_take(f->store);
		if (op->slabs[i])
			continue;
		while (i--) {
			uint64_t slot = file_store_slot(f->store, op->slabs[i]);

			file_store_revoke(f->store, slot);
			file_store_give(f->store, slot);
		}
		finish(f, op->tag, -ENOSPC);
		return;
	}
	w = work_take(f, op);
	more_slabs(f, w);
	settle_slabs(f, w);
}

static void fill_stat(struct file *f, struct wire_stat *st, uint64_t now_ns)
{
	uint64_t total, free;

	file_store_room(f->store, now_ns, &total, &free);
	*st = (struct wire_stat){.slabs_total = htole64(total),
				 .slabs_free = htole64(free),
				 .slab_pages = htole32(f->store->slab_pages),
				 .slabs_lent = htole32((uint32_t)f->store->granted)};
	memcpy(st->boot, f->store->boot, sizeof st->boot);
	snprintf((char *)st->name, sizeof st->name, "spill");
}

static void clone_slabs(struct file *f, const struct tp_op *op)
{
	finish(f, op->tag, file_store_clone(f->store, op->clone->owner, op->slabs, op->count));
}

/* Of a borrower that never came to be: its copy is of no use any more. */
static void say_goodbye(struct file *f)
{
	struct file_clone *c = f->store->clone;

	if (c && !memcmp(c->owner, f->borrower, sizeof c->owner))
		file_store_left(f->store);
}

static int file_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct file *f = file_of(c);
	uint16_t w;
	int r = 0;

	if (!f->ring)
		return -ENOTCONN;
	if (!has_room(f))
		return -EAGAIN;
	switch (op->kind) {
	case TP_READ:
	case TP_WRITE:
	case TP_READ_PART:
	case TP_WRITE_PART:
		r = begin_pages(f, op);
		break;
	case TP_GRANT:
		begin_grant(f, op);
		break;
	case TP_FREE:
		w = work_take(f, op);
		more_slabs(f, w);
		settle_slabs(f, w);
		break;
	case TP_CLONE:
		clone_slabs(f, op);
		break;
	case TP_STAT:
		file_store_tidy(f->store);
		fill_stat(f, op->stat, now_ns);
		finish(f, op->tag, 0);
		break;
	case TP_MAP:
	case TP_PING:
	case TP_GENERATION: /* nobody takes it over: it ends with the process */
		finish(f, op->tag, 0);
		break;
	case TP_GOODBYE:
		say_goodbye(f);
		finish(f, op->tag, 0);
		break;
	default:
		finish(f, op->tag, -EOPNOTSUPP);
	}
	if (f->unpushed)
		f->unpushed = !file_ring_push(f->ring);
	return r;
}

/* --- what comes back --- */

/* To be asked for again: the rest of it, or what was given back because its thread ended. */
static bool try_again(struct file *f, struct ask *a, int res)
{
	bool pages = a->kind == FILE_READ || a->kind == FILE_WRITE;

	if (pages && res > 0 && a->done + (unsigned)res < a->bytes) {
		a->done += (unsigned)res;
		return true;
	}
	if (res >= 0 || ++a->tries > TRIES)
		return false;
	/* Pieces of pages on a disk with longer sectors, for one. */
	if (pages && res == -EINVAL && a->tries == 1) {
		file_store_buffer(f->store);
		return true;
	}
	return res == -EINTR || res == -EAGAIN || res == -ECANCELED;
}

static void end_pages(struct file *f, struct ask *a, int res)
{
	struct work *k = a->work == NONE ? NULL : &f->work[a->work];

	if (!k)
		return;
	if (res <= 0)
		k->status = res == -ENOSPC || res == -EDQUOT || !res ? -EIO : res;
	else if (a->kind == FILE_WRITE)
		f->store->bytes_out += a->bytes;
	else
		f->store->bytes_in += a->bytes;
	if (res > 0 && a->kind == FILE_READ)
		memcpy((unsigned char *)k->op->seg->buf + a->slab,
		       file_ring_pool(f->ring) + (size_t)a->page * WIRE_PAGE_SIZE, a->bytes);
	if (--k->out)
		return;
	finish(f, k->op->tag, k->status);
	work_give(f, a->work);
}

static void end_slab(struct file *f, const struct ask *a, int res, uint64_t now_ns)
{
	struct work *k = &f->work[a->work];

	if (a->kind == FILE_PUNCH) {
		/* If the filesystem can't, the blocks stay for the next one. */
		file_store_give(f->store, a->slab);
	} else if (res < 0) {
		bool full = res == -ENOSPC || res == -EDQUOT;

		if (full)
			file_store_refused(f->store, res, now_ns);
		k->status = full ? -ENOSPC : res;
	}
	k->out--;
	more_slabs(f, a->work);
	if (!k->out)
		settle_slabs(f, a->work);
}

static void ended(struct file *f, const struct file_end *e, uint64_t now_ns)
{
	uint16_t i = (uint16_t)e->tag;
	struct ask *a = &f->ask[i];

	if (try_again(f, a, e->res)) {
		ask_start(f, i);
		return;
	}
	if (a->kind == FILE_READ || a->kind == FILE_WRITE)
		end_pages(f, a, e->res);
	else
		end_slab(f, a, e->res, now_ns);
	ask_give(f, i);
}

static int file_poll(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n)
{
	struct file *f = file_of(c);
	struct file_end end[CHUNK];
	unsigned got, given = 0;

	if (!f->ring)
		return -ENOTCONN;
	do {
		if (f->unpushed)
			f->unpushed = !file_ring_push(f->ring);
		got = file_ring_reap(f->ring, end, CHUNK);
		for (unsigned i = 0; i < got; i++)
			ended(f, &end[i], now_ns);
	} while (got == CHUNK);
	if (f->unpushed)
		f->unpushed = !file_ring_push(f->ring);
	while (given < n && f->done_count) {
		done[given++] = f->done[f->done_first];
		f->done_first = (f->done_first + 1) % WORKS;
		f->done_count--;
	}
	return (int)given;
}

/* The pool takes what comes late. */
static int file_cancel(struct tp_conn *c, struct tp_op *op)
{
	struct file *f = file_of(c);
	bool found = false;

	for (uint16_t i = 0; i < ASKS; i++) {
		struct ask *a = &f->ask[i];

		if (!a->bytes || a->work == NONE || f->work[a->work].op != op)
			continue;
		if (a->kind != FILE_READ)
			return -EBUSY;
		if (!--f->work[a->work].out)
			work_give(f, a->work);
		a->work = NONE;
		found = true;
	}
	return found ? 0 : -EBUSY;
}

static int file_fd(struct tp_conn *c, short *events)
{
	struct file *f = file_of(c);

	*events = POLLIN;
	return f->ring ? file_ring_fd(f->ring) : -1;
}

static uint64_t file_due(struct tp_conn *c)
{
	struct file *f = file_of(c);

	if (f->done_count)
		return 0;
	return f->ring && f->unpushed ? clock_ns() + PUSH_NS : UINT64_MAX;
}

/* --- coming and going --- */

static void fill_welcome(const struct file_store *s, struct wire_welcome *w)
{
	*w = (struct wire_welcome){.magic = htole64(WIRE_MAGIC),
				   .major = htole16(WIRE_MAJOR),
				   .minor = htole16(WIRE_MINOR),
				   .slab_pages = htole32(s->slab_pages),
				   .slabs_total = htole64(s->slots),
				   .max_segs = htole32(1),
				   .max_pages = htole32(MAX_PAGES),
				   .max_slabs = htole32(WIRE_MAX_SLABS),
				   .max_inflight = htole32(WORKS)};
	memcpy(w->boot, s->boot, sizeof w->boot);
	snprintf((char *)w->name, sizeof w->name, "spill");
}

static int file_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	struct file *f = file_of(c);
	int r;

	(void)timeout_ns;
	if (!h->file)
		return err_fail(-EINVAL, "donor '%s': a file is no donor; use the option for spilling",
				c->addr.text);
	if (f->ring)
		return err_fail(-EISCONN, "donor '%s' is open", c->addr.text);
	/* Control connections move no pages. */
	r = file_ring_open(ASKS, c->peer ? (size_t)POOL_PAGES * WIRE_PAGE_SIZE : 0, &f->ring);
	if (r)
		return r;
	f->store = h->file;
	memcpy(f->borrower, h->borrower, sizeof f->borrower);
	lists_reset(f);
	fill_welcome(f->store, &h->welcome);
	return 0;
}

static bool writes_left(const struct file *f)
{
	for (unsigned i = 0; i < ASKS; i++)
		if (f->ask[i].bytes && f->ask[i].kind != FILE_READ)
			return true;
	return false;
}

static void file_close(struct tp_conn *c)
{
	struct file *f = file_of(c);

	if (!f->ring)
		return;
	if (writes_left(f))
		__atomic_store_n(&f->store->stuck, true, __ATOMIC_RELAXED);
	file_ring_close(f->ring);
	f->ring = NULL;
	lists_reset(f);
}

static void file_forget(struct tp_conn *c, bool inherited)
{
	struct file *f = file_of(c);

	file_ring_forget(f->ring, inherited);
	f->ring = NULL;
}

const struct tp_transport tp_file = {
	.name = "file",
	.conn_bytes = sizeof(struct file),
	.open = file_open,
	.submit = file_submit,
	.poll = file_poll,
	.cancel = file_cancel,
	.fd = file_fd,
	.due = file_due,
	.close = file_close,
	.forget = file_forget,
};
