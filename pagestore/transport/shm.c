/* SPDX-License-Identifier: MIT */
/*
 * shm: one-sided access to a donor on the same machine, a stand-in for RDMA. The donor hands the
 * slabs' memory over its UNIX socket (MAP); reads and writes are copies made at submit and reported
 * at the next poll. All else goes over the socket as with unix. The donor's death would not be
 * noticed by copying, so the socket is looked at before use, every 100 us at most: a look costs 0.4 us,
 * and until then the memory is there as it was.
 *
 * A volume with epochs: what is written after a newer writer has taken the slabs over goes nowhere, and
 * must not be told as written. So each copy is followed by a look at the donor's fence (wire.h).
 *
 * The connection that maps keeps a table from handle to memory; a volume's other connections to the
 * donor read it (tp_share). One thread changes it at a time, readers need no lock: an entry's
 * address is there before its handle is.
 */
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"
#include "pagestore/transport/stream.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TABLE_SLOTS (1u << 17) /* more than the mappings that a process may have */
#define TABLE_FULL  (TABLE_SLOTS / 4 * 3)
#define LOOK_NS     (100 * NSEC_PER_USEC)
#define GONE        UINT64_MAX /* a handle that was here: a search goes on behind it */

struct shm_map {
	uint64_t handle; /* 0: none */
	unsigned char *mem;
};

struct shm {
	struct stream s;
	uint64_t looked_ns;
	uint32_t slab_pages;
	uint32_t mapped;
	struct shm_map *table; /* TABLE_SLOTS of them; NULL when the peer has it */
	const uint64_t *fence; /* NULL: the volume has no epochs */
};

static struct shm *shm_of(struct tp_conn *c)
{
	return (struct shm *)(void *)c;
}

/* A handle's low half counts slots of the donor's arena: neighbours stay neighbours, so that few slabs
 * touch few pages of the table. */
static uint32_t hash_handle(uint64_t handle)
{
	return (uint32_t)handle % TABLE_SLOTS;
}

static struct shm_map *find_map(struct shm *shm, uint64_t handle)
{
	struct shm *owner = shm->s.base.peer ? shm_of(shm->s.base.peer) : shm;

	if (!owner->table || !handle || handle == GONE)
		return NULL;
	for (uint32_t i = hash_handle(handle), n = 0; n < TABLE_SLOTS; i++, n++) {
		struct shm_map *m = &owner->table[i % TABLE_SLOTS];
		uint64_t here = __atomic_load_n(&m->handle, __ATOMIC_ACQUIRE);

		if (here == handle)
			return m;
		if (!here)
			return NULL;
	}
	return NULL;
}

static int add_map(struct shm *shm, uint64_t handle, unsigned char *mem)
{
	if (shm->mapped >= TABLE_FULL || !handle || handle == GONE)
		return -ENOMEM;
	for (uint32_t i = hash_handle(handle);; i++) {
		struct shm_map *m = &shm->table[i % TABLE_SLOTS];

		if (m->handle == handle)
			return -EPROTO;
		if (m->handle && m->handle != GONE)
			continue;
		__atomic_store_n(&m->mem, mem, __ATOMIC_RELAXED);
		__atomic_store_n(&m->handle, handle, __ATOMIC_RELEASE);
		shm->mapped++;
		return 0;
	}
}

static void remove_map(struct shm *shm, uint64_t handle)
{
	struct shm_map *m = find_map(shm, handle);
	uint32_t i;

	if (!m)
		return;
	mem_unmap(m->mem, (size_t)shm->slab_pages * WIRE_PAGE_SIZE);
	__atomic_store_n(&m->handle, GONE, __ATOMIC_RELEASE);
	shm->mapped--;
	/* At the end of a run nothing lies behind: make it free again, and those before it. */
	i = (uint32_t)(m - shm->table);
	if (shm->table[(i + 1) % TABLE_SLOTS].handle)
		return;
	for (uint32_t n = 0; n < TABLE_SLOTS && shm->table[i].handle == GONE; n++) {
		__atomic_store_n(&shm->table[i].handle, 0, __ATOMIC_RELEASE);
		i = (i - 1) % TABLE_SLOTS;
	}
}

