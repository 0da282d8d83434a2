/* SPDX-License-Identifier: MIT */
/*
 * See kdf.h. OpenSSL's plain hash functions work in the caller's memory; its EVP ones take theirs
 * from its allocator, which is why these are used though they are called deprecated.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "secure/kdf.h"
#include "secure/secret.h"

#include <assert.h>
#include <openssl/sha.h>
#include <string.h>

struct hmac256 {
	SHA256_CTX inner, outer;
};

static void hmac256_begin(struct hmac256 *h, const void *key, size_t n)
{
	uint8_t pad[SHA256_CBLOCK] = {0};

	if (n > sizeof pad)
		SHA256(key, n, pad);
	else if (n)
		memcpy(pad, key, n);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	SHA256_Init(&h->inner);
	SHA256_Update(&h->inner, pad, sizeof pad);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&h->outer);
	SHA256_Update(&h->outer, pad, sizeof pad);
	secret_wipe(pad, sizeof pad);
}

static void hmac256_end(struct hmac256 *h, uint8_t ret[32])
{
	SHA256_Final(ret, &h->inner);
	SHA256_Update(&h->outer, ret, 32);
	SHA256_Final(ret, &h->outer);
	secret_wipe(h, sizeof *h);
}

void kdf_hmac(const void *key, size_t key_bytes, const void *a, size_t a_bytes, const void *b,
	      size_t b_bytes, uint8_t ret[32])
{
	struct hmac256 h;

	hmac256_begin(&h, key, key_bytes);
	SHA256_Update(&h.inner, a, a_bytes);
	if (b_bytes)
		SHA256_Update(&h.inner, b, b_bytes);
	hmac256_end(&h, ret);
}

void kdf_derive(const void *ikm, size_t ikm_bytes, const void *salt, size_t salt_bytes,
		const char *info, void *ret, size_t bytes)
{
	uint8_t prk[32], block[32], *to = ret;

	assert(bytes <= 255 * sizeof block);
	kdf_hmac(salt, salt_bytes, ikm, ikm_bytes, NULL, 0, prk);
	for (uint8_t i = 1; bytes; i++) {
		size_t part = bytes < sizeof block ? bytes : sizeof block;
		struct hmac256 h;

		hmac256_begin(&h, prk, sizeof prk);
		if (i > 1)
			SHA256_Update(&h.inner, block, sizeof block);
		SHA256_Update(&h.inner, info, strlen(info));
		SHA256_Update(&h.inner, &i, 1);
		hmac256_end(&h, block);
		memcpy(to, block, part);
		to += part;
		bytes -= part;
	}
	secret_wipe(prk, sizeof prk);
	secret_wipe(block, sizeof block);
}

static void hmac384(const uint8_t key[KDF_TLS_BYTES], const void *a, size_t n,
		    uint8_t ret[SHA384_DIGEST_LENGTH])
{
	uint8_t pad[SHA512_CBLOCK] = {0};
	SHA512_CTX c;

	memcpy(pad, key, KDF_TLS_BYTES);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	SHA384_Init(&c);
	SHA384_Update(&c, pad, sizeof pad);
	SHA384_Update(&c, a, n);
	SHA384_Final(ret, &c);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA384_Init(&c);
	SHA384_Update(&c, pad, sizeof pad);
	SHA384_Update(&c, ret, SHA384_DIGEST_LENGTH);
	SHA384_Final(ret, &c);
	secret_wipe(pad, sizeof pad);
	secret_wipe(&c, sizeof c);
}

void kdf_tls_label(const uint8_t secret[KDF_TLS_BYTES], const char *label, void *ret, size_t bytes)
{
	uint8_t info[64], out[SHA384_DIGEST_LENGTH];
	size_t n = strlen(label), at = 0;

	assert(bytes <= sizeof out && n <= 12);
	info[at++] = 0;
	info[at++] = (uint8_t)bytes;
	info[at++] = (uint8_t)(6 + n);
	memcpy(info + at, "tls13 ", 6);
	memcpy(info + at + 6, label, n);
	at += 6 + n;
	info[at++] = 0; /* no context */
	info[at++] = 1; /* the first block is enough */
	hmac384(secret, info, at, out);
	memcpy(ret, out, bytes);
	secret_wipe(out, sizeof out);
}
