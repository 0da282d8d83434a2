/* SPDX-License-Identifier: MIT */
/* Follows scans forward: a fault on the page behind two recent ones starts a stream. */
#include "libinject/prefetch.h"

static unsigned sequential_fault(struct prefetch_state *s, uint32_t page, struct prefetch_run *run)
{
	struct prefetch_stream *t;

	s->faults++;
	t = stream_follow(s, page);
	if (!t && history_has(s, (int64_t)page - 1) && history_has(s, (int64_t)page - 2))
		t = stream_start(s, page, 1);
	if (!t) {
		history_add(s, page);
		return 0;
	}
	return stream_ask(s, t, run);
}

const struct prefetcher prefetch_sequential = {"sequential", sequential_fault};
