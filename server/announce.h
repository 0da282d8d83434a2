/* SPDX-License-Identifier: MIT */
/* Tells the registry that this donor is there, for as long as it is. */
#ifndef SERVER_ANNOUNCE_H
#define SERVER_ANNOUNCE_H

#include "server/lend.h"
#include "server/listen.h"

struct srv_announcer;

struct srv_announce_options {
	struct srv_lender *lender;
	const char *url; /* NULL: the machine's registry */
	const char *name, *domain;
	const struct srv_listener *listeners;
	unsigned listeners_count;
};

/*
 * [text] Starts a thread that keeps "donor/NAME" in the registry. The registry's failures are
 * logged, and tried again: without it the server serves as well.
 */
int srv_announce_start(const struct srv_announce_options *o, struct srv_announcer **ret);
/* Takes the entry back. Takes NULL. Blocks as long as the registry does (up to 5 s). */
void srv_announce_stop(struct srv_announcer *a);

#endif
