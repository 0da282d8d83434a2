/* SPDX-License-Identifier: MIT */
/*
 * Follows scans of any stride, forward and backward, many at a time. Three neighbours start a
 * stream; a larger stride needs four faults on one grid, because two random pages always have some
 * distance. One of the four is among the thread's newest: so other threads don't hide them, and a
 * random fault costs eight look-ups, not a search.
 */
#include "libinject/prefetch.h"

static struct prefetch_stream *stride_detect(struct prefetch_state *s,
					     const struct prefetch_fault *f)
{
	const struct prefetch_thread *t;
	int64_t page = f->page;

	if (recent_has(s, page - 1) && recent_has(s, page - 2))
		return stream_start(s, page, 1);
	if (recent_has(s, page + 1) && recent_has(s, page + 2))
		return stream_start(s, page, -1);
	if (!f->thorough)
		return NULL;
	t = thread_of(s, f->thread);
	for (unsigned i = 1; i <= 8; i++) {
		uint32_t h = t->unforeseen[(t->unforeseen_at - i) % 8];
		int64_t stride = page - h;

		if (h == UINT32_MAX || !stride || stride > PREFETCH_STRIDE_MAX ||
		    stride < -PREFETCH_STRIDE_MAX)
			continue;
		if (recent_has(s, h - stride) && recent_has(s, h - 2 * stride))
			return stream_start(s, page, (int32_t)stride);
	}
	return NULL;
}

static unsigned stride_fault(struct prefetch_state *s, struct prefetch_fault *f,
			     struct prefetch_run *run)
{
	struct prefetch_stream *t = stream_follow(s, f);

	if (!t && f->step)
		t = stream_start(s, f->page, f->step);
	if (t && f->step)
		stream_adopt(s, t, f);
	if (!t)
		t = stride_detect(s, f);
	if (!t) {
		recent_add(s, f);
		return 0;
	}
	return stream_ask(s, t, f, run);
}

const struct prefetcher prefetch_stride = {"stride", stride_fault, stream_outcome, stream_refused};
