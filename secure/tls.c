/* SPDX-License-Identifier: MIT */
/*
 * See tls.h. OpenSSL tells the connection's two secrets through its key log callback, the one way it has
 * to tell them; nothing is ever logged. Everything here runs under secret_lock().
 */
#include "secure/tls.h"
#include "common/error.h"
#include "secure/secret.h"
#include "secure/tls_files.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SUITE "TLS_AES_256_GCM_SHA384"

struct tls_config {
	struct tls_options o;
	struct key key; /* client's */
	SSL_CTX *ctx;
	unsigned users;
};

struct tls {
	struct tls_config *config;
	SSL *ssl;
	BIO *in, *out; /* ssl's */
	size_t taken;
	uint8_t client[KDF_TLS_BYTES], server[KDF_TLS_BYTES];
	bool have_client, have_server, over;
	unsigned roles;
	char peer[64];
};

/* --- secrets --- */

static bool take_secret(const char *line, const char *label, uint8_t ret[KDF_TLS_BYTES])
{
	size_t n = strlen(label);
	const char *s;

	if (strncmp(line, label, n) || line[n] != ' ')
		return false;
	s = strchr(line + n + 1, ' '); /* behind the client's random bytes */
	if (!s || strlen(++s) < 2 * KDF_TLS_BYTES)
		return false;
	for (size_t i = 0; i < KDF_TLS_BYTES; i++)
		ret[i] = (uint8_t)(OPENSSL_hexchar2int((unsigned char)s[2 * i]) << 4 |
				   OPENSSL_hexchar2int((unsigned char)s[2 * i + 1]));
	return true;
}

static void on_secret(const SSL *ssl, const char *line)
{
	struct tls *t = SSL_get_app_data(ssl);

	t->have_client |= take_secret(line, "CLIENT_TRAFFIC_SECRET_0", t->client);
	t->have_server |= take_secret(line, "SERVER_TRAFFIC_SECRET_0", t->server);
}

/* --- pre-shared keys --- */

static SSL_SESSION *session_of(SSL *ssl, const struct key *k)
{
	static const unsigned char suite[2] = {0x13, 0x02};
	SSL_SESSION *s = SSL_SESSION_new();

	if (s && SSL_SESSION_set1_master_key(s, k->secret, sizeof k->secret) &&
	    SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, suite)) &&
	    SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION))
		return s;
	SSL_SESSION_free(s);
	return NULL;
}

static int on_use_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_bytes,
		      SSL_SESSION **ret)
{
	static char identity[KEY_IDENTITY]; /* OpenSSL copies it; we are under a lock */
	const struct tls *t = SSL_get_app_data(ssl);

	*ret = NULL;
	if (md && EVP_MD_get_type(md) != NID_sha384)
		return 1;
	key_identity(&t->config->key, identity);
	*id = (const unsigned char *)identity;
	*id_bytes = strlen(identity);
	*ret = session_of(ssl, &t->config->key);
	return *ret != NULL;
}

static int on_find_key(SSL *ssl, const unsigned char *id, size_t id_bytes, SSL_SESSION **ret)
{
	struct tls *t = SSL_get_app_data(ssl);
	const struct tls_options *o = &t->config->o;
	struct key k;

	*ret = NULL;
	if (id_bytes >= KEY_IDENTITY || o->find(o->find_arg, (const char *)id, id_bytes, &k))
		return 1; /* unknown: then it may have a certificate */
	*ret = session_of(ssl, &k);
	t->roles = 1u << k.role;
	key_identity(&k, t->peer);
	secret_wipe(&k, sizeof k);
	return *ret != NULL;
}

/* --- configurations --- */

