/* SPDX-License-Identifier: MIT */
/*
 * A device over NBD, for hosts that have not our module: nbdkit with our plugin, and in front of it
 * nbdfuse and a loop device. What was begun is
 * written into a folder before it is done, so that rswap_nbd_close() undoes it from any point, also
 * in another process.
 */
#ifndef CLI_RSWAP_NBD_H
#define CLI_RSWAP_NBD_H

#include "cli/rswap_conf.h"

#define RSWAP_DEVICE_BYTES 64

/*
 * folder: exists, and is ours alone. *fd is open on the device: a loop device is there as long as
 * somebody has it open. Blocks, bounded. [text]
 */
int rswap_nbd_open(const struct rswap_conf *c, uint64_t bytes, const char *folder,
		   char device[RSWAP_DEVICE_BYTES], int *fd);
/* Nobody uses the device any more. -EBUSY: something would not go; may be tried again. [text] */
int rswap_nbd_close(const char *folder);

#endif
