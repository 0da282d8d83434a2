/* SPDX-License-Identifier: MIT */
/* Follows scans forward: a fault on the page behind two recent ones starts a stream. */
#include "libinject/prefetch.h"

static unsigned sequential_fault(struct prefetch_state *s, struct prefetch_fault *f,
				 struct prefetch_run *run)
{
	struct prefetch_stream *t = stream_follow(s, f);

	if (!t && recent_has(s, (int64_t)f->page - 1) && recent_has(s, (int64_t)f->page - 2))
		t = stream_start(s, f->page, 1);
	if (!t) {
		recent_add(s, f);
		return 0;
	}
	return stream_ask(s, t, f, run);
}

const struct prefetcher prefetch_sequential = {"sequential", sequential_fault, stream_outcome,
					       stream_refused};
