// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A donor and the connections to it: one for control and one for data for each hardware queue. They
 * live and die together: the first that fails takes all down, requests fail over, and the donor is
 * tried again, with a pause that doubles up to five seconds. A donor that comes back with another
 * boot has lost what it held. Idle donors are pinged, so that one that vanished is missed before a
 * request needs it.
 */
#include <linux/jiffies.h>
#include <linux/random.h>
#include <linux/slab.h>
#include "device.h"

#define BACKOFF_MIN_MS 50u
#define BACKOFF_MAX_MS 5000u
#define PING_MS        2000u

/* The list of transports. */
static const struct rswap_transport *const transports[] = {
	&rswap_tcp,
#if IS_ENABLED(CONFIG_INFINIBAND_ADDR_TRANS)
	&rswap_rdma,
#endif
};

const struct rswap_transport *rswap_transport_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (!strcmp(transports[i]->name, name))
			return transports[i];
	return NULL;
}

const char *rswap_donor_state(const struct rswap_donor *d)
{
	switch (READ_ONCE(d->state)) {
	case RSWAP_DONOR_UP:
		return "up";
	case RSWAP_DONOR_STOPPED:
		return "stopped";
	default:
		return "down";
	}
}

static bool change_state(struct rswap_donor *d, int from, int to)
{
	unsigned long flags;
	bool changed;

	spin_lock_irqsave(&d->dev->map_lock, flags);
	changed = d->state == from;
	if (changed)
		WRITE_ONCE(d->state, to);
	spin_unlock_irqrestore(&d->dev->map_lock, flags);
	return changed;
}

/* --- failing --- */

void rswap_donor_fail(struct rswap_donor *d, int error)
{
	struct rswap_device *dev = d->dev;
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&dev->map_lock, flags);
	first = d->state == RSWAP_DONOR_UP;
	if (first) {
		d->error = error;
		d->down_since = jiffies;
		WRITE_ONCE(d->state, RSWAP_DONOR_FAILING);
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
	if (!first)
		return;
	rswap_log(dev, warn, "donor '%s' is gone (%d)\n", d->address, error);
	queue_work(rswap_control_wq, &d->fail_work);
}

void rswap_conn_failed(struct rswap_conn *c, int error)
{
	unsigned long flags;

	spin_lock_irqsave(&c->lock, flags);
	c->dead = true;
	spin_unlock_irqrestore(&c->lock, flags);
	rswap_donor_fail(c->donor, error);
}

void rswap_conn_moves(struct rswap_conn *c)
{
	unsigned long flags;

	spin_lock_irqsave(&c->lock, flags);
	c->answered = jiffies;
	spin_unlock_irqrestore(&c->lock, flags);
}

static void close_conns(struct rswap_donor *d)
{
	unsigned long flags;

	for (unsigned int i = 0; i < d->dev->queues; i++) {
		struct rswap_conn *c = d->conn[i];

		spin_lock_irqsave(&c->lock, flags);
		c->dead = true;
		spin_unlock_irqrestore(&c->lock, flags);
	}
	for (unsigned int i = 0; i < d->dev->queues; i++)
		if (d->conn[i]->open) {
			d->t->close(d->conn[i]);
			d->conn[i]->open = false;
		}
}

static void fail_work(struct work_struct *work)
{
	struct rswap_donor *d = container_of(work, struct rswap_donor, fail_work);
	unsigned int flags = rswap_reclaim_enter();

	close_conns(d);
	d->backoff_ms = 0;
	if (change_state(d, RSWAP_DONOR_FAILING, RSWAP_DONOR_DOWN)) {
		mod_delayed_work(rswap_connect_wq, &d->work, 0);
		rswap_device_event(d->dev, "donor-lost", d, 0, 0);
	}
	rswap_reclaim_leave(flags);
}

static bool late(struct rswap_conn *c)
{
	unsigned long deadline = c->donor->dev->deadline, flags;
	const struct rswap_msg *m;
	bool r = false;

	spin_lock_irqsave(&c->lock, flags);
	m = list_first_entry_or_null(&c->pending, struct rswap_msg, pending);
	/* A long queue that moves is no reason, an answer that never comes is. */
	if (m && time_after(jiffies, m->sent_at + deadline))
		r = time_after(jiffies, c->answered + deadline) ||
		    (time_after(jiffies, m->sent_at + 8 * deadline) &&
		     (!c->t->in_order || m->op == WIRE_TRIM));
	spin_unlock_irqrestore(&c->lock, flags);
	return r;
}

