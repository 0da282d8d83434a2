/* SPDX-License-Identifier: MIT */
/* See donor_key.h. */
#include "cli/donor_key.h"
#include "common/error.h"
#include "secure/secret.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct tls_config *config;

static const char *or_variable(const char *given, const char *name)
{
	const char *s = given ? NULL : getenv(name);

	return s && *s ? s : given;
}

static struct donor_keys complete(const struct donor_keys *k)
{
	return (struct donor_keys){
		.key = or_variable(k->key, KEY_FILE_VARIABLE),
		.ca = or_variable(k->ca, "INFUSE_TLS_CA"),
		.cert = or_variable(k->cert, "INFUSE_TLS_CERT"),
		.cert_key = or_variable(k->cert_key, "INFUSE_TLS_CERT_KEY"),
	};
}

static int take_key(const char *path, enum key_role role, struct key *ret)
{
	struct key_set *set;
	int r = key_read(path, &set);

	if (r)
		return r;
	if (key_expired(&set->key[0], (uint64_t)time(NULL)))
		r = err_fail(-EKEYEXPIRED, "key file '%s': its first key has expired", path);
	else if (key_derive(&set->key[0], role, ret))
		*ret = set->key[0]; /* the donor says what it may do */
	key_free(set);
	return r;
}

int donor_secure(const struct donor_keys *given, enum key_role role)
{
	struct donor_keys k = complete(given);
	struct tls_options o = {.ca = k.ca, .cert = k.cert, .cert_key = k.cert_key};
	struct tls_config *fresh;
	struct key key;
	int r = 0;

	if (!k.key && !k.ca && !k.cert && !k.cert_key)
		return 0;
	if (k.key) {
		r = take_key(k.key, role, &key);
		o.key = &key;
	}
	if (!r)
		r = tls_config_open(&o, &fresh);
	secret_wipe(&key, sizeof key);
	if (r)
		return r;
	tls_config_close(config);
	config = fresh;
	return 0;
}

struct tls_config *donor_tls(void)
{
	return config;
}

/* The program may have another working folder. */
static int export_path(const char *name, const char *path)
{
	char cwd[PATH_MAX], full[2 * PATH_MAX];

	if (!path)
		return 0;
	if (*path == '/' || !getcwd(cwd, sizeof cwd))
		return setenv(name, path, 1);
	snprintf(full, sizeof full, "%s/%s", cwd, path);
	return setenv(name, full, 1);
}

int donor_keys_export(const struct donor_keys *k)
{
	return export_path(KEY_FILE_VARIABLE, k->key) || export_path("INFUSE_TLS_CA", k->ca) ||
			       export_path("INFUSE_TLS_CERT", k->cert) ||
			       export_path("INFUSE_TLS_CERT_KEY", k->cert_key)
		       ? -errno
		       : 0;
}
