/* SPDX-License-Identifier: MIT */
/* See gate.h. */
#include "server/gate.h"
#include "common/error.h"
#include "secure/secret.h"
#include "secure/tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct srv_gate {
	struct srv_gate_options o;
	pthread_mutex_t lock;
	struct key_set *keys;   /* under the lock; NULL: none */
	struct tls_config *tls; /* the same; the handshakes under way have theirs */
};

/* Called by OpenSSL in a handshake, so never with the lock held. */
static int find_key(void *arg, const char *identity, size_t bytes, struct key *ret)
{
	struct srv_gate *g = arg;
	int r = -ENOENT;

	pthread_mutex_lock(&g->lock);
	if (g->keys)
		r = key_by_identity(g->keys, identity, bytes, (uint64_t)time(NULL), ret);
	pthread_mutex_unlock(&g->lock);
	return r;
}

int srv_gate_open(const struct srv_gate_options *o, struct srv_gate **ret)
{
	struct srv_gate *g = calloc(1, sizeof *g);
	int r;

	if (!g)
		return err_fail(-ENOMEM, "no memory");
	pthread_mutex_init(&g->lock, NULL);
	g->o = *o;
	r = srv_gate_reload(g);
	if (r)
		srv_gate_close(g);
	else
		*ret = g;
	return r;
}

void srv_gate_close(struct srv_gate *g)
{
	if (!g)
		return;
	tls_config_close(g->tls);
	key_free(g->keys);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

int srv_gate_reload(struct srv_gate *g)
{
	struct tls_options t = {
		.server = true,
		.find = g->o.key_file ? find_key : NULL,
		.find_arg = g,
		.ca = g->o.ca,
		.cert = g->o.cert,
		.cert_key = g->o.cert_key,
	};
	struct key_set *keys = NULL, *old_keys;
	struct tls_config *tls, *old_tls;
	int r = g->o.key_file ? key_read(g->o.key_file, &keys) : 0;

	if (!r)
		r = tls_config_open(&t, &tls);
	if (r) {
		key_free(keys);
		return r;
	}
	pthread_mutex_lock(&g->lock);
	old_keys = g->keys;
	old_tls = g->tls;
	g->keys = keys;
	g->tls = tls;
	pthread_mutex_unlock(&g->lock);
	key_free(old_keys);
	tls_config_close(old_tls);
	return 0;
}

bool srv_gate_allows_plain(const struct srv_gate *g)
{
	return g->o.allow_plain;
}

static bool proof_of(const struct key *k, const struct wire_hello *hello,
		     const struct wire_auth *challenge, const struct wire_auth *proof)
{
	uint8_t own[KDF_KEY_BYTES], want[32];
	struct key role;
	bool good;

	if (key_derive(k, KEY_BORROWER, &role))
		return false;
	key_borrower(role.secret, hello->borrower, own);
	kdf_hmac(own, sizeof own, challenge->word, sizeof challenge->word, hello, sizeof *hello,
		 want);
	good = secret_equal(want, proof->word, sizeof want);
	secret_wipe(&role, sizeof role);
	secret_wipe(own, sizeof own);
	secret_wipe(want, sizeof want);
	return good;
}

bool srv_gate_proof(struct srv_gate *g, const struct wire_hello *hello,
		    const struct wire_auth *challenge, const struct wire_auth *proof)
{
	uint64_t now_s = (uint64_t)time(NULL);
	bool good = false;

	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; g->keys && i < g->keys->count; i++)
		if (!key_expired(&g->keys->key[i], now_s) &&
		    proof_of(&g->keys->key[i], hello, challenge, proof))
			good = true;
	pthread_mutex_unlock(&g->lock);
	return good;
}

int srv_gate_handshake(struct srv_gate *g, struct tls **ret)
{
	struct tls_config *tls;
	int r;

	pthread_mutex_lock(&g->lock);
	tls = tls_config_get(g->tls);
	pthread_mutex_unlock(&g->lock);
	r = tls_open(tls, NULL, ret);
	tls_config_close(tls);
	return r;
}

uint8_t srv_gate_roles(unsigned bits)
{
	return (uint8_t)((bits >> KEY_BORROWER & 1 ? SRV_ROLE_BORROWER : 0) |
			 (bits >> KEY_ADMIN & 1 ? SRV_ROLE_ADMIN : 0) |
			 (bits >> KEY_METRICS & 1 ? SRV_ROLE_METRICS : 0));
}
