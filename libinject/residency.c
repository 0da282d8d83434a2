/* SPDX-License-Identifier: MIT */
/*
 * A page that is wanted often is missed soon after it was given up. So a page's history is how long
 * it was absent, counted in pages that came meanwhile, averaged over its absences (the reuse
 * distance of LIRS, Jiang and Zhang 2002, of the absent part, all that shows without accessed
 * bits). There is a FIFO for each power of two of that (as in the Multi-Queue of Zhou et al. 2001),
 * and the victim is the head that has stayed longest in proportion to its queue's absence
 * (hyperbolic caching, Blankstein et al. 2017): who is missed half as long stays twice as long. A
 * page without history stands in one of the last queues, so a scan leaves soon. A quarter of the
 * blocks of pages is put a queue ahead and a quarter behind, by a hash, which keeps a part of a
 * loop that is too big to fit (as random replacement would). Where what was wanted says little
 * about what will be, as when a working set wanders, plain age is better; so 1/32 of the pages is
 * judged by age, 1/32 by absence, and the rest by the rule that fetches less there (set dueling,
 * Qureshi et al. 2007).
 */
#include "libinject/residency.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * meta of a page, from bit 0: QUEUED; its level, 0: no history; when QUEUED flags, else when it was
 * given up in ticks. Level 1 is an absence of less than a tick, each further one of twice as long:
 * 7 while as many pages came as may be local.
 */
#define QUEUED      0x01u /* in a queue */
#define GONE        0x20u /* in a queue, but freed since */
#define AGAIN       0x40u /* goes into the queues once more, as if it had come just now */
#define SET_SHIFT   7     /* whose queues it is in */
#define SET_MASK    3u
#define LEVEL_SHIFT 1
#define LEVEL_MASK  0x0fu
#define STAMP_SHIFT 5
#define STAMP_MASK  0x7ffu

#define LEVEL_MAX   12u
#define TICKS       5u    /* log2 of the ticks in which as many pages come as may be local */
#define FORGOTTEN   1024u /* ticks after which an absence says nothing any more */
#define LEVEL_NEW   9u    /* as if it had been absent while 4 x the limit's pages came */
#define LEVEL_AHEAD 10u   /* 8 x */
#define RUN         63u   /* neighbours that may follow a victim before their turn */
#define GROUP       32u   /* blocks, of which one is judged by age, one by absence */
/* log2 of the blocks that share their luck: victims of a scan are to be long runs. */
#define LUCK          3u
#define PROBATION     16u /* a page stays till so great a part of the limit's pages has come */
#define LATER_QUEUE   1u
#define DUEL_LOCAL    64u /* fewer pages, local or at all, tell nothing about a rule */
#define DUEL_PAGES    2048u
#define DUEL_LEAD     32u /* age is the better rule if it fetches 1/32 less */
#define SWEEP_MOST    256u
#define META_BYTES(n) (((size_t)(n) / 4 + 1) * 8) /* swept four at a time */
_Static_assert(LEVEL_MAX + 1 < RESIDENCY_QUEUES, "a queue for each level and one around");

int residency_init(struct residency *r, uint32_t pages)
{
	/* Each page has one entry at most; each queue wastes less than two chunks. */
	r->chunks_max = pages / RESIDENCY_CHUNK + 8 + RESIDENCY_RULES * RESIDENCY_QUEUES * 2;
	r->pages = pages;
	/* Address space for the most there can be; memory for what is used. */
	r->meta = mem_map(META_BYTES(pages));
	r->chunk = mem_map((size_t)r->chunks_max * sizeof *r->chunk);
	if (!r->meta || !r->chunk) {
		residency_free(r);
		return -ENOMEM;
	}
	r->chunks = 1;
	/* Blocks as big as a prefetched window where that leaves enough of them to compare. */
	while (r->block < 6 && pages >> (r->block + 11))
		r->block++;
	residency_limit(r, r->limit ? r->limit : pages);
	return 0;
}

