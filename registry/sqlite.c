/* SPDX-License-Identifier: MIT */
/*
 * The registry in one SQLite file, for one machine and any number of processes.
 *
 * Every change is one BEGIN IMMEDIATE transaction, which makes compare-and-swap atomic between
 * processes. It also takes out what has expired, writes the keys it touched into the table of
 * changes, and keeps the last CHANGES_KEPT of those: a watcher that fell further behind is told
 * that something has changed. Readers don't wait for any of that; they leave out what has expired.
 *
 * Leases end by CLOCK_MONOTONIC, which all processes of a machine share, together with the boot's
 * id: a time of day that is set ends none, a lease of another boot (or machine) has ended.
 */
#include "registry/sqlite.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES_KEPT  1024
#define POLL_MS       20
#define EXPIRY_ROUNDS 10 /* polls between two looks for expired keys */

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

/* ?1 and ?2 are always the boot and the time; a call's own parameters begin at ?3. */
#define LIVE_LEASES "SELECT id FROM lease WHERE boot = ?1 AND ends_ms > ?2"
#define LIVE        "(lease = 0 OR lease IN (" LIVE_LEASES "))"
/* Keys are ASCII below 127, so this is "begins with ?3", and uses the index. */
#define IN_PREFIX "key >= ?3 AND key < ?3 || char(127)"

static struct sqlite_reg *self(struct registry *r)
{
	return (struct sqlite_reg *)r;
}

static int64_t now_ms(void)
{
	return (int64_t)(clock_ns() / NSEC_PER_MSEC);
}

static void finalize(sqlite3_stmt **q)
{
	sqlite3_finalize(*q);
}

#define CLEANUP_STMT __attribute__((cleanup(finalize)))

/* types: 's' text, 'i' a 64-bit number, 'b' bytes and their size_t length. */
static int bind(sqlite3_stmt *q, const char *types, va_list ap)
{
	int code = SQLITE_OK;

	for (int i = 3; *types && code == SQLITE_OK; types++, i++) {
		const char *p = *types == 'i' ? NULL : va_arg(ap, const char *);

		if (*types == 'i')
			code = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
		else if (*types == 's')
			code = sqlite3_bind_text(q, i, p, -1, SQLITE_STATIC);
		else
			code = sqlite3_bind_blob64(q, i, p ? p : "", va_arg(ap, size_t),
						   SQLITE_STATIC);
	}
	return code;
}

static int start(struct sqlite_reg *s, sqlite3_stmt **q, const char *sql, const char *types,
		 va_list ap)
{
	int moved = 0, code;

	if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
	    moved)
		return err_fail(-ESTALE, "registry %s: the file was removed or replaced",
				s->base.where);
	code = sqlite3_prepare_v2(s->db, sql, -1, q, NULL);
	if (code == SQLITE_OK && sqlite3_bind_parameter_count(*q) >= 1)
		code = sqlite3_bind_text(*q, 1, s->boot, -1, SQLITE_STATIC);
	if (code == SQLITE_OK && sqlite3_bind_parameter_count(*q) >= 2)
		code = sqlite3_bind_int64(*q, 2, now_ms());
	if (code == SQLITE_OK)
		code = bind(*q, types, ap);
	return code == SQLITE_OK ? 0 : sqlite_reg_fail(s, code);
}

/* 1: there is a row, 0: no more. */
static int next(struct sqlite_reg *s, sqlite3_stmt *q)
{
	int code = sqlite3_step(q);

	if (code == SQLITE_ROW)
		return 1;
	return code == SQLITE_DONE ? 0 : sqlite_reg_fail(s, code);
}

/* Prepares and takes the first step: 1, 0 or an error. The caller's q is CLEANUP_STMT. */
static int first(struct sqlite_reg *s, sqlite3_stmt **q, const char *sql, const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = start(s, q, sql, types, ap);
	va_end(ap);
	return r ? r : next(s, *q);
}

