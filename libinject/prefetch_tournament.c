/* SPDX-License-Identifier: MIT */
/*
 * Who prefetches where. All candidates see all faults; in each region the runs of one are fetched,
 * the others run in the shadow: their scores say how many faults they would have foreseen, and how
 * many of their windows would have been in vain. The ruling one gives way only to one that is
 * clearly better.
 *
 * A gate in front of it closes when what was fetched is thrown away untouched, or was local
 * anyway. Behind it the ruling one runs in the shadow too; the gate opens when it foresees well
 * again, or for one small window from time to time, and the time grows while that is in vain. Where
 * nobody foresees anything (random faults), one fault in eight is looked at thoroughly.
 */
#include "libinject/prefetch.h"

#define IDLE         64u
#define SAMPLE       128u /* of so many faults, when idle, */
#define SAMPLED      16u  /* so many are looked at; in a row, because a trend takes some */
#define SWITCH_AFTER 64u
#define SWITCH_LEAD  16384 /* of 65536 */
#define BAR_FIRST    8u
#define BAR_MAX      512u
#define WAIT_FIRST   256u
#define WAIT_MAX     16384u
#define EVIDENCE     48u /* pages */
#define PAYS         3u  /* one page used pays for so many wasted */
#define LOCAL_PAYS   16u /* and one fetched for so many that were local */
#define LOCAL_MANY   512u
#define FADE         2048u

struct prefetch_region *region_of(struct prefetch_state *s, uint32_t page)
{
	struct prefetch_region *r = &s->region[page >> PREFETCH_REGION];

	if (!r->known) {
		r->known = true;
		r->ruler = s->candidates ? s->candidate[0] : 0;
		r->cap = PREFETCH_WINDOW_MAX;
		r->bar = BAR_FIRST;
		r->wait = WAIT_FIRST;
	}
	return r;
}

static uint16_t toward(uint16_t average, bool up, unsigned shift)
{
	return up ? (uint16_t)(average + ((UINT16_MAX - average) >> shift))
		  : (uint16_t)(average - (average >> shift));
}

static void score_fault(struct prefetch_score *c, const struct prefetch_fault *f, unsigned runs)
{
	bool foreseen = f->foreseen;

	/* One on a large window counts for more than a miss. */
	c->foreseen = toward(c->foreseen, foreseen, f->weight >= 32 ? 3 : f->weight >= 8 ? 4 : 5);
	if (foreseen) {
		c->pending = false;
		c->vain = toward(c->vain, false, 3);
	}
	/* What became of a real window will be told. */
	if (f->live || !runs)
		return;
	if (c->pending)
		c->vain = toward(c->vain, true, 3);
	c->pending = true;
}

static int32_t score_worth(const struct prefetch_score *c)
{
	return c->foreseen - c->vain / 2;
}

static void ruler_choose(const struct prefetch_state *s, struct prefetch_region *r)
{
	uint8_t best = r->ruler;

	for (unsigned i = 0; i < s->candidates; i++)
		if (score_worth(&r->score[s->candidate[i]]) > score_worth(&r->score[best]))
			best = s->candidate[i];
	if (best == r->ruler ||
	    score_worth(&r->score[best]) < score_worth(&r->score[r->ruler]) + SWITCH_LEAD)
		return;
	r->ruler = best;
	r->since = 0;
	r->closed = false;
	r->cap = PREFETCH_WINDOW_MAX;
	r->asked = r->used = r->wasted = r->local = 0;
}

static void gate_close(struct prefetch_region *r)
{
	r->closed = true;
	r->credit = r->closed_for = 0;
	r->bar = r->bar * 2 < BAR_MAX ? (uint16_t)(r->bar * 2) : BAR_MAX;
}

static void gate_open(struct prefetch_region *r)
{
	r->closed = false;
	r->cap = PREFETCH_FIRST_ASK;
	r->wait = WAIT_FIRST;
	r->asked = r->used = r->wasted = r->local = 0;
}

static void gate_judge(struct prefetch_region *r)
{
	bool vain = r->wasted >= EVIDENCE && r->wasted > PAYS * r->used;
	bool local = r->local >= LOCAL_MANY && r->local > LOCAL_PAYS * r->asked;

	if (!r->closed && (vain || local))
		gate_close(r);
	if (r->asked + r->local < FADE)
		return;
	if (r->used > r->wasted)
		r->bar = BAR_FIRST;
	r->asked /= 2;
	r->used /= 2;
	r->wasted /= 2;
	r->local /= 2;
}

