/* SPDX-License-Identifier: MIT */
/* The donors that a registry knows, one address each: what a borrower starts from. */
#ifndef REGISTRY_DONORS_H
#define REGISTRY_DONORS_H

#include <stddef.h>

struct known_donor {
	char name[64];
	char address[128]; /* "unix:PATH" if it has one that exists here, else "tcp:HOST:PORT" */
};

struct known_donors {
	struct known_donor *donor;
	size_t count;
};

/*
 * url NULL: the default registry if there is one; none: 0 donors. Documents that make no sense are
 * passed over. Blocks up to 5 s on a busy registry. [text]
 */
int donors_known(const char *url, struct known_donors *ret);
void donors_free(struct known_donors *l);

#endif
