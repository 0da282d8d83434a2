/* SPDX-License-Identifier: MIT */
/*
 * The ring, by liburing (as an archive: it calls no libc on these ways). Any thread may drive it,
 * one at a time. So it is a plain one: a ring for a single thread would not do, and a polling
 * kernel thread would cost a core.
 */
#include "pagestore/transport/file_ring.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>

struct file_ring {
	struct io_uring uring;
	unsigned char *pool;
	size_t pool_bytes;
	bool fixed; /* the pool is registered */
};

static int no_ring(int r)
{
	if (r == -ENOSYS || r == -EPERM || r == -EACCES)
		return err_fail(r, "the spill file needs io_uring, which is not allowed here: %s (see "
				   "sysctl kernel.io_uring_disabled, or the container's seccomp "
				   "profile)", strerrordesc_np(-r));
	return err_fail(r, "no io_uring for the spill file: %s", strerrordesc_np(-r));
}

/* Without registration (a low RLIMIT_MEMLOCK) each request pins its pages anew. */
static void register_pool(struct file_ring *r)
{
	struct iovec iov = {r->pool, r->pool_bytes};

	r->fixed = !io_uring_register_buffers(&r->uring, &iov, 1);
}

int file_ring_open(unsigned entries, size_t pool_bytes, struct file_ring **ret)
{
	struct file_ring *r = mem_map(sizeof *r);
	int error;

	if (!r)
		return err_fail(-ENOMEM, "no memory for a spill file's requests");
	error = io_uring_queue_init(entries, &r->uring, 0);
	if (error) {
		mem_unmap(r, sizeof *r);
		return no_ring(error);
	}
	r->pool_bytes = pool_bytes;
	r->pool = pool_bytes ? mem_map(pool_bytes) : NULL;
	if (pool_bytes && !r->pool) {
		file_ring_close(r);
		return err_fail(-ENOMEM, "no memory for a spill file's pages");
	}
	/* A forked child has no business with either. */
	io_uring_ring_dontfork(&r->uring);
	if (r->pool) {
		sys_call3(SYS_madvise, SYS_PTR(r->pool), (long)pool_bytes, MADV_DONTFORK);
		register_pool(r);
	}
	*ret = r;
	return 0;
}

unsigned char *file_ring_pool(const struct file_ring *r)
{
	return r->pool;
}

void file_ring_ask(struct file_ring *r, const struct file_ask *a)
{
	struct io_uring_sqe *e = io_uring_get_sqe(&r->uring);

	/* There are as many as the owner may have under way, and all before are with the kernel. */
	if (!e) {
		io_uring_submit(&r->uring);
		e = io_uring_get_sqe(&r->uring);
	}
	if (!e)
		__builtin_trap();
	switch (a->kind) {
	case FILE_READ:
		if (r->fixed)
			io_uring_prep_read_fixed(e, a->fd, a->buf, (unsigned)a->bytes, a->at, 0);
		else
			io_uring_prep_read(e, a->fd, a->buf, (unsigned)a->bytes, a->at);
		break;
	case FILE_WRITE:
		if (r->fixed)
			io_uring_prep_write_fixed(e, a->fd, a->buf, (unsigned)a->bytes, a->at, 0);
		else
			io_uring_prep_write(e, a->fd, a->buf, (unsigned)a->bytes, a->at);
		break;
	case FILE_ALLOCATE:
		io_uring_prep_fallocate(e, a->fd, 0, (off_t)a->at, (off_t)a->bytes);
		break;
	case FILE_PUNCH:
		io_uring_prep_fallocate(e, a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)a->at, (off_t)a->bytes);
		break;
	}
	io_uring_sqe_set_data64(e, a->tag);
}

bool file_ring_push(struct file_ring *r)
{
	if (io_uring_sq_ready(&r->uring))
		io_uring_submit(&r->uring);
	return !io_uring_sq_ready(&r->uring);
}

unsigned file_ring_reap(struct file_ring *r, struct file_end *ret, unsigned n)
{
	struct io_uring_cqe *c;
	unsigned got = 0;

	/* Without waiting; a kernel that holds some back is asked for them. */
	while (got < n && !io_uring_peek_cqe(&r->uring, &c)) {
		ret[got++] = (struct file_end){c->user_data, c->res};
		io_uring_cqe_seen(&r->uring, c);
	}
	return got;
}

int file_ring_fd(const struct file_ring *r)
{
	return r->uring.ring_fd;
}

static void drop(struct file_ring *r)
{
	mem_unmap(r, sizeof *r);
}

void file_ring_close(struct file_ring *r)
{
	if (!r)
		return;
	io_uring_queue_exit(&r->uring);
	mem_unmap(r->pool, r->pool_bytes);
	drop(r);
}

void file_ring_forget(struct file_ring *r, bool inherited)
{
	if (!r)
		return;
	/* Its mappings, and the pool, stayed behind. */
	if (inherited)
		sys_call1(SYS_close, r->uring.ring_fd);
	drop(r);
}