void rswap_donor_tick(struct rswap_donor *d)
{
	if (!rswap_donor_up(d))
		return;
	for (unsigned int i = 0; i < d->dev->queues; i++) {
		if (!late(d->conn[i]))
			continue;
		rswap_count(d->dev, timeouts, 1);
		rswap_conn_failed(d->conn[i], -ETIMEDOUT);
		return;
	}
}

/* --- connecting --- */

static int check_boot(struct rswap_donor *d)
{
	struct rswap_device *dev = d->dev;

	if (le32_to_cpu(d->welcome.slab_pages) != dev->slab_pages)
		return -EINVAL;
	for (unsigned int i = 0; i < dev->donors; i++)
		if (dev->donor[i] != d && rswap_donor_up(dev->donor[i]) &&
		    !memcmp(d->welcome.boot, dev->donor[i]->boot, sizeof d->boot))
			return -EEXIST; /* the same one by another address */
	if (!memcmp(d->welcome.boot, d->boot, sizeof d->boot))
		return 0;
	if (!memchr_inv(d->boot, 0, sizeof d->boot)) { /* it joined a device in use */
		memcpy(d->boot, d->welcome.boot, sizeof d->boot);
		return 0;
	}
	if (!dev->started)
		return -ESTALE;
	rswap_log(dev, warn, "donor '%s' was started anew: what it held is gone\n", d->address);
	rswap_replica_forget_donor(d);
	memcpy(d->boot, d->welcome.boot, sizeof d->boot);
	return 0;
}

#define MAP_BATCH 16

/* Tells the transport of every replica that the donor holds. */
static int map_replicas(struct rswap_donor *d)
{
	struct rswap_replica *batch[MAP_BATCH];
	struct rswap_device *dev = d->dev;
	unsigned int n = 0;
	int r = 0;

	if (!d->t->map)
		return 0;
	for (u64 i = 0; i < dev->slabs && !r; i++)
		for (u32 k = 0; k < dev->replicas && !r; k++) {
			struct rswap_replica *rep = &dev->slab[i].r[k];

			if (rep->donor != d->index || rep->state < RSWAP_BUILDING)
				continue;
			batch[n++] = rep;
			if (n < MAP_BATCH)
				continue;
			r = d->t->map(d, batch, n);
			atomic_inc(&dev->told);
			n = 0;
		}
	return n && !r ? d->t->map(d, batch, n) : r;
}

static int connect_all(struct rswap_donor *d)
{
	int r;

	/* What older connections still have under way must not land behind what newer ones do. */
	d->epoch++;
	r = rswap_control_open(d);
	if (!r)
		r = check_boot(d);
	for (unsigned int i = 0; i < d->dev->queues && !r; i++) {
		struct rswap_conn *c = d->conn[i];

		c->dead = false;
		c->open = true; /* so that close_conns() cleans up what open() began */
		r = d->t->open(c);
	}
	if (!r)
		r = map_replicas(d);
	if (r) {
		close_conns(d);
		rswap_control_close(d);
	}
	return r;
}

static void came_up(struct rswap_donor *d)
{
	struct rswap_device *dev = d->dev;

	d->error = 0;
	d->backoff_ms = 0;
	for (unsigned int i = 0; i < dev->queues; i++)
		d->conn[i]->answered = jiffies;
	change_state(d, RSWAP_DONOR_DOWN, RSWAP_DONOR_UP);
	for (unsigned int i = 0; i < dev->queues; i++)
		if (READ_ONCE(d->conn[i]->dead))
			rswap_donor_fail(d, -ECONNRESET);
	wake_up_all(&dev->changed);
	if (dev->started) {
		rswap_count(dev, reconnects, 1);
		rswap_log(dev, info, "donor '%s' is back\n", d->address);
		rswap_device_event(dev, "donor-back", d, 0, 0);
	}
	rswap_io_wake(dev);
	rswap_resync_kick(dev);
}

