/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3's records (RFC 8446, 5): what a connection's bytes are once the handshake is over. Ours, not
 * OpenSSL's, because they are made and read where a page fault waits: nothing here allocates, blocks or
 * touches errno. Both ends are this code; of the messages that may come later only KeyUpdate is known.
 */
#ifndef SECURE_RECORD_H
#define SECURE_RECORD_H

#include "secure/aead.h"
#include "secure/kdf.h"

#define RECORD_HEAD  5u
#define RECORD_PLAIN 16384u /* bytes in one record at most */
/* What a record has beside its bytes; with the KeyUpdate that may follow. */
#define RECORD_EXTRA (RECORD_HEAD + 1 + AEAD_TAG_BYTES)
#define RECORD_ROOM  (RECORD_PLAIN + 2 * RECORD_EXTRA + 5)
/* What the other end may send as one. */
#define RECORD_INPUT (RECORD_HEAD + RECORD_PLAIN + 256)

/* One direction. In secret_map()'s memory. */
struct record_key {
	struct aead aead;
	uint8_t iv[AEAD_NONCE_BYTES];
	uint8_t secret[KDF_TLS_BYTES];
	uint64_t number; /* of the next record */
	uint64_t update; /* at this number a new key is made; tests make it small */
};

/* 0 or -ENOMEM. */
int record_open(struct record_key *k, const uint8_t secret[KDF_TLS_BYTES]);
void record_close(struct record_key *k); /* wipes it */

/*
 * n bytes stand at buf + RECORD_HEAD; makes a record of them, in place, and returns its length.
 * 1 <= n <= RECORD_PLAIN; buf has RECORD_ROOM bytes.
 */
size_t record_seal(struct record_key *k, unsigned char *buf, size_t n);

/*
 * Opens the record at buf, of which `have` bytes are there. Returns the bytes that it took, and what
 * was in it: *plain, *n (0: nothing for us); or 0: it is not whole yet; -ECONNRESET: the other end
 * says goodbye; -EBADMSG: not sealed with this key, or changed; -EPROTO: nothing that may come.
 */
long record_unseal(struct record_key *k, unsigned char *buf, size_t have, unsigned char **plain,
		   size_t *n);

#endif