static int ssl_fail(int err, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return err_fail(err, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
}

static int set_up(struct tls_config *c)
{
	const struct tls_options *o = &c->o;
	char groups[] = "X25519:P-256"; /* OpenSSL's macro casts a const away */
	int verify = SSL_VERIFY_PEER | (o->server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);

	if (!SSL_CTX_set_min_proto_version(c->ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_max_proto_version(c->ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(c->ctx, SUITE) ||
	    !SSL_CTX_set1_groups_list(c->ctx, groups) ||
	    !SSL_CTX_set_num_tickets(c->ctx, 0) || !SSL_CTX_set_max_early_data(c->ctx, 0) ||
	    (o->server &&
	     !SSL_CTX_set_session_id_context(c->ctx, (const unsigned char *)"infuse", 6)))
		return ssl_fail(-EINVAL, "can't set TLS up");
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
					    SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_keylog_callback(c->ctx, on_secret);
	SSL_CTX_set_verify(c->ctx, verify, NULL);
	SSL_CTX_set_max_cert_list(c->ctx, TLS_HANDSHAKE_BYTES);
	if (o->key)
		SSL_CTX_set_psk_use_session_callback(c->ctx, on_use_key);
	if (o->find)
		SSL_CTX_set_psk_find_session_callback(c->ctx, on_find_key);
	return o->ca || o->cert || o->cert_key ? tls_files_load(c->ctx, o->ca, o->cert, o->cert_key)
					       : 0;
}

int tls_config_open(const struct tls_options *o, struct tls_config **ret)
{
	struct tls_config *c = secret_map(sizeof *c);
	int r;

	if (!c)
		return err_fail(-ENOMEM, "no memory for TLS");
	secret_openssl();
	c->users = 1;
	c->o = *o;
	if (o->key) {
		c->key = *o->key;
		c->o.key = &c->key;
	}
	secret_lock();
	ERR_clear_error();
	c->ctx = SSL_CTX_new(o->server ? TLS_server_method() : TLS_client_method());
	r = c->ctx ? set_up(c) : ssl_fail(-ENOMEM, "can't set TLS up");
	secret_unlock();
	if (r)
		tls_config_close(c);
	else
		*ret = c;
	return r;
}

struct tls_config *tls_config_get(struct tls_config *c)
{
	__atomic_add_fetch(&c->users, 1, __ATOMIC_RELAXED);
	return c;
}

void tls_config_close(struct tls_config *c)
{
	if (!c || __atomic_sub_fetch(&c->users, 1, __ATOMIC_ACQ_REL))
		return;
	secret_lock();
	SSL_CTX_free(c->ctx);
	secret_unlock();
	secret_unmap(c, sizeof *c);
}

/* --- handshakes --- */

static bool is_address(const char *name)
{
	unsigned char to[16];

	return inet_pton(AF_INET, name, to) == 1 || inet_pton(AF_INET6, name, to) == 1;
}

/* What the certificate must be for. With a pre-shared key there is none. */
static bool expect_name(SSL *ssl, const char *name)
{
	if (is_address(name))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
	return SSL_set1_host(ssl, name) && SSL_set_tlsext_host_name(ssl, (uintptr_t)name);
}

static bool begin(struct tls *t, const char *name)
{
	const struct tls_config *c = t->config;

	t->ssl = SSL_new(c->ctx);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (!t->ssl || !t->in || !t->out) {
		BIO_free(t->in);
		BIO_free(t->out);
		return false;
	}
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_app_data(t->ssl, t);
	if (c->o.server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return c->o.server || !name || expect_name(t->ssl, name);
}

int tls_open(struct tls_config *c, const char *name, struct tls **ret)
{
	struct tls *t;
	bool good = false;

	secret_lock();
	ERR_clear_error();
	t = OPENSSL_zalloc(sizeof *t);
	if (t) {
		t->config = tls_config_get(c);
		good = begin(t, name);
	}
	ERR_clear_error();
	secret_unlock();
	if (!good) {
		tls_close(t);
		return err_fail(-ENOMEM, "no memory for TLS");
	}
	*ret = t;
	return 0;
}

void tls_close(struct tls *t)
{
	if (!t)
		return;
	secret_lock();
	SSL_free(t->ssl);
	tls_config_close(t->config);
	OPENSSL_clear_free(t, sizeof *t);
	secret_unlock();
}

/* Why it failed, for people. */
static int failed(const struct tls *t)
{
	unsigned long e = ERR_peek_error();
	long verify = SSL_get_verify_result(t->ssl);

	if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		ERR_clear_error();
		return err_fail(-EACCES, "its certificate is not good: %s",
				X509_verify_cert_error_string(verify));
	}
	if (ERR_GET_LIB(e) == ERR_LIB_SSL) {
		switch (ERR_GET_REASON(e)) {
		case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
		case SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY:
		case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
			ERR_clear_error();
			return err_fail(-EACCES, "the key is not known there, or is another one");
		case SSL_R_WRONG_VERSION_NUMBER:
			ERR_clear_error();
			return err_fail(-EPROTO, "it does not speak TLS (has it no key?)");
		}
	}
	/* An alert is what the other end said. */
	return ssl_fail(-EACCES, "TLS failed");
}

/* Whom a good certificate is of, and what it may do: its OUs say so, else it borrows. */
static void take_certificate(struct tls *t)
{
	X509 *cert = SSL_get0_peer_certificate(t->ssl);

	if (cert)
		t->roles = tls_files_roles(cert, t->peer, sizeof t->peer);
}

/* Nobody gets in who has shown neither a key nor a certificate. */
static int finish(struct tls *t)
{
	bool by_key = SSL_session_reused(t->ssl);

	if (!t->have_client || !t->have_server)
		return err_fail(-EPROTO, "TLS ended without keys");
	if (!by_key) {
		t->roles = 0;
		take_certificate(t);
	}
	if (!by_key && !SSL_get0_peer_certificate(t->ssl))
		return err_fail(-EACCES, "TLS ended without a proof");
	t->over = true;
	return 0;
}

int tls_input(struct tls *t, const void *p, size_t n)
{
	int r, why;

	t->taken += n;
	if (t->taken > TLS_HANDSHAKE_BYTES)
		return err_fail(-EPROTO, "TLS: a handshake that doesn't end");
	secret_lock();
	ERR_clear_error();
	if (n && BIO_write(t->in, p, (int)n) != (int)n) {
		r = err_fail(-ENOMEM, "no memory for TLS");
	} else {
		r = SSL_do_handshake(t->ssl);
		why = SSL_get_error(t->ssl, r);
		if (r == 1)
			r = finish(t);
		else
			r = why == SSL_ERROR_WANT_READ ? -EAGAIN : failed(t);
	}
	ERR_clear_error();
	secret_unlock();
	return r;
}

static size_t take(BIO *b, void *buf, size_t room)
{
	int n;

	secret_lock();
	n = BIO_read(b, buf, (int)room);
	secret_unlock();
	return n > 0 ? (size_t)n : 0;
}

size_t tls_output(struct tls *t, void *buf, size_t room)
{
	return take(t->out, buf, room);
}

size_t tls_rest(struct tls *t, void *buf, size_t room)
{
	assert(t->over);
	return take(t->in, buf, room);
}

int tls_keys(struct tls *t, struct record_key *in, struct record_key *out)
{
	bool server = t->config->o.server;
	int r;

	assert(t->over);
	r = record_open(in, server ? t->client : t->server);
	return r ? r : record_open(out, server ? t->server : t->client);
}

unsigned tls_roles(const struct tls *t)
{
	return t->roles;
}

const char *tls_peer(const struct tls *t)
{
	return t->peer;
}
