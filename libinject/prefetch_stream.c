/* SPDX-License-Identifier: MIT */
/*
 * What sequential and stride share: a table of streams that are followed by address, and a memory
 * of the newest faults that nobody had foreseen. Random faults come through here too, all of them:
 * a fault is tested against the range of each stream (one comparison), and the memory is a hash.
 */
#include "libinject/prefetch.h"

#define OFF_MAX      3u /* faults elsewhere than at a window's start, more than those at one */
#define WASTED_MAX   3u
#define WINDOW_MIN   4u
#define AHEAD_MAX    4u
#define LATE_MANY    4u
#define CROWD_STEP   128u
#define CROWD_MAX    4096u
#define EXPIRE_EVERY 32u   /* faults: then one stream is looked at */
#define EXPIRE_AFTER 4096u /* faults without one of its own */

uint32_t run_within(const struct prefetch_state *s, int64_t page, int32_t stride, uint32_t count)
{
	int64_t room;

	if (page < 0 || page >= s->pages)
		return 0;
	if (stride == 1)
		room = s->pages - page;
	else if (stride > 0)
		room = (s->pages - 1 - page) / stride + 1;
	else
		room = page / -(int64_t)stride + 1;
	return count < room ? count : (uint32_t)room;
}

static uint32_t recent_slot(uint32_t page)
{
	_Static_assert(PREFETCH_RECENT == 1 << 8, "a slot for each hash");
	return (page * UINT32_C(2654435769)) >> (32 - 8);
}

bool recent_has(const struct prefetch_state *s, int64_t page)
{
	const struct prefetch_recent *e;

	if (page < 0 || page >= s->pages)
		return false;
	e = &s->recent[recent_slot((uint32_t)page)];
	return e->page == page && s->faults - e->at <= s->age;
}

struct prefetch_thread *thread_of(struct prefetch_state *s, uint32_t thread)
{
	struct prefetch_thread *t = &s->thread[(thread * UINT32_C(2654435769)) >> (32 - 4)];

	_Static_assert(PREFETCH_THREADS == 1 << 4, "a slot for each hash");
	if (t->thread != thread + 1) {
		if (!t->thread)
			s->age = PREFETCH_AGE + 8 * s->threads++;
		*t = (struct prefetch_thread){.thread = thread + 1, .bold = 2};
		for (unsigned i = 0; i < 8; i++)
			t->unforeseen[i] = UINT32_MAX;
	}
	return t;
}

void recent_add(struct prefetch_state *s, const struct prefetch_fault *f)
{
	struct prefetch_thread *t = thread_of(s, f->thread);

	s->recent[recent_slot(f->page)] = (struct prefetch_recent){f->page, s->faults};
	t->unforeseen[t->unforeseen_at++ % 8] = f->page;
}

static void stream_end(struct prefetch_state *s, struct prefetch_stream *t)
{
	t->stride = 0;
	s->span[t - s->stream] = 0;
	s->low[t - s->stream] = UINT32_MAX;
}

/* Its faults come from the last page to one window behind what is asked: pages may be local. */
static void stream_bounds(struct prefetch_state *s, const struct prefetch_stream *t)
{
	int64_t a = t->last, b = t->asked + (int64_t)t->stride * t->window;
	int64_t low = a < b ? a : b, high = a < b ? b : a;

	if (low < 0)
		low = 0;
	if (high >= s->pages)
		high = s->pages - 1;
	s->low[t - s->stream] = (uint32_t)low;
	s->span[t - s->stream] = high > low ? (uint32_t)(high - low) : 0;
}

/* In steps from the newest fault, or -1: it is not the stream's. */
static int64_t stream_steps(const struct prefetch_stream *t, uint32_t page)
{
	int64_t d = (int64_t)page - t->last;

	if (t->stride == 1)
		return d;
	if (t->stride == -1)
		return -d;
	return d % t->stride ? -1 : d / t->stride;
}

