/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One source for kernels 6.1 to 7.2: what changed between them, in one place, so that the other
 * files read as if there were only the newest. Where an old name stayed, it is used as it is.
 */
#ifndef RSWAP_COMPAT_H
#define RSWAP_COMPAT_H

#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <linux/uio.h>
#include <linux/version.h>
#include <net/sock.h>

#define RSWAP_KERNEL(a, b) (LINUX_VERSION_CODE >= KERNEL_VERSION(a, b, 0))

/* 6.5: a disk is opened by its gendisk. */
#if RSWAP_KERNEL(6, 5)
#define RSWAP_OPEN_ARGS      struct gendisk *disk, blk_mode_t mode
#define rswap_open_disk()    (disk)
#define RSWAP_RELEASE_ARGS   struct gendisk *disk
#else
#define RSWAP_OPEN_ARGS      struct block_device *bdev, fmode_t mode
#define rswap_open_disk()    (bdev->bd_disk)
#define RSWAP_RELEASE_ARGS   struct gendisk *disk, fmode_t mode
#endif

/* 6.14: every queue merges. */
#if RSWAP_KERNEL(6, 14)
#define RSWAP_MQ_MERGE 0
#else
#define RSWAP_MQ_MERGE BLK_MQ_F_SHOULD_MERGE
#endif

/* 6.9: limits are told when the disk is made; 6.11: flags are features among them. */
struct rswap_limits {
	unsigned int block, max_sectors, chunk_sectors, discard_sectors;
	unsigned short segments;
};

#if RSWAP_KERNEL(6, 9)
#define rswap_alloc_disk(set, l, data)                                                             \
	({                                                                                         \
		struct queue_limits rswap_q = {                                                    \
			.logical_block_size = (l)->block,                                          \
			.physical_block_size = (l)->block,                                         \
			.io_min = (l)->block,                                                      \
			.max_hw_sectors = (l)->max_sectors,                                        \
			.chunk_sectors = (l)->chunk_sectors,                                       \
			.max_segments = (l)->segments,                                             \
			.max_hw_discard_sectors = (l)->discard_sectors,                            \
			.max_write_zeroes_sectors = (l)->discard_sectors,                          \
			.discard_granularity = (l)->block,                                         \
			RSWAP_FEATURES                                                             \
		};                                                                                 \
		blk_mq_alloc_disk(set, &rswap_q, data);                                            \
	})
#else
#define rswap_alloc_disk(set, l, data)                                                             \
	({                                                                                         \
		struct gendisk *rswap_d = blk_mq_alloc_disk(set, data);                            \
		if (!IS_ERR(rswap_d))                                                              \
			rswap_old_limits(rswap_d->queue, l);                                       \
		rswap_d;                                                                           \
	})
#endif

#if RSWAP_KERNEL(6, 11)
#define RSWAP_FEATURES .features = BLK_FEAT_STABLE_WRITES,
static inline void rswap_disk_flags(struct gendisk *disk)
{
}
#else
#define RSWAP_FEATURES
static inline void rswap_disk_flags(struct gendisk *disk)
{
	blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, disk->queue);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, disk->queue);
	blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, disk->queue);
}
#endif

#if !RSWAP_KERNEL(6, 9)
static inline void rswap_old_limits(struct request_queue *q, const struct rswap_limits *l)
{
	blk_queue_logical_block_size(q, l->block);
	blk_queue_physical_block_size(q, l->block);
	blk_queue_io_min(q, l->block);
	blk_queue_max_hw_sectors(q, l->max_sectors);
	blk_queue_chunk_sectors(q, l->chunk_sectors);
	blk_queue_max_segments(q, l->segments);
	blk_queue_max_discard_sectors(q, l->discard_sectors);
	blk_queue_max_write_zeroes_sectors(q, l->discard_sectors);
	q->limits.discard_granularity = l->block;
}
#endif

/* 6.18: a workqueue says whether it is the processors'. */
#if RSWAP_KERNEL(6, 18)
#define RSWAP_WQ_PERCPU WQ_PERCPU
#else
#define RSWAP_WQ_PERCPU 0
#endif

/* 6.19: addresses of any size have a type of their own. */
#if RSWAP_KERNEL(6, 19)
#define rswap_sockaddr(p) ((struct sockaddr_unsized *)(p))
#else
#define rswap_sockaddr(p) ((struct sockaddr *)(p))
#endif

/* 6.5: pages are lent to the network by a flag of sendmsg, not by sendpage. */
#if RSWAP_KERNEL(6, 5)
#define RSWAP_SEND_ONE false /* a call takes one piece */
static inline int rswap_send_pages(struct socket *s, struct bio_vec *bv, unsigned int n,
				   size_t bytes, int flags)
{
	struct msghdr m = {.msg_flags = flags | MSG_SPLICE_PAGES};

	iov_iter_bvec(&m.msg_iter, ITER_SOURCE, bv, n, bytes);
	return sock_sendmsg(s, &m);
}
#else
#define RSWAP_SEND_ONE true
static inline int rswap_send_pages(struct socket *s, struct bio_vec *bv, unsigned int n,
				   size_t bytes, int flags)
{
	if (flags & MSG_MORE)
		flags |= MSG_SENDPAGE_NOTLAST;
	return kernel_sendpage(s, bv->bv_page, bv->bv_offset, bv->bv_len, flags);
}
#endif

#endif
