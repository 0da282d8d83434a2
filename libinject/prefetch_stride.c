/* SPDX-License-Identifier: MIT */
/*
 * Follows scans of any stride, forward and backward, many at a time. Three neighbours start a
 * stream; a larger stride needs four faults on one grid among the recent ones, because two random
 * pages always have some distance.
 */
#include "libinject/prefetch.h"

#define STRIDE_MAX (1 << 18) /* 1 GiB */

static unsigned stride_fault(struct prefetch_state *s, uint32_t page, struct prefetch_run *run)
{
	struct prefetch_stream *t;

	s->faults++;
	t = stream_follow(s, page);
	if (!t && history_has(s, (int64_t)page - 1) && history_has(s, (int64_t)page - 2))
		t = stream_start(s, page, 1);
	if (!t && history_has(s, (int64_t)page + 1) && history_has(s, (int64_t)page + 2))
		t = stream_start(s, page, -1);
	for (unsigned i = 1; !t && i <= PREFETCH_HISTORY; i++) {
		uint32_t h = s->history[(s->at - i) % PREFETCH_HISTORY];
		int64_t stride = (int64_t)page - h;

		if (h == UINT32_MAX || !stride || stride > STRIDE_MAX || stride < -STRIDE_MAX)
			continue;
		if (history_has(s, (int64_t)h - stride) && history_has(s, (int64_t)h - 2 * stride))
			t = stream_start(s, page, (int32_t)stride);
	}
	if (!t) {
		history_add(s, page);
		return 0;
	}
	return stream_ask(s, t, run);
}

const struct prefetcher prefetch_stride = {"stride", stride_fault};
