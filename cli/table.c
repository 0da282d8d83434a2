/* SPDX-License-Identifier: MIT */
#include "cli/table.h"
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_open(struct table *t, const char *const *head, unsigned columns)
{
	*t = (struct table){.columns = columns};
	for (unsigned i = 0; i < columns && i < TABLE_COLUMNS; i++)
		t->head[i] = head[i];
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char **more = realloc(t->cell, (t->cells + 1) * sizeof *more);
	va_list ap;

	if (!more) {
		t->broken = true;
		return;
	}
	t->cell = more;
	va_start(ap, fmt);
	if (vasprintf(&t->cell[t->cells], fmt, ap) < 0)
		t->broken = true;
	else
		t->cells++;
	va_end(ap);
}

/* Characters, not bytes: names are UTF-8. */
static int width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static const char *shown(const char *s)
{
	return *s ? s : "-";
}

static void print_cell(const char *s, int wide, bool right, bool last)
{
	int pad = wide - width(s);

	if (right)
		printf("%*s%s", pad, "", s);
	else
		printf("%s%*s", s, last ? 0 : pad, "");
	fputs(last ? "\n" : "  ", stdout);
}

static void print_rows(const struct table *t, bool with_head)
{
	int wide[TABLE_COLUMNS] = {0};
	bool right[TABLE_COLUMNS];

	for (unsigned c = 0; c < t->columns; c++) {
		right[c] = t->head[c][0] == '>';
		wide[c] = width(t->head[c] + right[c]);
	}
	for (size_t i = 0; i < t->cells; i++) {
		int n = width(shown(t->cell[i]));

		if (n > wide[i % t->columns])
			wide[i % t->columns] = n;
	}
	for (unsigned c = 0; with_head && c < t->columns; c++)
		print_cell(t->head[c] + right[c], wide[c], right[c], c + 1 == t->columns);
	for (size_t i = 0; i < t->cells; i++) {
		unsigned c = (unsigned)(i % t->columns);

		print_cell(shown(t->cell[i]), wide[c], right[c], c + 1 == t->columns);
	}
}

int table_print(struct table *t, bool with_head)
{
	bool broken = t->broken;

	if (!broken)
		print_rows(t, with_head);
	for (size_t i = 0; i < t->cells; i++)
		free(t->cell[i]);
	free(t->cell);
	*t = (struct table){0};
	return broken ? err_fail(-ENOMEM, "out of memory") : 0;
}
