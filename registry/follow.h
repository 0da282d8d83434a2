/* SPDX-License-Identifier: MIT */
/*
 * Following the donors of a registry: a thread reads them again every interval, and soon after a watch
 * said that something has changed. The watch is a hint; what is read is the truth. It holds no lock
 * and is on nobody's data path: a registry that is away is asked again later.
 */
#ifndef REGISTRY_FOLLOW_H
#define REGISTRY_FOLLOW_H

#include "registry/donors.h"

#include <stdint.h>

#define FOLLOW_INTERVAL_MS 60000u

struct follow;

struct follow_options {
	const char *url;      /* as reg_open() takes it; must live as long */
	uint64_t interval_ms; /* 0: FOLLOW_INTERVAL_MS */
	/* In the thread, after each reading. */
	void (*found)(const struct known_donors *l, void *arg);
	/* Once when reading fails after it worked; the words say why. May be NULL. */
	void (*failed)(const char *why, void *arg);
	void *arg;
};

/* [text] Starts the thread, which blocks all signals. It does not live on in a forked child. */
int follow_start(const struct follow_options *o, struct follow **ret);
/* Blocks for a second or so, longer only while a registry is silent (5 s). Takes NULL. */
void follow_stop(struct follow *f);

#endif