void residency_free(struct residency *r)
{
	mem_unmap(r->meta, META_BYTES(r->pages));
	mem_unmap(r->chunk, (size_t)r->chunks_max * sizeof *r->chunk);
	r->meta = NULL;
	r->chunk = NULL;
}

/* Absences of before are misread by the ratio of the limits: harmless. */
void residency_limit(struct residency *r, uint64_t pages)
{
	uint64_t most = r->pages ? r->pages : UINT32_MAX;
	uint32_t n = pages < 1 ? 1 : (uint32_t)(pages < most ? pages : most);
	uint32_t log2 = 31 - (uint32_t)__builtin_clz(n | 1);

	lock_take(&r->lock);
	r->limit = n;
	r->tick = log2 > TICKS ? log2 - TICKS : 0;
	lock_drop(&r->lock);
}

static uint32_t hash(uint32_t n)
{
	n *= 0x9e3779b1u;
	n ^= n >> 15;
	n *= 0x85ebca77u;
	return n ^ n >> 13;
}

static enum residency_rule rule_of(const struct residency *r, uint32_t page)
{
	uint32_t b = page >> r->block, age = hash(b / GROUP) % GROUP, at = b % GROUP;

	if (r->limit < DUEL_LOCAL || r->pages < DUEL_PAGES)
		return RESIDENCY_BY_WINNER;
	return at == age                 ? RESIDENCY_BY_AGE
	       : at == (age ^ GROUP / 2) ? RESIDENCY_BY_ABSENCE
					 : RESIDENCY_BY_WINNER;
}

/* Of a page that is QUEUED. */
static struct residency_set *set_of(struct residency *r, uint32_t page)
{
	return &r->set[r->meta[page] >> SET_SHIFT & SET_MASK];
}

/* --- a queue --- */

static uint32_t chunk_get(struct residency *r)
{
	uint32_t c = r->free_chunk;

	if (c)
		r->free_chunk = r->chunk[c].next;
	else
		c = r->chunks++;
	assert(c < r->chunks_max);
	r->chunk[c].next = 0;
	return c;
}

static void queue_push(struct residency *r, struct residency_queue *q, uint32_t page, uint32_t time)
{
	if (!q->first || q->to == RESIDENCY_CHUNK) {
		uint32_t c = chunk_get(r);

		if (q->first)
			r->chunk[q->last].next = c;
		else
			q->first = c, q->from = 0;
		q->last = c;
		q->to = 0;
	}
	r->chunk[q->last].entry[q->to].page = page;
	r->chunk[q->last].entry[q->to++].time = time;
}

static void queue_pop(struct residency *r, struct residency_queue *q)
{
	uint32_t c = q->first;

	if (++q->from < (c == q->last ? q->to : RESIDENCY_CHUNK))
		return;
	q->first = c == q->last ? 0 : r->chunk[c].next;
	q->from = 0;
	r->chunk[c].next = r->free_chunk;
	r->free_chunk = c;
}

/* --- levels --- */

static uint32_t level_of(uint16_t meta)
{
	return meta >> LEVEL_SHIFT & LEVEL_MASK;
}

static uint32_t stamp_age(const struct residency *r, uint16_t meta)
{
	return ((r->time >> r->tick) - (meta >> STAMP_SHIFT)) & STAMP_MASK;
}

/* like: whose luck it shares. */
static void enqueue(struct residency *r, uint32_t page, uint32_t like, uint32_t level,
		    enum residency_rule rule)
{
	struct residency_set *s = &r->set[rule];
	uint32_t luck = hash(like >> (r->block + LUCK)) >> 30;

	r->meta[page] = (uint16_t)(QUEUED | level << LEVEL_SHIFT | (uint32_t)rule << SET_SHIFT);
	r->count++;
	s->count++;
	if (rule == RESIDENCY_LATER)
		level = LATER_QUEUE, luck = 2;
	queue_push(r, &s->queue[level + (luck == 0) - (luck == 1)], page, r->time);
}

