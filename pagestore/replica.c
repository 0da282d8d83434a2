/* SPDX-License-Identifier: MIT */
/*
 * Whom a run of pages is read from and written to, and what happens when somebody fails. The rules
 * are docs/replication.md; their numbers are in the comments here.
 */
#include "pagestore/core.h"
#include "pagestore/seal.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#define TRIES      4 /* of one run, anew: the set changed, or bytes may have been spoilt on the way */

void run_done(struct core *c, unsigned slot, struct core_run *r)
{
	assert(r->state != RUN_DONE);
	r->state = RUN_DONE;
	c->slot[slot].left--;
}

void run_fail(struct core *c, unsigned slot, struct core_run *r, int status, int donor)
{
	struct ps_batch *b = c->slot[slot].batch;

	if (r->state == RUN_DONE)
		return;
	core_batch_fail(c, b, status, donor, r->page);
	/* Nobody knows what the donors hold now: reads fail until the pages are written again. */
	for (uint32_t i = 0; b->kind == PS_WRITE && i < r->pages; i++)
		map_set_hash(c->map, r->page + i, HASH_LOST);
	run_done(c, slot, r);
}

static struct map_slab *slab_of(const struct core *c, const struct core_run *r)
{
	return map_slab_of(c->map, r->page);
}

/* The places whose donors can be asked. */
static uint32_t usable(const struct core *c, const struct map_slab *s, uint32_t places)
{
	uint32_t mask = 0;

	for (; places; places &= places - 1) {
		unsigned p = (unsigned)__builtin_ctz(places);

		if (core_usable(c, __atomic_load_n(&s->donor[p], __ATOMIC_RELAXED)))
			mask |= 1u << p;
	}
	return mask;
}

/* --- choosing --- */

static uint64_t score(const struct core *c, unsigned donor)
{
	const struct core_donor *d = &c->donor[donor];
	uint64_t s = (d->mean_ns + 1000) * (1 + d->sent);

	return d->slow ? s + (1ull << 60) : s;
}

/*
 * Rule 10. Now and then another one than the best is asked, or one that was slow for a while would
 * be thought slow for ever.
 */
int core_pick(struct core *c, struct map_slab *s, uint64_t set, uint32_t places)
{
	bool explore = !(++c->picks % 64);
	uint64_t best = UINT64_MAX;
	int pick = -1;

	(void)set;
	if (!(places & (places - 1)))
		return places ? __builtin_ctz(places) : -1;
	for (; places; places &= places - 1) {
		unsigned p = (unsigned)__builtin_ctz(places);
		unsigned d = __atomic_load_n(&s->donor[p], __ATOMIC_RELAXED);
		uint64_t here = score(c, d);

		if (explore && !c->donor[d].slow)
			here = c->donor[d].heard_ns;
		if (here < best) {
			best = here;
			pick = (int)p;
		}
	}
	return pick;
}

/* --- reading --- */

bool run_read_more(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);
	uint64_t handle, set;
	uint8_t donor;
	int place;

	do {
		set = map_set(s);
		if (set_generation(set) != r->generation && !r->out) {
			/* Other members, or others in their places. */
			r->generation = set_generation(set);
			r->sent = r->bad = 0;
			if (r->tries++ > TRIES)
				return false;
		}
		place = core_pick(c, s, set, usable(c, s, set_live(set) & ~(uint32_t)r->sent));
		if (place < 0)
			return false;
	} while (!map_place(s, set, (unsigned)place, &donor, &handle));
	r->sent |= (uint16_t)(1u << place);
	core_piece_add(c, run, (unsigned)place, map_frag(s, (unsigned)place), donor, handle, false);
	return true;
}

static int first_donor(const struct map_slab *s)
{
	uint32_t live = set_live(map_set(s));

	return s->donor[live ? __builtin_ctz(live) : 0];
}

static void read_start(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);

	r->generation = set_generation(map_set(s));
	if (!run_read_more(c, slot, run))
		run_fail(c, slot, r, -EIO, first_donor(s));
}

