/* SPDX-License-Identifier: MIT */
/*
 * Replica sets in the core alone: two ports over one map, donors that answer in any order, late, with
 * an error, with flipped bits, or die. As long as every slab keeps the members that it needs, nothing
 * may fail, and nothing wrong may ever be read. At random, but the same each time.
 */
#include "pagestore/core.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#define SLAB_PAGES 16u
#define SLABS      8u
#define PAGES      (SLABS * SLAB_PAGES)
#define DONORS     8u
#define PORTS      2u
#define DEADLINE   3000u
#define SUSPECT    500u
#define MS         1000000ull

static struct map map;
static struct core core[PORTS];
static unsigned members;
static bool instant; /* the donors answer at once: see tp_transport */
/* Slab i at donor d has handle 100 * (d + 1) + i. */
static unsigned char held[DONORS][SLABS][SLAB_PAGES * PS_PAGE_SIZE];
static uint64_t generation[DONORS][SLABS];
static bool dead[DONORS];

static uint64_t rng;

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

static void open_cores(unsigned need, unsigned all, unsigned parts, unsigned donors, unsigned depth)
{
	struct core_limits limits[DONORS];

	members = all;
	memset(dead, 0, sizeof dead);
	memset(generation, 0, sizeof generation);
	for (unsigned d = 0; d < donors; d++)
		limits[d] = (struct core_limits){12, 16, 2, instant};
	cr_assert_eq(map_open(&map, PAGES, SLAB_PAGES, need, all, parts), 0);
	for (unsigned i = 0; i < SLABS; i++) {
		uint64_t handle[MAP_MEMBERS];
		uint8_t donor[MAP_MEMBERS];

		for (unsigned k = 0; k < all; k++) {
			donor[k] = (uint8_t)((i + k) % donors);
			handle[k] = 100 * (donor[k] + 1) + i;
		}
		map_put(&map, i, all, donor, handle);
	}
	for (unsigned p = 0; p < PORTS; p++)
		cr_assert_eq(core_open(&core[p], &(struct core_options){.map = &map,
									.limits = limits,
									.donors = donors,
									.depth = depth,
									.deadline_ns = DEADLINE * MS,
									.suspect_ns = SUSPECT * MS}),
			     0);
}

static void close_cores(void)
{
	for (unsigned p = 0; p < PORTS; p++)
		core_close(&core[p]);
	map_close(&map);
}

static void fill(void *page, uint64_t what)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		((uint64_t *)page)[i] = what ? what * 0x9e3779b97f4a7c15ull + i : 0;
}

static unsigned char *at(unsigned donor, uint64_t slab, uint64_t unit, uint32_t bytes)
{
	cr_assert(slab / 100 == donor + 1 && slab % 100 < SLABS);
	return held[donor][slab % 100] + unit * bytes;
}

static void serve(unsigned donor, const struct tp_op *op)
{
	uint32_t unit = tp_unit(op->kind);

	for (uint32_t i = 0; i < op->count && op->kind == TP_GENERATION; i++) {
		uint64_t slab = le64toh(op->generation[i].slab) % 100;

		if (le64toh(op->generation[i].generation) > generation[donor][slab])
			generation[donor][slab] = le64toh(op->generation[i].generation);
	}
	for (uint32_t i = 0; i < op->count && op->kind != TP_GENERATION; i++) {
		const struct tp_seg *s = &op->seg[i];
		unsigned char *mem = at(donor, s->slab, s->page, unit);

		if (tp_reads(op->kind))
			memcpy(s->buf, mem, (size_t)s->pages * unit);
		else
			memcpy(mem, s->buf, (size_t)s->pages * unit);
	}
}

/* --- by hand --- */

static unsigned char buffer[SLAB_PAGES][PS_PAGE_SIZE];

static struct tp_op *take(unsigned port, unsigned donor)
{
	struct tp_op *op = core_next(&core[port], donor);

	if (op)
		core_sent(&core[port], donor);
	return op;
}

static void answer(unsigned port, unsigned donor, const struct tp_op *op, int status)
{
	struct tp_done done = {.tag = op->tag, .status = status};

	cr_assert_eq(core_answer(&core[port], donor, &done), 0);
}

