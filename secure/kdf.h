/* SPDX-License-Identifier: MIT */
/*
 * Keys made of keys: HMAC-SHA256 and HKDF (RFC 5869) for our own, HKDF-Expand-Label with SHA-384 for
 * TLS 1.3's (RFC 8446, 7.1). No memory is taken, no errno touched: a key is also changed in the
 * middle of a connection, where a fault may be waiting.
 */
#ifndef SECURE_KDF_H
#define SECURE_KDF_H

#include <stddef.h>
#include <stdint.h>

#define KDF_KEY_BYTES 32u
#define KDF_TLS_BYTES 48u /* a secret of a TLS connection with SHA-384 */

void kdf_hmac(const void *key, size_t key_bytes, const void *a, size_t a_bytes, const void *b,
	      size_t b_bytes, uint8_t ret[32]);
/* bytes <= 255 * 32 */
void kdf_derive(const void *ikm, size_t ikm_bytes, const void *salt, size_t salt_bytes,
		const char *info, void *ret, size_t bytes);
/* HKDF-Expand-Label(secret, label, "", bytes); bytes <= 48 */
void kdf_tls_label(const uint8_t secret[KDF_TLS_BYTES], const char *label, void *ret,
		   size_t bytes);

#endif
