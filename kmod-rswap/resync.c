// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Making slabs whole again while requests go on: pages that came back wrong are written again where
 * they were wrong, slabs with too few replicas get new ones. A new replica takes part in every write
 * from the moment it is in the set; the copier holds the range of the pages that it copies, so
 * whatever is written is written before or after, to both. Works in memory that was set aside.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "device.h"

#define COPY_PAGES 64u
#define REPAIRS    256u
#define AGAIN      (5 * HZ) /* when donors had no room */

struct repair {
	u64 page;
	u8 replica;
};

struct rswap_resync {
	struct page *page[COPY_PAGES];
	struct bio_vec vec[COPY_PAGES];
	struct bio bio;
	struct rswap_io *io, *range;
	struct completion done;
	u64 held[RSWAP_MAX_DONORS]; /* slabs, for the choice of a donor */
	u64 degraded_before;

	spinlock_t lock;
	struct repair repair[REPAIRS];
	unsigned int first, count;
};

/* --- one chunk of pages --- */

static void range_work(struct work_struct *work)
{
	struct rswap_io *io = container_of(work, struct rswap_io, work);

	complete(io->owner);
}

static void io_end(struct rswap_io *io)
{
	complete(io->owner);
}

/* Requests finish in bounded time, so this does. */
static void range_lock(struct rswap_device *dev, u64 page, u32 pages)
{
	struct rswap_resync *rs = dev->resync;

	rswap_io_init(rs->range, dev);
	rs->range->page = page;
	rs->range->pages = pages;
	rs->range->owner = &rs->done;
	INIT_WORK(&rs->range->work, range_work);
	reinit_completion(&rs->done);
	if (!rswap_range_take(rs->range))
		wait_for_completion(&rs->done);
}

static void run(struct rswap_device *dev, struct rswap_io *io)
{
	struct rswap_resync *rs = dev->resync;

	io->held = true;
	io->end = io_end;
	io->owner = &rs->done;
	reinit_completion(&rs->done);
	rswap_io_start(io);
	wait_for_completion(&rs->done);
}

static void make_bio(struct rswap_resync *rs, u32 pages)
{
	bio_init(&rs->bio, NULL, rs->vec, COPY_PAGES, REQ_OP_READ);
	for (u32 i = 0; i < pages; i++) {
		rs->vec[i].bv_page = rs->page[i];
		rs->vec[i].bv_len = RSWAP_PAGE_SIZE;
		rs->vec[i].bv_offset = 0;
	}
	rs->bio.bi_vcnt = pages;
	rs->bio.bi_iter.bi_size = pages << RSWAP_PAGE_SHIFT;
}

/*
 * Pages that are right somewhere, but for replica r, are written there; the range is held. What is
 * nowhere right stays an error wherever it is read. Returns pages written, or a negative errno.
 */
static int copy(struct rswap_device *dev, u64 page, u32 pages, unsigned int r)
{
	struct rswap_resync *rs = dev->resync;
	struct rswap_io *io = rs->io;
	unsigned long good[BITS_TO_LONGS(RSWAP_IO_PAGES)];
	u32 n;

	rswap_io_init(io, dev);
	make_bio(rs, pages);
	io->kind = RSWAP_READ;
	io->page = page;
	io->pages = pages;
	io->bio = &rs->bio;
	io->tried = 1u << r;
	rswap_data_look(io);
	bitmap_copy(good, io->todo, RSWAP_IO_PAGES);
	io->started = true;
	if (bitmap_empty(good, pages))
		return 0;
	run(dev, io);
	if (bitmap_intersects(good, io->todo, pages) && io->status != -EBADMSG)
		return -EAGAIN; /* they may be there, but nobody can be asked now */
	bitmap_andnot(good, good, io->todo, pages);
	n = bitmap_weight(good, pages);
	if (!n)
		return 0;

	rswap_io_init(io, dev);
	make_bio(rs, pages);
	io->kind = RSWAP_WRITE;
	io->page = page;
	io->pages = pages;
	io->bio = &rs->bio;
	io->only = r;
	io->started = true;
	bitmap_copy(io->todo, good, RSWAP_IO_PAGES);
	run(dev, io);
	return io->status ? io->status : (int)n;
}

/* --- pages that came back wrong --- */

void rswap_resync_repair(struct rswap_device *dev, u64 page, unsigned int r)
{
	struct rswap_resync *rs = dev->resync;
	unsigned long flags;

	spin_lock_irqsave(&rs->lock, flags);
	/* A full list forgets: whoever reads the page next will find it again. */
	if (rs->count < REPAIRS)
		rs->repair[(rs->first + rs->count++) % REPAIRS] = (struct repair){page, r};
	spin_unlock_irqrestore(&rs->lock, flags);
	rswap_resync_kick(dev);
}

static bool next_repair(struct rswap_resync *rs, struct repair *ret)
{
	bool r;

	spin_lock_irq(&rs->lock);
	r = rs->count;
	if (r) {
		*ret = rs->repair[rs->first];
		rs->first = (rs->first + 1) % REPAIRS;
		rs->count--;
	}
	spin_unlock_irq(&rs->lock);
	return r;
}

