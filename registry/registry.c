/* SPDX-License-Identifier: MIT */
/*
 * The registry's front: finds the backend for a url, says where the default is, and refuses keys
 * and values that are out of bounds, so that every backend is asked for the same things only.
 */
#include "registry/backend.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 1024

/* To add a backend, add its line here; a plain path belongs to the first. */
static const struct reg_backend *const backends[] = {
	&reg_sqlite,
	&reg_etcd,
};

#define BACKENDS (sizeof backends / sizeof *backends)

/* The default's url or path: the environment's, else a path below the machine's run folder. */
static int default_url(char *buf, size_t len)
{
	const char *env = getenv("INFUSE_REGISTRY");
	const char *run = getenv("XDG_RUNTIME_DIR");
	int n;

	if (env && *env)
		n = snprintf(buf, len, "%s", env);
	else if (!geteuid())
		n = snprintf(buf, len, "/run/infuse/registry.db");
	else if (run && *run)
		n = snprintf(buf, len, "%s/infuse/registry.db", run);
	else
		n = snprintf(buf, len, "/run/user/%u/infuse/registry.db", (unsigned)geteuid());
	if (n < 0 || (size_t)n >= len)
		return err_fail(-ENAMETOOLONG, "the registry's path is longer than %zu bytes",
				len - 1);
	return 0;
}

/* "sqlite:PATH", "etcd:https://HOST:PORT,..." or PATH. A word with a slash before the colon is a path. */
static const struct reg_backend *find_backend(const char *url, const char **where)
{
	size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyz");

	*where = url;
	if (!n || url[n] != ':')
		return backends[0];
	*where = url + n + 1;
	for (size_t i = 0; i < BACKENDS; i++)
		if (strlen(backends[i]->scheme) == n && !strncmp(backends[i]->scheme, url, n))
			return backends[i];
	err_fail(-EINVAL, "registry '%s': no backend '%.*s'; use sqlite:PATH, a path, or "
		 "etcd:https://HOST:2379/PREFIX", url,
		 (int)n, url);
	return NULL;
}

int reg_open(const char *url, struct registry **ret)
{
	char buf[PATH_BYTES];
	const char *where;
	const struct reg_backend *b;
	int r;

	if (!url) {
		r = default_url(buf, sizeof buf);
		if (r)
			return r;
		url = buf;
	}
	b = find_backend(url, &where);
	if (!b)
		return -EINVAL;
	if (!*where)
		return err_fail(-EINVAL, "registry '%s': there is no path in it", url);
	return b->open(where, ret);
}

void reg_close(struct registry *r)
{
	if (r)
		r->backend->close(r);
}

const char *reg_where(const struct registry *r)
{
	return r->where;
}

const char *reg_default(char *buf, size_t len)
{
	char url[PATH_BYTES];
	const char *where;
	const struct reg_backend *b;

	if (default_url(url, sizeof url))
		return NULL;
	b = find_backend(url, &where);
	if (!b || (b->local && access(where, F_OK)))
		return NULL;
	/* A service is asked by its whole url; whether it is there, only asking it tells. */
	if ((size_t)snprintf(buf, len, "%s", b->local ? where : url) >= len)
		return NULL;
	return buf;
}

/* Keys are printable ASCII without spaces: they appear in messages, tables and urls. */
static int check_key(const struct registry *r, const char *key, size_t min)
{
	size_t n = strlen(key);

	if (n < min || n > REG_MAX_KEY)
		return err_fail(-EINVAL, "registry %s: a key has %zu to %d bytes, not %zu",
				r->where, min, REG_MAX_KEY, n);
	for (size_t i = 0; i < n; i++)
		if (key[i] <= ' ' || key[i] > '~')
			return err_fail(-EINVAL,
					"registry %s: byte %zu of a key is 0x%02x; keys are "
					"printable ASCII without spaces",
					r->where, i, (unsigned char)key[i]);
	return 0;
}

static int put(struct registry *r, const char *key, uint64_t expect, const char *value, size_t len,
	       uint64_t lease, uint64_t *version)
{
	uint64_t ignored;
	int e = check_key(r, key, 1);

	if (e)
		return e;
	if (len > REG_MAX_VALUE)
		return err_fail(-EFBIG, "registry %s: the value of %s has %zu bytes, %d at most",
				r->where, key, len, REG_MAX_VALUE);
	return r->backend->put(r, key, expect, value, len, lease, version ? version : &ignored);
}

int reg_put(struct registry *r, const char *key, const char *value, size_t len, uint64_t lease,
	    uint64_t *version)
{
	return put(r, key, REG_ANY_VERSION, value, len, lease, version);
}

int reg_cas(struct registry *r, const char *key, uint64_t expect, const char *value, size_t len,
	    uint64_t lease, uint64_t *version)
{
	if (expect == REG_ANY_VERSION)
		return err_fail(-EINVAL, "registry %s: %s has no such version", r->where, key);
	return put(r, key, expect, value, len, lease, version);
}

/* A service that answers with other keys than it was asked for is not believed. */
static int not_asked(const struct registry *r, const char *key)
{
	return err_fail(-EPROTO, "registry %s: it answers with keys that were not asked for (%s)",
			r->where, key);
}

int reg_get(struct registry *r, const char *key, struct reg_entry *ret)
{
	struct reg_entry got;
	int e = check_key(r, key, 1);

	if (!e)
		e = r->backend->get(r, key, &got);
	if (e)
		return e;
	if (strcmp(got.key, key)) {
		reg_entry_free(&got);
		return not_asked(r, key);
	}
	*ret = got;
	return 0;
}

int reg_delete(struct registry *r, const char *key)
{
	int e = check_key(r, key, 1);

	return e ? e : r->backend->remove(r, key);
}

int reg_list(struct registry *r, const char *prefix, struct reg_list *ret)
{
	struct reg_list got = {0};
	int e = check_key(r, prefix, 0);

	if (!e)
		e = r->backend->list(r, prefix, &got);
	for (size_t i = 0; !e && i < got.count; i++) {
		const char *key = got.entry[i].key;

		if (strncmp(key, prefix, strlen(prefix)) || check_key(r, key, 1))
			e = not_asked(r, prefix);
	}
	if (e)
		reg_list_free(&got);
	else
		*ret = got;
	return e;
}

int reg_lease(struct registry *r, uint64_t ttl_ms, uint64_t *lease)
{
	if (!ttl_ms || ttl_ms > REG_MAX_TTL_MS)
		return err_fail(-EINVAL, "registry %s: a lease lasts 1 ms to a day, not %llu ms",
				r->where, (unsigned long long)ttl_ms);
	return r->backend->lease(r, ttl_ms, lease);
}

int reg_renew(struct registry *r, uint64_t lease)
{
	return r->backend->renew(r, lease);
}

int reg_revoke(struct registry *r, uint64_t lease)
{
	return r->backend->revoke(r, lease);
}

int reg_watch(struct registry *r, const char *prefix, uint64_t *since, uint64_t timeout_ms)
{
	int e = check_key(r, prefix, 0);

	return e ? e : r->backend->watch(r, prefix, since, timeout_ms);
}

void reg_entry_free(struct reg_entry *e)
{
	free(e->key);
	free(e->value);
	*e = (struct reg_entry){0};
}

void reg_list_free(struct reg_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		reg_entry_free(&l->entry[i]);
	free(l->entry);
	*l = (struct reg_list){0};
}
