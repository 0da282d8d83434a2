/* SPDX-License-Identifier: MIT */
/*
 * Windows that were asked and of which it is not known yet whether they were of use. Any of its
 * pages may be the one that is touched, so all are in a hash; when it is crowded the oldest give
 * way, which costs no more than a count that is a little low.
 */
#include "libinject/prefetch.h"

static struct prefetch_slot *bucket_of(struct prefetch_state *s, uint32_t page)
{
	uint32_t i = (page * UINT32_C(2654435769)) >> (32 - 12);

	_Static_assert(PREFETCH_SLOTS == 2 << 12, "two slots a bucket");
	return &s->slot[i * 2];
}

static bool slot_alive(const struct prefetch_state *s, const struct prefetch_slot *e)
{
	const struct prefetch_window *w = &s->window[e->window];

	return w->pages && w->turn == e->turn;
}

void window_add(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages)
{
	uint16_t index = (uint16_t)(s->window_at++ % PREFETCH_WINDOWS);
	struct prefetch_window *w = &s->window[index];
	uint16_t turn = (uint16_t)(w->turn + 1);

	*w = (struct prefetch_window){
		.region = run->region,
		.first = run->page,
		.last = (uint32_t)(run->page + (int64_t)run->stride * (run->count - 1)),
		.stride = run->list ? 0 : run->stride,
		.pages = (uint16_t)pages,
		.owner = run->owner,
		.check = run->check,
		.turn = turn,
		.by = run->by,
	};
	for (uint32_t k = 0; k < run->count; k++) {
		uint32_t page =
			run->list ? run->list[k] : (uint32_t)(run->page + (int64_t)run->stride * k);
		struct prefetch_slot *e = bucket_of(s, page);

		if (e[0].page == page || !slot_alive(s, &e[0])) {
			e[0] = (struct prefetch_slot){page, index, turn};
		} else {
			/* The newer one is first. */
			e[1] = e[0];
			e[0] = (struct prefetch_slot){page, index, turn};
		}
	}
}

bool window_take(struct prefetch_state *s, uint32_t page, struct prefetch_window *ret)
{
	struct prefetch_slot *e = bucket_of(s, page);

	for (unsigned i = 0; i < 2; i++) {
		if (e[i].page != page || !slot_alive(s, &e[i]))
			continue;
		*ret = s->window[e[i].window];
		s->window[e[i].window].pages = 0;
		return true;
	}
	return false;
}
