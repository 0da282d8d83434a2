/* SPDX-License-Identifier: MIT */
/*
 * Volumes in the registry: what the next writer of one needs to take it over. "volume/NAME" holds
 * who it is for donors (a secret: whoever may read the registry is trusted with the cluster's
 * memory), its epoch, its writer, size and donors; "volume/NAME/map/N" where its slabs lie,
 * VOLUME_CHUNK of them each. The epoch rises by compare-and-swap, and donors refuse writers with an
 * older one: the lock is there, not here.
 *
 * Knows nothing of the page store: who opens volumes puts ps_where() in and gets it out again.
 */
#ifndef REGISTRY_VOLUMES_H
#define REGISTRY_VOLUMES_H

#include "registry/registry.h"

#include <stdbool.h>

#define VOLUME_NAME    63
#define VOLUME_DONORS  64
#define VOLUME_MEMBERS 16
#define VOLUME_CHUNK   256u /* slabs in a document of the map */

struct volume_donor {
	char address[128];
	char boot[33]; /* hexadecimal; slabs of another boot are gone */
};

struct volume {
	char name[VOLUME_NAME + 1];
	unsigned char borrower[16];
	uint64_t epoch;
	char writer[97]; /* HOST:PID:NUMBER of who has it, for people, and to know one's own swap */
	bool closed;     /* its writer has left in order */
	uint64_t pages;
	uint32_t replicas, slab_pages;
	struct volume_donor donor[VOLUME_DONORS];
	unsigned donors;
	uint64_t version; /* of the document */
};

struct volume_slab {
	uint32_t generation; /* 0: not granted */
	uint32_t members;
	uint8_t donor[VOLUME_MEMBERS]; /* index of volume.donor */
	uint64_t handle[VOLUME_MEMBERS];
};

/*
 * All [text], and block as the registry does. Who gets -ESTALE or -EAGAIN has been overtaken by
 * another writer and must not go on.
 */

/* A new one: gives it a borrower id, epoch 1 and this writer. -EEXIST. */
int volume_create(struct registry *r, struct volume *v);
int volume_read(struct registry *r, const char *name, struct volume *ret); /* -ENOENT, -EBADMSG */
/* This process is its writer from now on, with the next epoch. -EAGAIN: somebody was faster. */
int volume_claim(struct registry *r, struct volume *v);
/* Writes the document again (donors, closed), if it is still this writer's. -ESTALE. */
int volume_update(struct registry *r, struct volume *v);
/* Slabs [first, first + count) of the map, if the volume is still this writer's. -ESTALE. */
int volume_publish(struct registry *r, const struct volume *v, uint64_t first, uint64_t count,
		   const struct volume_slab *slab);
/* All that was published; slabs beyond are not granted. *ret is malloc()ed. */
int volume_map(struct registry *r, const struct volume *v, uint64_t slabs,
	       struct volume_slab **ret);
/* The volume and its map are gone. -ESTALE: it is another writer's. */
int volume_delete(struct registry *r, const struct volume *v);

#endif
