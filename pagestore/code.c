/* SPDX-License-Identifier: MIT */
/*
 * Pages as k fragments and m parities (rule 19; Reed-Solomon over GF(2^8) with a Cauchy matrix, by
 * ISA-L). Reading asks k + 1 members and takes the first k answers (k, data first, where they answer at
 * once); the page's hash proves the result, and when it doesn't fit other combinations of what came
 * are tried.
 */
#include "pagestore/core.h"
#include "common/memory.h"
#include "pagestore/seal.h"

#include <errno.h>
#include <isa-l/erasure_code.h>
#include <string.h>

#define MOST       PS_MAX_MEMBERS
#define READ_TRIES  3    /* of one page from the start */
#define WHOLE_EVERY 127u /* reads; less than one of a hundred, whose latency is that of the slowest member */

struct code {
	unsigned char matrix[MOST * MOST]; /* k + m rows of k */
	unsigned char encode[32 * MOST * MOST];
	/* the decoder's */
	unsigned char from[MOST * MOST], inverse[MOST * MOST], rows[MOST * MOST];
	unsigned char decode[32 * MOST * MOST];
	unsigned char page[PS_PAGE_SIZE], other[PS_PAGE_SIZE / 2 * MOST];
};

static struct code *code_of(const struct core *c)
{
	return (struct code *)(void *)c->encode;
}

static unsigned parities(const struct core *c)
{
	return c->map->members - c->map->parts;
}

static uint32_t frag_bytes(const struct core *c)
{
	return PS_PAGE_SIZE / c->map->parts;
}

int code_open(struct core *c)
{
	unsigned k = c->map->parts;
	struct code *code;

	if (!k)
		return 0;
	c->scratch_bytes = (size_t)PS_BATCH_PAGES * parities(c) * frag_bytes(c);
	c->scratch = mem_map(c->depth * c->scratch_bytes);
	c->encode = mem_map(sizeof *code);
	if (!c->scratch || !c->encode)
		return -ENOMEM;
	code = code_of(c);
	gf_gen_cauchy1_matrix(code->matrix, (int)c->map->members, (int)k);
	ec_init_tables((int)k, (int)parities(c), code->matrix + k * k, code->encode);
	return 0;
}

void code_close(struct core *c)
{
	mem_unmap(c->scratch, c->depth * c->scratch_bytes);
	mem_unmap(c->encode, sizeof(struct code));
}

/* A fragment's place: the data's in the page itself. A coded run is one page. */
unsigned char *code_buf(struct core *c, unsigned slot, unsigned run, unsigned frag)
{
	uint32_t bytes = frag_bytes(c);

	if (frag < c->map->parts)
		return core_run_of(c, slot, run)->wire + frag * bytes;
	return c->scratch + (slot - 1) * c->scratch_bytes +
	       ((size_t)run * parities(c) + frag - c->map->parts) * bytes;
}

/* The parities of a page into `to`, one after the other. */
static void encode(struct core *c, unsigned char *page, unsigned char *to)
{
	unsigned char *data[MOST], *parity[MOST];
	uint32_t bytes = frag_bytes(c);

	for (unsigned i = 0; i < c->map->parts; i++)
		data[i] = page + i * bytes;
	for (unsigned i = 0; i < parities(c); i++)
		parity[i] = to + i * bytes;
	ec_encode_data((int)bytes, (int)c->map->parts, (int)parities(c), code_of(c)->encode, data,
		       parity);
}

void code_encode(struct core *c, unsigned slot, unsigned run)
{
	encode(c, core_run_of(c, slot, run)->wire, code_buf(c, slot, run, c->map->parts));
}

/* --- reading --- */

/* Smaller is better: data before parity (nothing to compute), slow ones last. */
static uint64_t rank(const struct core *c, const struct map_slab *s, unsigned place)
{
	const struct core_donor *d = &c->donor[s->donor[place]];

	return (uint64_t)d->slow << 62 | (uint64_t)(map_frag(s, place) >= c->map->parts) << 61 |
	       ((d->mean_ns + 1000) * (1 + d->sent) & ((1ull << 60) - 1));
}

