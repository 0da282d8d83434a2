/* SPDX-License-Identifier: MIT */
/* A libinject heap: what is measured. */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>

static int heap_area_open(struct area *a, const struct area_options *o)
{
	struct inject_options io = {
		.size = sizeof io,
		.name = "infuse-bench",
		.donors = o->donors,
		.donors_count = o->donors_count,
		.local_bytes = o->local_bytes,
		.mode = o->mode,
		/* In the faulting thread each thread wants a way of its own to the donors. */
		.threads = o->mode == INJECT_MODE_SIGBUS ? o->threads : 0,
		.prefetch = o->prefetch,
		.seal = o->seal,
		.replicas = o->replicas,
		.code_data = o->code_data,
		.code_parity = o->code_parity,
		.key_file = o->key_file,
		.window_pages = o->window_pages,
	};
	struct inject_heap *heap;
	void *p;
	int r = inject_open(&io, &heap);

	if (r)
		return err_fail(r, "%s", inject_error());
	a->priv = heap;
	r = inject_alloc(heap, o->bytes, &p);
	if (r)
		return err_fail(r, "%s", inject_error());
	a->mem = p;
	return 0;
}

static int heap_area_stats(struct area *a, struct inject_stats *ret)
{
	int r = inject_stats(a->priv, ret);

	return r ? err_fail(r, "%s", inject_error()) : 0;
}

static void heap_area_close(struct area *a)
{
	if (a->priv)
		inject_close(a->priv);
}

const struct area_kind area_heap = {
	.name = "heap",
	.open = heap_area_open,
	.stats = heap_area_stats,
	.close = heap_area_close,
};
