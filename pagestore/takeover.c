/* SPDX-License-Identifier: MIT */
/*
 * Taking a volume over from a writer that is gone. Its slabs' places are known from the registry,
 * their generations from the donors; its hashes are nowhere. So each page is read from every
 * member, over the control connections, and hashed: what all members hold is what was acknowledged,
 * or the whole of a write that was not. Where they differ a write was under way: any of them may
 * stay, but only one.
 */
#include "common/error.h"
#include "common/memory.h"
#include "pagestore/volume.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define CHUNK     64u /* pages in a message */
/* A member that was about to leave, too. */
#define MOST_MEMBERS (PS_MAX_REPLICAS + 1)
#define CHUNK_MEM ((size_t)CHUNK * PS_PAGE_SIZE)

struct takeover {
	struct ps_volume *v;
	const struct ps_where *where;
	struct ps_taken taken;
	bool force;
	unsigned char *mem; /* CHUNK pages a member */
	struct tp_seg seg[PS_MAX_MEMBERS];
	struct wire_generation generation[PS_MAX_MEMBERS];
	uint32_t believed; /* of the slab: bit a member */
	uint64_t best;     /* its generation */
};

uint64_t ps_slabs(const struct ps_volume *v)
{
	return v->map.slabs;
}

void ps_where(const struct ps_volume *v, uint64_t slab, struct ps_where *ret)
{
	const struct map_slab *s = &v->map.slab[slab];
	uint64_t set;
	bool whole;

	do {
		set = map_set(s);
		whole = true;
		memset(ret, 0, sizeof *ret);
		if (!(set & SET_GRANTED))
			return;
		ret->generation = __atomic_load_n(&s->told, __ATOMIC_ACQUIRE);
		for (uint32_t live = set_live(set); live && whole; live &= live - 1) {
			unsigned i = ret->members;

			if (i == PS_MAX_MEMBERS)
				break;
			whole = map_place(s, set, (unsigned)__builtin_ctz(live), &ret->donor[i],
					  &ret->handle[i]);
			ret->members++;
		}
	} while (!whole || map_set(s) != set);
}

uint64_t ps_where_changes(const struct ps_volume *v)
{
	return __atomic_load_n(&v->map.changes, __ATOMIC_ACQUIRE);
}

void ps_where_published(struct ps_volume *v, uint64_t changes)
{
	__atomic_store_n(&v->published, changes, __ATOMIC_RELEASE);
}

void ps_donor_boot(struct ps_volume *v, unsigned donor, unsigned char boot[16])
{
	lock_take(&v->lock);
	memcpy(boot, v->donor[donor].hello.welcome.boot, 16);
	lock_give(&v->lock);
}

bool ps_is_stale(const struct ps_volume *v)
{
	return __atomic_load_n(&v->stale, __ATOMIC_RELAXED);
}

static int told(const struct takeover *t, unsigned donor, int r, const char *what)
{
	const struct ps_volume *v = t->v;

	return err_fail(r, "donor '%s' %s: %s", v->donor[donor].control->addr.text, what,
			v->call[donor].wire ? tp_wire_text(v->call[donor].wire)
					    : strerrordesc_np(-r));
}

/* Asks every member of the slab for its generation. Bit a member: it has answered. */
static uint32_t ask_generations(struct takeover *t, const struct ps_where *w)
{
	struct ps_volume *v = t->v;
	uint64_t mask = 0;
	uint32_t answered = 0;

	for (unsigned i = 0; i < w->members; i++) {
		unsigned d = w->donor[i];

		if (d >= v->donors || v->donor[d].dead)
			continue;
		t->generation[i] = (struct wire_generation){.slab = htole64(w->handle[i])};
		v->call[d].op = (struct tp_op){
			.kind = TP_GENERATION, .count = 1, .generation = &t->generation[i]};
		mask |= 1ull << d;
	}
	control_run(v, mask, v->deadline_ns);
	for (unsigned i = 0; i < w->members; i++)
		if (w->donor[i] < v->donors && mask >> w->donor[i] & 1 &&
		    !v->call[w->donor[i]].status)
			answered |= 1u << i;
	return answered;
}