static unsigned serve_all(unsigned port, unsigned donors)
{
	unsigned n = 0;
	struct tp_op *op;
	bool any;

	do {
		any = false;
		for (unsigned d = 0; d < donors; d++)
			while ((op = take(port, d))) {
				if (op->kind != TP_PING)
					serve(d, op);
				answer(port, d, op, 0);
				any = true;
				n++;
			}
	} while (any);
	return n;
}

static struct ps_batch *reap(unsigned port)
{
	struct ps_batch *b = NULL;

	return core_reap(&core[port], &b, 1) ? b : NULL;
}

static struct ps_vec vec;
static struct ps_batch batch;

static void start(unsigned port, enum ps_kind kind, uint64_t page, uint32_t count, uint64_t now)
{
	vec = (struct ps_vec){.page = page, .count = count, .buf = buffer};
	batch = (struct ps_batch){.kind = kind, .vecs = 1, .vec = &vec};
	cr_assert_eq(core_submit(&core[port], &batch, now), 0);
}

static void write_pages(unsigned port, unsigned donors, uint64_t page, uint32_t count, uint64_t what)
{
	for (uint32_t i = 0; i < count; i++)
		fill(buffer[i], what + i);
	start(port, PS_WRITE, page, count, 0);
	serve_all(port, donors);
	cr_assert_eq(reap(port), &batch);
	cr_assert_eq(batch.status, 0);
}

static bool are_pages(uint32_t count, uint64_t what)
{
	static unsigned char want[PS_PAGE_SIZE];

	for (uint32_t i = 0; i < count; i++) {
		fill(want, what + i);
		if (memcmp(want, buffer[i], sizeof want))
			return false;
	}
	return true;
}

Test(replicas, have_it_all_before_a_write_is_acknowledged)
{
	struct tp_op *op[3];

	open_cores(1, 3, 0, 3, 4);
	fill(buffer[0], 7);
	start(0, PS_WRITE, 0, 1, 0);
	for (unsigned d = 0; d < 3; d++) {
		cr_assert((op[d] = take(0, d)));
		serve(d, op[d]);
	}
	for (unsigned d = 0; d < 3; d++) {
		cr_assert_null(reap(0));
		answer(0, d, op[d], 0);
	}
	cr_assert_eq(reap(0), &batch);
	for (unsigned d = 0; d < 3; d++)
		cr_expect(!memcmp(held[d][0], buffer[0], PS_PAGE_SIZE));
	close_cores();
}

Test(replicas, that_fail_leave_the_set_and_the_others_are_told_first)
{
	struct tp_op *a, *b;

	open_cores(1, 2, 0, 2, 4);
	fill(buffer[0], 7);
	start(0, PS_WRITE, 0, 1, 0);
	a = take(0, 0);
	b = take(0, 1);
	serve(1, b);
	answer(0, 0, a, -EIO);
	answer(0, 1, b, 0);
	cr_assert_null(reap(0), "the survivor does not know of it yet");
	a = take(0, 1);
	cr_assert(a && a->kind == TP_GENERATION);
	serve(1, a);
	answer(0, 1, a, 0);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, 0);
	cr_expect_eq(set_live(map_set(&map.slab[0])), 2);
	cr_expect_eq(generation[1][0], set_generation(map_set(&map.slab[0])));
	/* The other port does not use it either, and nobody is told twice. */
	fill(buffer[0], 8);
	start(1, PS_WRITE, 0, 1, 0);
	cr_expect_null(take(1, 0));
	cr_expect_eq(serve_all(1, 2), 1);
	cr_assert_eq(reap(1), &batch);
	/* The last one can't leave: its failure is the caller's. */
	start(1, PS_WRITE, 0, 1, 0);
	answer(1, 1, take(1, 1), -EIO);
	cr_assert_eq(reap(1), &batch);
	cr_expect_eq(batch.status, -EIO);
	cr_expect_eq(batch.donor, 1);
	cr_expect_eq(set_live(map_set(&map.slab[0])), 2);
	start(1, PS_READ, 0, 1, 0);
	cr_assert_eq(reap(1), &batch);
	cr_expect_eq(batch.status, -EIO, "nobody knows what it holds");
	close_cores();
}

