/* SPDX-License-Identifier: MIT */
/*
 * The page store's core alone: events in, operations out. The test plays the donors: it keeps their
 * pages, answers in any order, late, wrongly or never, and moves the time.
 */
#include "pagestore/core.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define SLAB_PAGES 16u
#define SLABS      32u
#define PAGES      (SLABS * SLAB_PAGES)
#define DONORS     3u
#define DEADLINE   1000u

static struct map map;
static struct core core;
/* What the donors hold: slab i of the volume has handle 1000 + i. */
static unsigned char held[PAGES][PS_PAGE_SIZE];
static unsigned char buffer[PS_BATCH_PAGES][PS_PAGE_SIZE];

static void open_core(uint32_t max_segs, uint32_t max_pages, unsigned depth)
{
	struct core_limits limits[DONORS];

	for (unsigned d = 0; d < DONORS; d++)
		limits[d] = (struct core_limits){max_segs, max_pages, 2, false};
	cr_assert_eq(map_open(&map, PAGES, SLAB_PAGES, 1, 1, 0), 0);
	for (unsigned i = 0; i < SLABS - 1; i++) /* the last one isn't granted */
		map_put(&map, i, 1, &(uint8_t){(uint8_t)(i % DONORS)}, &(uint64_t){1000 + i});
	cr_assert_eq(core_open(&core, &(struct core_options){.map = &map,
							     .limits = limits,
							     .donors = DONORS,
							     .depth = depth,
							     .deadline_ns = DEADLINE,
							     .suspect_ns = DEADLINE}),
		     0);
}

static void close_core(void)
{
	core_close(&core);
	map_close(&map);
}

static void fill(void *page, uint64_t what)
{
	uint64_t *w = page;

	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		w[i] = what * 0x9e3779b97f4a7c15ull + i;
}

/* The donor does what the message says; the answer is still to be given. */
static void serve(const struct tp_op *op)
{
	for (uint32_t i = 0; i < op->count; i++) {
		const struct tp_seg *s = &op->seg[i];
		unsigned char *mem = held[(s->slab - 1000) * SLAB_PAGES + s->page];

		cr_assert_leq(s->page + s->pages, SLAB_PAGES, "a segment stays in its slab");
		if (op->kind == TP_READ)
			memcpy(s->buf, mem, (size_t)s->pages * PS_PAGE_SIZE);
		else
			memcpy(mem, s->buf, (size_t)s->pages * PS_PAGE_SIZE);
	}
}

static void answer(unsigned donor, uint64_t tag, int status)
{
	struct tp_done done = {.tag = tag, .status = status};

	cr_assert_eq(core_answer(&core, donor, &done), 0);
}

/* Takes the next message of a donor, or NULL. */
static struct tp_op *take(unsigned donor)
{
	struct tp_op *op = core_next(&core, donor);

	if (op)
		core_sent(&core, donor);
	return op;
}

/* Serves and answers everything at once. */
static void serve_all(void)
{
	struct tp_op *op;

	for (unsigned d = 0; d < DONORS; d++)
		while ((op = take(d))) {
			serve(op);
			answer(d, op->tag, 0);
		}
}

static struct ps_batch *reap(void)
{
	struct ps_batch *b = NULL;

	return core_reap(&core, &b, 1) ? b : NULL;
}

static void write_pages(uint64_t first, uint32_t count, uint64_t what)
{
	struct ps_vec v = {.page = first, .count = count, .buf = buffer};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &v};

	for (uint32_t i = 0; i < count; i++)
		fill(buffer[i], what + i);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_assert_eq(b.status, 0);
}

