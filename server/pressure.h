/* SPDX-License-Identifier: MIT */
/*
 * What the machine says of its memory: MemAvailable, the room in our memory cgroup and those above
 * it (version 1 or 2), and the pressure (PSI) of our cgroup, or of the machine.
 */
#ifndef SERVER_PRESSURE_H
#define SERVER_PRESSURE_H

#include "server/reclaim.h"

struct srv_pressure_source {
	char group[512]; /* our memory cgroup's folder, "" for none */
	size_t top;      /* of its path: the hierarchy's mount point */
	bool v2;
};

void srv_pressure_open(struct srv_pressure_source *s);
void srv_pressure_read(const struct srv_pressure_source *s, struct srv_pressure *ret);

#endif
