// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Which replicas of a slab count. The set changes in three ways only: a write drops those that did
 * not get it, a donor that was started anew takes along what it held, and resync.c adds. The last
 * complete replica is never dropped for being out of reach, because it alone has the
 * acknowledged bytes: requests wait for its donor, or fail. docs/replication.md has the rules.
 */
#include <linux/jiffies.h>
#include "device.h"

static void choose(struct rswap_device *dev, struct rswap_choice *c, const struct rswap_replica *r,
		   unsigned int index)
{
	c->r[c->count] = *r;
	c->index[c->count] = index;
	c->donor[c->count++] = dev->donor[r->donor];
}

/* A donor that is not there may come back until a deadline after it went. */
static void may_return(struct rswap_device *dev, struct rswap_choice *c, const struct rswap_donor *d)
{
	unsigned long until = d->down_since + dev->deadline;

	if (time_after_eq(jiffies, until) || (c->wait && time_before_eq(until, c->until)))
		return;
	c->wait = true;
	c->until = until;
}

static void drop(struct rswap_device *dev, struct rswap_replica *r, u8 state)
{
	WRITE_ONCE(r->state, state);
	rswap_count(dev, replicas_dropped, 1);
}

void rswap_replica_for_read(struct rswap_device *dev, u64 slab, u8 tried, struct rswap_choice *ret)
{
	struct rswap_slab *s = &dev->slab[slab];
	unsigned long flags;

	*ret = (struct rswap_choice){0};
	spin_lock_irqsave(&dev->map_lock, flags);
	for (u32 i = 0; i < dev->replicas && !ret->count; i++) {
		if (s->r[i].state != RSWAP_LIVE || tried & 1u << i)
			continue;
		if (rswap_donor_up(dev->donor[s->r[i].donor]))
			choose(dev, ret, &s->r[i], i);
		else
			may_return(dev, ret, dev->donor[s->r[i].donor]);
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
}

static bool in_set(const struct rswap_replica *r)
{
	return r->state == RSWAP_LIVE || r->state == RSWAP_BUILDING;
}

void rswap_replica_for_write(struct rswap_device *dev, u64 slab, int only, struct rswap_choice *ret)
{
	struct rswap_slab *s = &dev->slab[slab];
	unsigned int live = 0, down = 0, gone = 0;
	unsigned long flags;

	*ret = (struct rswap_choice){0};
	spin_lock_irqsave(&dev->map_lock, flags);
	for (u32 i = 0; i < dev->replicas; i++) {
		struct rswap_donor *d = dev->donor[s->r[i].donor];

		if (!in_set(&s->r[i]) || (only >= 0 && only != (int)i))
			continue;
		if (rswap_donor_up(d)) {
			choose(dev, ret, &s->r[i], i);
			live += s->r[i].state == RSWAP_LIVE;
		} else {
			down |= 1u << i;
			gone += s->r[i].state == RSWAP_LIVE;
			may_return(dev, ret, d);
		}
	}
	if (only == RSWAP_ALL && live) {
		for (u32 i = 0; i < dev->replicas; i++)
			if (down & 1u << i)
				drop(dev, &s->r[i], RSWAP_DROPPED);
	} else if (only == RSWAP_ALL) {
		ret->count = 0;
		if (!gone) { /* nothing left: a new slab may be there soon */
			ret->wait = true;
			ret->until = jiffies + dev->deadline;
		}
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
	if (only == RSWAP_ALL && (down || !live))
		rswap_resync_kick(dev);
}

/* Under map_lock: the replica that the message was for, if it is still the same. */
static struct rswap_replica *same(struct rswap_slab *s, const struct rswap_msg *m)
{
	struct rswap_replica *r = &s->r[m->replica];

	return in_set(r) && r->handle == m->handle && r->donor == m->donor->index ? r : NULL;
}

/* The donor does not have it any more: what else it may say leaves it where it is. */
static bool unknown_slab(const struct rswap_msg *m)
{
	return m->status == -EREMOTEIO && m->wire == WIRE_ESLAB;
}

bool rswap_replica_settle(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	u64 page = io->kind == RSWAP_TRIM ? io->at : io->page;
	struct rswap_slab *s = &dev->slab[page >> dev->slab_shift];
	bool has = false;
	unsigned long flags;

	spin_lock_irqsave(&dev->map_lock, flags);
	for (unsigned int i = 0; i < io->messages; i++) {
		const struct rswap_msg *m = rswap_io_msg(io, i);
		const struct rswap_replica *r = same(s, m);

		if (!m->status && r && (r->state == RSWAP_LIVE || io->only >= 0))
			has = true;
	}
	for (unsigned int i = 0; i < io->messages; i++) {
		const struct rswap_msg *m = rswap_io_msg(io, i);
		struct rswap_replica *r = same(s, m);

		if (!m->status || !r)
			continue;
		if (unknown_slab(m))
			drop(dev, r, RSWAP_NONE);
		else if (has || r->state == RSWAP_BUILDING)
			drop(dev, r, RSWAP_DROPPED);
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
	rswap_resync_kick(dev);
	return has;
}

void rswap_replica_refused(struct rswap_device *dev, u64 slab, const struct rswap_msg *m)
{
	struct rswap_replica *r;
	unsigned long flags;

	spin_lock_irqsave(&dev->map_lock, flags);
	r = same(&dev->slab[slab], m);
	if (r && unknown_slab(m))
		drop(dev, r, RSWAP_NONE);
	spin_unlock_irqrestore(&dev->map_lock, flags);
	rswap_resync_kick(dev);
}

void rswap_replica_forget_donor(struct rswap_donor *d)
{
	struct rswap_device *dev = d->dev;

	for (u64 i = 0; i < dev->slabs; i++) {
		unsigned long flags;

		spin_lock_irqsave(&dev->map_lock, flags);
		for (u32 k = 0; k < dev->replicas; k++) {
			struct rswap_replica *r = &dev->slab[i].r[k];

			if (r->donor == d->index && r->state != RSWAP_NONE)
				drop(dev, r, RSWAP_NONE);
		}
		spin_unlock_irqrestore(&dev->map_lock, flags);
	}
}

void rswap_replica_count(struct rswap_device *dev)
{
	u64 degraded = 0;

	for (u64 i = 0; i < dev->slabs; i++) {
		unsigned int live = 0;

		for (u32 k = 0; k < dev->replicas; k++)
			live += READ_ONCE(dev->slab[i].r[k].state) == RSWAP_LIVE;
		degraded += live < dev->replicas;
	}
	WRITE_ONCE(dev->degraded, degraded);
}
