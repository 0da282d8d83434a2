/* SPDX-License-Identifier: MIT */
/*
 * The registry in etcd, for a cluster: its v3 API as JSON over HTTP. Every change is one
 * transaction or one call, so compare-and-swap is as atomic as etcd makes it; reads are
 * linearizable.
 *
 * A member that dies in the middle of a request leaves open whether it was done, and the next one
 * is asked the same again. That is harmless for all but two: a swap then finds its own value under
 * its own version and takes it for done (so whoever swaps puts something of its own into the
 * value), and a deletion finds nothing. Leases get their number from us, so that asking again makes
 * no second one.
 */
#include "registry/etcd.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LIST_PAGE 256 /* keys in one answer: 22 MiB of JSON at most */

static struct etcd *self(struct registry *r)
{
	return (struct etcd *)r;
}

/* [text] Takes body over. */
static int ask(struct etcd *e, const char *path, struct json_object *body,
	       struct json_object **answer, bool *ambiguous)
{
	struct etcd_call c = {.path = path, .body = body};
	int r = etcd_http_call(e, &c, answer);

	if (ambiguous)
		*ambiguous = c.ambiguous;
	return r;
}

static int broken(const struct etcd *e)
{
	return err_fail(-EPROTO, "registry %s: etcd's answer makes no sense", e->base.where);
}

static int no_key(const struct etcd *e, const char *key)
{
	return err_fail(-ENOENT, "registry %s: there is no %s", e->base.where, key);
}

static int no_lease(const struct etcd *e, uint64_t lease)
{
	return err_fail(-ENOENT, "registry %s: lease %llu has ended", e->base.where,
			(unsigned long long)lease);
}

/* An item of an answer's list. */
static struct json_object *item(struct json_object *o, const char *list, size_t i)
{
	struct json_object *l = etcd_get(o, list);

	return json_object_is_type(l, json_type_array) ? json_object_array_get_idx(l, i) : NULL;
}

static size_t items(struct json_object *o, const char *list)
{
	struct json_object *l = etcd_get(o, list);

	return json_object_is_type(l, json_type_array) ? json_object_array_length(l) : 0;
}

/* [text] A key and its value as etcd tells them. */
static int fill(const struct etcd *e, struct json_object *kv, struct reg_entry *ret)
{
	size_t prefix = strlen(e->url.prefix), n;
	struct reg_entry got = {0};

	if (!etcd_get_bytes(kv, "key", &got.key, &n) ||
	    !etcd_get_bytes(kv, "value", &got.value, &got.len) || n < prefix ||
	    strncmp(got.key, e->url.prefix, prefix)) {
		reg_entry_free(&got);
		return broken(e);
	}
	memmove(got.key, got.key + prefix, n - prefix + 1);
	got.version = etcd_get_number(kv, "version");
	*ret = got;
	return 0;
}

static int etcd_fetch(struct registry *r, const char *key, struct reg_entry *ret)
{
	struct etcd *e = self(r);
	struct json_object *answer, *kv;
	int err = ask(e, "/v3/kv/range", etcd_key(e, key, false), &answer, NULL);

	if (err)
		return err;
	kv = item(answer, "kvs", 0);
	err = kv ? fill(e, kv, ret) : no_key(e, key);
	json_object_put(answer);
	return err;
}

static struct json_object *put_request(const struct etcd *e, const char *key, const char *value,
				       size_t len, uint64_t lease)
{
	struct json_object *o = etcd_key(e, key, false);

	json_object_object_add(o, "value", etcd_bytes(value, len));
	json_object_object_add(o, "lease", etcd_number(lease));
	json_object_object_add(o, "prev_kv", json_object_new_boolean(1));
	return o;
}

static struct json_object *list_of(const char *name, struct json_object *what)
{
	struct json_object *o = json_object_new_object(), *l = json_object_new_array();

	json_object_object_add(o, name, what);
	json_object_array_add(l, o);
	return l;
}

/* If the version is `expect`: put; else: what is there? */
static struct json_object *swap_request(const struct etcd *e, const char *key, uint64_t expect,
					struct json_object *put)
{
	struct json_object *o = json_object_new_object(), *compare = etcd_key(e, key, false);
	struct json_object *l = json_object_new_array();