static int map_one(struct shm *shm, uint64_t handle, int fd)
{
	size_t bytes = (size_t)shm->slab_pages * WIRE_PAGE_SIZE;
	struct stat st;
	long mem;
	int r;

	/* A shorter file would be a SIGBUS later. */
	r = (int)sys_call2(SYS_fstat, fd, SYS_PTR(&st));
	if (r)
		return r;
	if (st.st_size < (off_t)bytes)
		return -EPROTO;
	mem = sys_call6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem < 0 && mem > -4096)
		return (int)mem;
	/* Where the donor has its pages there already, their mappings come now and not at each page's
	 * first write; a lazy donor's memory is not taken before it is used. */
	if (st.st_blocks * 512 >= (blkcnt_t)bytes)
		sys_call3(SYS_madvise, mem, (long)bytes, MADV_POPULATE_WRITE);
	/* A child has no business with its parent's slabs. */
	sys_call3(SYS_madvise, mem, (long)bytes, MADV_DONTFORK);
	r = add_map(shm, handle, (unsigned char *)(uintptr_t)mem);
	if (r)
		sys_call2(SYS_munmap, mem, (long)bytes);
	return r;
}

static int take_slabs(struct stream *s, struct tp_op *op)
{
	struct shm *shm = shm_of(&s->base);
	int r = s->fds_count == op->count ? 0 : -EMFILE;

	for (uint32_t i = 0; i < op->count && !r; i++)
		r = map_one(shm, op->slabs[i], s->fds[i]);
	return r;
}

static int map_fence(struct shm *shm, int fd)
{
	long mem = sys_call6(SYS_mmap, 0, WIRE_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	if (mem < 0 && mem > -4096)
		return (int)mem;
	sys_call3(SYS_madvise, mem, WIRE_PAGE_SIZE, MADV_DONTFORK);
	shm->fence = (const uint64_t *)(uintptr_t)mem;
	return 0;
}

static int take_maps(struct stream *s, struct tp_op *op)
{
	struct shm *shm = shm_of(&s->base);

	if (op->kind == TP_FENCE)
		return s->fds_count == 1 ? map_fence(shm, s->fds[0]) : -EMFILE;
	return take_slabs(s, op);
}

static int look(struct shm *shm, uint64_t now_ns)
{
	struct pollfd p = {.fd = shm->s.fd, .events = POLLRDHUP};
	struct timespec none = {0};

	if (now_ns - shm->looked_ns < LOOK_NS)
		return 0;
	shm->looked_ns = now_ns;
	if (sys_call5(SYS_ppoll, SYS_PTR(&p), 1, SYS_PTR(&none), 0, 0) > 0)
		return stream_die(&shm->s, -ECONNRESET);
	return 0;
}

/*
 * A copier and a hedged read meet pages that another port is writing: what they read is compared
 * with the page's hash, or its stamp, and read again. Where ThreadSanitizer watches memcpy(), it is
 * not asked: telling its thousand suppressed races takes longer than the test.
 */
static void copy_bytes(void *to, const void *from, size_t bytes)
{
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
	memcpy(to, from, bytes);
#endif
}

/*
 * Of a mapping, the first touch of a page is a fault. The kernel maps a read one's neighbours along with
 * it, writable, but a written one's not: so what is to be written is read first.
 */
static void map_around(const unsigned char *mem, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += WIRE_PAGE_SIZE)
		(void)__atomic_load_n(mem + i, __ATOMIC_RELAXED);
}

static int copy(struct shm *shm, const struct tp_op *op, uint32_t i)
{
	const struct tp_seg *seg = &op->seg[i];
	const struct shm_map *m = find_map(shm, seg->slab);
	uint32_t unit = tp_unit(op->kind), most = shm->slab_pages * (WIRE_PAGE_SIZE / unit);
	size_t bytes = (size_t)seg->pages * unit;
	unsigned char *mem;

	if (!m || seg->page >= most || seg->pages > most - seg->page)
		return -EIO;
	mem = __atomic_load_n(&m->mem, __ATOMIC_RELAXED) + (size_t)seg->page * unit;
	if (tp_reads(op->kind)) {
		copy_bytes(seg->buf, mem, bytes);
		return 0;
	}
	map_around(mem, bytes);
	copy_bytes(mem, seg->buf, bytes);
	return 0;
}

/* A newer writer has the slabs: the copies that were made went to memory that is only ours. */
static bool is_stale(const struct shm *shm)
{
	if (!shm->fence)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return le64toh(__atomic_load_n(shm->fence, __ATOMIC_RELAXED)) != shm->s.epoch;
}

