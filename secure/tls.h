/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 handshakes, by OpenSSL, without a socket: bytes in, bytes out, whoever calls moves them. What
 * comes out is two keys for record.h. One suite (TLS_AES_256_GCM_SHA384), no tickets, no early data; both
 * ends prove who they are, by a pre-shared key or by certificates.
 *
 * May be used by raw threads and in a child after fork (see secret.h); takes no malloc memory.
 */
#ifndef SECURE_TLS_H
#define SECURE_TLS_H

#include "secure/key.h"
#include "secure/record.h"

#define TLS_HANDSHAKE_BYTES (64u * 1024) /* what the other end may send in one, in all */

/* Whose key an identity names: 0 and *ret, or -ENOENT. Called by a server in a handshake. */
typedef int tls_find_key(void *arg, const char *identity, size_t bytes, struct key *ret);

struct tls_options {
	bool server;
	const struct key *key;            /* client: whom it says it is; a role's. NULL: certificates */
	tls_find_key *find;               /* server: NULL: certificates only */
	void *find_arg;
	const char *ca, *cert, *cert_key; /* PEM files; NULL: no certificates */
};

struct tls_config;
struct tls;

/* [text] Copies what it needs. */
int tls_config_open(const struct tls_options *o, struct tls_config **ret);
/* One more user; close it too. Handshakes under way count as users. Any thread. */
struct tls_config *tls_config_get(struct tls_config *c);
void tls_config_close(struct tls_config *c); /* takes NULL */

/* [text] A handshake. name: client: the donor's name or address, for its certificate. */
int tls_open(struct tls_config *c, const char *name, struct tls **ret);
void tls_close(struct tls *t); /* takes NULL */
/*
 * Takes n bytes that came. 0: it is over; -EAGAIN: more is to come; else [text] it has failed. In
 * any case there may be bytes to send.
 */
int tls_input(struct tls *t, const void *p, size_t n);
/* Bytes to send; 0: none. */
size_t tls_output(struct tls *t, void *buf, size_t room);
/* Over: bytes that came behind the handshake's, which are records. */
size_t tls_rest(struct tls *t, void *buf, size_t room);
/* Over: the keys. 0 or -ENOMEM. */
int tls_keys(struct tls *t, struct record_key *in, struct record_key *out);
/* Over, server: the other's roles: bit a key_role; and its name for messages. */
unsigned tls_roles(const struct tls *t);
const char *tls_peer(const struct tls *t);

#endif
