// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Ranges of pages under way. Two writes of one page at a time would leave the replicas with
 * different bytes, and a read beside a write would come back with the hash of neither; the block
 * layer promises neither away. So a write owns its pages, and reads share theirs. Whoever waits is
 * served in the order of coming; waiting costs no thread: the request's work is queued when its
 * turn is there. Requests hold one range at a time and finish in bounded time, so nobody waits
 * for ever.
 */
#include "device.h"

static bool overlap(const struct rswap_io *a, const struct rswap_io *b)
{
	return !(a->shared && b->shared) && a->range.start <= b->range.last &&
	       b->range.start <= a->range.last;
}

static bool taken(struct rswap_device *dev, const struct rswap_io *io)
{
	struct interval_tree_node *n;

	for (n = interval_tree_iter_first(&dev->ranges, io->range.start, io->range.last); n;
	     n = interval_tree_iter_next(n, io->range.start, io->range.last))
		if (!(io->shared && container_of(n, struct rswap_io, range)->shared))
			return true;
	return false;
}

/* Somebody who came earlier and waits must not be overtaken. */
static bool must_wait(struct rswap_device *dev, const struct rswap_io *io)
{
	const struct rswap_io *w;

	if (taken(dev, io))
		return true;
	list_for_each_entry(w, &dev->range_waiters, link) {
		if (w == io)
			break;
		if (overlap(w, io))
			return true;
	}
	return false;
}

bool rswap_range_take(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	unsigned long flags;

	io->range.start = io->page;
	io->range.last = io->page + io->pages - 1;
	spin_lock_irqsave(&dev->range_lock, flags);
	io->granted = !must_wait(dev, io);
	if (io->granted) {
		interval_tree_insert(&io->range, &dev->ranges);
	} else {
		io->more = false;
		list_add_tail(&io->link, &dev->range_waiters);
	}
	spin_unlock_irqrestore(&dev->range_lock, flags);
	return io->granted;
}

void rswap_range_give(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	struct rswap_io *w, *next;
	unsigned long flags;

	spin_lock_irqsave(&dev->range_lock, flags);
	interval_tree_remove(&io->range, &dev->ranges);
	list_for_each_entry_safe(w, next, &dev->range_waiters, link) {
		if (must_wait(dev, w))
			continue;
		list_del_init(&w->link);
		w->granted = true;
		interval_tree_insert(&w->range, &dev->ranges);
		queue_work(rswap_io_wq, &w->work);
	}
	spin_unlock_irqrestore(&dev->range_lock, flags);
}