Test(replicas, that_lie_are_corrected)
{
	struct tp_op *op;

	open_cores(1, 2, 0, 2, 4);
	write_pages(0, 2, 0, 8, 50);
	/* A different page is wrong on each. */
	held[0][0][3 * PS_PAGE_SIZE] ^= 1;
	held[1][0][5 * PS_PAGE_SIZE + 9] ^= 1;
	memset(buffer, 0, sizeof buffer);
	start(0, PS_READ, 0, 8, 0);
	serve_all(0, 2);
	cr_assert_eq(reap(0), &batch);
	cr_assert_eq(batch.status, 0);
	cr_expect(are_pages(8, 50));
	cr_expect_geq(core[0].count.repairs, 1);
	/* Whichever was asked first is whole now; the other one is, once it is asked. */
	for (unsigned i = 0; i < 2; i++) {
		start(0, PS_READ, 0, 8, 0);
		op = take(0, i);
		if (!op) {
			serve_all(0, 2);
			reap(0);
			continue;
		}
		serve(i, op);
		answer(0, i, op, 0);
		serve_all(0, 2);
		cr_assert_eq(reap(0), &batch);
		cr_assert_eq(batch.status, 0);
	}
	/* Both copies wrong: an error, never wrong bytes. */
	held[0][0][6 * PS_PAGE_SIZE] ^= 1;
	held[1][0][6 * PS_PAGE_SIZE] ^= 2;
	start(0, PS_READ, 0, 8, 0);
	serve_all(0, 2);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, -EBADMSG);
	cr_expect_eq(batch.page, 6);
	close_cores();
}

Test(replicas, that_are_slow_are_not_waited_for)
{
	struct tp_op *first, *second, *ping;
	unsigned slow;

	open_cores(1, 2, 0, 2, 4);
	write_pages(0, 2, 0, 4, 20);
	for (unsigned i = 0; i < 200; i++) {
		start(0, PS_READ, 0, 1, i * MS);
		core_time(&core[0], i * MS + 50000);
		serve_all(0, 2);
		cr_assert_eq(reap(0), &batch);
	}
	memset(buffer, 0, sizeof buffer);
	start(0, PS_READ, 0, 4, 1000 * MS);
	slow = core_next(&core[0], 0) ? 0 : 1;
	first = take(0, slow);
	core_tick(&core[0], 1000 * MS + 100000);
	cr_assert_null(core_next(&core[0], !slow));
	cr_assert_lt(core_due(&core[0]), 1002 * MS);
	core_tick(&core[0], 1002 * MS);
	second = take(0, !slow);
	cr_assert(second, "past its 99th percentile another one is asked");
	ping = take(0, slow);
	cr_assert(ping && ping->kind == TP_PING);
	serve(!slow, second);
	answer(0, !slow, second, 0);
	cr_assert_eq(core[0].cancel, 1ull << slow);
	cr_assert_eq(core_next_cancel(&core[0], slow), first);
	memset(buffer[1], 0xee, 100); /* until it is cancelled it may go on landing */
	core_cancelled(&core[0], first, true);
	cr_assert_null(reap(0), "what landed is wrong: it is asked for again");
	serve_all(0, 2);
	cr_assert_eq(reap(0), &batch);
	cr_assert_eq(batch.status, 0);
	cr_expect(are_pages(4, 20));
	cr_expect_eq(core[0].count.hedges, 1);
	close_cores();
}

Test(replicas, that_are_silent_fail_long_before_the_deadline)
{
	struct tp_op *op;

	open_cores(1, 2, 0, 2, 4);
	fill(buffer[0], 1);
	start(0, PS_WRITE, 0, 1, 0);
	op = take(0, 1);
	serve(1, op);
	answer(0, 1, op, 0);
	take(0, 0);
	core_tick(&core[0], (SUSPECT - 1) * MS);
	cr_assert_null(reap(0));
	core_tick(&core[0], SUSPECT * MS);
	cr_assert_eq(core_cut(&core[0]), 1);
	core_closed(&core[0], 0);
	serve_all(0, 2);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, 0);
	/* Every port knows. Now the other one is the last: it has until the deadline. */
	start(1, PS_WRITE, 0, 1, 1000 * MS);
	cr_expect_null(take(1, 0));
	take(1, 1);
	core_tick(&core[1], (1000 + SUSPECT) * MS);
	cr_expect_eq(core_cut(&core[1]), 0);
	core_tick(&core[1], (1000 + DEADLINE) * MS);
	cr_expect_eq(core_cut(&core[1]), 2);
	core_closed(&core[1], 1);
	cr_assert_eq(reap(1), &batch);
	cr_expect_eq(batch.status, -ETIMEDOUT);
	cr_expect_eq(batch.donor, 1);
	close_cores();
}