/* Rule 11: what is to be done after a good answer. */
void run_repair(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);
	uint64_t set = map_set(s), handle;
	bool any = false;
	uint8_t donor;

	/*
	 * A late answer may still land in the buffer: the next reader repairs. The copier does not
	 * own the page: what it would repair may be just being written.
	 */
	if (r->out || c->slot[slot].batch->kind == CORE_RAW) {
		run_done(c, slot, r);
		return;
	}
	if (c->map->parts)
		code_encode(c, slot, run);
	r->state = RUN_REPAIR;
	for (uint32_t m = usable(c, s, set_live(set)); m; m &= m - 1) {
		unsigned p = (unsigned)__builtin_ctz(m);

		if (!(r->bad >> (c->map->parts ? map_frag(s, p) : p) & 1))
			continue;
		/* The set changed: whoever was bad has been seen to. */
		if (set_generation(set) != r->generation || !map_place(s, set, p, &donor, &handle))
			break;
		core_piece_add(c, run, p, map_frag(s, p), donor, handle, true);
		COUNT(c, repairs, r->pages);
		any = true;
	}
	r->bad = 0;
	if (!any)
		run_done(c, slot, r);
}

/* Nobody has answered well, and nobody is left to ask but once more. */
static void read_failed(struct core *c, unsigned slot, unsigned run, int status, unsigned donor)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (!r->status || status == -EBADMSG) {
		r->status = status;
		r->fail_donor = (uint8_t)donor;
	}
	if (r->out)
		return; /* another one is under way */
	if (c->redundant || set_generation(map_set(slab_of(c, r))) != r->generation) {
		if (run_read_more(c, slot, run)) {
			COUNT(c, failovers, 1);
			return;
		}
		if (r->status == -EBADMSG && c->redundant && r->tries++ <= TRIES) {
			r->sent = 0;
			if (run_read_more(c, slot, run))
				return;
		}
	}
	run_fail(c, slot, r, r->status, r->fail_donor);
}

/* Checks what came, and opens what is sealed. Returns how many pages are bad: bits. */
static unsigned check_run(struct core *c, unsigned slot, const struct core_run *r,
			  uint64_t bad[PS_BATCH_PAGES / 64])
{
	bool raw = c->slot[slot].batch->kind == CORE_RAW;
	unsigned n = 0;

	for (uint32_t i = 0; i < r->pages; i++) {
		size_t at = (size_t)i * PS_PAGE_SIZE;

		if (c->map->seal && !raw
			    ? seal_check(c->map->seal, r->page + i, r->wire + at, r->buf + at)
			    : core_page_fits(c, r->page + i, r->buf + at))
			continue;
		bad[i / 64] |= 1ull << i % 64;
		n++;
	}
	return n;
}

/* Of a longer run the bad pages become runs of their own. */
static void split_bad(struct core *c, unsigned slot, unsigned run, unsigned place, unsigned donor,
		      const uint64_t *bad)
{
	struct core_run *r = core_run_of(c, slot, run);

	for (uint32_t i = 0; i < r->pages; i++) {
		struct core_run *one;

		if (!(bad[i / 64] >> i % 64 & 1))
			continue;
		one = core_run_new(c, slot, r->page + i, 1, r->buf + (size_t)i * PS_PAGE_SIZE,
				   RUN_READ);
		if (!one) {
			core_batch_fail(c, c->slot[slot].batch, -EBADMSG, (int)donor, r->page + i);
			continue;
		}
		one->wire = r->wire + (size_t)i * PS_PAGE_SIZE;
		one->generation = r->generation;
		one->sent = r->sent;
		one->hedged = r->hedged;
		one->bad = (uint16_t)(1u << place);
		read_failed(c, slot, c->slot[slot].runs - 1u, -EBADMSG, donor);
	}
	run_done(c, slot, r);
}

static void read_answer(struct core *c, unsigned slot, const struct core_ref *ref, unsigned donor,
			int status)
{
	struct core_run *r = core_run_of(c, slot, ref->run);
	uint64_t bad[PS_BATCH_PAGES / 64] = {0};
	unsigned n;

	if (status) {
		read_failed(c, slot, ref->run, status, donor);
		return;
	}
	n = check_run(c, slot, r, bad);
	COUNT(c, bad_hashes, c->slot[slot].batch->kind == PS_READ ? n : 0);
	if (n && r->pages > 1 && !r->out) {
		split_bad(c, slot, ref->run, ref->place, donor, bad);
		return;
	}
	if (n) {
		r->bad |= (uint16_t)(1u << ref->place);
		read_failed(c, slot, ref->run, -EBADMSG, donor);
		return;
	}
	r->good = (uint16_t)(1u << ref->place);
	r->bad &= (uint16_t)~r->good;
	if (r->hedged && r->out)
		COUNT(c, hedges_won, 1);
	if (r->bad)
		run_repair(c, slot, ref->run);
	else
		run_done(c, slot, r);
}

