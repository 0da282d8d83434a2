// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The life of a device: made step by step by netlink.c, started once all its donors answer, ticking
 * (deadlines), and taken down when nobody has it open. All memory is taken here.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "device.h"

#define DEADLINE_MS 3000
#define TICK_MIN    max(HZ / 50, 1)

DEFINE_MUTEX(rswap_devices_lock);
LIST_HEAD(rswap_devices);

struct rswap_device *rswap_device_find(const char *name)
{
	struct rswap_device *dev;

	list_for_each_entry(dev, &rswap_devices, link)
		if (!strcmp(dev->name, name))
			return dev;
	return NULL;
}

u64 rswap_counter(const struct rswap_device *dev, unsigned int i)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu_ptr(dev->count, cpu)[i];
	return sum;
}

const char *rswap_device_state(const struct rswap_device *dev)
{
	if (dev->stopping)
		return "stopping";
	if (!dev->started)
		return "new";
	return READ_ONCE(dev->degraded) ? "degraded" : "ok";
}

/* Donors and pages in the answer order of the event: what happened, to whom, where. */
void rswap_device_event(struct rswap_device *dev, const char *event, const struct rswap_donor *d,
			u64 first, u64 slabs)
{
	char what[40], who[RSWAP_TEXT_BYTES + 16];
	char *env[] = {what, d ? who : NULL, NULL};

	if (!dev->started || dev->stopping)
		return;
	rswap_netlink_event(dev, event, d, first, slabs);
	snprintf(what, sizeof what, "RSWAP_EVENT=%s", event);
	if (d)
		snprintf(who, sizeof who, "RSWAP_DONOR=%s", d->address);
	kobject_uevent_env(&disk_to_dev(dev->disk)->kobj, KOBJ_CHANGE, env);
}

static void tick(struct work_struct *work)
{
	struct rswap_device *dev =
		container_of(to_delayed_work(work), struct rswap_device, tick);

	for (unsigned int i = 0; i < dev->donors; i++)
		rswap_donor_tick(dev->donor[i]);
	rswap_io_expire(dev, false);
	queue_delayed_work(rswap_control_wq, &dev->tick,
			   max_t(unsigned long, READ_ONCE(dev->deadline) / 8, TICK_MIN));
}

static void free_device(struct rswap_device *dev)
{
	for (unsigned int i = 0; i < dev->donors; i++)
		rswap_donor_free(dev->donor[i]);
	rswap_resync_close(dev);
	rswap_auth_close(dev->hmac);
	vfree(dev->slab);
	vfree(dev->hash);
	free_percpu(dev->count);
	kfree_sensitive(dev);
}

static unsigned int free_number(const char *name)
{
	const struct rswap_device *dev;
	unsigned long used = 0;
	unsigned int n;

	list_for_each_entry(dev, &rswap_devices, link)
		used |= 1ul << dev->number;
	/* rswap3 is minor 3 if it can be. */
	if (sscanf(name, "rswap%u", &n) == 1 && n < RSWAP_MAX_DEVICES && !(used & 1ul << n))
		return n;
	return find_first_zero_bit(&used, RSWAP_MAX_DEVICES);
}

struct rswap_device *rswap_device_create(const char *name, u64 slabs, u32 slab_pages, u32 replicas)
{
	struct rswap_device *dev;
	unsigned int number = free_number(name);

	if (number >= RSWAP_MAX_DEVICES)
		return ERR_PTR(-ENOSPC);
	dev = kzalloc(sizeof *dev, GFP_KERNEL);
	if (!dev)
		return ERR_PTR(-ENOMEM);
	strscpy(dev->name, name, sizeof dev->name);
	strscpy(dev->volume, name, sizeof dev->volume);
	dev->number = number;
	dev->slabs = slabs;
	dev->slab_pages = slab_pages;
	dev->slab_shift = ilog2(slab_pages);
	dev->pages = slabs << dev->slab_shift;
	dev->replicas = replicas;
	dev->deadline = msecs_to_jiffies(DEADLINE_MS);
	dev->queues = min(num_online_cpus(), RSWAP_MAX_QUEUES);
	spin_lock_init(&dev->map_lock);
	spin_lock_init(&dev->range_lock);
	mutex_init(&dev->open_lock);
	init_waitqueue_head(&dev->changed);
	INIT_LIST_HEAD(&dev->stalled);
	INIT_LIST_HEAD(&dev->range_waiters);
	INIT_DELAYED_WORK(&dev->tick, tick);
	dev->ranges = RB_ROOT_CACHED;
	dev->slab = vzalloc(array_size(slabs, sizeof *dev->slab));
	dev->hash = vzalloc(array_size(dev->pages, sizeof *dev->hash));
	dev->count = __alloc_percpu(RSWAP_COUNTERS * sizeof(u64), sizeof(u64));
	if (!dev->slab || !dev->hash || !dev->count) {
		free_device(dev);
		return ERR_PTR(-ENOMEM);
	}
	list_add_tail(&dev->link, &rswap_devices);
	return dev;
}

