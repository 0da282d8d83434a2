/* SPDX-License-Identifier: MIT */
/*
 * A hash join of wide rows: the table is built from one relation, with linear probing, and looked
 * up with each row of another, half of which find a match. The table is half of the memory: both
 * halves of the work are random single pages beside a scan. Rows are 512 bytes, as tables have
 * them.
 *
 * Matches are counted and their payload added up, whatever the order in which threads find them.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>

#define ROW_WORDS 64u /* key and payload */
#define ROW_BYTES (ROW_WORDS * 8u)

struct join {
	uint64_t matches, sum; /* added to by the threads */
};

/* Slots of the table; rows of each relation are half of that. */
static uint64_t slots(const struct work *w)
{
	return w->bytes / ROW_BYTES / 2;
}

static uint64_t join_shape(uint64_t size)
{
	return size / (16 * BENCH_PAGE) * (16 * BENCH_PAGE);
}

static uint64_t *slot(const struct work *w, uint64_t i)
{
	return (uint64_t *)(void *)w->mem + i * ROW_WORDS;
}

/* Row i of relation 0 (built) or 1 (probing), behind the table. */
static uint64_t *row(const struct work *w, unsigned relation, uint64_t i)
{
	return slot(w, slots(w) + relation * slots(w) / 2 + i);
}

/* Never 0, each another: page_mix() is a bijection with 0 for 0. */
static uint64_t key_of(uint64_t i)
{
	return page_mix(i + 1);
}

static uint64_t payload(uint64_t key, unsigned i)
{
	return key * 3 + i * 0x9e3779b97f4a7c15ull;
}

static void write_row(uint64_t *r, uint64_t key)
{
	r[0] = key;
	for (unsigned i = 1; i < ROW_WORDS; i++)
		r[i] = payload(key, i);
}

static int fill_share(struct work *w, unsigned t)
{
	uint64_t rows = slots(w) / 2, from, to;

	team_share(w, t, rows, 64, &from, &to);
	for (uint64_t i = from; i < to; i++)
		write_row(row(w, 0, i), key_of(i));
	/* Every second row of the other relation has a key that is in the table. */
	for (uint64_t i = from; i < to; i++)
		write_row(row(w, 1, i), key_of(page_shuffle(i, rows) + (i % 2 ? rows : 0)));
	/* No zeros, or an empty slot would be a page that nobody fetches. */
	for (uint64_t i = 2 * from; i < 2 * to; i++)
		for (unsigned k = 0; k < ROW_WORDS; k++)
			slot(w, i)[k] = k ? ~k : 0;
	return 0;
}

static int join_fill(struct work *w)
{
	int r = work_alloc(w, sizeof(struct join), &w->priv);

	return r ? r : team_run(w, fill_share);
}

static uint64_t home(const struct work *w, uint64_t key)
{
	/* Another mix than the keys': their order is that of the rows. */
	return page_mix(key ^ 0x5851f42d4c957f2dull) % slots(w);
}

static int build_share(struct work *w, unsigned t)
{
	uint64_t from, to;

	team_share(w, t, slots(w) / 2, 64, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		const uint64_t *r = row(w, 0, i);
		uint64_t at = home(w, r[0]), none = 0;

		/* Half of the slots stay free: it ends. */
		while (!__atomic_compare_exchange_n(slot(w, at), &none, r[0], false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			none = 0;
			at = (at + 1) % slots(w);
		}
		for (unsigned k = 1; k < ROW_WORDS; k++)
			slot(w, at)[k] = r[k];
	}
	return 0;
}

static int probe_share(struct work *w, unsigned t)
{
	uint64_t matches = 0, sum = 0, from, to;
	struct join *j = w->priv;

	team_share(w, t, slots(w) / 2, 64, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		uint64_t key = *row(w, 1, i), at = home(w, key);

		while (*slot(w, at) && *slot(w, at) != key)
			at = (at + 1) % slots(w);
		if (!*slot(w, at))
			continue;
		matches++;
		for (unsigned k = 1; k < ROW_WORDS; k++)
			sum += slot(w, at)[k];
	}
	__atomic_add_fetch(&j->matches, matches, __ATOMIC_RELAXED);
	__atomic_add_fetch(&j->sum, sum, __ATOMIC_RELAXED);
	return 0;
}

static int join_run(struct work *w)
{
	int r = team_run(w, build_share);

	w->done_pages = w->pages;
	return r ? r : team_run(w, probe_share);
}

static bool slot_is_good(const uint64_t *s)
{
	for (unsigned k = 1; k < ROW_WORDS; k++)
		if (s[k] != (*s ? payload(*s, k) : ~k))
			return false;
	return true;
}

static int join_check(struct work *w, uint64_t *digest)
{
	const struct join *j = w->priv;
	uint64_t rows = slots(w) / 2, used = 0, keys = 0;

	for (uint64_t i = 0; i < slots(w); i++) {
		used += *slot(w, i) != 0;
		keys += *slot(w, i);
		if (!slot_is_good(slot(w, i)))
			return err_fail(-EILSEQ, "the join's table is wrong in slot %llu",
					(unsigned long long)i);
	}
	for (uint64_t i = 0; i < rows; i++) {
		keys -= key_of(i);
		for (unsigned side = 0; side < 2; side++)
			if (!slot_is_good(row(w, side, i)))
				return err_fail(-EILSEQ, "row %llu of relation %u changed",
						(unsigned long long)i, side);
	}
	if (used != rows || keys || j->matches != (rows + 1) / 2)
		return err_fail(-EILSEQ, "the join found %llu matches of %llu rows, not %llu",
				(unsigned long long)j->matches, (unsigned long long)used,
				(unsigned long long)(rows + 1) / 2);
	*digest = j->sum;
	return 0;
}

const struct workload workload_join = {
	.name = "join",
	.summary = "a hash join: builds a table of half the memory, probes it with a scan",
	.floor_is_plain = true,
	.shape = join_shape,
	.fill = join_fill,
	.run = join_run,
	.check = join_check,
};
