/* SPDX-License-Identifier: MIT */
/*
 * What prefetchers share: a table of streams that are followed by address (not by thread: any
 * handler may read a thread's fault), and a short history of faults that belong to none.
 */
#include "libinject/prefetch.h"

#include <errno.h>
#include <string.h>

#define WINDOW_FIRST 8u
#define OFF_MAX      4u /* faults in a row that were not at a window's start */

static const struct prefetcher *const table[] = {&prefetch_none, &prefetch_sequential,
						 &prefetch_stride};

const struct prefetcher *prefetch_find(const char *name)
{
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

void prefetch_state_init(struct prefetch_state *s, uint32_t window_max)
{
	memset(s, 0, sizeof *s);
	memset(s->history, 0xff, sizeof s->history);
	s->window_max = window_max;
}

bool history_has(const struct prefetch_state *s, int64_t page)
{
	for (unsigned i = 0; i < PREFETCH_HISTORY; i++)
		if (s->history[i] == page)
			return true;
	return false;
}

void history_add(struct prefetch_state *s, uint32_t page)
{
	s->history[s->at++ % PREFETCH_HISTORY] = page;
}

static void stream_reached(struct prefetch_state *s, struct prefetch_stream *t, int64_t pages)
{
	uint32_t n = pages < t->fetched ? (uint32_t)pages : t->fetched;

	s->hits += n;
	t->fetched -= n;
}

void stream_fetched(struct prefetch_state *s, const struct prefetch_run *run, uint32_t pages)
{
	s->stream[run->stream].fetched += pages;
}

/*
 * A fault belongs to a stream when it is on its grid and no further than the page that would be
 * asked next. A window is installed as a whole, so who really walks page by page faults at its
 * start; one that keeps faulting within windows walks in larger steps, and the stream, which would
 * fetch what nobody reads, ends.
 */
struct prefetch_stream *stream_follow(struct prefetch_state *s, uint32_t page)
{
	for (unsigned i = 0; i < PREFETCH_STREAMS; i++) {
		struct prefetch_stream *t = &s->stream[i];
		int64_t steps, ahead;

		if (!t->stride || ((int64_t)page - t->last) % t->stride)
			continue;
		steps = ((int64_t)page - t->last) / t->stride;
		ahead = (t->asked - t->last) / t->stride;
		if (steps <= 0 || steps > ahead)
			continue;
		t->off = (ahead - steps) % t->window ? t->off + 1 : 0;
		if (t->off > OFF_MAX) {
			t->stride = 0;
			continue;
		}
		stream_reached(s, t, steps);
		t->last = page;
		if (steps == ahead)
			t->asked = (int64_t)page + t->stride;
		t->window = t->window * 2 < s->window_max ? t->window * 2 : s->window_max;
		t->used = s->faults;
		return t;
	}
	return NULL;
}

struct prefetch_stream *stream_start(struct prefetch_state *s, uint32_t page, int32_t stride)
{
	struct prefetch_stream *oldest = &s->stream[0];

	for (unsigned i = 0; i < PREFETCH_STREAMS; i++) {
		struct prefetch_stream *t = &s->stream[i];

		if (!t->stride) {
			oldest = t;
			break;
		}
		if (t->used < oldest->used)
			oldest = t;
	}
	*oldest = (struct prefetch_stream){
		.last = page,
		.asked = (int64_t)page + stride,
		.stride = stride,
		.window = WINDOW_FIRST < s->window_max ? WINDOW_FIRST : s->window_max,
		.used = s->faults,
	};
	return oldest;
}

unsigned stream_ask(struct prefetch_state *s, struct prefetch_stream *t, struct prefetch_run *run)
{
	unsigned n = 0;

	while (n < PREFETCH_RUNS && (t->asked - t->last) / t->stride <= (int64_t)t->window) {
		uint32_t count = t->window;
		int64_t end = t->asked + (int64_t)t->stride * (count - 1);

		if (t->asked < 0 || end < 0 || end > UINT32_MAX)
			break;
		run[n++] = (struct prefetch_run){(uint32_t)t->asked, t->stride, count,
						 (uint32_t)(t - s->stream)};
		t->asked = end + t->stride;
	}
	return n;
}

int prefetch_init(struct prefetch *p, const char *name, uint32_t pages, uint32_t window_max)
{
	(void)pages;
	p->prefetcher = prefetch_find(name ? name : "stride");
	if (!p->prefetcher)
		return -EINVAL;
	prefetch_state_init(&p->state, window_max);
	return 0;
}

void prefetch_free(struct prefetch *p)
{
	(void)p;
}

unsigned prefetch_event(struct prefetch *p, enum prefetch_event e, uint32_t page, uint32_t thread,
			struct prefetch_run *run)
{
	(void)thread;
	return e == PREFETCH_WASTED ? 0 : p->prefetcher->fault(&p->state, page, run);
}

void prefetch_asked(struct prefetch *p, const struct prefetch_run *run, uint32_t pages)
{
	stream_fetched(&p->state, run, pages);
}

void prefetch_expect_scan(struct prefetch *p, uint32_t page, uint32_t count)
{
	(void)count;
	if (page)
		stream_start(&p->state, page - 1, 1);
}
