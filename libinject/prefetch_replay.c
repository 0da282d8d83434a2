/* SPDX-License-Identifier: MIT */
/*
 * Follows a recorded sequence of faults, as 3PO does (Branner-Augmon et al., 2022), for programs
 * that do the same irregular thing each time. A fault's page is looked for near the position that
 * is expected next; the pages behind it are asked, scattered as they are. When the program is
 * elsewhere for a while, the page's next position anywhere is taken, and nothing is asked until a
 * few more faults agree.
 */
#include "libinject/prefetch.h"

#define BACK      128u /* positions: threads run in another order than they did */
#define FORTH     512u
#define LINKS_MAX 16u /* looked at for one fault */
#define LOST_MAX  8u
#define AHEAD     2u
#define FIT_ASK   0x8000u

/* Positions from a on to b, around the end. */
static uint32_t ring_distance(const struct prefetch_trace *t, uint32_t a, uint32_t b)
{
	return b >= a ? b - a : t->count - a + b;
}

/* The page's first position at or behind cursor - BACK, as far as a few links lead; false: none. */
static bool position_find(struct prefetch_trace *t, uint32_t page, uint32_t *ret)
{
	uint32_t from = t->cursor >= BACK ? t->cursor - BACK : 0;
	uint32_t at, best;

	if (page >= t->head_count || !t->head[page])
		return false;
	at = best = t->head[page] - 1;
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		at = t->next[at];
		if (ring_distance(t, from, at) < ring_distance(t, from, best))
			best = at;
	}
	t->head[page] = best + 1;
	*ret = best;
	return true;
}

static unsigned trace_ask(const struct prefetch_state *s, struct prefetch_trace *t,
			  const struct prefetch_fault *f, struct prefetch_run *run)
{
	unsigned n = 0;

	while (n < PREFETCH_RUNS && t->asked - t->cursor < t->window * AHEAD) {
		uint32_t count = t->window < s->window_max ? t->window : s->window_max;

		if (count > t->count - t->asked)
			count = t->count - t->asked;
		if (!count)
			break;
		run[n++] = (struct prefetch_run){
			.page = t->page[t->asked],
			.stride = 1,
			.count = count,
			.list = t->page + t->asked,
		};
		t->asked += count;
		if (!f->live)
			break;
	}
	return n;
}

static unsigned replay_fault(struct prefetch_state *s, struct prefetch_fault *f,
			     struct prefetch_run *run)
{
	struct prefetch_trace *t = &s->trace;
	uint32_t at;
	bool found = position_find(t, f->page, &at);
	bool near = found && at + BACK >= t->cursor && at < t->cursor + FORTH;

	if (!near) {
		t->fit = (uint16_t)(t->fit - (t->fit >> 3));
		if (++t->lost < LOST_MAX || !found)
			return 0;
		t->lost = 0;
		t->fit = 0;
		t->cursor = t->asked = at + 1;
		t->window = PREFETCH_FIRST_ASK;
		return 0;
	}
	t->lost = 0;
	t->fit = (uint16_t)(t->fit + ((UINT16_MAX - t->fit) >> 2));
	f->foreseen = at < t->asked;
	if (at >= t->cursor)
		t->cursor = at + 1;
	if (t->asked < t->cursor || (f->live && f->event == PREFETCH_MISS && f->foreseen))
		t->asked = t->cursor;
	return t->fit >= FIT_ASK ? trace_ask(s, t, f, run) : 0;
}

static void replay_outcome(struct prefetch_state *s, uint16_t owner, uint16_t check,
			   enum prefetch_outcome o)
{
	struct prefetch_trace *t = &s->trace;
	uint32_t most = s->window_max;

	(void)owner;
	(void)check;
	if (o == OUTCOME_USED || o == OUTCOME_LATE)
		t->window = t->window * 2 < most ? t->window * 2 : most;
	else if (o == OUTCOME_WASTED && t->window > PREFETCH_FIRST_ASK)
		t->window /= 2;
}

static void replay_refused(struct prefetch_state *s, const struct prefetch_run *run)
{
	struct prefetch_trace *t = &s->trace;
	uint32_t at = (uint32_t)(run->list - t->page);

	if (at < t->asked)
		t->asked = at > t->cursor ? at : t->cursor;
}

const struct prefetcher prefetch_replay = {"replay", replay_fault, replay_outcome, replay_refused};