Test(core, merges_a_batch_into_one_message_for_each_donor)
{
	struct ps_vec v[3] = {{.page = 0, .count = 60, .buf = buffer[0]},
			      {.page = 100, .count = 1, .buf = buffer[60]},
			      {.page = 102, .count = 1, .buf = buffer[61]}};
	struct ps_batch b = {.kind = PS_READ, .vecs = 3, .vec = v};
	unsigned messages = 0, segs = 0;
	struct tp_op *op;

	open_core(512, 1024, 4);
	write_pages(0, 110, 5);
	memset(buffer, 0, sizeof buffer);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	for (unsigned d = 0; d < DONORS; d++)
		while ((op = take(d))) {
			messages++;
			segs += op->count;
			serve(op);
			answer(d, op->tag, 0);
		}
	cr_expect_eq(messages, 3);
	cr_expect_eq(segs, 4 + 2, "60 pages lie in 4 slabs, and there are 2 single ones");
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, 0);
	cr_expect(!memcmp(buffer[0], held[0], 60 * PS_PAGE_SIZE));
	cr_expect(!memcmp(buffer[60], held[100], PS_PAGE_SIZE));
	cr_expect(!memcmp(buffer[61], held[102], PS_PAGE_SIZE));
	close_core();
}

Test(core, keeps_to_the_limits_that_a_donor_announced)
{
	struct ps_vec v[40];
	struct ps_batch b = {.kind = PS_READ, .vecs = 40, .vec = v};
	struct tp_op *op;

	open_core(3, 5, 2);
	write_pages(0, 400, 9);
	for (unsigned i = 0; i < 40; i++)
		v[i] = (struct ps_vec){.page = i * 10, .count = 1 + i % 8, .buf = buffer[i * 8]};
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	for (unsigned d = 0; d < DONORS; d++)
		while ((op = take(d))) {
			uint32_t pages = 0;

			for (uint32_t i = 0; i < op->count; i++)
				pages += op->seg[i].pages;
			cr_expect_leq(op->count, 3);
			cr_expect_leq(pages, 5);
			serve(op);
			answer(d, op->tag, 0);
		}
	cr_assert_eq(reap(), &b);
	cr_assert_eq(b.status, 0);
	for (unsigned i = 0; i < 40; i++)
		cr_expect(!memcmp(v[i].buf, held[v[i].page], v[i].count * PS_PAGE_SIZE));
	close_core();
}

Test(core, asks_nobody_for_pages_of_zeros)
{
	struct ps_vec v = {.page = 20, .count = 3, .buf = buffer};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &v};
	struct tp_op *op;

	open_core(512, 1024, 4);
	fill(buffer[0], 1);
	memset(buffer[1], 0, PS_PAGE_SIZE);
	fill(buffer[2], 2);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	op = take(1);
	cr_assert(op);
	cr_assert_eq(op->count, 2, "the page of zeros between them is not sent");
	serve(op);
	answer(1, op->tag, 0);
	cr_assert_eq(reap(), &b);
	cr_expect_eq(map_hash(&map, 21), 0);
	memset(buffer, 0xaa, sizeof buffer);
	b.kind = PS_READ;
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_expect(ps_page_is_zero(buffer[1]));
	cr_expect(!memcmp(buffer[2], held[22], PS_PAGE_SIZE));
	/* Only zeros: done at once, without a message. */
	v = (struct ps_vec){.page = 300, .count = 4, .buf = buffer};
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	cr_expect_eq(core.queued, 0);
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, 0);
	cr_expect(ps_page_is_zero(buffer[3]));
	close_core();
}

Test(core, believes_a_given_hash_but_not_that_a_page_is_zeros)
{
	uint64_t hashes[3] = {0};
	struct ps_vec v = {.page = 1, .count = 3, .buf = buffer, .hashes = hashes};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &v};

	open_core(512, 1024, 4);
	fill(buffer[0], 1);
	fill(buffer[1], 2);
	memset(buffer[2], 0, PS_PAGE_SIZE);
	hashes[0] = ps_hash(buffer[0]);
	hashes[1] = 0;
	hashes[2] = ps_hash(buffer[2]);
	cr_expect_neq(hashes[2], 0);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	cr_expect_eq(map_hash(&map, 1), hashes[0]);
	cr_expect_eq(map_hash(&map, 2), ps_hash(buffer[1]));
	cr_expect_eq(map_hash(&map, 3), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	close_core();
}

