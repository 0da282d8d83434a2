/* SPDX-License-Identifier: MIT */
/*
 * A device of rswap.conf between `infuse up` and `infuse down`: a folder of its own below the run
 * folder says how it was made. A lock beside it lets one of them at a time work on the device.
 */
#ifndef CLI_RSWAP_DEVICE_H
#define CLI_RSWAP_DEVICE_H

#include "cli/rswap_conf.h"
#include "cli/rswap_nbd.h"

#define RSWAP_RUN "/run/infuse"

struct rswap_device {
	char name[RSWAP_NAME_BYTES];
	char folder[256];
	char path[RSWAP_DEVICE_BYTES]; /* "/dev/rswap0"; "" when it is not there */
	bool nbd;
	int lock;
	int fd; /* open on the device while it is being made; -1 */
};

/* Locks it and reads what is known of it. Waits up to 60 s for another one at work. [text] */
int rswap_device_open(struct rswap_device *d, const char *run, const char *name);
void rswap_device_close(struct rswap_device *d);

/* Makes the block device. When it fails nothing is left. [text] */
int rswap_device_make(struct rswap_device *d, const struct rswap_conf *c, bool nbd, uint64_t bytes);
/* Nobody may use it any more. Does nothing when it is not there. [text] */
int rswap_device_remove(struct rswap_device *d);

/* Can the kernel's module make it? Loads it if it has to. */
bool rswap_has_module(void);

#endif
