/* SPDX-License-Identifier: MIT */
/*
 * The server's life between ready and gone: signals, graces, draining, idleness. Runs in the main
 * thread and sleeps whenever nothing is due.
 */
#ifndef SERVER_CONTROL_H
#define SERVER_CONTROL_H

#include "server/lend.h"
#include "server/options.h"
#include "server/pressure.h"
#include "server/worker.h"

struct srv_control {
	struct srv_lender *lender;
	struct srv_gate *gate; /* NULL: no keys */
	struct srv_workers *workers;
	int signal_fd;                 /* SIGTERM, SIGINT, SIGHUP */
	int changed_fd;                /* eventfd: a grace begins */
	struct srv_listener *listener; /* closed when draining begins */
	unsigned listeners;
	struct srv_config config;
	int argc;
	char **argv; /* for SIGHUP */

	struct srv_pressure_source pressure;
	struct srv_reclaim_policy reclaim;
	uint64_t tick_ns;    /* when to look at the memory next */
	uint64_t tell_ns;    /* when to choose slabs, and to tell people */
	uint32_t wanted;     /* slabs, at the last look */
	uint32_t away;       /* the same */

	bool draining;
	uint64_t drain_end_ns;
	uint64_t idle_since_ns; /* 0: there are borrowers, or there never were */
	uint64_t seen_ever;
};

/* Blocks until the server is to end. 0: in order; 1: told twice, borrowers were cut off. */
int srv_control_run(struct srv_control *c);
/* [text] Takes from the configuration what may change while the server runs. */
int srv_control_apply(struct srv_control *c);
/* What the configuration says about logging. */
void srv_control_log(const struct srv_config *c);

#endif