Test(core, takes_answers_in_any_order)
{
	struct ps_vec v[4];
	struct ps_batch b[4];
	struct tp_op *op[4];

	open_core(512, 1024, 4);
	write_pages(0, 4, 77);
	for (unsigned i = 0; i < 4; i++) {
		v[i] = (struct ps_vec){.page = i, .count = 1, .buf = buffer[i]};
		b[i] = (struct ps_batch){.kind = PS_READ, .vecs = 1, .vec = &v[i]};
		cr_assert_eq(core_submit(&core, &b[i], 0), 0);
		op[i] = take(0);
		serve(op[i]);
	}
	cr_expect_eq(core_submit(&core, &b[0], 0), -EBUSY);
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned order[4] = {2, 0, 3, 1};

		answer(0, op[order[i]]->tag, 0);
		cr_assert_eq(reap(), &b[order[i]]);
		cr_expect(!memcmp(buffer[order[i]], held[order[i]], PS_PAGE_SIZE));
	}
	cr_expect_eq(core.inflight, 0);
	close_core();
}

Test(core, never_returns_wrong_bytes_as_good)
{
	struct ps_vec v = {.page = 40, .count = 8, .buf = buffer};
	struct ps_batch b = {.kind = PS_READ, .vecs = 1, .vec = &v};

	open_core(512, 1024, 4);
	write_pages(40, 8, 3);
	held[45][4095] ^= 1;
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -EBADMSG);
	cr_expect_eq(b.donor, 2);
	cr_expect_eq(b.page, 45);
	/* Another page's bytes are wrong bytes. */
	held[45][4095] ^= 1;
	memcpy(held[41], held[42], PS_PAGE_SIZE);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -EBADMSG);
	cr_expect_eq(b.page, 41);
	close_core();
}

Test(core, does_not_read_what_a_failed_write_left)
{
	struct ps_vec v = {.page = 10, .count = 4, .buf = buffer};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &v};
	struct tp_op *op;

	open_core(512, 1024, 4);
	write_pages(10, 4, 3);
	for (unsigned i = 0; i < 4; i++)
		fill(buffer[i], 50 + i);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	op = take(0);
	answer(0, op->tag, -EIO);
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -EIO);
	cr_expect_eq(b.donor, 0);
	cr_expect_eq(b.page, 10);
	b.kind = PS_READ;
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	cr_expect_eq(core.queued, 0, "it is known to be lost");
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -EIO);
	write_pages(10, 4, 60);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, 0, "written again it is good again");
	close_core();
}

Test(core, cuts_a_silent_donor_off_before_it_gives_batches_back)
{
	struct ps_vec v[3] = {{.page = 0, .count = 1, .buf = buffer[0]},
			      {.page = 1, .count = 1, .buf = buffer[1]},
			      {.page = 16, .count = 1, .buf = buffer[2]}};
	struct ps_batch b[3];
	struct tp_op *late;
	struct tp_done done;

	open_core(512, 1024, 4);
	write_pages(0, 20, 3);
	for (unsigned i = 0; i < 3; i++)
		b[i] = (struct ps_batch){.kind = PS_READ, .vecs = 1, .vec = &v[i]};
	cr_assert_eq(core_submit(&core, &b[0], 0), 0);
	cr_assert_eq(core_submit(&core, &b[1], 500), 0);
	cr_assert_eq(core_submit(&core, &b[2], 500), 0);
	cr_expect_eq(core_due(&core), DEADLINE);
	late = take(0);
	core_tick(&core, DEADLINE - 1);
	cr_expect_eq(core_cut(&core), 0);
	cr_assert_null(reap());
	core_tick(&core, DEADLINE);
	cr_assert_eq(core_cut(&core), 1);
	core_closed(&core, 0);
	cr_assert_eq(reap(), &b[0]);
	cr_expect_eq(b[0].status, -ETIMEDOUT);
	cr_expect_eq(b[0].donor, 0);
	cr_assert_eq(reap(), &b[1], "it waited for the same donor");
	cr_expect_eq(b[1].status, -EIO);
	cr_assert_null(reap());
	done = (struct tp_done){.tag = late->tag};
	cr_expect_eq(core_answer(&core, 0, &done), -EPROTO);
	/* The other donor goes on; this one's pages fail at once. */
	serve_all();
	cr_assert_eq(reap(), &b[2]);
	cr_expect_eq(b[2].status, 0);
	cr_assert_eq(core_submit(&core, &b[0], 2000), 0);
	cr_assert_eq(reap(), &b[0]);
	cr_expect_eq(b[0].status, -EIO);
	close_core();
}