static void donor_work(struct work_struct *work)
{
	struct rswap_donor *d = container_of(to_delayed_work(work), struct rswap_donor, work);
	unsigned int pause = PING_MS, flags;
	u32 wire;
	int r;

	flags = rswap_reclaim_enter();
	switch (READ_ONCE(d->state)) {
	case RSWAP_DONOR_UP:
		r = rswap_control_call(d, WIRE_PING, 0, NULL, 0, NULL, 0, &wire);
		if (r < 0)
			rswap_donor_fail(d, r);
		break;
	case RSWAP_DONOR_DOWN:
		rswap_control_close(d);
		r = connect_all(d);
		if (!r) {
			came_up(d);
			break;
		}
		d->error = r;
		wake_up_all(&d->dev->changed);
		d->backoff_ms = clamp(d->backoff_ms * 2, BACKOFF_MIN_MS, BACKOFF_MAX_MS);
		pause = d->backoff_ms + get_random_u32() % (d->backoff_ms / 4);
		break;
	default:
		break;
	}
	rswap_reclaim_leave(flags);
	if (READ_ONCE(d->state) != RSWAP_DONOR_STOPPED)
		queue_delayed_work(rswap_connect_wq, &d->work, msecs_to_jiffies(pause));
}

void rswap_conn_submit(struct rswap_donor *d, struct rswap_msg *m, unsigned int queue, bool more)
{
	struct rswap_conn *c = d->conn[queue];
	unsigned long flags;
	bool dead;

	m->conn = c;
	m->sent_at = jiffies;
	spin_lock_irqsave(&c->lock, flags);
	dead = c->dead || !c->open;
	if (!dead)
		list_add_tail(&m->pending, &c->pending);
	spin_unlock_irqrestore(&c->lock, flags);
	if (!dead) {
		c->t->submit(c, m, more);
		return;
	}
	m->conn = NULL;
	rswap_msg_done(m, -ENOTCONN, 0);
}

/* --- life --- */

int rswap_donor_create(struct rswap_device *dev, unsigned int index,
		       const struct rswap_transport *t, struct rswap_donor **ret)
{
	struct rswap_donor *d;

	/* A device that is there has messages of the size that its first transports wanted. */
	if (dev->msg_bytes && dev->msg_bytes < sizeof(struct rswap_msg) + t->msg_bytes)
		return -EMEDIUMTYPE;
	d = kzalloc(sizeof *d, GFP_KERNEL);
	if (!d)
		return -ENOMEM;
	d->dev = dev;
	d->index = index;
	d->t = t;
	d->down_since = jiffies;
	d->epoch = dev->epoch;
	mutex_init(&d->control_lock);
	INIT_DELAYED_WORK(&d->work, donor_work);
	INIT_WORK(&d->fail_work, fail_work);
	*ret = d;
	return 0;
}

int rswap_donor_alloc_conns(struct rswap_donor *d)
{
	for (unsigned int i = 0; i < d->dev->queues; i++) {
		struct rswap_conn *c = kzalloc(d->t->conn_bytes, GFP_KERNEL);

		if (!c)
			return -ENOMEM;
		c->t = d->t;
		c->donor = d;
		c->queue = i;
		spin_lock_init(&c->lock);
		INIT_LIST_HEAD(&c->pending);
		d->conn[i] = c;
	}
	return 0;
}

void rswap_donor_start(struct rswap_donor *d)
{
	queue_delayed_work(rswap_connect_wq, &d->work, 0);
}

void rswap_donor_stop(struct rswap_donor *d, bool goodbye)
{
	unsigned long flags;
	u32 wire;

	spin_lock_irqsave(&d->dev->map_lock, flags);
	WRITE_ONCE(d->state, RSWAP_DONOR_STOPPED);
	spin_unlock_irqrestore(&d->dev->map_lock, flags);
	cancel_delayed_work_sync(&d->work);
	cancel_work_sync(&d->fail_work);
	cancel_delayed_work_sync(&d->work);
	if (goodbye && d->control)
		rswap_control_call(d, WIRE_GOODBYE, 0, NULL, 0, NULL, 0, &wire);
	if (d->conn[0])
		close_conns(d);
	rswap_control_close(d);
}

void rswap_donor_free(struct rswap_donor *d)
{
	if (!d)
		return;
	for (unsigned int i = 0; i < RSWAP_MAX_QUEUES; i++)
		kfree(d->conn[i]);
	kfree_sensitive(d);
}
