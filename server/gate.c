/* SPDX-License-Identifier: MIT */
/* See gate.h. */
#include "server/gate.h"
#include "common/error.h"
#include "secure/secret.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct srv_gate {
	const char *file;
	bool allow_plain;
	pthread_mutex_t lock;
	struct key_set *keys; /* under the lock; NULL: none */
};

int srv_gate_open(const char *key_file, bool allow_plain, struct srv_gate **ret)
{
	struct srv_gate *g = calloc(1, sizeof *g);
	int r;

	if (!g)
		return err_fail(-ENOMEM, "no memory");
	pthread_mutex_init(&g->lock, NULL);
	g->file = key_file;
	g->allow_plain = allow_plain;
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
	key_free(g->keys);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

int srv_gate_reload(struct srv_gate *g)
{
	struct key_set *fresh, *old;
	int r;

	if (!g->file)
		return 0;
	r = key_read(g->file, &fresh);
	if (r)
		return r;
	pthread_mutex_lock(&g->lock);
	old = g->keys;
	g->keys = fresh;
	pthread_mutex_unlock(&g->lock);
	key_free(old);
	return 0;
}

bool srv_gate_allows_plain(const struct srv_gate *g)
{
	return g->allow_plain;
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

int srv_gate_identity(struct srv_gate *g, const char *identity, size_t bytes, struct key *ret,
		      uint8_t *roles)
{
	static const uint8_t roles_of[KEY_ROLES] = {
		[KEY_BORROWER] = SRV_ROLE_BORROWER,
		[KEY_ADMIN] = SRV_ROLE_ADMIN,
		[KEY_METRICS] = SRV_ROLE_METRICS,
	};
	int r = -ENOENT;

	pthread_mutex_lock(&g->lock);
	if (g->keys)
		r = key_by_identity(g->keys, identity, bytes, (uint64_t)time(NULL), ret);
	pthread_mutex_unlock(&g->lock);
	if (!r)
		*roles = roles_of[ret->role];
	return r;
}
