/* SPDX-License-Identifier: MIT */
/*
 * A registry file: found or made, checked, in WAL mode, with its tables. Several processes may do
 * this at once. Switching a fresh file to WAL is the one step whose lock SQLite does not wait for,
 * so the whole set-up is tried again until its time is up.
 *
 * synchronous=FULL: an answered write is there after a power cut. Volumes' epochs live here, and
 * one that went back would let an old writer in.
 */
#include "registry/sqlite.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The log is not to be many times the file, nor to fill a small disk. */
#define LOG_PAGES 64

#define APPLICATION_ID 0x494e4655 /* "INFU" */
#define SCHEMA_VERSION 1

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

/* One change is always there, so that the next one's number is known: the first is nobody's. */
static const char schema[] =
	"CREATE TABLE entry (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL,"
	"  version INTEGER NOT NULL, lease INTEGER NOT NULL) STRICT;"
	"CREATE INDEX entry_lease ON entry (lease) WHERE lease != 0;"
	"CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL,"
	"  ttl_ms INTEGER NOT NULL, ends_ms INTEGER NOT NULL) STRICT;"
	"CREATE TABLE change (seq INTEGER PRIMARY KEY, key TEXT NOT NULL) STRICT;"
	"INSERT INTO change VALUES (1, '');"
	"PRAGMA application_id = " STRING(APPLICATION_ID) ";"
							  "PRAGMA user_version = " STRING(
								  SCHEMA_VERSION) ";"
										  "COMMIT";

int sqlite_reg_fail(const struct sqlite_reg *s, int code)
{
	const char *where = s->base.where;
	int e = sqlite3_system_errno(s->db);

	switch (code & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_fail(-EBUSY, "registry %s: another process has it locked for over %d s",
				where, SQLITE_REG_BUSY_MS / 1000);
	case SQLITE_FULL:
		return err_fail(-ENOSPC, "registry %s: no space left on its disk", where);
	case SQLITE_NOTADB:
		return err_fail(-EBADMSG, "registry %s: the file is not a registry", where);
	case SQLITE_CORRUPT:
		return err_fail(-EBADMSG,
				"registry %s: the file is damaged; move it away, and donors that "
				"are restarted make a new one",
				where);
	case SQLITE_READONLY:
		return err_fail(-EACCES,
				"registry %s: this user may not write the file or its folder",
				where);
	case SQLITE_CANTOPEN:
		return err_fail(e ? -e : -EACCES, "registry %s: can't open it beside its log: %s",
				where, strerror(e ? e : EACCES));
	case SQLITE_IOERR:
		if (e == ENOSPC || e == EDQUOT || e == EFBIG)
			return err_fail(-ENOSPC, "registry %s: no space left on its disk", where);
		return err_fail(e ? -e : -EIO, "registry %s: %s", where, strerror(e ? e : EIO));
	case SQLITE_NOMEM:
		return err_fail(-ENOMEM, "registry %s: out of memory", where);
	default:
		return err_fail(-EIO, "registry %s: %s", where, sqlite3_errmsg(s->db));
	}
}

/* Makes the last folder of the path if it is missing: a fresh machine has no /run/infuse. */
static int make_folder(const char *path)
{
	CLEANUP_FREE char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!folder)
		return err_fail(-ENOMEM, "registry %s: out of memory", path);
	if (!slash || slash == folder)
		return 0;
	*slash = 0;
	if (!mkdir(folder, 0700) || errno == EEXIST || !access(folder, F_OK))
		return 0;
	return err_fail(-errno, "registry %s: can't make the folder %s: %s", path, folder,
			strerror(errno));
}

/*
 * Makes the file if it is missing, so that its rights are ours to say, and refuses what SQLite
 * would tell less clearly. An existing file is never opened here: closing it would drop the locks
 * of this process's other connections to it (POSIX locks).
 */
static int make_file(const char *path)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno != EEXIST)
		return err_fail(-errno, "registry %s: can't make the file: %s", path,
				strerror(errno));
	if (stat(path, &st))
		return err_fail(-errno, "registry %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_fail(-EINVAL, "registry %s: this is %s, not a file", path,
				S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
	if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS))
		return err_fail(-errno, "registry %s: can't read and write the file: %s", path,
				strerror(errno));
	return 0;
}