static int best(const struct core *c, const struct map_slab *s, uint32_t places)
{
	uint64_t least = UINT64_MAX;
	int pick = -1;

	for (; places; places &= places - 1) {
		unsigned p = (unsigned)__builtin_ctz(places);

		if (!core_usable(c, s->donor[p]) || rank(c, s, p) >= least)
			continue;
		least = rank(c, s, p);
		pick = (int)p;
	}
	return pick;
}

/* All that are not slow: what is wrong in parities would be found when it is too late else. */
static void ask_all(struct core *c, unsigned run, const struct map_slab *s, uint64_t set, struct core_run *r)
{
	uint64_t handle;
	uint8_t donor;
	int p;

	while ((p = best(c, s, set_live(set) & ~(uint32_t)r->sent)) >= 0) {
		if (c->donor[s->donor[p]].slow || !map_place(s, set, (unsigned)p, &donor, &handle))
			break;
		r->sent |= (uint16_t)(1u << p);
		core_piece_add(c, run, (unsigned)p, map_frag(s, (unsigned)p), donor, handle, false);
	}
	r->whole = true;
}

void code_read_start(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct map_slab *s = map_slab_of(c->map, r->page);
	unsigned pieces = c->pieces, k = c->map->parts, asked = 0;
	uint64_t set, handle;
	uint8_t donor;
	bool instant;

again:
	c->pieces = pieces;
	set = map_set(s);
	r->generation = set_generation(set);
	r->sent = 0;
	instant = true; /* all of the k answer at once: one more would be work only */
	for (asked = 0; asked < k + 1; asked++) {
		int p = best(c, s, set_live(set) & ~(uint32_t)r->sent);

		if (p < 0 || (asked == k && (c->donor[s->donor[p]].slow || instant)))
			break;
		instant &= c->donor[s->donor[p]].limits.instant;
		if (!map_place(s, set, (unsigned)p, &donor, &handle))
			goto again;
		r->sent |= (uint16_t)(1u << p);
		core_piece_add(c, run, (unsigned)p, map_frag(s, (unsigned)p), donor, handle, false);
	}
	if (asked >= k && c->slot[slot].batch->kind == PS_READ && !(++c->picks % WHOLE_EVERY))
		ask_all(c, run, s, set, r);
	if (asked >= k)
		return;
	c->pieces = pieces;
	for (uint32_t m = set_live(set); m; m &= m - 1)
		if (!core_usable(c, s->donor[__builtin_ctz(m)])) {
			run_fail(c, slot, r, -EIO, s->donor[__builtin_ctz(m)]);
			return;
		}
	run_fail(c, slot, r, -EIO, s->donor[0]);
}

/* Computes the fragments `want` from the k in `use`; to[] gets them in order. */
static bool decode(struct core *c, unsigned slot, unsigned run, uint32_t use, uint32_t want,
		   unsigned char **to)
{
	struct code *code = code_of(c);
	unsigned k = c->map->parts, n = 0, rows = 0;
	unsigned char *from[MOST];

	for (uint32_t m = use; m && n < k; m &= m - 1, n++) {
		unsigned f = (unsigned)__builtin_ctz(m);

		memcpy(code->from + n * k, code->matrix + f * k, k);
		from[n] = code_buf(c, slot, run, f);
	}
	if (n < k || gf_invert_matrix(code->from, code->inverse, (int)k))
		return false;
	for (uint32_t m = want; m; m &= m - 1, rows++)
		memcpy(code->rows + rows * k, code->inverse + (unsigned)__builtin_ctz(m) * k, k);
	ec_init_tables((int)k, (int)rows, code->rows, code->decode);
	ec_encode_data((int)frag_bytes(c), (int)k, (int)rows, code->decode, from, to);
	return true;
}

/* From the first k that there are, the missing ones in place. */
static bool try_first(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	uint32_t data = (1u << c->map->parts) - 1, missing = data & ~(uint32_t)r->good;
	unsigned char *to[MOST];
	unsigned n = 0;

	for (uint32_t m = missing; m; m &= m - 1)
		to[n++] = code_buf(c, slot, run, (unsigned)__builtin_ctz(m));
	return (!missing || decode(c, slot, run, r->good, missing, to)) && core_page_fits(c, r->page, r->wire);
}