	json_object_object_add(compare, "target", json_object_new_string("VERSION"));
	json_object_object_add(compare, "result", json_object_new_string("EQUAL"));
	json_object_object_add(compare, "version", etcd_number(expect));
	json_object_array_add(l, compare);
	json_object_object_add(o, "compare", l);
	json_object_object_add(o, "success", list_of("requestPut", put));
	json_object_object_add(o, "failure", list_of("requestRange", etcd_key(e, key, false)));
	return o;
}

/* What etcd says of an ended lease. */
static int lease_error(const struct etcd *e, int err, uint64_t lease)
{
	return err == -ENOENT ? no_lease(e, lease) : err;
}

/* The versions differ. After a request that may have been done before: by ourselves? */
static int swap_failed(const struct etcd *e, struct json_object *answer, const char *key,
		       uint64_t expect, const char *value, size_t len, bool ambiguous)
{
	struct json_object *kv =
		item(etcd_get(item(answer, "responses", 0), "response_range"), "kvs", 0);
	struct reg_entry have = {0};
	bool ours;
	int r = kv ? fill(e, kv, &have) : 0;

	if (r)
		return r;
	ours = ambiguous && have.version == expect + 1 && have.len == len &&
	       !memcmp(have.value, value, len);
	if (!ours)
		r = err_fail(-EAGAIN, "registry %s: %s has version %llu, not %llu", e->base.where,
			     key, (unsigned long long)have.version, (unsigned long long)expect);
	reg_entry_free(&have);
	return r;
}

static int swap(struct etcd *e, const char *key, uint64_t expect, const char *value, size_t len,
		uint64_t lease, uint64_t *version)
{
	struct json_object *answer, *done;
	bool ambiguous;
	int r = ask(e, "/v3/kv/txn",
		    swap_request(e, key, expect, put_request(e, key, value, len, lease)), &answer,
		    &ambiguous);

	if (r)
		return lease_error(e, r, lease);
	done = etcd_get(answer, "succeeded");
	if (!done || !json_object_get_boolean(done))
		r = swap_failed(e, answer, key, expect, value, len, ambiguous);
	json_object_put(answer);
	if (!r)
		*version = expect + 1;
	return r;
}

static int etcd_put(struct registry *r, const char *key, uint64_t expect, const char *value,
		    size_t len, uint64_t lease, uint64_t *version)
{
	struct etcd *e = self(r);
	struct json_object *answer;
	int err;

	if (!value)
		value = "";
	if (expect != REG_ANY_VERSION)
		return swap(e, key, expect, value, len, lease, version);
	err = ask(e, "/v3/kv/put", put_request(e, key, value, len, lease), &answer, NULL);
	if (err)
		return lease_error(e, err, lease);
	*version = etcd_get_number(etcd_get(answer, "prev_kv"), "version") + 1;
	json_object_put(answer);
	return 0;
}

static int etcd_remove(struct registry *r, const char *key)
{
	struct etcd *e = self(r);
	struct json_object *answer;
	bool ambiguous;
	int err = ask(e, "/v3/kv/deleterange", etcd_key(e, key, false), &answer, &ambiguous);

	if (err)
		return err;
	if (!etcd_get_number(answer, "deleted") && !ambiguous)
		err = no_key(e, key);
	json_object_put(answer);
	return err;
}

/* Adds an answer's keys to the list. */
static int append(const struct etcd *e, struct json_object *answer, struct reg_list *l)
{
	size_t n = items(answer, "kvs");
	struct reg_entry *more = realloc(l->entry, (l->count + n + 1) * sizeof *more);
	int r = more ? 0 : err_fail(-ENOMEM, "registry %s: out of memory", e->base.where);

	if (!r)
		l->entry = more;
	for (size_t i = 0; !r && i < n; i++) {
		r = fill(e, item(answer, "kvs", i), &l->entry[l->count]);
		l->count += !r;
	}
	return r;
}

/* The next page of a listing: from `after` on, at the revision of the first. */
static struct json_object *list_request(const struct etcd *e, const char *prefix, const char *after,
					uint64_t revision)
{
	struct json_object *o = etcd_key(e, prefix, true);
	char from[1024];
	int n;

	if (after) {
		/* the least key behind it: itself and a NUL */
		n = snprintf(from, sizeof from, "%s%s", e->url.prefix, after);
		json_object_object_add(o, "key", etcd_bytes(from, (size_t)n + 1));
		json_object_object_add(o, "revision", etcd_number(revision));
	}
	json_object_object_add(o, "limit", etcd_number(LIST_PAGE));
	json_object_object_add(o, "sort_target", json_object_new_string("KEY"));
	json_object_object_add(o, "sort_order", json_object_new_string("ASCEND"));
	return o;
}