static int number(struct sqlite_reg *s, const char *sql, int64_t *ret)
{
	sqlite3_stmt *q = NULL;
	int code = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);

	if (code == SQLITE_OK) {
		code = sqlite3_step(q);
		if (code == SQLITE_ROW) {
			*ret = sqlite3_column_int64(q, 0);
			code = SQLITE_OK;
		}
	}
	sqlite3_finalize(q);
	return code;
}

/* Whose file is it? 1: a registry of ours; 0: empty; else refused. SQLite's code in *code. */
static int check_owner(struct sqlite_reg *s, int *code)
{
	int64_t id = 0, version = 0, tables = 0;

	/* In this order: tables, id and version appear in one commit, perhaps between two of these.
	 */
	*code = number(s, "SELECT count(*) FROM sqlite_schema", &tables);
	if (*code == SQLITE_OK)
		*code = number(s, "PRAGMA application_id", &id);
	if (*code == SQLITE_OK)
		*code = number(s, "PRAGMA user_version", &version);
	if (*code != SQLITE_OK)
		return -EAGAIN;
	if (!id && !tables)
		return 0;
	if (id != APPLICATION_ID)
		return err_fail(-EBADMSG, "registry %s: the file is another program's database",
				s->base.where);
	if (version != SCHEMA_VERSION)
		return err_fail(-EPROTO,
				"registry %s: the file has format %lld, this program knows %d",
				s->base.where, (long long)version, SCHEMA_VERSION);
	return 1;
}

/* One try at the set-up. Returns SQLite's code; *r says what check_owner() had to say. */
static int set_up(struct sqlite_reg *s, int *r)
{
	int code;

	*r = check_owner(s, &code);
	if (*r)
		return code;
	code = sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return code;
	/* Another process may have been here before the lock was ours. */
	*r = check_owner(s, &code);
	if (!*r)
		code = sqlite3_exec(s->db, schema, NULL, NULL, NULL);
	if (*r || code != SQLITE_OK)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	else
		*r = 1;
	return code;
}

static int set_up_until(struct sqlite_reg *s, uint64_t deadline)
{
	static const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
	int code, r;

	for (;;) {
		code = set_up(s, &r);
		if (code == SQLITE_OK)
			break;
		if ((code & 0xff) != SQLITE_BUSY || clock_ns() >= deadline)
			return sqlite_reg_fail(s, code);
		nanosleep(&pause, NULL);
	}
	if (r < 0)
		return r;
	code = sqlite3_exec(s->db,
			    "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = " STRING(LOG_PAGES),
			    NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : sqlite_reg_fail(s, code);
}

static void read_boot(char *to, size_t len)
{
	CLEANUP_FILE FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f || !fgets(to, (int)len, f))
		to[0] = 0;
	to[strcspn(to, "\n")] = 0;
}

int sqlite_reg_open(const char *path, struct registry **ret)
{
	uint64_t deadline = clock_ns() + SQLITE_REG_BUSY_MS * NSEC_PER_MSEC;
	struct sqlite_reg *s;
	int code, r;

	r = make_folder(path);
	if (!r)
		r = make_file(path);
	if (r)
		return r;
	s = calloc(1, sizeof *s);
	if (!s)
		return err_fail(-ENOMEM, "registry %s: out of memory", path);
	s->base.backend = &reg_sqlite;
	read_boot(s->boot, sizeof s->boot);
	/* Absolute: SQLite gives words like ":memory:" a meaning of their own. */
	s->base.where = realpath(path, NULL);
	if (!s->base.where) {
		free(s);
		return err_fail(-errno, "registry %s: %s", path, strerror(errno));
	}
	code = sqlite3_open_v2(s->base.where, &s->db, SQLITE_OPEN_READWRITE, NULL);
	if (code == SQLITE_OK) {
		sqlite3_busy_timeout(s->db, SQLITE_REG_BUSY_MS);
		r = set_up_until(s, deadline);
	} else {
		r = sqlite_reg_fail(s, code);
	}
	if (r) {
		sqlite_reg_close(&s->base);
		return r;
	}
	*ret = &s->base;
	return 0;
}

void sqlite_reg_close(struct registry *r)
{
	struct sqlite_reg *s = (struct sqlite_reg *)r;

	sqlite3_close(s->db);
	free(s->base.where);
	free(s);
}
