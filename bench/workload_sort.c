/* SPDX-License-Identifier: MIT */
/*
 * Quick sort in place of records of a 64-bit key and 24 bytes that belong to it: two scans that
 * meet, over and over, on pieces that fit into the cache at last. Keys are all different, so there
 * is one right order. With several threads the pieces are shared out after the first partitions,
 * which one thread does.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>

#define SMALL        24
#define PIECES_MAX   256
#define PIECES_EACH  4u /* a thread: uneven ones even out */
#define RECORD_WORDS 4u

struct record {
	uint64_t word[RECORD_WORDS]; /* the key first */
};

struct piece {
	uint64_t from, to;
};

struct pieces {
	unsigned count, next;
	struct piece piece[PIECES_MAX];
};

static uint64_t sort_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

static struct record *records(const struct work *w)
{
	return (struct record *)(void *)w->mem;
}

static uint64_t count(const struct work *w)
{
	return w->bytes / sizeof(struct record);
}

static uint64_t word_of(uint64_t key, unsigned i)
{
	return i ? key * (2 * i + 1) + i : key;
}

static int fill_share(struct work *w, unsigned t)
{
	uint64_t from, to;

	team_share(w, t, count(w), BENCH_PAGE, &from, &to);
	for (uint64_t n = from; n < to; n++)
		for (unsigned i = 0; i < RECORD_WORDS; i++)
			records(w)[n].word[i] = word_of(page_mix(n + 1), i);
	return 0;
}

static int sort_fill(struct work *w)
{
	int r = work_alloc(w, sizeof(struct pieces), &w->priv);

	return r ? r : team_run(w, fill_share);
}

static void swap(struct record *a, struct record *b)
{
	struct record c = *a;

	*a = *b;
	*b = c;
}

static uint64_t median(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t low = a < b ? a : b, high = a < b ? b : a;

	return c < low ? low : c > high ? high : c;
}

/* Hoare's: p's records before the index are not above those from it on; neither part is empty. */
static uint64_t partition(struct record *r, struct piece p)
{
	uint64_t i = p.from, j = p.to - 1;
	uint64_t pivot = median(r[i].word[0], r[i + (j - i) / 2].word[0], r[j].word[0]);

	for (;; i++, j--) {
		while (r[i].word[0] < pivot)
			i++;
		while (r[j].word[0] > pivot)
			j--;
		if (i >= j)
			return i > p.from ? i : i + 1;
		swap(&r[i], &r[j]);
	}
}

static void sort_few(struct record *r, struct piece p)
{
	for (uint64_t i = p.from + 1; i < p.to; i++)
		for (uint64_t j = i; j > p.from && r[j].word[0] < r[j - 1].word[0]; j--)
			swap(&r[j], &r[j - 1]);
}

/* The smaller part waits, so the stack is as deep as a logarithm. */
static void sort_piece(struct record *r, struct piece p)
{
	struct piece stack[64];
	unsigned depth = 0;

	for (;;) {
		while (p.to - p.from > SMALL) {
			uint64_t cut = partition(r, p);
			struct piece low = {p.from, cut}, high = {cut, p.to};
			bool low_first = low.to - low.from > high.to - high.from;

			/* The bigger one waits; the smaller is half at most. */
			stack[depth++] = low_first ? low : high;
			p = low_first ? high : low;
		}
		sort_few(r, p);
		if (!depth)
			return;
		p = stack[--depth];
	}
}

static int sort_share(struct work *w, unsigned t)
{
	struct pieces *all = w->priv;

	(void)t;
	for (;;) {
		unsigned i = __atomic_fetch_add(&all->next, 1, __ATOMIC_RELAXED);

		if (i >= all->count)
			return 0;
		sort_piece(records(w), all->piece[i]);
	}
}

static int sort_run(struct work *w)
{
	struct pieces *all = w->priv;
	unsigned wanted = w->threads > 1 ? w->threads * PIECES_EACH : 1;

	*all = (struct pieces){.count = 1, .piece = {{0, count(w)}}};
	while (all->count < wanted) {
		struct piece *big = &all->piece[0];

		for (unsigned i = 1; i < all->count; i++)
			if (all->piece[i].to - all->piece[i].from > big->to - big->from)
				big = &all->piece[i];
		if (big->to - big->from <= SMALL)
			break;
		all->piece[all->count] = (struct piece){partition(records(w), *big), big->to};
		big->to = all->piece[all->count++].from;
	}
	w->done_pages = w->pages;
	return team_run(w, sort_share);
}

static int sort_check(struct work *w, uint64_t *digest)
{
	uint64_t last = 0, h = count(w), sum = 0, n = 0;

	for (; n < count(w); n++) {
		const struct record *r = &records(w)[n];

		for (unsigned i = 1; i < RECORD_WORDS; i++)
			if (r->word[i] != word_of(r->word[0], i))
				goto wrong;
		if (r->word[0] <= last)
			goto wrong;
		last = r->word[0];
		sum += last - page_mix(n + 1);
		h = ((h << 5 | h >> 59) ^ last) * 0x9e3779b97f4a7c15ull;
	}
	*digest = h;
	return sum ? err_fail(-EILSEQ, "the sorted keys are not those of before") : 0;
wrong:
	return err_fail(-EILSEQ, "sorted record %llu is wrong", (unsigned long long)n);
}

const struct workload workload_sort = {
	.name = "sort",
	.summary = "quick sort in place of records of 32 bytes",
	.floor_is_plain = true,
	.shape = sort_shape,
	.fill = sort_fill,
	.run = sort_run,
	.check = sort_check,
};