/* All are up, or one of them failed in a way that trying again won't mend. */
static bool all_tried(const struct rswap_device *dev)
{
	for (unsigned int i = 0; i < dev->donors; i++) {
		int error = READ_ONCE(dev->donor[i]->error);

		if (error == -ESTALE || error == -EACCES || error == -EPROTO ||
		    error == -EPROTONOSUPPORT || error == -EINVAL || error == -ENODEV)
			return true;
	}
	for (unsigned int i = 0; i < dev->donors; i++)
		if (!rswap_donor_up(dev->donor[i]))
			return false;
	return true;
}

static int connect_donors(struct rswap_device *dev)
{
	long r;
	int seen;

	for (unsigned int i = 0; i < dev->donors; i++)
		rswap_donor_start(dev->donor[i]);
	/* Telling a transport of many slabs may take longer; as long as it goes on, it does. */
	do {
		seen = atomic_read(&dev->told);
		r = wait_event_interruptible_timeout(dev->changed, all_tried(dev), dev->deadline);
	} while (!r && seen != atomic_read(&dev->told));
	for (unsigned int i = 0; i < dev->donors; i++) {
		struct rswap_donor *d = dev->donor[i];

		if (rswap_donor_up(d))
			continue;
		rswap_log(dev, err, "donor '%s' can't be connected (%d)\n", d->address, d->error);
		return d->error ? d->error : -ETIMEDOUT;
	}
	return 0;
}

static int prepare(struct rswap_device *dev)
{
	int r = 0;

	for (unsigned int i = 0; i < dev->donors; i++) {
		const struct rswap_transport *t = dev->donor[i]->t;

		dev->msg_bytes = max(dev->msg_bytes,
				     ALIGN(sizeof(struct rswap_msg) + t->msg_bytes, 8));
	}
	r = rswap_resync_open(dev);
	for (unsigned int i = 0; i < dev->donors && !r; i++)
		r = rswap_donor_alloc_conns(dev->donor[i]);
	if (!r)
		r = rswap_disk_create(dev);
	return r;
}

int rswap_device_start(struct rswap_device *dev)
{
	int r = prepare(dev);

	if (!r)
		r = connect_donors(dev);
	if (r)
		return r;
	queue_delayed_work(rswap_control_wq, &dev->tick, 0);
	dev->started = true;
	dev->portid = 0;
	r = rswap_disk_add(dev);
	if (r)
		dev->started = false;
	else
		pr_info("%s: %llu MiB with %u replicas on %u donors\n", dev->name,
			dev->pages >> (20 - RSWAP_PAGE_SHIFT), dev->replicas, dev->donors);
	return r;
}

int rswap_device_detach(struct rswap_device *dev, bool force)
{
	int r = 0;

	mutex_lock(&dev->open_lock);
	if (dev->openers && !force)
		r = -EBUSY;
	else
		dev->stopping = true;
	mutex_unlock(&dev->open_lock);
	if (r)
		return r;
	/* Whoever still waits for a donor is told now, or removing the disk would wait too. */
	rswap_io_expire(dev, true);
	rswap_disk_remove(dev);
	cancel_delayed_work_sync(&dev->tick);
	rswap_resync_close(dev);
	for (unsigned int i = 0; i < dev->donors; i++)
		rswap_donor_stop(dev->donor[i], true);
	list_del(&dev->link);
	free_device(dev);
	return 0;
}
