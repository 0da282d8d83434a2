/* SPDX-License-Identifier: MIT */
/*
 * What the cluster knows: donors, volumes, settings. Small documents under path-like keys
 * ("donor/NAME", "volume/NAME"). One table of operations a backend: SQLite is the one for a single
 * machine, etcd the one for a cluster. Watches are hints: whoever needs the truth reads again. Never called on the fault path.
 *
 * A handle belongs to one thread at a time, and never crosses fork(): open one where it is used.
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#define REG_MAX_URL    1024
#define REG_MAX_KEY    255
#define REG_MAX_VALUE  65536
#define REG_MAX_TTL_MS (24u * 3600 * 1000)

struct registry;

struct reg_entry {
	char *key;
	char *value; /* NUL-terminated after len bytes */
	size_t len;
	uint64_t version; /* of this key: 1 when created, grows with each change */
};

struct reg_list {
	struct reg_entry *entry;
	size_t count;
};

/*
 * url: "sqlite:PATH", a plain path, "etcd:https://HOST:PORT,.../PREFIX?OPTIONS" (etcd_url.c), or NULL for the default: $INFUSE_REGISTRY, else
 * /run/infuse/registry.db for root, else $XDG_RUNTIME_DIR/infuse/registry.db. Creates it (0600,
 * folder 0700). [text]
 */
int reg_open(const char *url, struct registry **ret);
void reg_close(struct registry *r);              /* takes NULL */
const char *reg_where(const struct registry *r); /* for messages */
/* The default's path if that file exists, or NULL: "is there a registry?" buf: REG_MAX_URL bytes. */
const char *reg_default(char *buf, size_t len);

/*
 * All return 0 or a negative errno with the words set. Blocks up to 5 s on a busy database, then
 * -EBUSY, or on a cluster none of whose members answers, then -EHOSTUNREACH: what was asked may have been
 * done or not. -ESTALE: the file was removed or replaced since; open it again. Keys are printable
 * ASCII without spaces. A key that was deleted and created again starts at version 1, as in etcd.
 */
int reg_get(struct registry *r, const char *key, struct reg_entry *ret); /* -ENOENT */
/* lease 0: for good. version (may be NULL): the new one. */
int reg_put(struct registry *r, const char *key, const char *value, size_t len, uint64_t lease,
	    uint64_t *version);
/*
 * Only if the key's version is still `expect` (0: it does not exist); else -EAGAIN. Put something of your
 * own into the value: it tells your swap from another's with the same words.
 */
int reg_cas(struct registry *r, const char *key, uint64_t expect, const char *value, size_t len,
	    uint64_t lease, uint64_t *version);
int reg_delete(struct registry *r, const char *key); /* -ENOENT */
/* Keys that begin with prefix, sorted. */
int reg_list(struct registry *r, const char *prefix, struct reg_list *ret);

/*
 * Keys put with a lease vanish when it is not renewed for ttl_ms (at most REG_MAX_TTL_MS; etcd rounds up
 * to seconds, 2 s at least). The file's clock is the machine's monotonic one: setting the time of day ends no lease, a reboot ends
 * all. Putting a key again with another lease, or none, takes it out of the first.
 */
int reg_lease(struct registry *r, uint64_t ttl_ms, uint64_t *lease);
int reg_renew(struct registry *r, uint64_t lease); /* -ENOENT: it has ended */
int reg_revoke(struct registry *r, uint64_t lease);

/*
 * Blocks until something under prefix has changed since `*since`, or timeout_ms (then -ETIMEDOUT).
 * Start with *since = 0, which returns at once; *since is moved on.
 */
int reg_watch(struct registry *r, const char *prefix, uint64_t *since, uint64_t timeout_ms);

void reg_entry_free(struct reg_entry *e);
void reg_list_free(struct reg_list *l);

#endif