static int etcd_list(struct registry *r, const char *prefix, struct reg_list *ret)
{
	struct etcd *e = self(r);
	struct reg_list l = {0};
	struct json_object *answer, *more;
	uint64_t revision = 0;
	bool again = true;
	int err = 0;

	while (!err && again) {
		const char *after = l.count ? l.entry[l.count - 1].key : NULL;

		err = ask(e, "/v3/kv/range", list_request(e, prefix, after, revision), &answer,
			  NULL);
		if (err)
			break;
		revision = revision ? revision : etcd_revision(answer);
		more = etcd_get(answer, "more");
		again = more && json_object_get_boolean(more) && items(answer, "kvs");
		err = append(e, answer, &l);
		json_object_put(answer);
	}
	if (err)
		reg_list_free(&l);
	else
		*ret = l;
	return err;
}

static struct json_object *lease_request(uint64_t lease)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "ID", etcd_number(lease));
	return o;
}

/* etcd counts in seconds; shorter leases, and those below its elections' time, last longer. */
static int etcd_lease(struct registry *r, uint64_t ttl_ms, uint64_t *lease)
{
	struct etcd *e = self(r);
	struct json_object *answer, *o;
	bool ambiguous;
	uint64_t id;
	int err;

	if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
		return err_fail(-EIO, "the kernel has no random bytes");
	id = (id >> 1) | 1; /* a positive number */
	o = lease_request(id);
	json_object_object_add(o, "TTL", etcd_number((ttl_ms + 999) / 1000));
	err = ask(e, "/v3/lease/grant", o, &answer, &ambiguous);
	if (err && !(err == -EEXIST && ambiguous))
		return err;
	if (!err)
		json_object_put(answer);
	*lease = id;
	return 0;
}

static int etcd_renew(struct registry *r, uint64_t lease)
{
	struct etcd *e = self(r);
	struct json_object *answer;
	int err = ask(e, "/v3/lease/keepalive", lease_request(lease), &answer, NULL);

	if (err)
		return lease_error(e, err, lease);
	if (!etcd_get_number(etcd_get(answer, "result"), "TTL"))
		err = no_lease(e, lease);
	json_object_put(answer);
	return err;
}

static int etcd_revoke(struct registry *r, uint64_t lease)
{
	struct etcd *e = self(r);
	struct json_object *answer;
	bool ambiguous;
	int err = ask(e, "/v3/lease/revoke", lease_request(lease), &answer, &ambiguous);

	if (err == -ENOENT && ambiguous)
		return 0;
	if (err)
		return lease_error(e, err, lease);
	json_object_put(answer);
	return 0;
}

static void etcd_close(struct registry *r)
{
	struct etcd *e = self(r);

	etcd_http_close(e);
	etcd_url_free(&e->url);
	free(e->base.where);
	free(e);
}

/* Nothing is asked yet: a registry that is away is told of by the first operation. */
static int etcd_open(const char *where, struct registry **ret)
{
	struct etcd *e = calloc(1, sizeof *e);
	int r;

	if (!e)
		return err_fail(-ENOMEM, "out of memory");
	e->base.backend = &reg_etcd;
	r = etcd_url_read(where, &e->url);
	/* Without the options: they are long, and tell nothing to who reads a message. */
	if (!r && asprintf(&e->base.where, "etcd:%.*s", (int)strcspn(where, "?"), where) < 0) {
		e->base.where = NULL;
		r = err_fail(-ENOMEM, "out of memory");
	}
	if (!r)
		r = etcd_http_open(e);
	if (r) {
		etcd_close(&e->base);
		return r;
	}
	*ret = &e->base;
	return 0;
}

const struct reg_backend reg_etcd = {
	.scheme = "etcd",
	.open = etcd_open,
	.close = etcd_close,
	.get = etcd_fetch,
	.put = etcd_put,
	.remove = etcd_remove,
	.list = etcd_list,
	.lease = etcd_lease,
	.renew = etcd_renew,
	.revoke = etcd_revoke,
	.watch = etcd_watch,
};
