// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The block layer's side: one gendisk a device, requests of up to 1 MiB that never cross a slab's
 * end (chunk_sectors), all they need in memory that comes with the request. Requests are started
 * in process context (BLK_MQ_F_BLOCKING), since sending may have to wait for a socket's lock. A
 * write is in its replicas when it is answered, so there is no cache to flush. A read of which
 * some pages are lost fails for those pages only.
 */
#include "compat.h"
#include "device.h"

#define QUEUE_DEPTH   128
#define DISCARD_BYTES (64u << 20)

static int major;

static void blk_done(struct rswap_io *io)
{
	blk_mq_complete_request(blk_mq_rq_from_pdu(io));
}

/* Ends the request run by run: pages that came are good, whatever became of their neighbours. */
static void end_in_parts(struct request *rq, struct rswap_io *io)
{
	u32 i = 0;

	while (i < io->pages) {
		bool bad = test_bit(i, io->todo);
		u32 end = bad ? find_next_zero_bit(io->todo, io->pages, i)
			      : find_next_bit(io->todo, io->pages, i);

		if (!blk_update_request(rq, bad ? BLK_STS_IOERR : BLK_STS_OK,
					(end - i) << RSWAP_PAGE_SHIFT))
			break;
		i = end;
	}
	__blk_mq_end_request(rq, BLK_STS_IOERR);
}

static void blk_complete(struct request *rq)
{
	struct rswap_io *io = blk_mq_rq_to_pdu(rq);

	if (io->status && io->kind == RSWAP_READ)
		end_in_parts(rq, io);
	else
		blk_mq_end_request(rq, io->status ? BLK_STS_IOERR : BLK_STS_OK);
}

static int kind_of(const struct request *rq)
{
	switch (req_op(rq)) {
	case REQ_OP_READ:
		return RSWAP_READ;
	case REQ_OP_WRITE:
		return RSWAP_WRITE;
	case REQ_OP_DISCARD:
		return RSWAP_TRIM;
	case REQ_OP_WRITE_ZEROES:
		return rq->cmd_flags & REQ_NOUNMAP ? RSWAP_ZEROES : RSWAP_TRIM;
	default:
		return -1;
	}
}

static void count(struct rswap_device *dev, int kind)
{
	if (kind == RSWAP_READ)
		rswap_count(dev, reads, 1);
	else if (kind == RSWAP_WRITE)
		rswap_count(dev, writes, 1);
	else
		rswap_count(dev, discards, 1);
}

static void kick(struct rswap_device *dev, unsigned int queue)
{
	for (unsigned int i = 0; i < dev->donors; i++) {
		struct rswap_donor *d = dev->donor[i];

		if (d->t->kick && rswap_donor_up(d))
			d->t->kick(d->conn[queue]);
	}
}

static void commit(struct blk_mq_hw_ctx *hctx)
{
	struct rswap_device *dev = hctx->queue->queuedata;

	if (test_and_clear_bit(hctx->queue_num, &dev->batched))
		kick(dev, hctx->queue_num);
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	struct rswap_device *dev = hctx->queue->queuedata;
	struct request *rq = bd->rq;
	struct rswap_io *io = blk_mq_rq_to_pdu(rq);
	int kind = kind_of(rq);

	blk_mq_start_request(rq);
	if (req_op(rq) == REQ_OP_FLUSH) {
		if (bd->last)
			commit(hctx);
		blk_mq_end_request(rq, BLK_STS_OK);
		return BLK_STS_OK;
	}
	if (kind < 0)
		return BLK_STS_NOTSUPP;
	count(dev, kind);
	rswap_io_init(io, dev);
	io->kind = kind;
	io->shared = kind == RSWAP_READ;
	io->queue = hctx->queue_num;
	io->page = blk_rq_pos(rq) >> (RSWAP_PAGE_SHIFT - SECTOR_SHIFT);
	io->pages = blk_rq_bytes(rq) >> RSWAP_PAGE_SHIFT;
	io->bio = kind == RSWAP_READ || kind == RSWAP_WRITE ? rq->bio : NULL;
	io->end = blk_done;
	io->more = !bd->last;
	rswap_io_start(io);
	/*
	 * Behind the start, and io may be gone: who commits for another one clears the bit, and must
	 * find in the queues whatever it stands for, or that would lie there until its deadline.
	 */
	if (bd->last)
		commit(hctx);
	else
		set_bit(hctx->queue_num, &dev->batched);
	return BLK_STS_OK;
}

