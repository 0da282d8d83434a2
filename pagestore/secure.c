/* SPDX-License-Identifier: MIT */
/*
 * A volume's keys: what its connections to other machines are made of. Read once, when it is opened;
 * a forked child has the parent's. See secure/secret.h for why a fork waits for handshakes.
 */
#include "common/error.h"
#include "pagestore/volume.h"
#include "secure/secret.h"
#include "secure/tls.h"

#include <errno.h>
#include <time.h>

/* The first key of the file, as a borrower's. */
static int borrower_key(const char *path, struct key *ret)
{
	struct key_set *set;
	int r = key_read(path, &set);

	if (r)
		return r;
	if (key_expired(&set->key[0], (uint64_t)time(NULL)))
		r = err_fail(-EKEYEXPIRED, "key file '%s': its first key has expired", path);
	else if (key_derive(&set->key[0], KEY_BORROWER, ret))
		r = err_fail(-EACCES, "key file '%s' has a key for '%s', not for borrowing", path,
			     key_role_name(set->key[0].role));
	key_free(set);
	return r;
}

int volume_secure(struct ps_volume *v, const struct ps_options *o)
{
	struct tls_options t = {.ca = o->tls_ca, .cert = o->tls_cert, .cert_key = o->tls_cert_key};
	struct key k;
	int r = 0;

	if (!o->key_file && !t.ca && !t.cert && !t.cert_key)
		return 0;
	if (o->key_file) {
		r = borrower_key(o->key_file, &k);
		t.key = &k;
	}
	if (!r)
		r = tls_config_open(&t, &v->tls);
	secret_wipe(&k, sizeof k);
	return r;
}

void volume_fork_begin(struct ps_volume *v)
{
	if (v->tls && !v->fork_held)
		secret_lock();
	v->fork_held = v->tls;
}

void volume_fork_end(struct ps_volume *v, bool child)
{
	if (v->fork_held && child)
		secret_lock_reset();
	else if (v->fork_held)
		secret_unlock();
	v->fork_held = false;
}