static void repair_pages(struct rswap_device *dev)
{
	struct repair p;

	while (!READ_ONCE(dev->stopping) && next_repair(dev->resync, &p)) {
		int r;

		range_lock(dev, p.page, 1);
		r = copy(dev, p.page, 1, p.replica);
		rswap_range_give(dev->resync->range);
		if (r > 0) {
			rswap_count(dev, repaired, r);
			rswap_log(dev, info, "page %llu is right again\n", p.page);
		}
	}
}

/* --- slabs with too few replicas --- */

static void set_state(struct rswap_device *dev, struct rswap_replica *r, u8 from, u8 to)
{
	spin_lock_irq(&dev->map_lock);
	if (r->state == from)
		WRITE_ONCE(r->state, to);
	spin_unlock_irq(&dev->map_lock);
}

/* What a donor kept through a time in which it missed writes is of no use. */
static void free_dropped(struct rswap_device *dev, struct rswap_slab *s)
{
	for (u32 i = 0; i < dev->replicas; i++) {
		struct rswap_replica *r = &s->r[i];
		struct rswap_donor *d = dev->donor[r->donor];

		if (READ_ONCE(r->state) == RSWAP_DROPPED && rswap_donor_up(d) &&
		    !rswap_control_free(d, r->handle))
			set_state(dev, r, RSWAP_DROPPED, RSWAP_NONE);
	}
}

static bool in_use(const struct rswap_device *dev, const struct rswap_slab *s, unsigned int donor)
{
	for (u32 i = 0; i < dev->replicas; i++)
		if (s->r[i].state != RSWAP_NONE && s->r[i].donor == donor)
			return true;
	return false;
}

static bool shares_domain(const struct rswap_device *dev, const struct rswap_slab *s,
			  const struct rswap_donor *d)
{
	for (u32 i = 0; i < dev->replicas; i++)
		if (s->r[i].state == RSWAP_LIVE && d->domain[0] &&
		    !strcmp(dev->donor[s->r[i].donor]->domain, d->domain))
			return true;
	return false;
}

/* A donor that is there, holds no replica of the slab, and refused none in this pass. */
static struct rswap_donor *pick_donor(struct rswap_device *dev, const struct rswap_slab *s, u64 full)
{
	struct rswap_resync *rs = dev->resync;
	struct rswap_donor *best = NULL;
	bool best_shares = false;

	for (unsigned int i = 0; i < dev->donors; i++) {
		struct rswap_donor *d = dev->donor[i];
		bool shares;

		if (!rswap_donor_up(d) || full & 1ull << i || in_use(dev, s, i))
			continue;
		shares = shares_domain(dev, s, d);
		if (best && (shares > best_shares ||
			     (shares == best_shares && rs->held[i] >= rs->held[best->index])))
			continue;
		best = d;
		best_shares = shares;
	}
	return best;
}

/* The slab's pages are nowhere: an error each, until they are written. */
static void lose_slab(struct rswap_device *dev, u64 slab, struct rswap_replica *r)
{
	u64 *hash = dev->hash + (slab << dev->slab_shift);
	u32 lost = 0;

	range_lock(dev, slab << dev->slab_shift, dev->slab_pages);
	for (u32 i = 0; i < dev->slab_pages; i++)
		if (hash[i] != RSWAP_HASH_ZERO && hash[i] != RSWAP_HASH_STALE) {
			hash[i] = RSWAP_HASH_LOST;
			lost++;
		}
	set_state(dev, r, RSWAP_BUILDING, RSWAP_LIVE);
	rswap_range_give(dev->resync->range);
	rswap_io_wake(dev);
	if (!lost)
		return;
	WRITE_ONCE(dev->lost, dev->lost + 1);
	rswap_log(dev, err, "slab %llu: %u pages are lost, no donor has them\n", slab, lost);
	rswap_device_event(dev, "slab-lost", NULL, slab, 1);
}

/* 0, or why the copy is not complete. */
static int copy_slab(struct rswap_device *dev, u64 slab, unsigned int index)
{
	struct rswap_replica *r = &dev->slab[slab].r[index];
	int done = 0;

	for (u32 i = 0; i < dev->slab_pages; i += COPY_PAGES) {
		u64 page = (slab << dev->slab_shift) + i;
		u32 n = min(COPY_PAGES, dev->slab_pages - i);

		if (READ_ONCE(dev->stopping) || READ_ONCE(r->state) != RSWAP_BUILDING)
			return -EAGAIN;
		range_lock(dev, page, n);
		done = copy(dev, page, n, index);
		rswap_range_give(dev->resync->range);
		if (done < 0)
			return done;
		cond_resched();
	}
	return 0;
}

static bool has_live(const struct rswap_device *dev, const struct rswap_slab *s)
{
	for (u32 i = 0; i < dev->replicas; i++)
		if (READ_ONCE(s->r[i].state) == RSWAP_LIVE)
			return true;
	return false;
}