/* As it was given to the caller. */
bool run_is_whole(const struct core *c, unsigned slot, const struct core_run *r)
{
	bool raw = c->slot[slot].batch->kind == CORE_RAW;

	/* What is sealed lands elsewhere. */
	for (uint32_t i = 0; i < r->pages && (raw || !c->map->seal); i++) {
		const unsigned char *p = r->buf + (size_t)i * PS_PAGE_SIZE;

		if (raw ? !core_page_fits(c, r->page + i, p)
			: ps_hash(p) != map_hash(c->map, r->page + i))
			return false;
	}
	return true;
}

void run_recheck(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (!core_reads(c->slot[slot].batch) || c->slot[slot].batch->status)
		return;
	if (c->map->parts) {
		code_recheck(c, slot, run);
		return;
	}
	if (!r->good || run_is_whole(c, slot, r))
		return;
	/* A cancelled answer had begun to land. Who answered well will do so again. */
	r->state = RUN_READ;
	r->hedged = true;
	r->sent = 0;
	r->out = 0; /* what was cancelled never answered */
	c->slot[slot].left++;
	if (r->tries++ > TRIES || !run_read_more(c, slot, run))
		run_fail(c, slot, r, -EBADMSG, first_donor(slab_of(c, r)));
}

/* --- writing --- */

/*
 * Rule 5. A member that can't be asked leaves the set first; one that is needed stays, and then the
 * write fails in the end (stuck).
 */
static void write_start(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);
	unsigned pieces = c->pieces;
	uint32_t places;
	uint64_t set, handle;
	uint8_t donor;

again:
	c->pieces = pieces;
	set = map_set(s);
	r->generation = set_generation(set);
	r->sent = 0;
	places = set_live(set) | set_filling(set);
	if (c->slot[slot].batch->kind == CORE_FILL)
		places = set_filling(set) & 1u << c->slot[slot].place;
	for (; places; places &= places - 1) {
		unsigned p = (unsigned)__builtin_ctz(places);

		if (!map_place(s, set, p, &donor, &handle))
			goto again;
		if (!core_usable(c, donor)) {
			if (!map_drop(c->map, s, p, handle)) {
				r->stuck = true;
				r->fail_donor = donor;
				r->sent |= (uint16_t)(1u << p);
				continue;
			}
			goto again;
		}
		r->sent |= (uint16_t)(1u << p);
		core_piece_add(c, run, p, map_frag(s, p), donor, handle, true);
	}
	if (c->pieces == pieces)
		run_fail(c, slot, r, -EIO, r->stuck ? r->fail_donor : first_donor(s));
	else if (c->map->parts)
		code_encode(c, slot, run);
}

/* Rule 7: the members are told before the caller is. */
static void tell(struct core *c, unsigned slot, unsigned run, uint64_t set)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);

	for (unsigned i = 0; i < c->slot[slot].runs; i++) {
		struct core_run *other = core_run_of(c, slot, i);

		if (other != r && other->state == RUN_TELL && slab_of(c, other) == s) {
			r->state = RUN_WAIT;
			return;
		}
	}
	r->state = RUN_TELL;
	r->generation = set_generation(set);
	for (uint32_t m = set_live(set); m; m &= m - 1) {
		unsigned p = (unsigned)__builtin_ctz(m);
		struct core_msg *msg;
		uint64_t handle;
		uint8_t donor;

		if (!map_place(s, set, p, &donor, &handle) || !core_usable(c, donor) ||
		    c->donor[donor].limits.minor < 2)
			continue;
		msg = core_msg_new(c, slot, donor, TP_GENERATION);
		if (!msg)
			continue;
		msg->generation = (struct wire_generation){htole64(handle),
							   htole64(set_generation(set))};
		msg->op.generation = &msg->generation;
		msg->op.count = 1;
		c->slot[slot].segs++; /* its ref */
		*msg->ref = (struct core_ref){(uint16_t)run, (uint8_t)p, 0};
		r->out++;
		core_msg_queue(c, msg);
	}
}

static void write_start(struct core *c, unsigned slot, unsigned run);

/*
 * Rule 9: those that are members now are sent it, for the first time or again. (A place that somebody left
 * and somebody else took looks as if it had been sent to.)
 */