static uint32_t level_now(const struct residency *r, uint16_t meta, enum residency_why why)
{
	uint32_t was = level_of(meta), ticks, now;

	if (why == RESIDENCY_KEPT)
		return was ? was : LEVEL_NEW;
	if (why == RESIDENCY_BACK)
		return was > 3 ? was - 2 : 1;
	ticks = stamp_age(r, meta);
	if (!was || ticks >= FORGOTTEN)
		return why == RESIDENCY_AHEAD ? LEVEL_AHEAD : LEVEL_NEW;
	now = ticks ? 33 - (uint32_t)__builtin_clz(ticks) : 1;
	now = now < LEVEL_MAX ? now : LEVEL_MAX;
	return (was + now + 1) / 2;
}

/* Old stamps must not be taken for new ones when their few bits come round again. */
static void sweep(struct residency *r)
{
	uint32_t words = r->pages / 4 + 1, n = words / r->limit / 32 + 1;
	uint64_t four;

	for (n = n < SWEEP_MOST ? n : SWEEP_MOST; n; n--) {
		uint16_t *m = &r->meta[4 * (size_t)r->swept];

		memcpy(&four, m, sizeof four);
		for (unsigned i = 0; four && i < 4; i++)
			if (m[i] && !(m[i] & QUEUED) && stamp_age(r, m[i]) >= FORGOTTEN)
				m[i] = 0;
		if (++r->swept == words)
			r->swept = 0;
	}
}

/*
 * A set that fetches less for the same share of the cache has the better rule. Age has to be better
 * by a few per cent, because the sets never hold quite the same.
 */
static void score_count(struct residency *r, enum residency_rule rule)
{
	int32_t most = (int32_t)(r->limit / 2 < 1u << 24 ? r->limit / 2 : 1u << 24) + 256;

	if (rule == RESIDENCY_BY_AGE && r->score < most)
		r->score += DUEL_LEAD + 1;
	else if (rule == RESIDENCY_BY_ABSENCE && r->score > -most)
		r->score -= DUEL_LEAD;
}

/* Half of the entries are stale: drops those. */
static void compact(struct residency *r)
{
	for (struct residency_set *s = r->set; s < r->set + RESIDENCY_RULES; s++)
		for (unsigned i = 0; i < RESIDENCY_QUEUES; i++) {
			struct residency_queue *q = &s->queue[i], kept = {0};

			while (q->first) {
				uint32_t page = r->chunk[q->first].entry[q->from].page;
				uint32_t time = r->chunk[q->first].entry[q->from].time;

				queue_pop(r, q);
				if (r->meta[page] & GONE)
					r->meta[page] = 0;
				else
					queue_push(r, &kept, page, time);
			}
			*q = kept;
		}
	r->stale = 0;
}

void residency_add(struct residency *r, const uint32_t *page, unsigned count,
		   enum residency_why why)
{
	lock_take(&r->lock);
	for (unsigned i = 0; i < count; i++) {
		uint16_t *m = &r->meta[page[i]];
		enum residency_rule rule;

		if (why == RESIDENCY_DEMAND || why == RESIDENCY_AHEAD) {
			r->time++;
			sweep(r);
		}
		if (*m & QUEUED) {
			/* It has an entry already, of before it was freed. */
			if (*m & GONE) {
				r->stale--;
				r->count++;
				set_of(r, page[i])->count++;
			}
			*m = (uint16_t)((*m & ~GONE) | AGAIN);
			continue;
		}
		rule = why == RESIDENCY_KEPT ? RESIDENCY_LATER : rule_of(r, page[i]);
		if (why == RESIDENCY_DEMAND || why == RESIDENCY_AHEAD)
			score_count(r, rule);
		enqueue(r, page[i], page[0], level_now(r, *m, why), rule);
	}
	lock_drop(&r->lock);
}

