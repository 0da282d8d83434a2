/* SPDX-License-Identifier: MIT */
/* Aligned columns on a terminal or in a pipe: plain text, widths from the contents. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS 12

struct table {
	const char *head[TABLE_COLUMNS]; /* a name that begins with '>' is right-aligned */
	unsigned columns;
	char **cell; /* row by row */
	size_t cells;
	bool broken; /* out of memory */
};

/* head must outlive the table. */
void table_open(struct table *t, const char *const *head, unsigned columns);
/* The next cell, left to right, row by row. An empty one prints as "-". */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints to standard output and frees. A negative errno when memory ran out. [text] */
int table_print(struct table *t, bool with_head);

#endif
