/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the SQLite backend share: sqlite_file.c brings a file up (folder, rights,
 * write-ahead log, tables) and turns SQLite's errors into words; sqlite.c is the operations.
 */
#ifndef REGISTRY_SQLITE_H
#define REGISTRY_SQLITE_H

#include "registry/backend.h"

#include <sqlite3.h>

#define SQLITE_REG_BUSY_MS 5000 /* how long another process's transaction is waited for */

struct sqlite_reg {
	struct registry base;
	sqlite3 *db;
	char boot[40]; /* this boot's id: the monotonic clock of another one means nothing */
};

/* [text] Opens or creates the file. Blocks up to SQLITE_REG_BUSY_MS on other processes. */
int sqlite_reg_open(const char *path, struct registry **ret);
void sqlite_reg_close(struct registry *r);

/* [text] A negative errno for SQLite's code, with the words that fit it. */
int sqlite_reg_fail(const struct sqlite_reg *s, int code);

#endif
