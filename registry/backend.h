/* SPDX-License-Identifier: MIT */
/*
 * What a registry backend is: one table of operations. registry.c has checked keys, lengths and
 * prefixes before it calls one, and says the same words for all of them; a backend only stores.
 * To add one, write its file and add a line to the list in registry.c.
 */
#ifndef REGISTRY_BACKEND_H
#define REGISTRY_BACKEND_H

#include "registry/registry.h"

#include <stdbool.h>

#define REG_ANY_VERSION UINT64_MAX /* put's `expect`: whatever is there */

struct reg_backend {
	const char *scheme; /* of its urls, before the colon: "sqlite" */
	bool local;         /* the rest of the url is a path on this machine */
	int (*open)(const char *where, struct registry **ret);
	void (*close)(struct registry *r);

	int (*get)(struct registry *r, const char *key, struct reg_entry *ret);
	int (*put)(struct registry *r, const char *key, uint64_t expect, const char *value,
		   size_t len, uint64_t lease, uint64_t *version);
	int (*remove)(struct registry *r, const char *key);
	int (*list)(struct registry *r, const char *prefix, struct reg_list *ret);

	int (*lease)(struct registry *r, uint64_t ttl_ms, uint64_t *lease);
	int (*renew)(struct registry *r, uint64_t lease);
	int (*revoke)(struct registry *r, uint64_t lease);

	int (*watch)(struct registry *r, const char *prefix, uint64_t *since, uint64_t timeout_ms);
};

/* A backend's struct begins with it. */
struct registry {
	const struct reg_backend *backend;
	char *where; /* for messages; the backend's to allocate and free */
};

extern const struct reg_backend reg_sqlite, reg_etcd;

#endif
