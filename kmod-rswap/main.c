// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Kernel module rswap: block devices whose pages lie in the memory of other nodes. `infuse attach`
 * makes them. See device.h for the way through the files.
 */
#include <linux/module.h>
#include "compat.h"
#include "device.h"

bool rswap_careless;
module_param_named(careless, rswap_careless, bool, 0444);
MODULE_PARM_DESC(careless, "for tests: take memory like a driver that never heard of swap");

/*
 * Requests go on in io, connections end in control: neither ever waits for a donor, so they are
 * never stuck behind connect (connecting, pings) and sync (rebuilding), which do. All have a
 * rescuer: no thread must be made for a page to move.
 */
struct workqueue_struct *rswap_io_wq, *rswap_control_wq, *rswap_connect_wq, *rswap_sync_wq;

static struct workqueue_struct *make_wq(const char *name, unsigned int flags)
{
	return alloc_workqueue("rswap_%s", flags | (rswap_careless ? 0 : WQ_MEM_RECLAIM), 0, name);
}

static void free_wqs(void)
{
	struct workqueue_struct *const all[] = {rswap_io_wq, rswap_control_wq, rswap_connect_wq,
						rswap_sync_wq};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i])
			destroy_workqueue(all[i]);
}

static int __init rswap_init(void)
{
	int r = -ENOMEM;

	rswap_io_wq = make_wq("io", WQ_HIGHPRI | RSWAP_WQ_PERCPU);
	rswap_control_wq = make_wq("control", WQ_UNBOUND | WQ_HIGHPRI);
	rswap_connect_wq = make_wq("connect", WQ_UNBOUND);
	rswap_sync_wq = make_wq("sync", WQ_UNBOUND);
	if (!rswap_io_wq || !rswap_control_wq || !rswap_connect_wq || !rswap_sync_wq)
		goto err_wqs;
	r = rswap_blk_init();
	if (r)
		goto err_wqs;
	r = rswap_netlink_init();
	if (r)
		goto err_blk;
	return 0;

err_blk:
	rswap_blk_exit();
err_wqs:
	free_wqs();
	return r;
}

static void __exit rswap_exit(void)
{
	struct rswap_device *dev, *next;

	rswap_netlink_exit();
	/* None is open, or the module could not go. */
	mutex_lock(&rswap_devices_lock);
	list_for_each_entry_safe(dev, next, &rswap_devices, link)
		rswap_device_detach(dev, true);
	mutex_unlock(&rswap_devices_lock);
	rswap_blk_exit();
	free_wqs();
}

module_init(rswap_init);
module_exit(rswap_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Swap and block devices in other nodes' memory");
MODULE_VERSION(RSWAP_VERSION);
