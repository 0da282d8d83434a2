/* SPDX-License-Identifier: MIT */
/*
 * A volume that outlives its nbdkit: the registry knows it by its name, who it is for donors, its epoch
 * and where its slabs lie (registry/volumes.h), and another nbdkit goes on with it. Whoever opens it
 * takes it over: from then on donors do nothing for the one before, paused or not. A thread writes down
 * every change of where slabs lie; the data path never waits for it.
 */
#ifndef NBDKIT_RSWAP_KEPT_H
#define NBDKIT_RSWAP_KEPT_H

#include "nbdkit-rswap/device.h"
#include "registry/registry.h"

struct kept;

struct kept_options {
	const char *registry; /* url */
	const char *name;
	bool force;           /* take over though a donor that may know more can't be asked */
	void (*failed)(const char *why); /* in the thread, once each time it begins to fail */
};

/*
 * [text] Opens the device, new or as it was left: o is as for device_open(), its donors are those to begin
 * with. -ESTALE, -EAGAIN: somebody else was faster. Blocks: taking over reads all pages.
 */
int kept_open(const struct kept_options *k, struct device_options *o, struct device **device,
	      struct kept **ret);
/* Starts the thread; [text] */
int kept_start(struct kept *k);
/* Stops it. Before device_close(). Takes NULL. */
void kept_stop(struct kept *k);
/* Notes that its writer has left in order, when the device is closed. Takes NULL. */
void kept_close(struct kept *k);

#endif