Test(replicas, that_are_silent_together_do_not_fail_together)
{
	struct tp_op *op[PORTS][2];
	unsigned cut, left;

	/* Everything stood still for a moment, for all ports. */
	open_cores(1, 2, 0, 2, 4);
	write_pages(0, 2, 0, 1, 5);
	fill(buffer[0], 1);
	start(0, PS_WRITE, 0, 1, 0);
	for (unsigned d = 0; d < 2; d++)
		op[0][d] = take(0, d);
	core_tick(&core[0], 2 * SUSPECT * MS);
	cut = (unsigned)core_cut(&core[0]);
	cr_assert(cut == 1 || cut == 2, "one of them is given up, not %x", cut);
	left = cut == 1;
	core_closed(&core[0], !left);
	cr_assert_null(reap(0));
	serve(left, op[0][left]);
	answer(0, left, op[0][left], 0);
	serve_all(0, 2);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, 0);
	close_cores();
}

Test(replicas, whose_time_was_forgiven_are_not_overdue)
{
	open_cores(1, 2, 0, 2, 4);
	fill(buffer[0], 1);
	start(0, PS_WRITE, 0, 1, 1000 * MS);
	take(0, 0);
	take(0, 1);
	core_forgive(&core[0], 600 * MS);
	core_tick(&core[0], 1001 * MS);
	cr_expect_eq(core_cut(&core[0]), 0);
	core_tick(&core[0], 1600 * MS + (SUSPECT - 1) * MS);
	cr_expect_eq(core_cut(&core[0]), 0);
	core_tick(&core[0], 1600 * MS + SUSPECT * MS);
	cr_expect_neq(core_cut(&core[0]), 0);
	close_cores();
}

Test(replicas, that_joined_in_a_place_that_another_left_are_sent_the_write)
{
	struct map_slab *s;
	struct tp_op *op[3];

	open_cores(2, 3, 2, 4, 4);
	s = &map.slab[0];
	for (unsigned i = 0; i < 2; i++)
		fill(buffer[i], 60 + i);
	start(0, PS_WRITE, 0, 2, 0);
	for (unsigned d = 0; d < 3; d++)
		cr_assert((op[d] = take(0, d)));
	/* Another thread gave the first one up, and the maintenance put a new one into its place. */
	cr_assert(map_drop(&map, s, 0, 100));
	cr_assert_eq(map_join(&map, s, 0, 3, 400), 0);
	cr_assert(map_promote(&map, s, 0, -1));
	serve(1, op[1]);
	answer(0, 1, op[1], 0);
	answer(0, 0, op[0], -EIO);
	answer(0, 2, op[2], -EIO);
	cr_assert_null(reap(0));
	serve_all(0, 4);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, 0);
	memset(buffer, 0, sizeof buffer);
	start(0, PS_READ, 0, 2, 0);
	serve_all(0, 4);
	cr_assert_eq(reap(0), &batch);
	cr_expect_eq(batch.status, 0);
	cr_expect(are_pages(2, 60));
	close_cores();
}

/* --- the whole of it --- */

#define RUNNING 8u
#define FLYING  4096u

struct run {
	struct ps_batch b;
	struct ps_vec v[4];
	unsigned char data[32][PS_PAGE_SIZE];
	bool busy;
};

static struct run runs[PORTS][RUNNING];
static uint64_t content[PAGES]; /* what fill() was given */
static bool in_use[PAGES];
static struct {
	struct tp_op *op;
	unsigned donor, port;
	bool served;
} flying[FLYING];
static unsigned flyers;
static uint64_t bad_ends, good_ends;