Test(core, ends_everything_that_a_dead_donor_had)
{
	struct ps_vec v = {.page = 0, .count = 48, .buf = buffer};
	struct ps_batch b = {.kind = PS_WRITE, .vecs = 1, .vec = &v};
	struct tp_op *op;

	open_core(512, 4, 4);
	for (unsigned i = 0; i < 48; i++)
		fill(buffer[i], 50 + i);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	op = take(1); /* one message there, three still queued */
	cr_assert(op);
	core_closed(&core, 1);
	cr_assert_null(core_next(&core, 1));
	cr_assert_null(reap(), "the other donors' parts are under way");
	serve_all();
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -EIO);
	cr_expect_eq(b.donor, 1);
	cr_expect_eq(b.page, 16);
	cr_expect_eq(map_hash(&map, 20), HASH_LOST);
	cr_expect_eq(map_hash(&map, 3), ps_hash(buffer[3]));
	close_core();
}

Test(core, refuses_answers_that_nobody_asked_for)
{
	struct ps_vec v = {.page = 0, .count = 1, .buf = buffer};
	struct ps_batch b = {.kind = PS_READ, .vecs = 1, .vec = &v};
	struct tp_done done = {.tag = 1};
	struct tp_op *op;

	open_core(512, 1024, 4);
	cr_expect_eq(core_answer(&core, 0, &done), -EPROTO);
	done.tag = UINT64_MAX;
	cr_expect_eq(core_answer(&core, 0, &done), -EPROTO);
	done.tag = 0;
	cr_expect_eq(core_answer(&core, 0, &done), -EPROTO);
	write_pages(0, 1, 1);
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	op = take(0);
	serve(op);
	done.tag = op->tag;
	cr_expect_eq(core_answer(&core, 1, &done), -EPROTO, "it was another donor's to answer");
	cr_expect_eq(core_answer(&core, 0, &done), 0);
	cr_expect_eq(core_answer(&core, 0, &done), -EPROTO, "it was answered before");
	cr_assert_eq(reap(), &b);
	close_core();
}

Test(core, says_no_to_malformed_batches)
{
	struct ps_vec v = {.page = 0, .count = 1, .buf = buffer};
	struct ps_batch b = {.kind = PS_READ, .vecs = 1, .vec = &v};

	open_core(512, 1024, 1);
	b.vecs = 0;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	b.vecs = PS_MAX_VECS + 1;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	b.vecs = 1;
	v.count = 0;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	v.count = PS_BATCH_PAGES + 1;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	v.count = 2;
	v.page = PAGES - 1;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	v.page = UINT64_MAX;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	v = (struct ps_vec){.page = 0, .count = 1};
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	v.buf = buffer;
	b.kind = (enum ps_kind)7;
	cr_expect_eq(core_submit(&core, &b, 0), -EINVAL);
	cr_expect_eq(core.inflight, 0);
	/* In range, but nobody granted it. */
	b.kind = PS_READ;
	v.page = PAGES - 1;
	cr_assert_eq(core_submit(&core, &b, 0), 0);
	cr_assert_eq(reap(), &b);
	cr_expect_eq(b.status, -ENXIO);
	cr_expect_eq(b.page, PAGES - 1);
	close_core();
}