/* Runs to the end; 0 or an error. */
static int run(struct sqlite_reg *s, const char *sql, const char *types, ...)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	va_list ap;
	int r;

	va_start(ap, types);
	r = start(s, &q, sql, types, ap);
	va_end(ap);
	if (r)
		return r;
	do {
		r = next(s, q);
	} while (r > 0);
	return r;
}

/* Undoes what was done. Where the disk is full, the log's share of it is given back for the next try. */
static void undo(struct sqlite_reg *s, int r)
{
	sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	if (r == -ENOSPC)
		sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

/* Takes expired keys and leases out. Within a transaction. */
static int purge(struct sqlite_reg *s)
{
	int r = run(s, "INSERT INTO change (key) SELECT key FROM entry WHERE NOT " LIVE, "");

	if (!r)
		r = run(s, "DELETE FROM entry WHERE NOT " LIVE, "");
	if (!r)
		r = run(s, "DELETE FROM lease WHERE boot != ?1 OR ends_ms <= ?2", "");
	return r;
}

static int begin(struct sqlite_reg *s)
{
	int r = run(s, "BEGIN IMMEDIATE", "");

	if (r)
		return r;
	r = purge(s);
	if (r)
		undo(s, r);
	return r;
}

/* Commits, or undoes what was done when r is an error. The words stay those of the error. */
static int finish(struct sqlite_reg *s, int r)
{
	if (!r)
		r = run(s,
			"DELETE FROM change WHERE seq <= "
			"(SELECT max(seq) FROM change) - " STRING(CHANGES_KEPT),
			"");
	if (!r)
		r = run(s, "COMMIT", "");
	if (r)
		undo(s, r);
	return r;
}

static int fill(struct sqlite_reg *s, sqlite3_stmt *q, struct reg_entry *ret)
{
	const void *value = sqlite3_column_blob(q, 1);
	size_t len = (size_t)sqlite3_column_bytes(q, 1);
	struct reg_entry e = {.len = len, .version = (uint64_t)sqlite3_column_int64(q, 2)};

	e.key = strdup((const char *)sqlite3_column_text(q, 0));
	e.value = malloc(len + 1);
	if (!e.key || !e.value) {
		reg_entry_free(&e);
		return err_fail(-ENOMEM, "registry %s: out of memory", s->base.where);
	}
	if (len)
		memcpy(e.value, value, len);
	e.value[len] = 0;
	*ret = e;
	return 0;
}

static int no_key(const struct sqlite_reg *s, const char *key)
{
	return err_fail(-ENOENT, "registry %s: there is no %s", s->base.where, key);
}

static int no_lease(const struct sqlite_reg *s, uint64_t lease)
{
	return err_fail(-ENOENT, "registry %s: lease %llu has ended", s->base.where,
			(unsigned long long)lease);
}

static int sqlite_get(struct registry *r, const char *key, struct reg_entry *ret)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	struct sqlite_reg *s = self(r);
	int e = first(s, &q, "SELECT key, value, version FROM entry WHERE key = ?3 AND " LIVE, "s",
		      key);

	if (e < 0)
		return e;
	return e ? fill(s, q, ret) : no_key(s, key);
}

static int version_of(struct sqlite_reg *s, const char *key, uint64_t *version)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	int e = first(s, &q, "SELECT version FROM entry WHERE key = ?3", "s", key);

	*version = e > 0 ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
	return e < 0 ? e : 0;
}

static int check_lease(struct sqlite_reg *s, uint64_t lease)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	int e;

	if (!lease)
		return 0;
	e = first(s, &q, LIVE_LEASES " AND id = ?3", "i", (int64_t)lease);
	if (e < 0)
		return e;
	return e ? 0 : no_lease(s, lease);
}

static int touch(struct sqlite_reg *s, const char *key)
{
	return run(s, "INSERT INTO change (key) VALUES (?3)", "s", key);
}