static void start_run(unsigned port, struct run *r, uint64_t now, uint64_t *what)
{
	unsigned used = 0;

	r->b = (struct ps_batch){.kind = draw(2) ? PS_READ : PS_WRITE, .vec = r->v};
	for (unsigned i = 0; i < 1 + draw(4); i++) {
		uint64_t page = draw(PAGES - 8), count = 1 + draw(8);

		for (uint64_t k = 0; k < count; k++)
			if (in_use[page + k])
				count = k;
		if (!count)
			continue;
		r->v[r->b.vecs++] = (struct ps_vec){
			.page = page, .count = (uint32_t)count, .buf = r->data[used]};
		for (uint64_t k = 0; k < count; k++, used++) {
			in_use[page + k] = true;
			if (r->b.kind == PS_READ)
				continue;
			content[page + k] = draw(5) ? ++*what : 0;
			fill(r->data[used], content[page + k]);
		}
	}
	if (!r->b.vecs)
		return;
	cr_assert_eq(core_submit(&core[port], &r->b, now), 0);
	r->busy = true;
}

static void end_run(struct run *r)
{
	static unsigned char want[PS_PAGE_SIZE];

	r->busy = false;
	r->b.status ? bad_ends++ : good_ends++;
	for (unsigned i = 0; i < r->b.vecs; i++)
		for (uint32_t k = 0; k < r->v[i].count; k++) {
			uint64_t page = r->v[i].page + k;

			in_use[page] = false;
			if (r->b.kind == PS_WRITE || r->b.status)
				continue;
			fill(want, content[page]);
			cr_assert(!memcmp(want, (unsigned char *)r->v[i].buf + k * PS_PAGE_SIZE,
					  sizeof want),
				  "page %lu", (unsigned long)page);
		}
}

static void forget_flying(unsigned port, unsigned donor, const struct tp_op *op)
{
	for (unsigned i = 0; i < flyers;)
		if (flying[i].port == port && flying[i].donor == donor && (!op || flying[i].op == op))
			flying[i] = flying[--flyers];
		else
			i++;
}

/* Bits flip in what a donor sends; what it holds is flipped too, now and then. */
static void spoil(unsigned donor, const struct tp_op *op)
{
	const struct tp_seg *s;

	if (!tp_reads(op->kind))
		return;
	s = &op->seg[draw(op->count)];
	((unsigned char *)s->buf)[draw((uint64_t)s->pages * tp_unit(op->kind))] ^=
		(unsigned char)(1u << draw(8));
	(void)donor;
}

static void cut(unsigned port, unsigned donors)
{
	uint64_t gone;

	for (unsigned d = 0; d < donors; d++)
		while (core[port].cancel >> d & 1) {
			struct tp_op *op = core_next_cancel(&core[port], d);
			bool worked = draw(3);

			if (!op)
				break;
			if (worked)
				forget_flying(port, d, op);
			core_cancelled(&core[port], op, worked);
		}
	while ((gone = core_cut(&core[port]))) {
		unsigned d = (unsigned)__builtin_ctzll(gone);

		forget_flying(port, d, NULL);
		core_closed(&core[port], d);
	}
}

static void step(unsigned port, unsigned donors, unsigned spoilt, uint64_t now)
{
	struct ps_batch *b;

	for (unsigned d = 0; d < donors; d++) {
		struct tp_op *op;

		if (dead[d] && !core[port].donor[d].dead && draw(2)) {
			forget_flying(port, d, NULL);
			core_closed(&core[port], d);
		}
		op = dead[d] || !draw(2) ? NULL : take(port, d);
		if (!op)
			continue;
		cr_assert_lt(flyers, FLYING);
		flying[flyers].op = op;
		flying[flyers].port = port;
		flying[flyers].served = false;
		flying[flyers++].donor = d;
	}
	for (unsigned n = 0; n < 6 && flyers; n++) {
		unsigned i = (unsigned)draw(flyers), d = flying[i].donor;
		struct tp_op *op = flying[i].op;

		if (dead[d])
			continue;
		if (!flying[i].served && op->kind != TP_PING)
			serve(d, op);
		flying[i].served = true;
		if (draw(2))
			continue; /* done, but not answered yet */
		if (op->kind != TP_PING && spoilt && !draw(spoilt))
			spoil(d, op);
		core_time(&core[flying[i].port], now);
		n = n > 3 ? n : 3;
		port = flying[i].port;
		flying[i] = flying[--flyers];
		answer(port, d, op, 0);
	}
	for (unsigned p = 0; p < PORTS; p++) {
		core_tick(&core[p], now);
		cut(p, donors);
		while ((b = reap(p)))
			end_run((struct run *)(void *)b);
	}
}