/* --- the whole of it, at random but the same each time --- */

#define RUNNING 12u

static uint64_t rng = 20240229;

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

struct run {
	struct ps_batch b;
	struct ps_vec v[4];
	unsigned char data[32][PS_PAGE_SIZE];
	bool busy;
};

static struct run runs[RUNNING];
static uint64_t content[PAGES]; /* what fill() was given; 0: zeros; UINT64_MAX: not known */
static bool in_use[PAGES];
static struct {
	struct tp_op *op;
	unsigned donor;
} flying[4096];
static unsigned flyers;

static void start_run(struct run *r, uint64_t now, uint64_t *what)
{
	unsigned used = 0;

	r->b = (struct ps_batch){.kind = draw(2) ? PS_READ : PS_WRITE, .vec = r->v};
	for (unsigned i = 0; i < 1 + draw(4); i++) {
		uint64_t page = draw(PAGES - SLAB_PAGES - 8), count = 1 + draw(8);

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
			content[page + k] = draw(4) ? ++*what : 0;
			fill(r->data[used], content[page + k]);
			if (!content[page + k])
				memset(r->data[used], 0, PS_PAGE_SIZE);
		}
	}
	if (!r->b.vecs)
		return;
	cr_assert_eq(core_submit(&core, &r->b, now), 0);
	r->busy = true;
}

static void end_run(struct run *r)
{
	static unsigned char want[PS_PAGE_SIZE];

	r->busy = false;
	for (unsigned i = 0; i < r->b.vecs; i++)
		for (uint32_t k = 0; k < r->v[i].count; k++) {
			uint64_t page = r->v[i].page + k;
			unsigned char *got = (unsigned char *)r->v[i].buf + k * PS_PAGE_SIZE;

			in_use[page] = false;
			if (r->b.kind == PS_WRITE) {
				if (map_hash(&map, page) == HASH_LOST)
					content[page] = UINT64_MAX;
				cr_assert(r->b.status || content[page] != UINT64_MAX);
				continue;
			}
			if (r->b.status)
				continue;
			cr_assert_neq(content[page], UINT64_MAX, "a lost page was read");
			fill(want, content[page]);
			if (!content[page])
				memset(want, 0, sizeof want);
			cr_assert(!memcmp(want, got, PS_PAGE_SIZE), "page %lu",
				  (unsigned long)page);
		}
}

Test(core, keeps_every_byte_through_random_orders_and_failures)
{
	uint64_t what = 0, good = 0, bad = 0;
	struct ps_batch *b;

	open_core(6, 10, RUNNING);
	for (uint64_t now = 0; now < 60000; now++) {
		struct run *r = &runs[draw(RUNNING)];

		if (!r->busy && now < 59000)
			start_run(r, now, &what);
		for (unsigned d = 0; d < DONORS; d++) {
			struct tp_op *op = draw(2) ? take(d) : NULL;

			if (op) {
				flying[flyers].op = op;
				flying[flyers++].donor = d;
			}
		}
		if (flyers && draw(3)) {
			unsigned i = (unsigned)draw(flyers);
			int status = draw(200) ? 0 : -EIO;

			/* A failed write may have been done, or half done. */
			if (!status || draw(2))
				serve(flying[i].op);
			answer(flying[i].donor, flying[i].op->tag, status);
			flying[i] = flying[--flyers];
		}
		core_tick(&core, now);
		cr_assert_eq(core_cut(&core), 0);
		while ((b = reap())) {
			b->status ? bad++ : good++;
			end_run((struct run *)(void *)b);
		}
	}
	cr_expect_eq(core.inflight, 0);
	cr_expect_gt(good, 10000);
	cr_expect_gt(bad, 100);
	close_core();
}
