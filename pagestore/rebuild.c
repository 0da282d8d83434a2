/* SPDX-License-Identifier: MIT */
/*
 * Making new members of sets: for slabs that lost some, and in place of others that are to go. One
 * slab at a time, in chunks of pages, each read, written to the filling member, and done again where
 * a page changed meanwhile (docs/replication.md, 16 to 18, has the proof).
 */
#include "pagestore/maintain.h"
#include "common/clock.h"
#include "common/error.h"
#include "pagestore/seal.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#define NO_ROOM_NS  NSEC_PER_SEC
#define LOOK_NS     (500 * NSEC_PER_MSEC)
#define AGAIN_NS    (2 * NSEC_PER_MSEC)
#define STILL_TRIES 60u /* a page that can't be read though nobody writes it is given up (after 4 s) */

/* --- choosing --- */

static uint64_t unusable(struct ps_volume *v)
{
	uint64_t mask = map_gone(&v->map);

	for (unsigned d = 0; d < v->donors; d++)
		if (v->donor[d].dead || !core_usable(&volume_maintainer(v)->core, d))
			mask |= 1ull << d;
	return mask;
}

struct choice {
	uint64_t slab;
	unsigned urgency; /* less is more urgent */
	int leaves;
};

/*
 * Less than these: members that lack of slabs which donors alone hold. DONORS: the spill file has enough
 * to read the slab. UP: from there to a donor.
 */
enum { URGENT_DONORS = 1000, URGENT_MOVE, URGENT_LEAVING, URGENT_UP, URGENT_NONE };

/* The place of a slab's member on one of the donors, or -1. */
static int place_on(const struct map_slab *s, uint64_t donors)
{
	for (uint32_t m = set_live(map_set(s)); m; m &= m - 1)
		if (donors >> s->donor[__builtin_ctz(m)] & 1)
			return __builtin_ctz(m);
	return -1;
}

static unsigned spilled(const struct ps_volume *v, const struct map_slab *s)
{
	uint64_t set = map_set(s);
	unsigned n = 0;

	for (uint32_t m = set_live(set) | set_filling(set); m; m &= m - 1)
		n += s->donor[__builtin_ctz(m)] == v->spill;
	return n;
}

/*
 * Donors that may take one more member of the slab, in place of the one that leaves (or -1). The
 * spill file: as long as it has fewer than are needed to read the slab, and no member of its own goes.
 */
static uint64_t open_to(const struct ps_volume *v, const struct map_slab *s, int leaves)
{
	uint64_t set = map_set(s), taken = 0;

	for (uint32_t m = set_live(set) | set_filling(set); m; m &= m - 1)
		taken |= 1ull << s->donor[__builtin_ctz(m)];
	if (!v->file)
		return ~taken;
	if (spilled(v, s) < v->map.need && (leaves < 0 || s->donor[leaves] != v->spill))
		return ~taken | 1ull << v->spill;
	return ~(taken | 1ull << v->spill);
}

/* Something can be done for the slab, by a donor that has room: is it the most urgent? */
static bool offer(const struct ps_volume *v, uint64_t slab, uint64_t room, unsigned urgency, int leaves,
		  struct choice *best)
{
	if (!(open_to(v, &v->map.slab[slab], leaves) & room))
		return false;
	if (urgency < best->urgency)
		*best = (struct choice){slab, urgency, leaves};
	return true;
}

/* room: bit a donor that has some. What can't be done for want of room keeps nothing else waiting. */
static void consider(struct ps_volume *v, uint64_t slab, uint64_t room, struct choice *best)
{
	const struct maintain *m = v->maintain;
	const struct map_slab *s = &v->map.slab[slab];
	uint64_t set = map_set(s);
	unsigned live = map_count(set_live(set)), lacks;
	int leaves;

	if (!(set & SET_GRANTED) || set_filling(set))
		return;
	if (live < v->map.need) { /* it begins anew */
		if (best->urgency)
			*best = (struct choice){slab, 0, -1};
		return;
	}
	lacks = spilled(v, s) < v->map.need ? live - v->map.need : URGENT_DONORS;
	if (live < v->map.members && offer(v, slab, room, lacks, -1, best))
		return;
	leaves = m->from[slab] ? place_on(s, 1ull << (m->from[slab] - 1)) : -1;
	if (leaves >= 0 && offer(v, slab, room, URGENT_MOVE, leaves, best))
		return;
	leaves = m->moving ? place_on(s, m->moving) : -1;
	if (leaves >= 0 && offer(v, slab, room, URGENT_LEAVING, leaves, best))
		return;
	leaves = v->file ? place_on(s, 1ull << v->spill) : -1;
	if (leaves >= 0)
		offer(v, slab, room, URGENT_UP, leaves, best);
}

