/* SPDX-License-Identifier: MIT */
/*
 * The spill file of a volume: slabs on a local disk, for those that no donor has room for. The
 * file has no name (O_TMPFILE), so nobody else can open it, and it is gone with the process, however that
 * ends. Its blocks are allocated slab by slab when slabs are granted: a full disk is found there,
 * by whoever asks for more, and never by a write. file.c makes a donor of it.
 *
 * The volume makes it and keeps it until its connections are closed. Slots are given and taken by
 * control connections only, under the volume's lock; data connections only look.
 */
#ifndef PAGESTORE_TRANSPORT_FILE_STORE_H
#define PAGESTORE_TRANSPORT_FILE_STORE_H

#include <infuse/wire.h>
#include <stdbool.h>
#include <stdint.h>

#define FILE_STORE_PATH 512

struct file_store {
	char dir[FILE_STORE_PATH]; /* absolute */
	int fd;
	uint32_t slab_pages;
	uint64_t slots, granted;
	uint64_t *used;       /* bit a slot: granted, or its blocks are being given back */
	uint32_t *turn;       /* by slot: how often it was granted; the upper half of its handle */
	unsigned char boot[16];
	bool buffered;        /* the filesystem has no O_DIRECT, or not for pieces of a page */
	bool stuck;           /* writes were left under way: no slot is used twice from now on */
	int full;             /* why the disk has less than `slots`: -ENOSPC, -EDQUOT; or 0 */
	uint64_t full_ns;     /* it refused: until when it is believed to have nothing */
	struct file_clone *clone; /* for a forked child; NULL: no fork was ever prepared */
	_Atomic uint64_t bytes_in, bytes_out; /* read and written, by all connections */
};

/*
 * [text] A file in the folder dir for at most `bytes`, with slabs of slab_pages. -ENOTDIR, -EACCES,
 * -ENOSPC and what else open(2) says; -EINVAL: less than a slab. Blocks on the disk.
 */
int file_store_open(const char *dir, uint64_t bytes, uint32_t slab_pages, struct file_store **ret);
/* Takes NULL. The blocks are free when nothing is under way any more. */
void file_store_close(struct file_store *s);

/* A handle's slot, or UINT64_MAX: it is not, or not any more, one that was granted. Any thread. */
uint64_t file_store_slot(const struct file_store *s, uint64_t handle);
static inline uint64_t file_store_bytes(const struct file_store *s)
{
	return (uint64_t)s->slab_pages * WIRE_PAGE_SIZE;
}

/* Takes a slot (its blocks are still to be allocated) and makes its handle; 0: there is none. */
uint64_t file_store_take(struct file_store *s);
/* The handle is not good any more. Its slot stays taken until file_store_give(). */
void file_store_revoke(struct file_store *s, uint64_t slot);
void file_store_give(struct file_store *s, uint64_t slot);
/* The disk refused: said again for a second. */
void file_store_refused(struct file_store *s, int error, uint64_t now_ns);
/* Slots there are, and how many can be had: of what the option and the filesystem allow. */
void file_store_room(struct file_store *s, uint64_t now_ns, uint64_t *total, uint64_t *free);
/* From now on through the page cache: what O_DIRECT asks for can't be met. */
void file_store_buffer(struct file_store *s);

/*
 * file_clone.c. A forked child gets a file of its own, which this process makes and fills for it:
 * real copies, for blocks that both share would have to be found when they are written to.
 */
struct file_clone {
	unsigned char owner[16]; /* of this snapshot */
	int fd, tid;             /* the file, in the descriptor table of that thread; -1: none */
	int carried;             /* and in the table of the one that forks */
	bool done;               /* to be closed, by a thread with that table */
	uint32_t *turn;          /* by slot: its turn when it was copied; 0: it wasn't */
};

/*
 * Copies slots for the child that `owner` will be; handles stay the same. Blocks on the disk. 0,
 * -ENOSPC, or what else the disk says: then the copy is dropped as a whole.
 */
int file_store_clone(struct file_store *s, const unsigned char owner[16], const uint64_t *handle,
		     uint32_t count);
/* [text] In the thread that is about to fork: the child is to inherit its file. 0 if there is none. */
int file_store_carry(struct file_store *s);
/* In the parent: the child has it, or there is none. */
void file_store_left(struct file_store *s);
/* Closes what file_store_left() could not, or what another snapshot left. */
void file_store_tidy(struct file_store *s);
/* [text] In the child: its file is now the one that was carried, or a new one if nothing was copied. */
int file_store_adopt(struct file_store *s, bool inherited);

/* file_store.c: for the above. A new file in the store's folder or a negative errno. */
int file_store_make(struct file_store *s);

#endif
