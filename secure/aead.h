/* SPDX-License-Identifier: MIT */
/*
 * AES-256-GCM for the data path: pages that are sealed, records of TLS. After aead_open() nothing
 * allocates, locks out another thread (but for the last resort, see aead.c) or touches errno. A key
 * may be used by any thread. Nobody may use a nonce twice with one key.
 */
#ifndef SECURE_AEAD_H
#define SECURE_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AEAD_KEY_BYTES   32u
#define AEAD_NONCE_BYTES 12u
#define AEAD_TAG_BYTES   16u

struct aead_way;

/* In the caller's memory, which should be secret_map()'s. */
struct aead {
	_Alignas(64) unsigned char state[1152];
	const struct aead_way *way;
};

/* 0 or -ENOMEM. */
int aead_open(struct aead *a, const uint8_t key[AEAD_KEY_BYTES]);
/* As if by that way ("vaes", "aesni", "openssl"), for tests. -ENOTSUP: not on this machine. */
int aead_open_as(struct aead *a, const char *way, const uint8_t key[AEAD_KEY_BYTES]);
/* Wipes it. Does nothing to one that was never opened. */
void aead_close(struct aead *a);
const char *aead_name(const struct aead *a);

/* out may be in. */
void aead_seal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const void *aad,
	       size_t aad_bytes, const void *in, void *out, size_t bytes,
	       uint8_t tag[AEAD_TAG_BYTES]);
/* False: not what was sealed; out holds nothing of use. */
bool aead_unseal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const void *aad,
		 size_t aad_bytes, const void *in, void *out, size_t bytes,
		 const uint8_t tag[AEAD_TAG_BYTES]);

#endif
