/* SPDX-License-Identifier: MIT */
/*
 * What donors want back. Once a second each donor that holds slabs of the volume is asked (WANTED),
 * over a connection of its own, and without waiting: a donor that is paused must not stop the
 * maintenance, nor be given up for it. What it wants becomes moves (maintain.h); what it no longer
 * wants is taken back.
 */
#ifndef PAGESTORE_WANTED_H
#define PAGESTORE_WANTED_H

#include "pagestore/volume.h"

#define WANTED_MOST 64u /* slabs told at a time */

struct ask {
	struct tp_conn *conn; /* NULL: not open */
	struct tp_op op;
	uint64_t word[WANTED_MOST + 1];
	bool asked;           /* and not answered yet */
	uint64_t next_ns;     /* when to ask, or open, next */
	uint64_t patience_ns; /* until when the answer is waited for */
};

/* The maintenance's thread, without the lock. Returns when it has something to do again. */
uint64_t wanted_step(struct ps_volume *v, uint64_t now_ns);
/* The entry's donor is another one. */
void wanted_restart(struct ps_volume *v, unsigned d);
/* In a forked child. */
void wanted_forget(struct ps_volume *v, bool inherited);
void wanted_close(struct ps_volume *v);

#endif
