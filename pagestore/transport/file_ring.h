/* SPDX-License-Identifier: MIT */
/*
 * What a connection to the spill file has under way: an io_uring and a pool of pages that are
 * registered with it. Pages go through the pool, never straight between the disk and the caller's memory: a heap's
 * frames could not be moved while the kernel has them pinned, a buffer may be the caller's again
 * before a disk that hangs has answered, and it need not be aligned. The copy costs 0.25 us where
 * the disk takes 50. The simulation has an implementation of its own.
 */
#ifndef PAGESTORE_TRANSPORT_FILE_RING_H
#define PAGESTORE_TRANSPORT_FILE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_ring;

enum file_io { FILE_READ, FILE_WRITE, FILE_ALLOCATE, FILE_PUNCH };

/* One request. The ring's owner counts: at most `entries` are under way. */
struct file_ask {
	enum file_io kind;
	int fd;
	uint64_t at, bytes; /* in the file */
	void *buf;          /* READ, WRITE: in the pool */
	uint64_t tag;
};

struct file_end {
	uint64_t tag;
	int res; /* bytes or 0, or a negative errno */
};

/* [text] With a pool: mem_map() memory of its own, which it keeps. Async-signal-safe. */
int file_ring_open(unsigned entries, size_t pool_bytes, struct file_ring **ret);
unsigned char *file_ring_pool(const struct file_ring *r);
/* Begins it. The kernel may take it in later: file_ring_push(). */
void file_ring_ask(struct file_ring *r, const struct file_ask *a);
/* False: something is still to be taken in; call again shortly. */
bool file_ring_push(struct file_ring *r);
/* What has ended; never blocks. */
unsigned file_ring_reap(struct file_ring *r, struct file_end *ret, unsigned n);
/* For ppoll(2): readable when something has ended. */
int file_ring_fd(const struct file_ring *r);
/* What is under way goes on without us. Takes NULL. */
void file_ring_close(struct file_ring *r);
/* In a forked child: nothing of it is ours; its descriptor is here if it was inherited. */
void file_ring_forget(struct file_ring *r, bool inherited);

#endif
