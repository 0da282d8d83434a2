/* SPDX-License-Identifier: MIT */
/* See seal.h. */
#include "pagestore/seal.h"
#include "common/error.h"
#include "common/memory.h"
#include "secure/aead.h"
#include "secure/kdf.h"
#include "secure/secret.h"
#include <infuse/pagestore.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#define GENERATION_MASK ((1ull << 48) - 1)

struct branch {
	struct aead key;
	unsigned char id[16]; /* authenticated with each page: whose it is */
};

struct seal {
	uint64_t pages;
	uint64_t *generation; /* by page; never taken back: a nonce must not come again */
	unsigned char (*tag)[AEAD_TAG_BYTES];
	unsigned branches; /* the last one is for writing */
	struct branch branch[SEAL_BRANCHES];
};

int seal_open(struct seal **ret, uint64_t pages, const unsigned char id[16])
{
	struct seal *s = secret_map(sizeof *s);
	int r;

	if (!s)
		return err_fail(-ENOMEM, "no memory for sealing");
	s->pages = pages;
	s->generation = mem_map(pages * sizeof *s->generation);
	s->tag = mem_map(pages * sizeof *s->tag);
	r = s->generation && s->tag ? seal_branch(s, id)
				    : err_fail(-ENOMEM, "no memory for sealing");
	if (r)
		seal_close(s);
	else
		*ret = s;
	return r;
}

void seal_close(struct seal *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->branches; i++)
		aead_close(&s->branch[i].key);
	mem_unmap(s->generation, s->pages * sizeof *s->generation);
	mem_unmap(s->tag, s->pages * sizeof *s->tag);
	secret_unmap(s, sizeof *s);
}

int seal_branch(struct seal *s, const unsigned char id[16])
{
	unsigned char fresh[32], key[AEAD_KEY_BYTES];
	struct branch *b = &s->branch[s->branches];
	int r;

	if (s->branches == SEAL_BRANCHES)
		return err_fail(-EMFILE, "a sealed heap can't be forked more than %u levels deep",
				SEAL_BRANCHES - 1);
	secret_random(fresh, sizeof fresh);
	kdf_derive(fresh, sizeof fresh, id, 16, "infuse seal", key, sizeof key);
	memcpy(b->id, id, sizeof b->id);
	r = aead_open(&b->key, key);
	secret_wipe(fresh, sizeof fresh);
	secret_wipe(key, sizeof key);
	if (r)
		return err_fail(r, "no memory for sealing");
	s->branches++;
	return 0;
}

static void make_nonce(unsigned char nonce[AEAD_NONCE_BYTES], uint64_t page, uint64_t generation)
{
	for (unsigned i = 0; i < 6; i++) {
		nonce[i] = (unsigned char)(page >> 8 * i);
		nonce[6 + i] = (unsigned char)(generation >> 8 * i);
	}
}

static uint64_t generation_of(const struct seal *s, uint64_t page)
{
	return __atomic_load_n(&s->generation[page], __ATOMIC_RELAXED);
}

uint64_t seal_stamp(const struct seal *s, uint64_t page)
{
	return generation_of(s, page);
}

void seal_page(struct seal *s, uint64_t page, const void *from, void *to)
{
	unsigned current = s->branches - 1;
	uint64_t next = (generation_of(s, page) & GENERATION_MASK) + 1;
	unsigned char nonce[AEAD_NONCE_BYTES];
	struct branch *b = &s->branch[current];

	assert(next <= GENERATION_MASK);
	make_nonce(nonce, page, next);
	aead_seal(&b->key, nonce, b->id, sizeof b->id, from, to, PS_PAGE_SIZE, s->tag[page]);
	__atomic_store_n(&s->generation[page], (uint64_t)current << 48 | next, __ATOMIC_RELAXED);
}

static bool unseal(struct seal *s, uint64_t page, const void *from, void *to)
{
	uint64_t generation = generation_of(s, page);
	unsigned char nonce[AEAD_NONCE_BYTES];
	struct branch *b = &s->branch[generation >> 48];

	if (generation >> 48 >= s->branches)
		return false;
	make_nonce(nonce, page, generation);
	return aead_unseal(&b->key, nonce, b->id, sizeof b->id, from, to, PS_PAGE_SIZE,
			   s->tag[page]);
}

void seal_prefetch(const struct seal *s, uint64_t page)
{
	__builtin_prefetch(&s->generation[page]);
	__builtin_prefetch(&s->tag[page]);
}

bool seal_unseal(struct seal *s, uint64_t page, void *buf)
{
	return unseal(s, page, buf, buf);
}

bool seal_check(struct seal *s, uint64_t page, const void *sealed, void *scratch)
{
	return unseal(s, page, sealed, scratch);
}