static int put_locked(struct sqlite_reg *s, const char *key, uint64_t expect, const char *value,
		      size_t len, uint64_t lease, uint64_t *version)
{
	uint64_t have;
	int e = version_of(s, key, &have);

	if (!e && expect != REG_ANY_VERSION && have != expect)
		e = err_fail(-EAGAIN, "registry %s: %s has version %llu, not %llu", s->base.where,
			     key, (unsigned long long)have, (unsigned long long)expect);
	if (!e)
		e = check_lease(s, lease);
	if (!e)
		e = run(s,
			"INSERT INTO entry (key, value, version, lease) VALUES (?3, ?4, ?5, ?6) "
			"ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
			"version = excluded.version, lease = excluded.lease",
			"sbii", key, value, len, (int64_t)(have + 1), (int64_t)lease);
	if (!e)
		e = touch(s, key);
	*version = have + 1;
	return e;
}

static int sqlite_put(struct registry *r, const char *key, uint64_t expect, const char *value,
		      size_t len, uint64_t lease, uint64_t *version)
{
	struct sqlite_reg *s = self(r);
	uint64_t fresh;
	int e = begin(s);

	if (e)
		return e;
	e = finish(s, put_locked(s, key, expect, value, len, lease, &fresh));
	if (!e)
		*version = fresh;
	return e;
}

static int sqlite_remove(struct registry *r, const char *key)
{
	struct sqlite_reg *s = self(r);
	uint64_t have;
	int e = begin(s);

	if (e)
		return e;
	e = version_of(s, key, &have);
	if (!e && !have)
		e = no_key(s, key);
	if (!e)
		e = run(s, "DELETE FROM entry WHERE key = ?3", "s", key);
	if (!e)
		e = touch(s, key);
	return finish(s, e);
}

static int append(struct sqlite_reg *s, sqlite3_stmt *q, struct reg_list *l, size_t *room)
{
	if (l->count == *room) {
		size_t n = *room ? 2 * *room : 16;
		struct reg_entry *more = realloc(l->entry, n * sizeof *more);

		if (!more)
			return err_fail(-ENOMEM, "registry %s: out of memory", s->base.where);
		l->entry = more;
		*room = n;
	}
	return fill(s, q, &l->entry[l->count]);
}

static int sqlite_list(struct registry *r, const char *prefix, struct reg_list *ret)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	struct sqlite_reg *s = self(r);
	struct reg_list l = {0};
	size_t room = 0;
	int e = first(s, &q,
		      "SELECT key, value, version FROM entry WHERE " IN_PREFIX " AND " LIVE
		      " ORDER BY key",
		      "s", prefix);

	while (e > 0) {
		e = append(s, q, &l, &room);
		if (e)
			break;
		l.count++;
		e = next(s, q);
	}
	if (e) {
		reg_list_free(&l);
		return e;
	}
	*ret = l;
	return 0;
}

static int sqlite_lease(struct registry *r, uint64_t ttl_ms, uint64_t *lease)
{
	struct sqlite_reg *s = self(r);
	uint64_t id;
	int e = begin(s);

	if (e)
		return e;
	e = run(s, "INSERT INTO lease (boot, ttl_ms, ends_ms) VALUES (?1, ?3, ?2 + ?3)", "i",
		(int64_t)ttl_ms);
	id = (uint64_t)sqlite3_last_insert_rowid(s->db);
	e = finish(s, e);
	if (!e)
		*lease = id;
	return e;
}

/* begin() has taken expired leases out, so one that has ended can't be renewed. */
static int sqlite_renew(struct registry *r, uint64_t lease)
{
	struct sqlite_reg *s = self(r);
	int e = begin(s);

	if (e)
		return e;
	e = run(s, "UPDATE lease SET ends_ms = ?2 + ttl_ms WHERE id = ?3 AND boot = ?1", "i",
		(int64_t)lease);
	if (!e && !sqlite3_changes(s->db))
		e = no_lease(s, lease);
	return finish(s, e);
}

