/* SPDX-License-Identifier: MIT */
/* Volumes that a registry keeps. registry: its url, or NULL for the default one. [text] */
#ifndef CLI_VOLUMES_KEPT_H
#define CLI_VOLUMES_KEPT_H

#include <stdbool.h>

struct donor_keys;

/* Prints them. */
int volumes_kept(const char *registry, bool json);
/* Takes it over, gives its slabs back, and deletes it. Whoever uses it gets errors from now on. */
int volumes_forget(const char *registry, const char *name, const struct donor_keys *keys);

#endif
