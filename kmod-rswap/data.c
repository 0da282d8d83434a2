// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The bytes of requests and what is known of them. The table has eight bytes a page: a hash of the
 * contents, seeded with the page's number so that another page's bytes don't pass, or a word for
 * zeros or "lost". Entries belong to whoever holds the page's range. A request's data is a chain of
 * bios whose pieces need not begin at page boundaries, so it is walked as a stream.
 */
#include <linux/highmem.h>
#include <linux/moduleparam.h>
#include <linux/xxhash.h>
#include "device.h"

static uint corrupt;
module_param(corrupt, uint, 0644);
MODULE_PARM_DESC(corrupt, "for tests: spoil a byte of every Nth page that comes in (0: never)");

static atomic_t corrupt_turn = ATOMIC_INIT(0);

struct walk {
	struct bio *bio;
	struct bvec_iter iter;
};

static void walk_start(struct walk *w, struct bio *bio)
{
	w->bio = bio;
	if (bio)
		w->iter = bio->bi_iter;
}

static bool walk_piece(const struct walk *w, u32 max, struct bio_vec *bv)
{
	if (!w->bio || !w->iter.bi_size)
		return false;
	*bv = bio_iter_iovec(w->bio, w->iter);
	bv->bv_len = min(bv->bv_len, max);
	return true;
}

static void walk_step(struct walk *w, u32 n)
{
	while (w->bio) {
		u32 k = min(n, w->iter.bi_size);

		bio_advance_iter(w->bio, &w->iter, k);
		n -= k;
		if (w->iter.bi_size)
			return;
		walk_start(w, w->bio->bi_next);
		if (!n)
			return;
	}
}

void rswap_cursor_start(struct rswap_cursor *c, const struct rswap_msg *m)
{
	struct walk w;

	walk_start(&w, m->io->bio);
	walk_step(&w, (le32_to_cpu(m->out.seg[0].page) - m->first) << RSWAP_PAGE_SHIFT);
	c->m = m;
	c->bio = w.bio;
	c->iter = w.iter;
	c->seg = 0;
	c->left = le32_to_cpu(m->out.seg[0].pages) << RSWAP_PAGE_SHIFT;
}

bool rswap_cursor_piece(const struct rswap_cursor *c, struct bio_vec *bv)
{
	struct walk w = {c->bio, c->iter};

	return c->left && walk_piece(&w, c->left, bv);
}

void rswap_cursor_step(struct rswap_cursor *c, u32 n)
{
	const struct wire_seg *seg = &c->m->out.seg[c->seg];
	struct walk w = {c->bio, c->iter};

	c->left -= n;
	if (!c->left && c->seg + 1u < c->m->segs) {
		n += (le32_to_cpu(seg[1].page) - le32_to_cpu(seg[0].page) -
		      le32_to_cpu(seg[0].pages))
		     << RSWAP_PAGE_SHIFT;
		c->seg++;
		c->left = le32_to_cpu(seg[1].pages) << RSWAP_PAGE_SHIFT;
	}
	walk_step(&w, n);
	c->bio = w.bio;
	c->iter = w.iter;
}

/* No content's hash is one of the table's words. */
static u64 proper(u64 h)
{
	return h <= RSWAP_HASH_LOST ? ~h : h;
}

static u64 pieces_hash(struct walk *w, u64 page, bool *zero)
{
	struct xxh64_state state;
	struct bio_vec bv;
	u32 left = RSWAP_PAGE_SIZE;

	xxh64_reset(&state, page);
	*zero = true;
	while (left && walk_piece(w, left, &bv)) {
		char *p = bvec_kmap_local(&bv);

		*zero = *zero && !memchr_inv(p, 0, bv.bv_len);
		xxh64_update(&state, p, bv.bv_len);
		kunmap_local(p);
		left -= bv.bv_len;
		walk_step(w, bv.bv_len);
	}
	return proper(xxh64_digest(&state));
}

/* The hash of the page at the walk, which moves on behind it. */
static u64 page_hash(struct walk *w, u64 page, bool *zero)
{
	struct bio_vec bv;
	char *p;
	u64 h = 0;

	if (!walk_piece(w, RSWAP_PAGE_SIZE, &bv) || bv.bv_len < RSWAP_PAGE_SIZE)
		return pieces_hash(w, page, zero);
	p = bvec_kmap_local(&bv);
	/* The first words tell for most pages; without them memchr_inv() reads on. */
	*zero = !memchr_inv(p, 0, RSWAP_PAGE_SIZE);
	if (!*zero)
		h = proper(xxh64(p, RSWAP_PAGE_SIZE, page));
	kunmap_local(p);
	walk_step(w, RSWAP_PAGE_SIZE);
	return h;
}

