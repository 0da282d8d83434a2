/* SPDX-License-Identifier: MIT */
/*
 * Keys and the files they live in. A cluster's key is 32 random bytes; a role's key is made of it, so
 * that a metrics reader can be given what reads metrics and nothing else. A file holds one key a
 * line, the one to use first; the others are still accepted until they expire (rotation):
 *
 *	infuse-key-1 ID ROLE CREATED EXPIRES SECRET
 *
 * ID is 16 hex digits and no secret, times are seconds since 1970 or "-", SECRET is 64 hex digits.
 * A file that others can read is refused.
 */
#ifndef SECURE_KEY_H
#define SECURE_KEY_H

#include "secure/kdf.h"

#include <stdbool.h>

#define KEY_ID_BYTES   8u
#define KEY_ID_TEXT    (2 * KEY_ID_BYTES + 1)
#define KEY_MAX        16u          /* in a file */
#define KEY_IDENTITY   40u          /* room for "ID:ROLE" */
#define KEY_FILE_VARIABLE "INFUSE_KEY_FILE" /* names a file; never a key itself */

enum key_role { KEY_CLUSTER, KEY_BORROWER, KEY_ADMIN, KEY_METRICS, KEY_ROLES };

struct key {
	uint8_t id[KEY_ID_BYTES]; /* of the cluster's key, for a role's too */
	enum key_role role;
	uint64_t created_s;
	uint64_t expires_s; /* 0: never */
	uint8_t secret[KDF_KEY_BYTES];
};

/* In secret_map()'s memory. */
struct key_set {
	unsigned count;
	struct key key[KEY_MAX];
};

/* [text] Reads a file; no malloc, no errno. Free it with key_free(). */
int key_read(const char *path, struct key_set **ret);
/* [text] Any small file's text. secret: refused if it isn't its owner's alone. Its length. */
long key_read_file(const char *path, bool secret, char *buf, size_t room);
void key_free(struct key_set *set); /* takes NULL; wipes it */
struct key_set *key_set_create(void); /* empty; NULL: no memory */
/* [text] Replaces or makes the file, mode 0600, all of it or nothing. */
int key_write(const char *path, const struct key_set *set);

/* A new cluster key. */
void key_generate(struct key *ret, uint64_t now_s);
/* The role's key. -EACCES: this is another role's. */
int key_derive(const struct key *k, enum key_role role, struct key *ret);
/* What a borrower shows on a connection without TLS; role: the borrower role's secret. */
void key_borrower(const uint8_t role[KDF_KEY_BYTES], const uint8_t borrower[16],
		  uint8_t ret[KDF_KEY_BYTES]);

bool key_expired(const struct key *k, uint64_t now_s);
/* "cluster", ...; and back: -1 if it is none. */
const char *key_role_name(enum key_role role);
int key_role_of(const char *name);
void key_id_text(const struct key *k, char ret[KEY_ID_TEXT]);
/* "ID:ROLE", what TLS calls the identity. */
void key_identity(const struct key *k, char ret[KEY_IDENTITY]);
/*
 * The key that an identity names, derived if need be. -ENOENT: none, or it has expired. Takes about
 * as long for any identity.
 */
int key_by_identity(const struct key_set *set, const char *identity, size_t bytes, uint64_t now_s,
		    struct key *ret);

#endif
