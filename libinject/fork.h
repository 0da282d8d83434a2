/* SPDX-License-Identifier: MIT */
/* What fork.c and the requests tell each other. */
#ifndef LIBINJECT_FORK_H
#define LIBINJECT_FORK_H

struct inject_heap;

/*
 * Takes all ports' locks, ends what is in flight, writes all staged pages back and snapshots the
 * volume at the donors. The locks stay taken, also on an error.
 */
int heap_quiesce(struct inject_heap *h);

#endif
