/* SPDX-License-Identifier: MIT */
/*
 * The table of prefetchers, and what the fault path calls: events go to the tournament, whose runs
 * are written down as windows until it is known what became of them.
 */
#include "libinject/prefetch.h"
#include "common/error.h"
#include "common/memory.h"

#include <errno.h>
#include <string.h>

const struct prefetcher *const prefetch_table[PREFETCH_KINDS] = {
	&prefetch_none,     &prefetch_sequential, &prefetch_stride,
	&prefetch_majority, &prefetch_replay,
};
#define KIND_STRIDE 2

const struct prefetcher *prefetch_find(const char *name)
{
	for (unsigned i = 0; i < PREFETCH_KINDS; i++)
		if (!strcmp(prefetch_table[i]->name, name))
			return prefetch_table[i];
	return NULL;
}

const char *prefetch_names(void)
{
	return "auto, none, sequential, stride, majority or replay:FILE";
}

static void candidate_add(struct prefetch_state *s, const struct prefetcher *p)
{
	for (unsigned i = 0; i < PREFETCH_KINDS; i++)
		if (prefetch_table[i] == p)
			s->candidate[s->candidates++] = (uint8_t)i;
}

/* The first one rules at first. */
static int candidates_choose(struct prefetch_state *s, const char *name)
{
	bool replay = name && !strncmp(name, "replay:", 7);
	const struct prefetcher *p;

	if (replay) {
		int r = trace_open(s, name + 7);

		if (r || s->trace.recording)
			return r;
		candidate_add(s, &prefetch_replay);
	}
	if (replay || !name || !strcmp(name, "auto")) {
		/* What prefetch_sequential finds, prefetch_stride finds too. */
		candidate_add(s, &prefetch_stride);
		candidate_add(s, &prefetch_majority);
		return 0;
	}
	p = prefetch_find(name);
	if (!p || p == &prefetch_replay)
		return err_fail(-EINVAL, "no prefetcher '%s': there are %s", name,
				prefetch_names());
	if (p != &prefetch_none)
		candidate_add(s, p);
	return 0;
}

int prefetch_init(struct prefetch *p, const char *name, uint32_t pages, uint32_t window_max)
{
	struct prefetch_state *s = &p->state;
	int r;

	memset(s, 0, sizeof *s);
	s->pages = pages;
	s->window_limit = window_max < PREFETCH_WINDOW_MAX ? window_max : PREFETCH_WINDOW_MAX;
	s->window_max = s->window_limit;
	s->faults = 4 * PREFETCH_AGE; /* an empty slot is an old one */
	s->regions = (pages >> PREFETCH_REGION) + 1;
	s->region = mem_map(s->regions * sizeof *s->region);
	if (!s->region)
		return err_fail(-ENOMEM, "no memory for prefetching");
	r = candidates_choose(s, name);
	if (r)
		prefetch_free(p);
	return r;
}

void prefetch_free(struct prefetch *p)
{
	struct prefetch_state *s = &p->state;

	prefetch_save(p);
	trace_close(s);
	mem_unmap(s->region, s->regions * sizeof *s->region);
	s->region = NULL;
	s->candidates = 0;
}

static unsigned runs_clip(struct prefetch_state *s, struct prefetch_run *run, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		struct prefetch_run r = run[i];

		if (r.count > s->window_max)
			r.count = s->window_max;
		if (!r.list)
			r.count = run_within(s, r.page, r.stride, r.count);
		if (r.count)
			run[kept++] = r;
	}
	return kept;
}

unsigned prefetch_event(struct prefetch *p, enum prefetch_event e, uint32_t page, uint32_t thread,
			struct prefetch_run *run)
{
	struct prefetch_state *s = &p->state;
	struct prefetch_fault f = {
		.event = e, .page = page, .thread = thread, .by = PREFETCH_KINDS, .weight = 1};
	struct prefetch_window w;

	if (page >= s->pages)
		return 0;
	if (e != PREFETCH_MISS && window_take(s, page, &w)) {
		if (e == PREFETCH_WASTED) {
			s->wasted += w.pages;
		} else {
			s->hits += w.pages;
			f.by = w.by;
			f.owner = w.owner;
			f.check = w.check;
			f.inside = page != w.first;
			f.step = w.stride;
			f.until = w.last;
			f.weight = w.pages;
		}
		tournament_outcome(s, &w,
				   e == PREFETCH_WASTED ? OUTCOME_WASTED
				   : e == PREFETCH_LATE ? OUTCOME_LATE
							: OUTCOME_USED);
	}
	if (e == PREFETCH_WASTED)
		return 0;
	s->faults++;
	s->crowd -= s->crowd != 0;
	if (s->trace.recording)
		trace_add(s, page);
	if (!s->candidates)
		return 0;
	return runs_clip(s, run, tournament_fault(s, &f, run));
}

void prefetch_asked(struct prefetch *p, const struct prefetch_run *run, uint32_t pages)
{
	struct prefetch_state *s = &p->state;

	s->asked += pages;
	s->local += run->count - pages;
	tournament_asked(s, run, pages);
	if (pages)
		window_add(s, run, pages);
	else if (prefetch_table[run->by]->outcome)
		prefetch_table[run->by]->outcome(s, run->owner, run->check, OUTCOME_LOCAL);
}

/* What was not fetched misses, and is asked for again then; till there smaller windows fit better.
 */
void prefetch_refused(struct prefetch *p, const struct prefetch_run *run)
{
	if (prefetch_table[run->by]->outcome)
		prefetch_table[run->by]->outcome(&p->state, run->owner, run->check, OUTCOME_LOCAL);
}

void prefetch_expect_scan(struct prefetch *p, uint32_t page, uint32_t count)
{
	struct prefetch_state *s = &p->state;
	struct prefetch_stream *t;

	if (page >= s->pages || !count || !s->candidates)
		return;
	if (count > s->pages - page)
		count = s->pages - page;
	t = stream_start(s, (int64_t)page - 1, 1);
	t->window = (uint16_t)s->window_max;
	for (uint32_t i = page >> PREFETCH_REGION; i <= (page + count - 1) >> PREFETCH_REGION;
	     i++) {
		struct prefetch_region *r = region_of(s, i << PREFETCH_REGION);

		r->closed = false;
		r->cap = PREFETCH_WINDOW_MAX;
		for (unsigned k = 0; k < s->candidates; k++)
			if (s->candidate[k] == KIND_STRIDE)
				r->ruler = KIND_STRIDE;
	}
}

void prefetch_pressure(struct prefetch *p, uint32_t window_max_now)
{
	struct prefetch_state *s = &p->state;

	s->window_max = !window_max_now || window_max_now > s->window_limit ? s->window_limit
									    : window_max_now;
}
