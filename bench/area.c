/* SPDX-License-Identifier: MIT */
/* What all kinds of memory have in common. To add one: write its file, name it in bench.h. */
#include "bench/bench.h"

#include <string.h>

int area_open(const struct area_kind *kind, const struct area_options *o, struct area *ret)
{
	int r;

	*ret = (struct area){.kind = kind, .bytes = o->bytes};
	r = kind->open(ret, o);
	if (r)
		area_close(ret);
	return r;
}

int area_settle(struct area *a)
{
	return a->kind->settle ? a->kind->settle(a) : 0;
}

int area_stats(struct area *a, struct inject_stats *ret)
{
	memset(ret, 0, sizeof *ret);
	return a->kind->stats ? a->kind->stats(a, ret) : 0;
}

void area_close(struct area *a)
{
	if (a->kind)
		a->kind->close(a);
	*a = (struct area){0};
}