/* `use` gives the right page: the fragments that don't fit it are bad. */
static void keep(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	struct code *code = code_of(c);
	uint32_t bytes = frag_bytes(c);

	encode(c, code->page, code->other);
	for (uint32_t m = r->good; m; m &= m - 1) {
		unsigned f = (unsigned)__builtin_ctz(m);
		const unsigned char *want = f < c->map->parts
						    ? code->page + f * bytes
						    : code->other + (f - c->map->parts) * bytes;

		if (memcmp(want, code_buf(c, slot, run, f), bytes))
			r->bad |= (uint16_t)(1u << f);
	}
	memcpy(r->wire, code->page, PS_PAGE_SIZE);
}

/* Every k of those that there are. */
static bool try_all(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);
	unsigned k = c->map->parts;
	unsigned char *to[MOST];

	for (unsigned i = 0; i < k; i++)
		to[i] = code_of(c)->page + i * frag_bytes(c);
	for (uint32_t use = 1; use < 1u << c->map->members; use++) {
		if (map_count(use) != k || use & ~(uint32_t)r->good)
			continue;
		if (!decode(c, slot, run, use, (1u << k) - 1, to) || !core_page_fits(c, r->page, code_of(c)->page))
			continue;
		keep(c, slot, run);
		return true;
	}
	return false;
}

/* Is it the page, by what has come? Then it is done, or what was wrong is mended. */
static bool settle(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (try_first(c, slot, run)) {
		if (r->whole) {
			memcpy(code_of(c)->page, r->wire, PS_PAGE_SIZE);
			keep(c, slot, run);
		}
	} else if (map_count(r->good) <= c->map->parts || !try_all(c, slot, run)) {
		return false;
	}
	COUNT(c, bad_hashes, map_count(r->bad));
	COUNT(c, hedges_won, r->hedged && r->out);
	if (c->map->seal && r->buf != r->wire)
		seal_check(c->map->seal, r->page, r->wire, r->buf);
	if (r->bad)
		run_repair(c, slot, run);
	else
		run_done(c, slot, r);
	return true;
}

bool code_hurry(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (!r->whole || r->tries)
		return false;
	r->whole = false;
	return map_count(r->good) >= c->map->parts && settle(c, slot, run);
}

void code_answer(struct core *c, unsigned slot, const struct core_ref *ref, int status)
{
	struct core_run *r = core_run_of(c, slot, ref->run);
	bool bad = false, all = r->tries || r->whole;

	if (status)
		r->status = r->status == -EBADMSG ? -EBADMSG : status;
	else
		r->good |= (uint16_t)(1u << ref->frag);
	/* What comes late spoils the page again: the next time all answers are awaited. */
	if (all && r->out)
		return;
	if ((!status || all) && map_count(r->good) >= c->map->parts) {
		if (settle(c, slot, ref->run))
			return;
		bad = true;
		r->status = -EBADMSG;
	}
	/* One that failed, or one that lies: ask one more than we have. */
	if (status || bad || !r->out) {
		if (run_read_more(c, slot, ref->run)) {
			COUNT(c, failovers, 1);
		} else if (!r->out && r->status == -EBADMSG && r->tries++ < READ_TRIES) {
			/* Bytes may have been spoilt on the way only. */
			r->good = r->bad = 0;
			code_read_start(c, slot, ref->run);
		} else if (!r->out)
			run_fail(c, slot, r, r->status ? r->status : -EIO,
				 map_slab_of(c->map, r->page)->donor[ref->place]);
	}
}

void code_recheck(struct core *c, unsigned slot, unsigned run)
{
	struct core_run *r = core_run_of(c, slot, run);

	if (!r->good || run_is_whole(c, slot, r))
		return;
	/* Late fragments landed where they were computed. */
	c->slot[slot].left++;
	r->state = RUN_READ;
	r->out = 0; /* what was cancelled never answered */
	if (!c->map->seal && (try_first(c, slot, run) || try_all(c, slot, run))) {
		run_done(c, slot, r);
		return;
	}
	r->good = r->bad = 0;
	if (r->tries++ < READ_TRIES)
		code_read_start(c, slot, run);
	else
		run_fail(c, slot, r, -EBADMSG, map_slab_of(c->map, r->page)->donor[0]);
}