static int sqlite_revoke(struct registry *r, uint64_t lease)
{
	struct sqlite_reg *s = self(r);
	int e = begin(s);

	if (e)
		return e;
	e = check_lease(s, lease);
	if (!e && !lease)
		e = no_lease(s, lease);
	if (!e)
		e = run(s, "INSERT INTO change (key) SELECT key FROM entry WHERE lease = ?3", "i",
			(int64_t)lease);
	if (!e)
		e = run(s, "DELETE FROM entry WHERE lease = ?3", "i", (int64_t)lease);
	if (!e)
		e = run(s, "DELETE FROM lease WHERE id = ?3", "i", (int64_t)lease);
	return finish(s, e);
}

/* 1: something under prefix has changed since, and *since is moved on; 0: not yet. */
static int look(struct sqlite_reg *s, const char *prefix, uint64_t *since)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	uint64_t newest, oldest;
	bool changed;
	int e = first(s, &q,
		      "SELECT max(seq), min(seq), total(seq > ?4 AND " IN_PREFIX ") FROM change",
		      "si", prefix, (int64_t)*since);

	if (e < 0)
		return e;
	newest = e ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
	oldest = e ? (uint64_t)sqlite3_column_int64(q, 1) : 0;
	if (!newest)
		return sqlite_reg_fail(s, SQLITE_CORRUPT);
	/* A first call, one that missed changes, or one about another file: "read again". */
	changed = !*since || oldest > *since + 1 || newest < *since ||
		  sqlite3_column_double(q, 2) > 0;
	*since = newest;
	return changed;
}

/* Nobody writes when a lease ends; whoever watches does it then. */
static int take_out_expired(struct sqlite_reg *s, const char *prefix)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	int e = first(s, &q, "SELECT 1 FROM entry WHERE NOT " LIVE " AND " IN_PREFIX " LIMIT 1",
		      "s", prefix);

	if (e <= 0)
		return e;
	finalize(&q);
	q = NULL;
	e = begin(s);
	if (e)
		return e;
	e = finish(s, 0);
	return e ? e : 1;
}

static int data_version(struct sqlite_reg *s, int64_t *version)
{
	CLEANUP_STMT sqlite3_stmt *q = NULL;
	int e = first(s, &q, "PRAGMA data_version", "");

	if (e > 0)
		*version = sqlite3_column_int64(q, 0);
	return e < 0 ? e : 0;
}

static int sqlite_watch(struct registry *r, const char *prefix, uint64_t *since,
			uint64_t timeout_ms)
{
	uint64_t begun = clock_ns(), spent;
	struct sqlite_reg *s = self(r);
	int64_t seen = -1, version = 0;
	unsigned round = 0;
	struct timespec nap;
	int e;

	for (;; round++) {
		e = data_version(s, &version);
		if (e)
			return e;
		if (version == seen && round % EXPIRY_ROUNDS == 0) {
			e = take_out_expired(s, prefix);
			if (e < 0)
				return e;
		}
		/* Changes of this very connection don't show in data_version. */
		if (version != seen || e > 0) {
			seen = version;
			e = look(s, prefix, since);
			if (e)
				return e < 0 ? e : 0;
		}
		spent = (clock_ns() - begun) / NSEC_PER_MSEC;
		if (spent >= timeout_ms)
			return err_fail(-ETIMEDOUT, "registry %s: no change under '%s' in %llu ms",
					s->base.where, prefix, (unsigned long long)timeout_ms);
		spent = timeout_ms - spent < POLL_MS ? timeout_ms - spent : POLL_MS;
		nap = (struct timespec){.tv_nsec = (long)(spent * NSEC_PER_MSEC)};
		nanosleep(&nap, NULL);
	}
}

const struct reg_backend reg_sqlite = {
	.scheme = "sqlite",
	.local = true,
	.open = sqlite_reg_open,
	.close = sqlite_reg_close,
	.get = sqlite_get,
	.put = sqlite_put,
	.remove = sqlite_remove,
	.list = sqlite_list,
	.lease = sqlite_lease,
	.renew = sqlite_renew,
	.revoke = sqlite_revoke,
	.watch = sqlite_watch,
};