static int add_replica(struct rswap_device *dev, u64 slab, unsigned int index,
		       struct rswap_donor *d)
{
	struct rswap_slab *s = &dev->slab[slab];
	struct rswap_replica *r = &s->r[index], fresh = {.donor = d->index,
							 .state = RSWAP_BUILDING};
	struct rswap_replica *list[] = {&fresh};
	int err = rswap_control_grant(d, &fresh.handle);

	if (!err && d->t->map)
		err = d->t->map(d, list, 1);
	if (err)
		return err;
	spin_lock_irq(&dev->map_lock);
	*r = fresh;
	spin_unlock_irq(&dev->map_lock);
	dev->resync->held[d->index]++;
	if (!has_live(dev, s)) {
		lose_slab(dev, slab, r);
		return 0;
	}
	err = copy_slab(dev, slab, index);
	if (err) {
		set_state(dev, r, RSWAP_BUILDING, RSWAP_DROPPED);
		return err;
	}
	set_state(dev, r, RSWAP_BUILDING, RSWAP_LIVE);
	rswap_count(dev, slabs_rebuilt, 1);
	return 0;
}

/* True: something is missing that may be had later. */
static bool mend_slab(struct rswap_device *dev, u64 slab, u64 *full)
{
	struct rswap_slab *s = &dev->slab[slab];
	bool again = false;

	free_dropped(dev, s);
	for (u32 i = 0; i < dev->replicas; i++) {
		struct rswap_donor *d;
		int r = -ENOSPC;

		if (READ_ONCE(s->r[i].state) == RSWAP_DROPPED)
			again = true;
		if (READ_ONCE(s->r[i].state) != RSWAP_NONE)
			continue;
		while (r == -ENOSPC && (d = pick_donor(dev, s, *full))) {
			r = add_replica(dev, slab, i, d);
			if (r == -ENOSPC)
				*full |= 1ull << d->index;
		}
		again |= r < 0;
	}
	return again;
}

static void count_held(struct rswap_device *dev)
{
	struct rswap_resync *rs = dev->resync;

	memset(rs->held, 0, sizeof rs->held);
	for (u64 i = 0; i < dev->slabs; i++)
		for (u32 k = 0; k < dev->replicas; k++)
			if (dev->slab[i].r[k].state != RSWAP_NONE)
				rs->held[dev->slab[i].r[k].donor]++;
}

static void tell(struct rswap_device *dev)
{
	struct rswap_resync *rs = dev->resync;

	rswap_replica_count(dev);
	if (dev->degraded && !rs->degraded_before) {
		rswap_log(dev, warn, "%llu slabs have fewer replicas than %u\n", dev->degraded,
			  dev->replicas);
		rswap_device_event(dev, "degraded", NULL, 0, dev->degraded);
	} else if (!dev->degraded && rs->degraded_before) {
		rswap_log(dev, info, "all slabs have %u replicas again\n", dev->replicas);
		rswap_device_event(dev, "rebuilt", NULL, 0, 0);
	}
	rs->degraded_before = dev->degraded;
}

static void resync_work(struct work_struct *work)
{
	struct rswap_device *dev =
		container_of(to_delayed_work(work), struct rswap_device, resync_work);
	unsigned int flags = rswap_reclaim_enter();
	bool again = false;
	u64 full = 0;

	tell(dev);
	repair_pages(dev);
	if (dev->degraded) {
		count_held(dev);
		for (u64 i = 0; i < dev->slabs && !READ_ONCE(dev->stopping); i++)
			again |= mend_slab(dev, i, &full);
		tell(dev);
	}
	rswap_reclaim_leave(flags);
	if (again && !READ_ONCE(dev->stopping))
		queue_delayed_work(rswap_sync_wq, &dev->resync_work, AGAIN);
}

void rswap_resync_kick(struct rswap_device *dev)
{
	if (!READ_ONCE(dev->stopping) && dev->started)
		mod_delayed_work(rswap_sync_wq, &dev->resync_work, 0);
}

int rswap_resync_open(struct rswap_device *dev)
{
	struct rswap_resync *rs = kvzalloc(sizeof *rs, GFP_KERNEL);

	if (!rs)
		return -ENOMEM;
	spin_lock_init(&rs->lock);
	init_completion(&rs->done);
	INIT_DELAYED_WORK(&dev->resync_work, resync_work);
	dev->resync = rs;
	rs->io = kzalloc(rswap_io_bytes(dev), GFP_KERNEL);
	rs->range = kzalloc(sizeof *rs->range, GFP_KERNEL);
	if (!rs->io || !rs->range)
		return -ENOMEM;
	for (u32 i = 0; i < COPY_PAGES; i++) {
		rs->page[i] = alloc_page(GFP_KERNEL);
		if (!rs->page[i])
			return -ENOMEM;
	}
	return 0;
}

void rswap_resync_close(struct rswap_device *dev)
{
	struct rswap_resync *rs = dev->resync;

	if (!rs)
		return;
	cancel_delayed_work_sync(&dev->resync_work);
	for (u32 i = 0; i < COPY_PAGES; i++)
		if (rs->page[i])
			__free_page(rs->page[i]);
	kfree(rs->io);
	kfree(rs->range);
	kvfree(rs);
	dev->resync = NULL;
}