static bool write_again(struct core *c, unsigned slot, unsigned run, uint64_t set)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (!(set & SET_GRANTED) || r->stuck || set_generation(set) == r->generation ||
	    map_count(set_live(set)) < c->map->need || r->tries++ >= TRIES)
		return false;
	r->good = 0;
	write_start(c, slot, run);
	return true;
}

/* Rules 5, 8 and 9: all that were sent to have answered. */
static void write_settle(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = slab_of(c, r);
	uint64_t set = map_set(s);
	/* Who joined since has it too: the copier saw the new hash. */
	uint32_t have = (r->good | ~(uint32_t)r->sent) & set_live(set);

	if (c->slot[slot].batch->kind == CORE_FILL) {
		if (r->good)
			run_done(c, slot, r);
		else
			run_fail(c, slot, r, r->status ? r->status : -EIO, r->fail_donor);
		return;
	}
	if (map_count(have) < c->map->need && write_again(c, slot, run, set))
		return;
	if (!(set & SET_GRANTED) || r->stuck || map_count(have) < c->map->need) {
		run_fail(c, slot, r, r->status ? r->status : -EIO, r->fail_donor);
		return;
	}
	if ((c->redundant || c->map->durable) &&
	    __atomic_load_n(&s->told, __ATOMIC_ACQUIRE) < set_generation(set)) {
		tell(c, slot, run, set);
		if (r->out || r->state == RUN_WAIT)
			return;
	}
	run_done(c, slot, r);
}

static void write_answer(struct core *c, unsigned slot, const struct core_ref *ref, unsigned donor,
			 uint64_t handle, int status)
{
	struct core_run *r = core_run_of(c, slot, ref->run);

	if (!status) {
		r->good |= (uint16_t)(1u << ref->place);
	} else {
		if (!r->status) {
			r->status = status;
			r->fail_donor = (uint8_t)donor;
		}
		/* Rules 6 and 4. */
		if (!map_drop(c->map, slab_of(c, r), ref->place, handle))
			r->stuck = true;
	}
	if (!r->out)
		write_settle(c, slot, ref->run);
}

void run_told(struct core *c, unsigned slot, const struct core_ref *ref, const struct core_msg *m,
	      int status)
{
	struct core_run *r = core_run_of(c, slot, ref->run);
	struct map_slab *s = slab_of(c, r);
	uint32_t told = __atomic_load_n(&s->told, __ATOMIC_RELAXED);

	r->out--;
	if (r->state != RUN_TELL)
		return;
	if (status && !map_drop(c->map, s, ref->place, le64toh(m->generation.slab)))
		r->stuck = true;
	if (r->out)
		return;
	/* If it rose meanwhile, they are told again. */
	while (told < r->generation &&
	       !__atomic_compare_exchange_n(&s->told, &told, r->generation, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
	r->state = RUN_WRITE;
	write_settle(c, slot, ref->run);
	for (unsigned i = 0; i < c->slot[slot].runs; i++) {
		struct core_run *other = core_run_of(c, slot, i);

		if (other->state != RUN_WAIT || slab_of(c, other) != s)
			continue;
		other->state = RUN_WRITE;
		write_settle(c, slot, i);
	}
}

/* --- both --- */

void run_start(struct core *c, unsigned slot, unsigned run)
{
	if (!core_reads(c->slot[slot].batch))
		write_start(c, slot, run);
	else if (c->map->parts)
		code_read_start(c, slot, run);
	else
		read_start(c, slot, run);
}

void run_answer(struct core *c, unsigned slot, const struct core_ref *ref, unsigned donor,
		uint64_t handle, int status)
{
	struct core_run *r = core_run_of(c, slot, ref->run);

	assert(r->out);
	r->out--;
	switch (r->state) {
	case RUN_READ:
		if (c->map->parts)
			code_answer(c, slot, ref, status);
		else
			read_answer(c, slot, ref, donor, status);
		break;
	case RUN_WRITE:
		write_answer(c, slot, ref, donor, handle, status);
		break;
	case RUN_REPAIR:
		if (status)
			map_drop(c->map, slab_of(c, r), ref->place, handle);
		if (!r->out)
			run_done(c, slot, r);
		break;
	default:
		/* Too late: it may have landed where good bytes were. */
		if (!c->map->parts || ref->frag < c->map->parts)
			c->slot[slot].hedged = true;
		break;
	}
}