/* Who of the slab's members is to be believed? */
static int judge(struct takeover *t, uint64_t slab, const struct ps_where *w)
{
	uint32_t answered = ask_generations(t, w), all = (1u << w->members) - 1;

	t->believed = 0;
	t->best = 0;
	if (ps_is_stale(t->v))
		return err_fail(-ESTALE, "a newer writer has the volume");
	if (!answered || (answered != all && !t->force)) {
		unsigned i = (unsigned)__builtin_ctz(all & ~answered), d = w->donor[i];

		return err_fail(-EUCLEAN,
				"slab %llu: donor '%s' can't be asked, and may know more than the "
				"others; wait for it, or force the takeover",
				(unsigned long long)slab,
				d < t->v->donors ? t->v->donor[d].control->addr.text : "?");
	}
	for (uint32_t m = answered; m; m &= m - 1) {
		uint64_t g = le64toh(t->generation[__builtin_ctz(m)].generation);

		t->best = g > t->best ? g : t->best;
	}
	for (uint32_t m = answered; m; m &= m - 1) {
		unsigned i = (unsigned)__builtin_ctz(m);

		if (le64toh(t->generation[i].generation) == t->best)
			t->believed |= 1u << i;
	}
	return 0;
}

/* Those that left the set have slabs that nobody will ever use. */
static void free_others(struct takeover *t, const struct ps_where *w)
{
	struct ps_volume *v = t->v;

	for (unsigned i = 0; i < w->members; i++) {
		uint64_t handle = w->handle[i];
		unsigned d = w->donor[i];

		if (t->believed >> i & 1 || d >= v->donors || v->donor[d].dead)
			continue;
		v->call[d].op = (struct tp_op){.kind = TP_FREE, .count = 1, .slabs = &handle};
		control_run(v, 1ull << d, v->deadline_ns);
		t->taken.behind++;
	}
}

/* One-sided transports need the slabs' memory. */
static int map_members(struct takeover *t, const struct ps_where *w)
{
	struct ps_volume *v = t->v;
	uint64_t handle[PS_MAX_MEMBERS], mask = 0;

	for (uint32_t m = t->believed; m; m &= m - 1) {
		unsigned i = (unsigned)__builtin_ctz(m), d = w->donor[i];

		handle[i] = w->handle[i];
		v->call[d].op = (struct tp_op){.kind = TP_MAP, .count = 1, .slabs = &handle[i]};
		mask |= 1ull << d;
	}
	control_run(v, mask, v->deadline_ns);
	for (; mask; mask &= mask - 1) {
		unsigned d = (unsigned)__builtin_ctzll(mask);

		if (v->call[d].status)
			return told(t, d, v->call[d].status, "did not hand a slab over");
	}
	return 0;
}

static void *page_of(const struct takeover *t, unsigned member, uint32_t page)
{
	return t->mem + member * CHUNK_MEM + (size_t)page * PS_PAGE_SIZE;
}

/* `pages` pages of every believed member, side by side: to or from t->mem. */
static int move_pages(struct takeover *t, const struct ps_where *w, enum tp_kind kind,
		      uint32_t members, uint32_t first, uint32_t at, uint32_t pages)
{
	struct ps_volume *v = t->v;
	uint64_t mask = 0;

	for (; members; members &= members - 1) {
		unsigned i = (unsigned)__builtin_ctz(members), d = w->donor[i];

		t->seg[i] = (struct tp_seg){w->handle[i], first, pages, page_of(t, i, at)};
		v->call[d].op = (struct tp_op){.kind = kind, .count = 1, .seg = &t->seg[i]};
		mask |= 1ull << d;
	}
	control_run(v, mask, v->deadline_ns);
	for (; mask; mask &= mask - 1) {
		unsigned d = (unsigned)__builtin_ctzll(mask);

		if (v->call[d].status)
			return told(t, d, v->call[d].status, "failed in the takeover");
	}
	return 0;
}