/* Every request ends by itself in bounded time: this only tells if that should ever be wrong. */
static enum blk_eh_timer_return timed_out(struct request *rq)
{
	const struct rswap_io *io = blk_mq_rq_to_pdu(rq);

	rswap_log(io->dev, warn, "a request for page %llu is under way for long\n", io->page);
	return BLK_EH_RESET_TIMER;
}

static const struct blk_mq_ops mq_ops = {
	.queue_rq = queue_rq,
	.commit_rqs = commit,
	.complete = blk_complete,
	.timeout = timed_out,
};

static int rswap_open(RSWAP_OPEN_ARGS)
{
	struct rswap_device *dev = rswap_open_disk()->private_data;
	int r = 0;

	mutex_lock(&dev->open_lock);
	if (dev->stopping)
		r = -ENXIO;
	else
		dev->openers++;
	mutex_unlock(&dev->open_lock);
	return r;
}

static void rswap_release(RSWAP_RELEASE_ARGS)
{
	struct rswap_device *dev = disk->private_data;

	mutex_lock(&dev->open_lock);
	dev->openers--;
	mutex_unlock(&dev->open_lock);
}

static const struct block_device_operations disk_ops = {
	.owner = THIS_MODULE,
	.open = rswap_open,
	.release = rswap_release,
};

int rswap_disk_create(struct rswap_device *dev)
{
	const struct rswap_limits limits = {
		.block = RSWAP_PAGE_SIZE,
		.max_sectors = RSWAP_IO_PAGES << (RSWAP_PAGE_SHIFT - SECTOR_SHIFT),
		.chunk_sectors = dev->slab_pages << (RSWAP_PAGE_SHIFT - SECTOR_SHIFT),
		.discard_sectors = DISCARD_BYTES >> SECTOR_SHIFT,
		.segments = RSWAP_IO_PAGES,
	};
	struct gendisk *disk;
	int r;

	dev->tags = (struct blk_mq_tag_set){
		.ops = &mq_ops,
		.nr_hw_queues = dev->queues,
		.queue_depth = QUEUE_DEPTH,
		.numa_node = NUMA_NO_NODE,
		.cmd_size = rswap_io_bytes(dev),
		/* There is nothing to sort; with a single queue it would be mq-deadline. */
		.flags = RSWAP_MQ_MERGE | BLK_MQ_F_BLOCKING | BLK_MQ_F_NO_SCHED_BY_DEFAULT,
		.timeout = 4 * dev->deadline * (dev->replicas + 1),
	};
	r = blk_mq_alloc_tag_set(&dev->tags);
	if (r)
		return r;
	disk = rswap_alloc_disk(&dev->tags, &limits, dev);
	if (IS_ERR(disk)) {
		blk_mq_free_tag_set(&dev->tags);
		return PTR_ERR(disk);
	}
	rswap_disk_flags(disk);
	disk->major = major;
	disk->first_minor = dev->number;
	disk->minors = 1;
	disk->fops = &disk_ops;
	disk->private_data = dev;
	disk->flags |= GENHD_FL_NO_PART;
	strscpy(disk->disk_name, dev->name, DISK_NAME_LEN);
	set_capacity(disk, dev->pages << (RSWAP_PAGE_SHIFT - SECTOR_SHIFT));
	dev->disk = disk;
	return 0;
}

int rswap_disk_add(struct rswap_device *dev)
{
	return device_add_disk(NULL, dev->disk, rswap_disk_groups);
}

void rswap_disk_remove(struct rswap_device *dev)
{
	if (!dev->disk)
		return;
	if (dev->started)
		del_gendisk(dev->disk);
	put_disk(dev->disk);
	dev->disk = NULL;
	blk_mq_free_tag_set(&dev->tags);
}

int rswap_blk_init(void)
{
	major = register_blkdev(0, "rswap");
	return min(major, 0);
}

void rswap_blk_exit(void)
{
	unregister_blkdev(major, "rswap");
}
