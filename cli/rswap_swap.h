/* SPDX-License-Identifier: MIT */
/* What `infuse up` and `infuse down` do to a block device that is there: swap to it, and back. */
#ifndef CLI_RSWAP_SWAP_H
#define CLI_RSWAP_SWAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Is device (a path) swapped to? used: bytes in it. A deleted node's path is found, too. */
bool rswap_swapping(const char *device, uint64_t *used);

/* Writes a swap signature with the label and swaps to it. discard: tells it what is free. [text] */
int rswap_swapon(const char *device, const char *label, int priority, bool discard);

/*
 * Stops swapping to it: everything in it comes back, so it takes a while. -EBUSY when what is in it
 * is more than memory and the other swap areas have room for, unless force says to try. [text]
 */
int rswap_swapoff(const char *device, bool force);

/* argv's program; waits for it. -ECHILD with the last line it printed when it fails. [text] */
int rswap_run(const char *const *argv);

/*
 * The same, left running in a session of its own, its output in the file log. It is no victim of the
 * OOM killer, and its memory is not reclaimed by writing to the swap it serves. [text]
 */
int rswap_start(const char *const *argv, const char *log, pid_t *pid);

#endif