/* The page is in memory as each member has it. */
static int settle_page(struct takeover *t, const struct ps_where *w, uint64_t page, uint32_t first,
		       uint32_t at)
{
	unsigned from = (unsigned)__builtin_ctz(t->believed);
	const void *bytes = page_of(t, from, at);
	uint32_t wrong = 0;

	for (uint32_t m = t->believed; m; m &= m - 1) {
		unsigned i = (unsigned)__builtin_ctz(m);

		if (!memcmp(page_of(t, i, at), bytes, PS_PAGE_SIZE))
			continue;
		wrong |= 1u << i;
		memcpy(page_of(t, i, at), bytes, PS_PAGE_SIZE);
	}
	map_set_hash(&t->v->map, page, ps_page_is_zero(bytes) ? HASH_ZEROS : ps_hash(bytes));
	t->taken.pages++;
	if (!wrong)
		return 0;
	t->taken.differed++;
	return move_pages(t, w, TP_WRITE, wrong, first, at, 1);
}

static int read_slab(struct takeover *t, uint64_t slab, const struct ps_where *w)
{
	struct map *map = &t->v->map;
	uint32_t pages = 1u << map->slab_shift, n;
	uint64_t base = slab << map->slab_shift;
	int r = 0;

	for (uint32_t at = 0; at < pages && base + at < map->pages && !r; at += n) {
		n = pages - at < CHUNK ? pages - at : CHUNK;
		r = move_pages(t, w, TP_READ, t->believed, at, 0, n);
		for (uint32_t k = 0; k < n && base + at + k < map->pages && !r; k++)
			r = settle_page(t, w, base + at + k, at + k, k);
	}
	return r;
}

/* The map's entry; under the volume's lock. */
static void put_slab(struct takeover *t, uint64_t slab, const struct ps_where *w)
{
	struct map *map = &t->v->map;
	struct map_slab *s = &map->slab[slab];
	unsigned n = 0;

	for (uint32_t m = t->believed; m; m &= m - 1, n++) {
		unsigned i = (unsigned)__builtin_ctz(m);

		s->donor[n] = w->donor[i];
		s->frag[n] = (uint8_t)n;
		s->handle[n] = w->handle[i];
		t->v->donor[w->donor[i]].held++;
	}
	/* map_restore() goes one on: the next change is above what the members know. */
	s->set = t->best > 1 ? (t->best - 1) * SET_GENERATION : 0;
	map_restore(map, slab, (1u << n) - 1);
	t->taken.slabs++;
}

static int take_slab(struct takeover *t, uint64_t slab)
{
	const struct ps_where *w = &t->where[slab];
	int r;

	if (!w->generation || !w->members)
		return 0;
	if (w->members > MOST_MEMBERS || map_granted(&t->v->map, slab))
		return err_fail(-EINVAL, "slab %llu can't be taken over", (unsigned long long)slab);
	r = judge(t, slab, w);
	if (r)
		return r;
	free_others(t, w);
	r = map_members(t, w);
	if (!r)
		r = read_slab(t, slab, w);
	if (!r)
		put_slab(t, slab, w);
	return r;
}

int ps_take_over(struct ps_volume *v, const struct ps_where *where, uint64_t slabs, bool force,
		 struct ps_taken *ret)
{
	struct takeover t = {.v = v, .where = where, .force = force};
	int r = 0;

	if (v->map.parts || v->map.seal)
		return err_fail(-ENOTSUP,
				"volumes of fragments, or sealed ones, can't be taken over");
	if (slabs > v->map.slabs)
		return err_fail(-EINVAL, "the volume has %llu slabs, not %llu",
				(unsigned long long)v->map.slabs, (unsigned long long)slabs);
	t.mem = mem_map(MOST_MEMBERS * CHUNK_MEM);
	if (!t.mem)
		return err_fail(-ENOMEM, "no memory for a takeover");
	lock_take(&v->lock);
	for (uint64_t i = 0; i < slabs && !r; i++)
		r = take_slab(&t, i);
	lock_give(&v->lock);
	mem_unmap(t.mem, MOST_MEMBERS * CHUNK_MEM);
	if (!r)
		*ret = t.taken;
	return r;
}