static int64_t stream_distance(const struct prefetch_stream *t)
{
	int64_t d = t->asked - t->last;

	return t->stride == 1 ? d : t->stride == -1 ? -d : d / t->stride;
}

/*
 * A window is installed as a whole, so who really walks page by page faults at its start, or at the
 * page behind the last one. Who mostly faults elsewhere walks in larger steps, or at random, and
 * the stream, which would fetch what nobody reads, ends. A new one must go on with the very next
 * page.
 */
static bool stream_reach(struct prefetch_state *s, struct prefetch_stream *t, int64_t steps,
			 struct prefetch_fault *f)
{
	int64_t ahead = stream_distance(t);
	bool expected = steps <= 1 || steps == ahead || (f->event != PREFETCH_MISS && !f->inside);

	if (!t->proven && steps > 1)
		return false;
	f->foreseen = steps <= ahead;
	t->used = s->faults;
	if (!steps)
		return true;
	t->proven = true;
	if (!expected)
		t->off++;
	else if (t->off)
		t->off--;
	if (t->off > OFF_MAX) {
		stream_end(s, t);
		return false;
	}
	t->last = f->page;
	/* Missed, though it was asked: there was no room for it, so ask again. */
	if (steps >= ahead || (f->live && f->event == PREFETCH_MISS))
		t->asked = (int64_t)f->page + t->stride;
	if (f->live && expected) {
		uint32_t twice = t->window * 2u;

		t->window = (uint16_t)(twice < s->window_max ? twice : s->window_max);
	}
	return true;
}

/* One at a time, now and then: random faults should not be compared with what is long over. */
static void stream_expire(struct prefetch_state *s)
{
	struct prefetch_stream *t = &s->stream[s->faults / EXPIRE_EVERY % PREFETCH_STREAMS];

	if (t->stride && s->faults - t->used > EXPIRE_AFTER)
		stream_end(s, t);
	while (s->streams && !s->stream[s->streams - 1].stride)
		s->streams--;
}

struct prefetch_stream *stream_follow(struct prefetch_state *s, struct prefetch_fault *f)
{
	struct prefetch_stream *t = &s->stream[f->owner % PREFETCH_STREAMS];
	int64_t steps;

	if (s->faults % EXPIRE_EVERY == 0)
		stream_expire(s);
	if (f->by < PREFETCH_KINDS && t->stride && t->check == f->check) {
		steps = stream_steps(t, f->page);
		if (steps >= 0 && stream_reach(s, t, steps, f)) {
			stream_bounds(s, t);
			return t;
		}
	}
	for (unsigned i = 0; i < s->streams; i++) {
		if (f->page - s->low[i] > s->span[i])
			continue;
		t = &s->stream[i];
		if (!t->stride)
			continue;
		steps = stream_steps(t, f->page);
		if (steps < 0 || !stream_reach(s, t, steps, f))
			continue;
		stream_bounds(s, t);
		return t;
	}
	return NULL;
}

void stream_adopt(struct prefetch_state *s, struct prefetch_stream *t,
		  const struct prefetch_fault *f)
{
	if (t->stride != f->step)
		return;
	t->last = f->until;
	t->asked = (int64_t)f->until + t->stride;
	stream_bounds(s, t);
}

struct prefetch_stream *stream_start(struct prefetch_state *s, int64_t page, int32_t stride)
{
	struct prefetch_stream *oldest = &s->stream[0];

	for (unsigned i = 0; i < PREFETCH_STREAMS; i++) {
		struct prefetch_stream *t = &s->stream[i];

		if (!t->stride) {
			oldest = t;
			break;
		}
		if (s->faults - t->used > s->faults - oldest->used)
			oldest = t;
	}
	*oldest = (struct prefetch_stream){
		.last = page,
		.asked = page + stride,
		.stride = stride,
		.window = (uint16_t)(PREFETCH_FIRST_ASK < s->window_max ? PREFETCH_FIRST_ASK
									: s->window_max),
		.ahead = 1,
		.used = s->faults,
		.check = (uint16_t)(oldest->check + 1),
	};
	if (s->streams <= (uint32_t)(oldest - s->stream))
		s->streams = (uint32_t)(oldest - s->stream) + 1;
	stream_bounds(s, oldest);
	return oldest;
}