static uint32_t head_stayed(const struct residency *r, const struct residency_queue *q)
{
	return r->time - r->chunk[q->first].entry[q->from].time;
}

/* Whose turn it is: each set keeps its share of what is local. */
static struct residency_set *set_pick(struct residency *r)
{
	struct residency_set *later = &r->set[RESIDENCY_LATER];

	if (later->count && head_stayed(r, &later->queue[LATER_QUEUE]) > r->limit / 4)
		return later;
	for (unsigned i = RESIDENCY_BY_AGE; i <= RESIDENCY_BY_ABSENCE; i++)
		if (r->set[i].count > r->count / GROUP)
			return &r->set[i];
	for (unsigned i = RESIDENCY_RULES - 1; i--;)
		if (r->set[i].count)
			return &r->set[i];
	return later;
}

static struct residency_queue *queue_pick(struct residency *r, struct residency_set *s)
{
	bool by_age = s == &r->set[RESIDENCY_BY_AGE] ||
		      (s == &r->set[RESIDENCY_BY_WINNER] && r->score < 0);
	uint64_t most = 0;
	unsigned at = 0;

	for (unsigned i = 0; i < RESIDENCY_QUEUES; i++) {
		const struct residency_queue *q = &s->queue[i];
		uint64_t stayed;

		if (!q->first)
			continue;
		stayed = head_stayed(r, q) + 1;
		if (!by_age && stayed > r->limit / PROBATION)
			stayed <<= i;
		if (stayed >= most)
			most = stayed, at = i;
	}
	return &s->queue[at];
}

/* The queue of the last victim while its neighbours follow there, else the one whose turn it is. */
static struct residency_queue *next_victim(struct residency *r)
{
	struct residency_queue *q = &r->set[r->run_set].queue[r->run_queue];
	struct residency_set *s;

	if (r->run && q->first && r->chunk[q->first].entry[q->from].page == r->run_page + 1) {
		r->run--;
		r->run_page++;
		return q;
	}
	s = set_pick(r);
	q = queue_pick(r, s);
	r->run = RUN;
	r->run_set = (unsigned)(s - r->set);
	r->run_queue = (unsigned)(q - s->queue);
	r->run_page = r->chunk[q->first].entry[q->from].page;
	return q;
}

unsigned residency_pick(struct residency *r, uint32_t *page, unsigned most)
{
	unsigned n = 0;

	lock_take(&r->lock);
	while (n < most && r->count) {
		struct residency_queue *q = next_victim(r);
		uint32_t p = r->chunk[q->first].entry[q->from].page;
		uint32_t m = r->meta[p];

		assert(m & QUEUED);
		queue_pop(r, q);
		if (m & GONE) {
			r->meta[p] = 0;
			r->stale--;
			continue;
		}
		r->count--;
		r->set[m >> SET_SHIFT & SET_MASK].count--;
		if (m & AGAIN) {
			enqueue(r, p, p, level_of((uint16_t)m), rule_of(r, p));
			continue;
		}
		r->meta[p] = (uint16_t)((m & LEVEL_MASK << LEVEL_SHIFT) |
					(r->time >> r->tick & STAMP_MASK) << STAMP_SHIFT);
		page[n++] = p;
	}
	lock_drop(&r->lock);
	return n;
}

void residency_forget(struct residency *r, uint32_t page, uint32_t count)
{
	lock_take(&r->lock);
	for (uint32_t i = page; i < page + count; i++) {
		if (!(r->meta[i] & QUEUED)) {
			r->meta[i] = 0;
		} else if (!(r->meta[i] & GONE)) {
			set_of(r, i)->count--;
			r->count--;
			r->stale++;
			r->meta[i] = (uint16_t)((r->meta[i] & SET_MASK << SET_SHIFT) | QUEUED |
						GONE | LEVEL_NEW << LEVEL_SHIFT);
		}
	}
	if (r->stale > r->count + 4096)
		compact(r);
	lock_drop(&r->lock);
}