static void page_fill(struct walk *w)
{
	struct bio_vec bv;
	u32 left = RSWAP_PAGE_SIZE;

	while (left && walk_piece(w, left, &bv)) {
		memzero_bvec(&bv);
		flush_dcache_page(bv.bv_page);
		left -= bv.bv_len;
		walk_step(w, bv.bv_len);
	}
}

static bool is_zero(u64 h)
{
	return h == RSWAP_HASH_ZERO || h == RSWAP_HASH_STALE;
}

void rswap_data_hash(struct rswap_io *io)
{
	u64 *hash = io->dev->hash + io->page;
	struct walk w;
	u32 zeros = 0;

	bitmap_zero(io->todo, RSWAP_IO_PAGES);
	walk_start(&w, io->bio);
	for (u32 i = 0; i < io->pages; i++) {
		bool zero;
		u64 h = page_hash(&w, io->page + i, &zero);

		if (!zero) {
			hash[i] = h;
			__set_bit(i, io->todo);
			continue;
		}
		zeros++;
		if (hash[i] != RSWAP_HASH_ZERO)
			hash[i] = RSWAP_HASH_STALE;
	}
	rswap_count(io->dev, zero_writes, zeros);
}

void rswap_data_look(struct rswap_io *io)
{
	const u64 *hash = io->dev->hash + io->page;
	struct walk w;
	u32 zeros = 0;

	bitmap_zero(io->todo, RSWAP_IO_PAGES);
	bitmap_zero(io->wrong, RSWAP_IO_PAGES);
	bitmap_zero(io->lost, RSWAP_IO_PAGES);
	walk_start(&w, io->bio);
	for (u32 i = 0; i < io->pages; i++) {
		if (is_zero(hash[i])) {
			page_fill(&w);
			zeros++;
			continue;
		}
		__set_bit(i, hash[i] == RSWAP_HASH_LOST ? io->lost : io->todo);
		walk_step(&w, RSWAP_PAGE_SIZE);
	}
	rswap_count(io->dev, zero_reads, zeros);
}

static void spoil(const struct walk *w)
{
	struct bio_vec bv;
	char *p;

	if (likely(!corrupt) || (u32)atomic_inc_return(&corrupt_turn) % corrupt ||
	    !walk_piece(w, RSWAP_PAGE_SIZE, &bv))
		return;
	p = bvec_kmap_local(&bv);
	p[bv.bv_len / 2] ^= 0x10;
	kunmap_local(p);
}

u32 rswap_data_check(struct rswap_io *io, struct rswap_msg *m)
{
	const u64 *hash = io->dev->hash + io->page;
	u32 wrong = 0, at = 0;
	struct walk w;

	walk_start(&w, io->bio);
	for (u32 s = 0; s < m->segs; s++) {
		u32 first = le32_to_cpu(m->out.seg[s].page) - m->first;
		u32 pages = le32_to_cpu(m->out.seg[s].pages);

		walk_step(&w, (first - at) << RSWAP_PAGE_SHIFT);
		for (u32 i = first; i < first + pages; i++) {
			bool zero;

			spoil(&w);
			if (page_hash(&w, io->page + i, &zero) == hash[i] && !zero) {
				__clear_bit(i, io->todo);
			} else {
				__set_bit(i, io->wrong);
				wrong++;
			}
		}
		at = first + pages;
	}
	rswap_count(io->dev, pages_read, m->pages);
	if (wrong)
		rswap_count(io->dev, bad_hashes, wrong);
	return wrong;
}

void rswap_data_lose(struct rswap_io *io)
{
	u64 *hash = io->dev->hash + io->page;
	u32 i;

	for_each_set_bit(i, io->todo, io->pages)
		hash[i] = RSWAP_HASH_LOST;
}

bool rswap_data_forget(struct rswap_device *dev, u64 page, u32 pages, bool stale)
{
	u64 *hash = dev->hash + page;
	u32 had = 0;

	for (u32 i = 0; i < pages; i++) {
		if (hash[i] == RSWAP_HASH_ZERO)
			continue;
		hash[i] = stale ? RSWAP_HASH_STALE : RSWAP_HASH_ZERO;
		had++;
	}
	if (had && !stale)
		rswap_count(dev, pages_trimmed, had);
	return had;
}
