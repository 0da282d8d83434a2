/* SPDX-License-Identifier: MIT */
/*
 * The donors of a device that is being attached: connected as one new borrower, asked for room, and
 * for the slabs. The connections stay open until the kernel has its own, so that no donor thinks
 * its borrower gone; attach_release() then hangs up and gives nothing back.
 */
#ifndef CLI_ATTACH_DONORS_H
#define CLI_ATTACH_DONORS_H

#include "pagestore/transport/transport.h"

#include <infuse/rswap.h>
#include <stdbool.h>
#include <stdint.h>

struct attach_donor {
	char address[RSWAP_TEXT_BYTES];  /* as it was given */
	char transport[16];              /* of the data */
	struct tp_conn *conn;            /* control, TCP */
	struct tp_addr data;             /* where the data goes */
	bool connected;
	struct tp_hello hello;
	struct wire_stat stat;
	uint64_t free;   /* slabs, as the plan takes them */
	uint64_t wanted; /* slabs of the plan */
	uint64_t *slabs; /* their handles, once granted */
	uint64_t given;  /* handed out to the map */
};

struct attach {
	const char *name; /* the device */
	unsigned char borrower[16];
	uint64_t deadline_ns;
	struct tls_config *tls; /* NULL: plainly */
	unsigned donors, replicas;
	struct attach_donor donor[RSWAP_MAX_DONORS];
	uint32_t slab_pages;
	uint64_t slabs;
	struct rswap_place *map; /* replicas for each slab */
};

/* address: "tcp:HOST:PORT", or two of the same donor: "tcp:HOST:PORT,rdma:HOST:PORT". [text] */
int attach_add_donor(struct attach *a, const char *address);
/* Connects to all and takes slabs for `bytes`; all or nothing. Blocks, bounded. [text] */
int attach_grant(struct attach *a, uint64_t bytes);
/* Hangs up and frees. give_back: the slabs too, as the device did not come to be. */
void attach_release(struct attach *a, bool give_back);

#endif