unsigned stream_ask(struct prefetch_state *s, struct prefetch_stream *t,
		    const struct prefetch_fault *f, struct prefetch_run *run)
{
	/* Each has one window before any has two. */
	bool crowded = s->crowd > 2 * CROWD_STEP;
	unsigned ahead = f->live && !crowded ? t->ahead : 1, n = 0;

	if (t->window > s->window_max)
		t->window = (uint16_t)s->window_max;
	while (n < PREFETCH_RUNS && stream_distance(t) - 1 < (int64_t)t->window * ahead) {
		/* In the shadow nothing is fetched, so there is nothing to be had from looking far.
		 */
		uint32_t most =
			f->live || t->window < PREFETCH_FIRST_ASK ? t->window : PREFETCH_FIRST_ASK;
		uint32_t count = run_within(s, t->asked, t->stride, most);

		if (!count)
			break;
		run[n++] = (struct prefetch_run){
			.page = (uint32_t)t->asked,
			.stride = t->stride,
			.count = count,
			.owner = (uint16_t)(t - s->stream),
			.check = t->check,
		};
		t->asked += (int64_t)t->stride * count;
		if (!f->live)
			break;
	}
	if (n)
		stream_bounds(s, t);
	return n;
}

/* One refusal is an accident; what repeats itself is remembered for some thousand faults. */
static void crowd_add(struct prefetch_state *s)
{
	s->crowd = s->crowd + CROWD_STEP < CROWD_MAX ? s->crowd + CROWD_STEP : CROWD_MAX;
}

void stream_outcome(struct prefetch_state *s, uint16_t owner, uint16_t check,
		    enum prefetch_outcome o)
{
	struct prefetch_stream *t = &s->stream[owner % PREFETCH_STREAMS];

	if (!t->stride || t->check != check)
		return;
	switch (o) {
	case OUTCOME_USED:
	case OUTCOME_LATE:
		t->wasted = 0;
		if (t->ahead < 2)
			t->ahead = 2;
		/* When even the largest windows come late, more of them on the way may help. */
		t->late = o == OUTCOME_LATE ? (uint8_t)(t->late + 1) : t->late / 2;
		if (t->late > LATE_MANY && t->window >= s->window_max && t->ahead < AHEAD_MAX) {
			t->ahead++;
			t->late = 0;
		} else if (t->late > LATE_MANY) {
			t->late = LATE_MANY;
		}
		break;
	case OUTCOME_WASTED:
		/* Thrown away while its stream lives: there was no room to wait in. */
		if (t->proven)
			crowd_add(s);
		t->ahead = t->ahead > 1 ? (uint8_t)(t->ahead - 1) : 1;
		t->window = t->window / 2 > WINDOW_MIN ? t->window / 2 : WINDOW_MIN;
		if (++t->wasted >= WASTED_MAX)
			stream_end(s, t);
		break;
	case OUTCOME_LOCAL:
		t->window = t->window / 2 > WINDOW_MIN ? t->window / 2 : WINDOW_MIN;
		break;
	}
	if (t->window > s->window_max)
		t->window = (uint16_t)s->window_max;
}

void stream_refused(struct prefetch_state *s, const struct prefetch_run *run)
{
	struct prefetch_stream *t = &s->stream[run->owner % PREFETCH_STREAMS];

	crowd_add(s);
	if (!t->stride || t->check != run->check)
		return;
	if (t->stride > 0 ? run->page < t->asked : run->page > t->asked)
		t->asked = run->page;
	stream_bounds(s, t);
}