/* The gate is closed: may it be opened, or a small window through? Returns how many runs may. */
static unsigned gate_probe(struct prefetch_region *r, bool foreseen, struct prefetch_run *run,
			   unsigned n)
{
	if (foreseen)
		r->credit++;
	else
		r->credit /= 2;
	if (r->credit >= r->bar) {
		gate_open(r);
		return n;
	}
	if (r->closed_for < UINT16_MAX)
		r->closed_for++;
	if (!n || r->closed_for < r->wait)
		return 0;
	r->closed_for = 0;
	r->wait = r->wait * 2 < WAIT_MAX ? (uint16_t)(r->wait * 2) : WAIT_MAX;
	if (run->count > PREFETCH_FIRST_ASK)
		run->count = PREFETCH_FIRST_ASK;
	return 1;
}

static unsigned candidate_fault(struct prefetch_state *s, struct prefetch_region *r, uint8_t by,
				struct prefetch_fault *f, struct prefetch_run *run)
{
	bool rules = by == r->ruler;
	struct prefetch_fault mine = *f;
	uint32_t window_max = s->window_max;
	unsigned n;

	mine.live = rules && !r->closed;
	mine.foreseen = false;
	if (f->by == by) {
		mine.step = 0;
	} else {
		mine.by = PREFETCH_KINDS;
		mine.inside = false;
	}
	if (mine.live && r->cap < window_max)
		s->window_max = r->cap;
	n = prefetch_table[by]->fault(s, &mine, run);
	s->window_max = window_max;
	f->foreseen |= mine.foreseen;
	score_fault(&r->score[by], &mine, n);
	if (!rules)
		return 0;
	if (r->closed)
		n = gate_probe(r, mine.foreseen, run, n);
	for (unsigned i = 0; i < n; i++) {
		run[i].by = by;
		run[i].region = (uint32_t)(r - s->region);
	}
	return n;
}

unsigned tournament_fault(struct prefetch_state *s, struct prefetch_fault *f,
			  struct prefetch_run *run)
{
	struct prefetch_region *r = region_of(s, f->page);
	struct prefetch_run shadow[PREFETCH_RUNS];
	uint8_t ruler = r->ruler;
	unsigned n = 0;

	f->thorough = r->idle < IDLE || s->faults % SAMPLE < SAMPLED;
	for (unsigned i = 0; i < s->candidates; i++) {
		uint8_t by = s->candidate[i];

		if (by == ruler)
			n = candidate_fault(s, r, by, f, run);
		else if (f->thorough)
			candidate_fault(s, r, by, f, shadow);
	}
	if (f->foreseen || n)
		r->idle = 0;
	else if (r->idle < UINT8_MAX)
		r->idle++;
	if (r->since < UINT8_MAX)
		r->since++;
	if (s->candidates > 1 && r->since >= SWITCH_AFTER && f->thorough)
		ruler_choose(s, r);
	return n;
}

void tournament_outcome(struct prefetch_state *s, const struct prefetch_window *w,
			enum prefetch_outcome o)
{
	struct prefetch_region *r = &s->region[w->region];
	struct prefetch_score *c = &r->score[w->by];

	if (prefetch_table[w->by]->outcome)
		prefetch_table[w->by]->outcome(s, w->owner, w->check, o);
	c->vain = toward(c->vain, o == OUTCOME_WASTED, 3);
	if (w->by != r->ruler)
		return;
	if (o == OUTCOME_WASTED) {
		r->wasted = (uint16_t)(r->wasted + w->pages);
		gate_judge(r);
		return;
	}
	r->used = (uint16_t)(r->used + w->pages);
	if (r->closed)
		r->credit = (uint16_t)(r->credit + w->pages);
	else if (r->cap < PREFETCH_WINDOW_MAX)
		r->cap = (uint8_t)(r->cap * 2); /* a power of two from PREFETCH_FIRST_ASK on */
}

void tournament_asked(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages)
{
	struct prefetch_region *r = &s->region[run->region];

	r->asked = (uint16_t)(r->asked + pages);
	r->local = (uint16_t)(r->local + run->count - pages);
	gate_judge(r);
}
