/* SPDX-License-Identifier: MIT */
/*
 * One memfd a buffer. Freed buffers are wiped by a thread of their own: a borrower that says
 * goodbye to gigabytes must not stop its neighbours' event loop. Whoever needs a zeroed buffer
 * before that thread came by wipes it himself.
 */
#include "server/buffer.h"
#include <infuse/wire.h>
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define FILL_PARALLEL (256ull << 20) /* bytes from which on it takes several threads */

struct srv_arena {
	struct srv_arena_options o;
	struct srv_buffer *buffers;
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* the wiper: something is dirty, or stop */
	pthread_cond_t wiped; /* takers: the wiper put one back */
	struct srv_buffer *clean, *dirty;
	struct srv_buffer *parked; /* without memory, and nobody's reservation */
	/*
	 * Reservations + room + to_park + parked + growing are all buffers there are. Buffers in use are
	 * never more than reservations, so there are always to_park free ones beyond those that
	 * reservations and room promise.
	 */
	uint32_t room, to_park, parked_count;
	uint32_t growing; /* in srv_arena_grow()'s hands */
	uint32_t owed; /* reservations that become to_park instead of room when they come back */
	bool wiping; /* the wiper has one in its hands */
	bool stop;
	pthread_t wiper;
	bool has_wiper;
};

/* The seals: a borrower with the descriptor can't make our own accesses fail by shrinking it. */
static int buffer_memfd(const struct srv_arena *a)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (a->o.hugepages ? MFD_HUGETLB : 0);
	int fd = memfd_create("infuse-slab", flags);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)a->o.slab_bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* Gives the buffer memory: zeroed, and in an arena that is not lazy present and locked. */
static int buffer_back(struct srv_buffer *b)
{
	const struct srv_arena_options *o = &b->arena->o;
	int flags = MAP_SHARED | (o->hugepages ? MAP_POPULATE : 0);
	void *mem;
	int err;

	b->fd = buffer_memfd(b->arena);
	if (b->fd < 0)
		return b->fd;
	mem = mmap(NULL, o->slab_bytes, PROT_READ | PROT_WRITE, flags, b->fd, 0);
	/* Where the administrator allows it (shmem_enabled) slabs become huge pages anyway. */
	if (mem != MAP_FAILED && !o->lazy && !o->hugepages)
		(void)madvise(mem, o->slab_bytes, MADV_HUGEPAGE);
	if (mem != MAP_FAILED && (o->lazy || o->hugepages || !mlock(mem, o->slab_bytes))) {
		b->mem = mem;
		b->clean = true;
		return 0;
	}
	err = -errno;
	if (mem != MAP_FAILED)
		munmap(mem, o->slab_bytes);
	close(b->fd);
	b->fd = -1;
	return err;
}

static void buffer_unback(struct srv_buffer *b)
{
	if (!b->mem)
		return;
	munmap(b->mem, b->arena->o.slab_bytes);
	close(b->fd);
	b->mem = NULL;
	b->fd = -1;
	b->clean = false;
}

void srv_arena_clear(struct srv_buffer *b, uint64_t at, uint64_t bytes)
{
	if (b->arena->o.lazy && !srv_buffer_is_exposed(b) &&
	    !fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes))
		return;
	memset(b->mem + at, 0, bytes);
}

struct srv_buffer *srv_arena_page(struct srv_arena *a)
{
	struct srv_buffer *b = calloc(1, sizeof *b);
	void *mem = MAP_FAILED;