/* Every live member of every slab has every page. */
static void check_members(void)
{
	static unsigned char want[PS_PAGE_SIZE];

	for (unsigned i = 0; i < SLABS; i++)
		for (uint32_t m = set_live(map_set(&map.slab[i])); m && !map.parts; m &= m - 1) {
			unsigned p = (unsigned)__builtin_ctz(m), d = map.slab[i].donor[p];

			for (unsigned k = 0; k < SLAB_PAGES; k++) {
				fill(want, content[i * SLAB_PAGES + k]);
				if (!content[i * SLAB_PAGES + k] || dead[d])
					continue;
				cr_assert(!memcmp(want, held[d][i] + k * PS_PAGE_SIZE, sizeof want),
					  "slab %u page %u donor %u", i, k, d);
			}
		}
}

static void play(uint64_t seed, unsigned need, unsigned all, unsigned parts, unsigned donors,
		 unsigned deaths, unsigned spoilt)
{
	uint64_t what = 0, now, end = 6000;

	rng = seed * 0x9e3779b97f4a7c15ull + 1;
	open_cores(need, all, parts, donors, RUNNING);
	memset(content, 0, sizeof content);
	memset(in_use, 0, sizeof in_use);
	memset(runs, 0, sizeof runs);
	flyers = 0;
	bad_ends = good_ends = 0;
	for (now = 0; now < end + 30000; now++) {
		unsigned port = (unsigned)draw(PORTS);
		struct run *r = &runs[port][draw(RUNNING)];

		if (!r->busy && now < end)
			start_run(port, r, now * MS, &what);
		if (deaths && draw(end / 3) == 0) {
			dead[draw(donors)] = true;
			deaths--;
		}
		step(port, donors, spoilt, now * MS);
		if (now > end && !core[0].inflight && !core[1].inflight)
			break;
	}
	cr_assert(!core[0].inflight && !core[1].inflight, "seed %lu: all must end",
		  (unsigned long)seed);
	cr_expect_eq(bad_ends, 0, "seed %lu: %lu of %lu failed", (unsigned long)seed,
		     (unsigned long)bad_ends, (unsigned long)good_ends);
	cr_expect_gt(good_ends, 500);
	check_members();
	close_cores();
}

Test(replicas, of_two_survive_the_death_of_one)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		play(seed, 1, 2, 0, 4, 1, 0);
}

Test(replicas, of_three_survive_two_deaths)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		play(seed, 1, 3, 0, 5, 2, 0);
}

Test(replicas, survive_flipped_bits)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		play(seed, 1, 2, 0, 4, 0, 50);
}

Test(replicas, of_fragments_survive_as_many_deaths_as_there_are_parities)
{
	for (uint64_t seed = 1; seed <= 10; seed++)
		play(seed, 4, 6, 4, 6, 2, 0);
	for (uint64_t seed = 1; seed <= 10; seed++)
		play(seed, 2, 3, 2, 5, 1, 0);
}

Test(replicas, of_fragments_survive_flipped_bits)
{
	for (uint64_t seed = 1; seed <= 10; seed++)
		play(seed, 4, 6, 4, 7, 0, 100);
}

/* Reads one coded page; returns how many members were asked. */
static unsigned asked_for_a_page(void)
{
	unsigned n;

	open_cores(4, 6, 4, 6, 4);
	write_pages(0, 6, 3, 1, 77);
	memset(buffer, 0, sizeof buffer);
	start(0, PS_READ, 3, 1, MS);
	n = (unsigned)__builtin_popcountll(core[0].queued);
	serve_all(0, 6);
	cr_assert_eq(reap(0), &batch);
	cr_assert_eq(batch.status, 0);
	cr_assert(are_pages(1, 77));
	close_cores();
	return n;
}

Test(replicas, of_fragments_are_not_hedged_where_answers_come_at_once)
{
	cr_expect_eq(asked_for_a_page(), 5);
	instant = true;
	cr_expect_eq(asked_for_a_page(), 4);
}

Test(replicas, of_fragments_that_answer_at_once_survive_deaths_and_flipped_bits)
{
	instant = true;
	for (uint64_t seed = 1; seed <= 10; seed++)
		play(seed, 4, 6, 4, 6, 2, 0);
	for (uint64_t seed = 1; seed <= 10; seed++)
		play(seed, 4, 6, 4, 7, 0, 100);
}
