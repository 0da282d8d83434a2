/* SPDX-License-Identifier: MIT */
/*
 * What the keepers of `infuse run` have in common: processes that belong to nobody, stay behind when the
 * command takes its place, and end with all that it leaves behind.
 */
#ifndef CLI_RUN_KEEPER_H
#define CLI_RUN_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A folder of its own in $TMPDIR, its name short enough for sockets in it. [text] */
int run_folder(char *folder, size_t len);
int run_pidfd(pid_t pid);
/* Has the process ended, or does within ms? */
bool run_ended(int pidfd, int ms);
/* Whoever has the folder's name in its environment, or has the preload library; but this process and `but`. */
bool run_has_descendants(const char *folder, pid_t but);
/*
 * A process of its own session whose parent is gone: 1 in it, 0 in the caller, or a negative errno.
 * [text]
 */
int run_detach(void);
/* In it: nothing of the caller's stays open but these two (-1: none); signals from terminals don't count. */
void run_let_go(int keep, int also);

#endif
