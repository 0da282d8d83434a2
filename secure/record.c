/* SPDX-License-Identifier: MIT */
/* See record.h. */
#include "secure/record.h"
#include "secure/secret.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* GCM is good for 2^24.5 full records of a key (RFC 8446, 5.5). */
#define UPDATE_AT (1ull << 23)

enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };
enum { MSG_TICKET = 4, MSG_KEY_UPDATE = 24 };

static const unsigned char key_update[5] = {MSG_KEY_UPDATE, 0, 0, 1, 0};

static int take_secret(struct record_key *k, const uint8_t secret[KDF_TLS_BYTES])
{
	uint8_t key[AEAD_KEY_BYTES];
	int r;

	memmove(k->secret, secret, sizeof k->secret);
	kdf_tls_label(k->secret, "key", key, sizeof key);
	kdf_tls_label(k->secret, "iv", k->iv, sizeof k->iv);
	k->number = 0;
	r = aead_open(&k->aead, key);
	secret_wipe(key, sizeof key);
	return r;
}

int record_open(struct record_key *k, const uint8_t secret[KDF_TLS_BYTES])
{
	k->update = UPDATE_AT;
	return take_secret(k, secret);
}

void record_close(struct record_key *k)
{
	aead_close(&k->aead);
	secret_wipe(k, sizeof *k);
}

static int next_key(struct record_key *k)
{
	uint8_t next[KDF_TLS_BYTES];
	int r;

	kdf_tls_label(k->secret, "traffic upd", next, sizeof next);
	aead_close(&k->aead);
	r = take_secret(k, next);
	secret_wipe(next, sizeof next);
	return r;
}

static void make_nonce(struct record_key *k, uint8_t nonce[AEAD_NONCE_BYTES])
{
	memcpy(nonce, k->iv, AEAD_NONCE_BYTES);
	for (unsigned i = 0; i < 8; i++)
		nonce[AEAD_NONCE_BYTES - 1 - i] ^= (uint8_t)(k->number >> 8 * i);
	k->number++;
}

static size_t seal(struct record_key *k, unsigned char *buf, size_t n, unsigned char type)
{
	size_t inner = n + 1, body = inner + AEAD_TAG_BYTES;
	uint8_t nonce[AEAD_NONCE_BYTES];

	buf[0] = TYPE_DATA;
	buf[1] = buf[2] = 3;
	buf[3] = (unsigned char)(body >> 8);
	buf[4] = (unsigned char)body;
	buf[RECORD_HEAD + n] = type;
	make_nonce(k, nonce);
	aead_seal(&k->aead, nonce, buf, RECORD_HEAD, buf + RECORD_HEAD, buf + RECORD_HEAD, inner,
		  buf + RECORD_HEAD + inner);
	return RECORD_HEAD + body;
}

size_t record_seal(struct record_key *k, unsigned char *buf, size_t n)
{
	size_t all;

	assert(n >= 1 && n <= RECORD_PLAIN);
	all = seal(k, buf, n, TYPE_DATA);
	if (k->number >= k->update) {
		memcpy(buf + all + RECORD_HEAD, key_update, sizeof key_update);
		all += seal(k, buf + all, sizeof key_update, TYPE_HANDSHAKE);
		/* The memory for the new key is there: the old one's. */
		if (next_key(k))
			__builtin_trap();
	}
	return all;
}

/* A message that is not data. */
static long take_other(struct record_key *k, unsigned char type, const unsigned char *p, size_t n)
{
	if (type == TYPE_ALERT && n == 2)
		return p[1] ? -EPROTO : -ECONNRESET; /* 0: close_notify */
	if (type != TYPE_HANDSHAKE || !n)
		return -EPROTO;
	if (p[0] == MSG_TICKET)
		return 0;
	if (n != sizeof key_update || memcmp(p, key_update, n))
		return -EPROTO;
	return next_key(k);
}

long record_unseal(struct record_key *k, unsigned char *buf, size_t have, unsigned char **plain,
		   size_t *n)
{
	uint8_t nonce[AEAD_NONCE_BYTES];
	unsigned char *p = buf + RECORD_HEAD;
	size_t body, inner;
	long r;

	*n = 0;
	if (have < RECORD_HEAD)
		return 0;
	body = (size_t)buf[3] << 8 | buf[4];
	if (buf[0] != TYPE_DATA || buf[1] != 3 || buf[2] != 3 ||
	    body > RECORD_INPUT - RECORD_HEAD || body < AEAD_TAG_BYTES + 1)
		return -EPROTO;
	if (have < RECORD_HEAD + body)
		return 0;
	inner = body - AEAD_TAG_BYTES;
	make_nonce(k, nonce);
	if (!aead_unseal(&k->aead, nonce, buf, RECORD_HEAD, p, p, inner, p + inner))
		return -EBADMSG;
	/* The type is the last byte that isn't padding. */
	while (inner && !p[inner - 1])
		inner--;
	if (!inner || inner - 1 > RECORD_PLAIN)
		return -EPROTO;
	inner--;
	if (p[inner] != TYPE_DATA) {
		r = take_other(k, p[inner], p, inner);
		if (r)
			return r;
	} else {
		*plain = p;
		*n = inner;
	}
	return (long)(RECORD_HEAD + body);
}