	if (!b)
		return NULL;
	b->arena = a;
	b->fd = memfd_create("infuse-fence", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (b->fd >= 0 && !ftruncate(b->fd, WIRE_PAGE_SIZE))
		mem = mmap(NULL, WIRE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	b->mem = mem == MAP_FAILED ? NULL : mem;
	/* From now on nobody can map it for writing but us, who have. */
	if (!b->mem || fcntl(b->fd, F_ADD_SEALS,
			     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
		srv_arena_page_free(b);
		return NULL;
	}
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void srv_arena_page_free(struct srv_buffer *b)
{
	if (!b)
		return;
	if (b->mem)
		munmap(b->mem, WIRE_PAGE_SIZE);
	if (b->fd >= 0)
		close(b->fd);
	free(b);
}

int srv_arena_renew(struct srv_buffer *b)
{
	struct srv_buffer old = {.arena = b->arena, .mem = b->mem, .fd = b->fd};

	if (buffer_back(b)) {
		b->fd = old.fd;
		return -ENOMEM;
	}
	memcpy(b->mem, old.mem, b->arena->o.slab_bytes);
	buffer_unback(&old);
	b->exported = false;
	b->clean = false;
	return 0;
}

/* An exported buffer may still be mapped by its old borrower: it is given up, not wiped. */
static int buffer_wipe(struct srv_buffer *b)
{
	if (b->exported) {
		buffer_unback(b);
		b->exported = false;
	}
	if (!b->mem)
		return b->arena->o.lazy ? 0 : buffer_back(b);
	if (!b->clean)
		srv_arena_clear(b, 0, b->arena->o.slab_bytes);
	b->clean = true;
	return 0;
}

static void push(struct srv_buffer **list, struct srv_buffer *b)
{
	b->next = *list;
	*list = b;
}

static struct srv_buffer *pop(struct srv_buffer **list)
{
	struct srv_buffer *b = *list;

	if (b)
		*list = b->next;
	return b;
}

/* The lock is held, and let go meanwhile. False: nothing to park. */
static bool park_one(struct srv_arena *a)
{
	struct srv_buffer *b = a->to_park ? pop(&a->dirty) : NULL;

	if (!b && a->to_park)
		b = pop(&a->clean);
	if (!b)
		return false;
	a->wiping = true;
	pthread_mutex_unlock(&a->lock);
	buffer_unback(b);
	b->exported = false;
	pthread_mutex_lock(&a->lock);
	a->wiping = false;
	if (a->to_park) {
		a->to_park--;
		a->parked_count++;
		push(&a->parked, b);
	} else {
		push(&a->clean, b); /* it is wanted again; who takes it gives it memory */
	}
	pthread_cond_broadcast(&a->wiped);
	return true;
}

static bool work_for_wiper(const struct srv_arena *a)
{
	return a->dirty || (a->to_park && a->clean);
}

static void *wiper_main(void *arg)
{
	struct srv_arena *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct srv_buffer *b = park_one(a) ? NULL : pop(&a->dirty);

		if (!b) {
			if (!work_for_wiper(a))
				pthread_cond_wait(&a->wake, &a->lock);
			continue;
		}
		a->wiping = true;
		pthread_mutex_unlock(&a->lock);
		/* Failure leaves it without memory; who takes it tries again and can say so. */
		(void)buffer_wipe(b);
		pthread_mutex_lock(&a->lock);
		a->wiping = false;
		push(&a->clean, b);
		pthread_cond_broadcast(&a->wiped);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static int back_failed(const struct srv_arena *a, int err, uint64_t done)
{
	uint64_t need = (uint64_t)a->o.slabs * a->o.slab_bytes;
	char n[32], l[32], d[32];
	struct rlimit lim = {0, 0};

	format_size(need, n, sizeof n);
	format_size(done, d, sizeof d);
	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (a->o.hugepages)
		return err_fail(err,
				"no huge pages for %s (got %s): raise vm.nr_hugepages, or leave "
				"--hugepages out",
				n, d);
	if (lim.rlim_cur != RLIM_INFINITY && lim.rlim_cur < need &&
	    (err == -ENOMEM || err == -EPERM || err == -EAGAIN))
		return err_fail(err,
				"can't lock %s of memory: the limit is %s; raise it (ulimit -l, or "
				"LimitMEMLOCK= in the unit), lend less (--size), or use --lazy",
				n, format_size(lim.rlim_cur, l, sizeof l));
	return err_fail(err, "no memory for %s (got %s): %s; lend less (--size)", n, d,
			strerror(-err));
}

/* One thread's share of faulting the arena in: every step-th buffer. */
struct filling {
	struct srv_arena *a;
	pthread_t thread;
	bool started;
	uint32_t first, step;
	uint32_t done;
	int err;
};

static void *fill_share(void *arg)
{
	struct filling *f = arg;

	for (uint32_t i = f->first; i < f->a->o.slabs && !f->err; i += f->step) {
		f->err = buffer_back(&f->a->buffers[i]);
		f->done += !f->err;
	}
	return NULL;
}

/* The kernel zeroes a page in a microsecond or two: many gigabytes are worth all cores. */
static int fill_memory(struct srv_arena *a)
{
	bool large = a->o.slabs * a->o.slab_bytes >= FILL_PARALLEL;
	unsigned n = large && a->o.fill_threads ? a->o.fill_threads : 1;
	struct filling *f = calloc(n, sizeof *f);
	uint32_t done = 0;
	int err = 0;

	if (!f)
		return err_fail(-ENOMEM, "no memory");
	for (unsigned i = 0; i < n; i++) {
		f[i] = (struct filling){.a = a, .first = i, .step = n};
		f[i].started = i && !pthread_create(&f[i].thread, NULL, fill_share, &f[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		if (f[i].started)
			pthread_join(f[i].thread, NULL);
		else
			fill_share(&f[i]);
		done += f[i].done;
		err = err ? err : f[i].err;
	}
	free(f);
	return err ? back_failed(a, err, done * a->o.slab_bytes) : 0;
}

static int arena_fill(struct srv_arena *a)
{
	for (uint32_t i = a->o.slabs; i-- > 0;) {
		struct srv_buffer *b = &a->buffers[i];

		b->arena = a;
		b->fd = -1;
		pthread_mutex_init(&b->lock, NULL);
		push(&a->clean, b);
	}
	return a->o.lazy ? 0 : fill_memory(a);
}

int srv_arena_open(const struct srv_arena_options *o, struct srv_arena **ret)
{
	struct srv_arena *a = calloc(1, sizeof *a);
	int r;

	if (!a)
		return err_fail(-ENOMEM, "no memory");
	a->o = *o;
	a->room = o->slabs;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	pthread_cond_init(&a->wiped, NULL);
	a->buffers = calloc(o->slabs, sizeof *a->buffers);
	r = a->buffers ? arena_fill(a) : err_fail(-ENOMEM, "no memory for %u slabs", o->slabs);
	if (!r) {
		r = -pthread_create(&a->wiper, NULL, wiper_main, a);
		a->has_wiper = !r;
		if (r)
			err_fail(r, "can't start a thread: %s", strerror(-r));
	}
	if (r) {
		srv_arena_close(a);
		return r;
	}
	*ret = a;
	return 0;
}

void srv_arena_close(struct srv_arena *a)
{
	if (!a)
		return;
	if (a->has_wiper) {
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_cond_signal(&a->wake);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->wiper, NULL);
	}
	for (uint32_t i = 0; a->buffers && i < a->o.slabs; i++) {
		buffer_unback(&a->buffers[i]);
		pthread_mutex_destroy(&a->buffers[i].lock);
	}
	free(a->buffers);
	pthread_cond_destroy(&a->wiped);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

bool srv_arena_reserve(struct srv_arena *a, uint32_t n)
{
	bool ok;

	pthread_mutex_lock(&a->lock);
	ok = a->room >= n;
	if (ok)
		a->room -= n;
	pthread_mutex_unlock(&a->lock);
	return ok;
}

static void room_grow(struct srv_arena *a, uint32_t n)
{
	uint32_t pay = n < a->owed ? n : a->owed;

	a->owed -= pay;
	a->to_park += pay;
	a->room += n - pay;
	if (pay)
		pthread_cond_signal(&a->wake);
	if (a->room + a->to_park + a->parked_count + a->growing > a->o.slabs)
		abort(); /* given back twice: the next grant would lend the same memory twice */
}

void srv_arena_unreserve(struct srv_arena *a, uint32_t n)
{
	pthread_mutex_lock(&a->lock);
	room_grow(a, n);
	pthread_mutex_unlock(&a->lock);
}

struct srv_buffer *srv_arena_take(struct srv_arena *a, bool zeroed)
{
	struct srv_buffer *b = NULL;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	for (;;) {
		/* A copy's target needs no zeros: leave the clean ones to grants. */
		if (!zeroed)
			b = pop(&a->dirty);
		if (!b)
			b = pop(&a->clean);
		if (!b)
			b = pop(&a->dirty);
		if (b)
			break;
		/* A reservation is covered by a free buffer; the last one is being wiped. */
		if (!a->wiping)
			abort();
		pthread_cond_wait(&a->wiped, &a->lock);
	}
	pthread_mutex_unlock(&a->lock);

	if (b->exported || (zeroed && !b->clean))
		r = buffer_wipe(b);
	if (!r && !b->mem)
		r = buffer_back(b);
	if (r) {
		pthread_mutex_lock(&a->lock);
		push(&a->clean, b);
		pthread_cond_signal(&a->wake);
		pthread_mutex_unlock(&a->lock);
		return NULL;
	}
	b->clean = false;
	b->holders = 1;
	b->dropped = false;
	atomic_store_explicit(&b->shared, false, memory_order_relaxed);
	atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void srv_arena_give(struct srv_buffer *b)
{
	struct srv_arena *a = b->arena;

	pthread_mutex_lock(&a->lock);
	push(&a->dirty, b);
	room_grow(a, 1);
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
}

void srv_arena_shrink(struct srv_arena *a, uint32_t n)
{
	uint32_t now, lent;

	pthread_mutex_lock(&a->lock);
	now = n < a->room ? n : a->room;
	a->room -= now;
	a->to_park += now;
	lent = a->o.slabs - a->room - a->to_park - a->parked_count - a->growing;
	a->owed = n - now < lent - a->owed ? a->owed + (n - now) : lent;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
}

/* The lock is held. Gives one parked buffer memory again; false: there is none, or no memory. */
static bool unpark_one(struct srv_arena *a)
{
	struct srv_buffer *b = pop(&a->parked);
	int r = 0;

	if (!b)
		return false;
	a->parked_count--;
	a->growing++;
	pthread_mutex_unlock(&a->lock);
	if (!a->o.lazy)
		r = buffer_back(b);
	pthread_mutex_lock(&a->lock);
	a->growing--;
	if (r) {
		a->parked_count++;
		push(&a->parked, b);
		return false;
	}
	push(&a->clean, b);
	room_grow(a, 1);
	return true;
}

void srv_arena_grow(struct srv_arena *a, uint32_t n)
{
	uint32_t part;

	pthread_mutex_lock(&a->lock);
	part = n < a->owed ? n : a->owed;
	a->owed -= part;
	n -= part;
	part = n < a->to_park ? n : a->to_park;
	a->to_park -= part;
	a->room += part;
	for (n -= part; n && unpark_one(a); n--)
		;
	pthread_mutex_unlock(&a->lock);
}

void srv_arena_state(struct srv_arena *a, struct srv_arena_state *ret)
{
	pthread_mutex_lock(&a->lock);
	*ret = (struct srv_arena_state){.total = a->o.slabs,
					.room = a->room,
					.owed = a->owed,
					.away = a->to_park + a->parked_count + a->growing,
					.parked = a->parked_count};
	pthread_mutex_unlock(&a->lock);
}

uint32_t srv_arena_room(struct srv_arena *a)
{
	uint32_t n;

	pthread_mutex_lock(&a->lock);
	n = a->room;
	pthread_mutex_unlock(&a->lock);
	return n;
}

uint32_t srv_arena_total(const struct srv_arena *a)
{
	return a->o.slabs;
}

uint64_t srv_arena_slab_bytes(const struct srv_arena *a)
{
	return a->o.slab_bytes;
}

bool srv_arena_hugepages(const struct srv_arena *a)
{
	return a->o.hugepages;
}