static int shm_submit(struct tp_conn *c, struct tp_op *op, uint64_t now_ns)
{
	struct shm *shm = shm_of(c);
	int r = 0;

	if (!shm->s.up || shm->s.error)
		return stream_submit(c, op, now_ns);
	if (op->kind == TP_MAP && c->peer) {
		/* The owner's connection does it. */
		return -EOPNOTSUPP;
	}
	if (op->kind == TP_FREE && !c->peer)
		for (uint32_t i = 0; i < op->count; i++)
			remove_map(shm, op->slabs[i]);
	if (!tp_reads(op->kind) && !tp_writes(op->kind))
		return stream_submit(c, op, now_ns);
	if (!stream_has_room(&shm->s))
		return -EAGAIN;
	r = look(shm, now_ns);
	if (r)
		return r;
	for (uint32_t i = 0; i < op->count && !r; i++)
		r = copy(shm, op, i);
	if (!r && is_stale(shm))
		stream_finish(&shm->s, op->tag, -ESTALE, WIRE_EEPOCH);
	else
		stream_finish(&shm->s, op->tag, r, 0);
	return 0;
}

static uint64_t shm_due(struct tp_conn *c)
{
	return stream_of(c)->done_count ? 0 : UINT64_MAX;
}

static int open_fence(struct shm *shm, uint64_t until_ns)
{
	struct tp_op op = {.kind = TP_FENCE, .tag = 1};
	struct tp_done done;
	int r = stream_submit(&shm->s.base, &op, clock_ns());

	while (!r) {
		short events;
		int n = stream_poll(&shm->s.base, clock_ns(), &done, 1), fd;

		if (n > 0 && done.status)
			return err_fail(done.status, "donor '%s' gave no fence: %s",
					shm->s.base.addr.text, tp_wire_text(done.wire));
		if (n)
			return n > 0 ? 0 : n;
		fd = stream_fd(&shm->s.base, &events);
		r = connect_wait(fd, events, until_ns);
	}
	return err_fail(r, "donor '%s' gave no fence: %s", shm->s.base.addr.text,
			strerrordesc_np(-r));
}

static int shm_connect(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	struct shm *shm = shm_of(c);
	uint64_t until = clock_ns() + timeout_ns;
	int fd = connect_socket(&c->addr, until);
	int r;

	if (fd < 0)
		return fd;
	r = stream_open(&shm->s, fd, h, until);
	if (r)
		return r;
	shm->s.mapped = take_maps;
	shm->slab_pages = le32toh(h->welcome.slab_pages);
	shm->looked_ns = 0;
	r = h->epoch ? open_fence(shm, until) : 0;
	if (r) {
		stream_close(c);
		return r;
	}
	if (!c->peer && !shm->table) {
		shm->table = mem_map(TABLE_SLOTS * sizeof *shm->table);
		if (!shm->table) {
			stream_close(c);
			return err_fail(-ENOMEM, "no memory for the table of mapped slabs");
		}
	}
	return 0;
}

static void drop_table(struct shm *shm, bool unmap)
{
	if (!shm->table)
		return;
	for (uint32_t i = 0; unmap && shm->mapped && i < TABLE_SLOTS; i++) {
		struct shm_map *m = &shm->table[i];

		if (!m->handle || m->handle == GONE)
			continue;
		mem_unmap(m->mem, (size_t)shm->slab_pages * WIRE_PAGE_SIZE);
		shm->mapped--;
	}
	mem_unmap(shm->table, TABLE_SLOTS * sizeof *shm->table);
	shm->table = NULL;
	shm->mapped = 0;
}

static void shm_close(struct tp_conn *c)
{
	struct shm *shm = shm_of(c);

	stream_close(c);
	if (shm->fence)
		sys_call2(SYS_munmap, SYS_PTR(shm->fence), WIRE_PAGE_SIZE);
	shm->fence = NULL;
	drop_table(shm_of(c), true);
}

/* The mappings did not come along; something else may lie there. */
static void shm_forget(struct tp_conn *c, bool inherited)
{
	stream_forget(c, inherited);
	shm_of(c)->fence = NULL;
	drop_table(shm_of(c), false);
}

const struct tp_transport tp_shm = {
	.name = "shm",
	.conn_bytes = sizeof(struct shm),
	.instant = true,
	.open = shm_connect,
	.submit = shm_submit,
	.poll = stream_poll,
	.cancel = stream_cancel,
	.fd = stream_fd,
	.due = shm_due,
	.close = shm_close,
	.forget = shm_forget,
};