/* Pages of a slab that lost too many members: they are an error until they are written again. */
static void mark_lost(struct ps_volume *v, uint64_t slab)
{
	uint64_t first = slab << v->map.slab_shift, end = first + (1ull << v->map.slab_shift);

	for (uint64_t page = first; page < end && page < v->map.pages; page++) {
		uint64_t hash = map_hash(&v->map, page);

		while (hash != HASH_ZEROS && hash != HASH_LOST &&
		       !__atomic_compare_exchange_n(&v->map.hash[page], &hash, HASH_LOST, false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
	}
}

static unsigned missing_frag(const struct ps_volume *v, const struct map_slab *s, int leaves)
{
	uint64_t set = map_set(s);
	uint32_t have = 0;

	if (!v->map.parts)
		return 0;
	if (leaves >= 0)
		return s->frag[leaves];
	for (uint32_t m = set_live(set) | set_filling(set); m; m &= m - 1)
		have |= 1u << s->frag[__builtin_ctz(m)];
	return (unsigned)__builtin_ctz(~have);
}

/* A slab of the donor's, usable by all ports; 0 or an error. */
static int grant_one(struct ps_volume *v, unsigned donor, uint64_t *handle)
{
	int r;

	memset(v->lists.count, 0, sizeof v->lists.count);
	v->lists.count[donor] = 1;
	lists_lay_out(&v->lists, v->donors);
	r = control_lists(v, TP_GRANT, NULL);
	if (r)
		return r;
	*handle = v->lists.slabs[v->lists.first[donor]];
	v->lists.done[donor] = 0;
	r = control_lists(v, TP_MAP, NULL);
	if (r) {
		v->lists.done[donor] = 0;
		control_lists(v, TP_FREE, NULL);
	}
	return r;
}

static int pick_donor(struct ps_volume *v, const struct map_slab *s, const struct choice *ch)
{
	struct place_donor donor[PS_MAX_DONORS];
	uint64_t set = map_set(s), taken = unusable(v) | ~open_to(v, s, ch->leaves), domains = 0;
	unsigned to = v->maintain->to[ch->slab];

	for (uint32_t m = set_live(set) | set_filling(set); m; m &= m - 1) {
		unsigned p = (unsigned)__builtin_ctz(m);

		if ((int)p != ch->leaves)
			domains |= 1ull << v->donor[s->donor[p]].domain;
	}
	volume_place_donors(v, donor);
	if (ch->urgency == URGENT_MOVE && to && !(taken >> (to - 1) & 1) && donor[to - 1].free)
		return (int)to - 1;
	return place_one(donor, v->donors, taken, domains, &v->rng);
}

/* A slab that nobody has any more starts anew, empty. */
static void rebirth(struct ps_volume *v, uint64_t slab)
{
	struct map_slab *s = &v->map.slab[slab];
	struct place_donor donor[PS_MAX_DONORS];
	unsigned n = v->map.members, got = 0;
	uint64_t handle[MAP_MEMBERS];
	uint8_t plan[MAP_MEMBERS];

	volume_place_donors(v, donor);
	while (n >= v->map.need && !place_slabs(donor, v->donors, 1, n, &v->rng, plan))
		n--;
	while (got < n && n >= v->map.need && plan[got] != PLACE_NONE &&
	       !grant_one(v, plan[got], &handle[got]))
		v->donor[plan[got++]].held++;
	if (got < v->map.need) {
		while (got--)
			maintain_bury(v, plan[got], handle[got]);
		return;
	}
	mark_lost(v, slab);
	map_take(&v->map, slab);
	maintain_clean(v, s);
	map_put(&v->map, slab, got, plan, handle);
}

static void begin(struct ps_volume *v, const struct choice *ch, uint64_t now_ns)
{
	struct maintain *m = v->maintain;
	struct map_slab *s = &v->map.slab[ch->slab];
	struct job *j = &m->job;
	uint64_t handle = 0, pages = 1ull << v->map.slab_shift;
	int donor, place;

	if (map_count(set_live(map_set(s))) < v->map.need) {
		rebirth(v, ch->slab);
		m->wait_ns = now_ns + AGAIN_NS;
		return;
	}
	maintain_clean(v, s);
	donor = pick_donor(v, s, ch);
	if (donor < 0 || grant_one(v, (unsigned)donor, &handle)) {
		m->wait_ns = now_ns + NO_ROOM_NS;
		return;
	}
	place = map_join(&v->map, s, missing_frag(v, s, ch->leaves), (uint8_t)donor, handle);
	assert(place >= 0); /* there are more places than members */
	v->donor[donor].held++;
	*j = (struct job){.used = true,
			  .move = ch->leaves >= 0,
			  .slab = ch->slab,
			  .place = (unsigned)place,
			  .donor = (unsigned)donor,
			  .handle = handle,
			  .leaves = ch->leaves,
			  .next = ch->slab << v->map.slab_shift};
	j->end = j->next + pages < v->map.pages ? j->next + pages : v->map.pages;
	if (m->budget_ns < now_ns)
		m->budget_ns = now_ns;
}

/* Donors that have room now, as they say. */
static uint64_t with_room(struct ps_volume *v)
{
	struct place_donor donor[PS_MAX_DONORS];
	uint64_t mask = 0, not = unusable(v);

	volume_place_donors(v, donor);
	for (unsigned d = 0; d < v->donors; d++)
		if (donor[d].free)
			mask |= 1ull << d;
	return mask & ~not;
}

static void look_through(struct ps_volume *v, uint64_t room, struct choice *best)
{
	*best = (struct choice){.urgency = URGENT_NONE, .leaves = -1};
	for (uint64_t i = 0; i < v->map.slabs; i++)
		if (map_set(&v->map.slab[i]) & SET_GRANTED)
			consider(v, i, room, best);
}

void rebuild_choose(struct ps_volume *v, uint64_t now_ns)
{
	struct maintain *m = v->maintain;
	uint64_t dropped = __atomic_load_n(&v->map.dropped, __ATOMIC_RELAXED);
	bool news = dropped != m->seen_dropped || m->moves != m->seen_moves;
	struct choice best;

	if (now_ns < m->wait_ns || (!news && now_ns - m->looked_ns < LOOK_NS))
		return;
	m->looked_ns = now_ns;
	m->seen_dropped = dropped;
	m->seen_moves = m->moves;
	look_through(v, UINT64_MAX, &best);
	if (best.urgency == URGENT_NONE)
		return;
	/* Something is to be done. What can be? */
	if (!control_stat(v))
		look_through(v, with_room(v), &best);
	else
		best.urgency = URGENT_NONE;
	if (best.urgency == URGENT_NONE) {
		m->wait_ns = now_ns + NO_ROOM_NS;
		return;
	}
	m->looked_ns = 0; /* there may be more */
	begin(v, &best, now_ns);
}

/* --- copying --- */

static uint64_t stamp(const struct ps_volume *v, uint64_t page)
{
	uint64_t hash = map_hash(&v->map, page);

	if (hash == HASH_ZEROS || hash == HASH_LOST || !v->map.seal)
		return hash;
	return hash ^ (seal_stamp(v->map.seal, page) << 1 | 1) * 0x9e3779b97f4a7c15ull;
}

/* Is our member still the one that is being filled, and the one that is to leave still there? */
static bool goes_on(const struct ps_volume *v)
{
	const struct job *j = &v->maintain->job;
	const struct map_slab *s = &v->map.slab[j->slab];
	uint64_t set = map_set(s);

	return set & SET_GRANTED && set & SET_FILLING(j->place) && s->handle[j->place] == j->handle;
}

/* The batch's vectors: runs of the pages in c->asked. */
static void fill_vectors(struct chunk *c)
{
	c->batch = (struct ps_batch){.vec = c->vec, .user = c};
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		struct ps_vec *last = c->batch.vecs ? &c->vec[c->batch.vecs - 1] : NULL;

		if (!(c->asked >> i & 1))
			continue;
		if (last && last->page + last->count == c->first + i) {
			last->count++;
			continue;
		}
		c->vec[c->batch.vecs++] = (struct ps_vec){.page = c->first + i,
							  .count = 1,
							  .buf = c->buf + (size_t)i * PS_PAGE_SIZE};
	}
}

static int submit(struct ps_volume *v, struct chunk *c, uint64_t now_ns)
{
	struct ps_port *p = volume_maintainer(v);

	fill_vectors(c);
	return c->state == CHUNK_READ ? port_read_raw(p, &c->batch, now_ns)
				      : port_fill(p, &c->batch, v->maintain->job.place, now_ns);
}

/* Takes the stamps and asks for what has any contents. */
static void chunk_read(struct ps_volume *v, struct chunk *c, uint64_t now_ns)
{
	c->asked = 0;
	/* Our member joined before any hash is looked at: docs/replication.md, 18. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		if (!(c->todo >> i & 1))
			continue;
		c->stamp[i] = stamp(v, c->first + i);
		if (c->stamp[i] == HASH_ZEROS || c->stamp[i] == HASH_LOST)
			c->todo &= ~(1u << i);
		else
			c->asked |= 1u << i;
	}
	if (!c->asked) {
		c->state = CHUNK_IDLE;
		return;
	}
	c->state = CHUNK_READ;
	if (submit(v, c, now_ns)) {
		c->state = CHUNK_WAIT;
		c->wait_ns = now_ns + AGAIN_NS;
	}
}

/*
 * A page that changed is read again. One that didn't, and can't be read, is not to be had from
 * anybody: given up after a while, for a rebuild must end. A move must not lose it: it is given up
 * as a whole.
 */
static void read_failed(struct ps_volume *v, struct chunk *c, uint64_t now_ns)
{
	struct job *j = &v->maintain->job;
	unsigned most = 1;

	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		if (!(c->asked >> i & 1))
			continue;
		most = c->tries[i] > most ? c->tries[i] : most;
		if (stamp(v, c->first + i) != c->stamp[i])
			c->tries[i] = 0;
		else if (c->batch.page == c->first + i && ++c->tries[i] == STILL_TRIES) {
			c->todo &= ~(1u << i);
			if (j->move)
				map_drop(&v->map, &v->map.slab[j->slab], j->place, j->handle);
		}
	}
	c->state = CHUNK_WAIT;
	c->wait_ns = now_ns + most * AGAIN_NS;
}

void rebuild_done(struct ps_volume *v, struct ps_batch *b, uint64_t now_ns)
{
	struct chunk *c = b->user;
	struct maintain *m = v->maintain;

	if (!m->job.used || !goes_on(v)) {
		c->state = CHUNK_IDLE;
		return;
	}
	if (c->state == CHUNK_READ) {
		if (b->status) {
			read_failed(v, c, now_ns);
			return;
		}
		c->state = CHUNK_FILL;
		if (submit(v, c, now_ns)) {
			c->state = CHUNK_WAIT;
			c->wait_ns = now_ns + AGAIN_NS;
		}
		return;
	}
	/* Written. What changed since its stamp was taken is done again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < CHUNK_PAGES && !b->status; i++) {
		if (!(c->asked >> i & 1) || stamp(v, c->first + i) != c->stamp[i])
			continue;
		c->todo &= ~(1u << i);
		m->rebuilt_pages++;
	}
	if (c->todo)
		chunk_read(v, c, now_ns);
	else
		c->state = CHUNK_IDLE;
}

/* Rule 7 for the new member, so that it counts when the volume is taken over. */
static void tell_generation(struct ps_volume *v, const struct map_slab *s)
{
	uint64_t set = map_set(s), mask = 0;

	for (uint32_t m = set_live(set); m; m &= m - 1) {
		unsigned p = (unsigned)__builtin_ctz(m), d = s->donor[p];

		if (v->donor[d].dead || le16toh(v->donor[d].hello.welcome.minor) < 2)
			continue;
		v->told[d] = (struct wire_generation){htole64(s->handle[p]),
						      htole64(set_generation(set))};
		v->call[d].op = (struct tp_op){
			.kind = TP_GENERATION, .count = 1, .generation = &v->told[d]};
		mask |= 1ull << d;
	}
	control_ask(v, mask & control_live(v));
}

/*
 * Whoever takes the volume over must find the new one before it is the only one that has what is
 * written: so both are members until that is published. (Of fragments none is taken over.)
 */
static bool leaves_later(struct ps_volume *v, struct map_slab *s)
{
	struct job *j = &v->maintain->job;

	if (!v->publishes || v->map.parts || j->leaves < 0)
		return false;
	if (!map_promote(&v->map, s, j->place, -1))
		return false;
	j->waits = true;
	j->changes = ps_where_changes(v);
	return true;
}

static void leave(struct ps_volume *v, struct map_slab *s)
{
	struct job *j = &v->maintain->job;

	if (map_set(s) & SET_LIVE(j->place))
		map_retire(&v->map, s, (unsigned)j->leaves, s->handle[j->leaves]);
}

/* False: it goes on later. */
static bool finish(struct ps_volume *v)
{
	struct maintain *m = v->maintain;
	struct job *j = &m->job;
	struct map_slab *s = &v->map.slab[j->slab];

	/* The one that was to leave may have failed by itself. */
	if (j->leaves >= 0 && !(map_set(s) & SET_LIVE(j->leaves)))
		j->leaves = -1;
	if (!j->waits && leaves_later(v, s))
		return false;
	if (j->waits && !volume_is_published(v, j->changes))
		return false;
	if (j->waits && j->leaves >= 0)
		leave(v, s);
	if (j->waits || map_promote(&v->map, s, j->place, j->leaves)) {
		if (j->move)
			m->moved_slabs++;
		else
			m->rebuilt_slabs++;
		if (v->map.members > v->map.need || v->map.durable)
			tell_generation(v, s);
	}
	maintain_clean(v, s);
	if (j->move && m->from[j->slab]) {
		m->from[j->slab] = 0;
		m->moves--;
	}
	j->used = false;
	return true;
}

static bool chunks_busy(const struct maintain *m)
{
	for (unsigned i = 0; i < CHUNKS; i++)
		if (m->chunk[i].state != CHUNK_IDLE)
			return true;
	return false;
}

/* The next pages for an idle chunk, if the rate allows them. False: not yet. */
static bool chunk_begin(struct ps_volume *v, struct chunk *c, uint64_t now_ns)
{
	struct maintain *m = v->maintain;
	struct job *j = &m->job;
	uint64_t n = j->end - j->next < CHUNK_PAGES ? j->end - j->next : CHUNK_PAGES;

	if (m->budget_ns > now_ns)
		return false;
	c->first = j->next;
	c->todo = n == CHUNK_PAGES ? UINT32_MAX : (1u << n) - 1;
	memset(c->tries, 0, sizeof c->tries);
	j->next += n;
	chunk_read(v, c, now_ns);
	m->budget_ns += map_count(c->asked) * PS_PAGE_SIZE * NSEC_PER_SEC / v->rebuild_bytes;
	return true;
}

uint64_t rebuild_step(struct ps_volume *v, uint64_t now_ns)
{
	struct maintain *m = v->maintain;
	struct job *j = &m->job;
	uint64_t until = UINT64_MAX;

	/* What was not used of the rate is not saved up. */
	if (m->budget_ns + 50 * NSEC_PER_MSEC < now_ns)
		m->budget_ns = now_ns - 50 * NSEC_PER_MSEC;
	if (!j->used)
		return m->wait_ns > now_ns ? m->wait_ns : UINT64_MAX;
	for (unsigned i = 0; i < CHUNKS; i++) {
		struct chunk *c = &m->chunk[i];

		if (c->state == CHUNK_WAIT && (!goes_on(v) || c->wait_ns <= now_ns)) {
			c->state = CHUNK_IDLE;
			if (goes_on(v))
				chunk_read(v, c, now_ns);
		}
		while (c->state == CHUNK_IDLE && j->next < j->end && goes_on(v) &&
		       chunk_begin(v, c, now_ns))
			;
		if (c->state == CHUNK_WAIT && c->wait_ns < until)
			until = c->wait_ns;
		else if (c->state == CHUNK_IDLE && j->next < j->end && m->budget_ns < until)
			until = m->budget_ns;
	}
	if (chunks_busy(m))
		return until;
	if (!j->waits && !goes_on(v)) {
		/* It failed, or the slab was released. */
		if (map_set(&v->map.slab[j->slab]) & SET_GRANTED)
			maintain_clean(v, &v->map.slab[j->slab]);
		j->used = false;
		m->wait_ns = now_ns + AGAIN_NS;
		return now_ns;
	}
	if (j->next < j->end)
		return until;
	return finish(v) ? now_ns : now_ns + AGAIN_NS;
}
