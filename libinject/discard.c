/* SPDX-License-Identifier: MIT */
/* Pages whose contents nobody wants any more: freed, or to read as zeros. Control lock held. */
#include "libinject/page.h"

#include <sys/mman.h>

#define CHUNK 4096u /* so that others wait no longer than for so many pages */

/* False: its bytes are on their way; look again. */
static bool staged_claim(struct inject_heap *h, uint32_t page, uint32_t word)
{
	struct port *p = h->port[page_where(word) / PORT_FRAMES];
	bool claimed = false;

	lock_take(&p->lock);
	if (page_load(h, page) == word && out_forget(p, page)) {
		page_become(h, page, PG_TAKING, 0, 0);
		claimed = true;
	}
	lock_drop(&p->lock);
	return claimed;
}

static void page_take_over(struct inject_heap *h, uint32_t page)
{
	for (;;) {
		uint32_t word = page_load(h, page);
		uint32_t mine = page_word(PG_TAKING, word & PG_KEEP, 0);

		switch (page_state(word)) {
		case PG_UNUSED:
		case PG_ABSENT:
			if (page_claim(h, page, word, mine))
				return;
			continue;
		case PG_LOCAL:
			if (!(word & PG_WRITING)) {
				if (!page_claim(h, page, word, mine))
					continue;
				atomic_fetch_sub(&h->cache.resident, 1);
				return;
			}
			break;
		case PG_STAGED:
			if (staged_claim(h, page, word))
				return;
			break;
		default:
			break;
		}
		/* Late bytes of a write that is on its way must not meet new ones. */
		page_settle(h, page, word);
	}
}

static void chunk_discard(struct inject_heap *h, uint32_t page, uint32_t count, enum page_state to)
{
	for (uint32_t i = page; i < page + count; i++)
		page_take_over(h, i);
	sys_call3(SYS_madvise, SYS_PTR(page_address(h, page)), (long)(count * PAGE), MADV_DONTNEED);
	ps_discard(h->volume, page, count);
	residency_forget(&h->res, page, count);
	for (uint32_t i = page; i < page + count; i++) {
		if (to == PG_UNUSED) {
			if (__atomic_exchange_n(&h->pins[i], 0, __ATOMIC_SEQ_CST))
				atomic_fetch_sub(&h->cache.pinned, 1);
			page_flag(h, i, 0, PG_RANDOM);
		}
		page_become(h, i, to, 0, 0);
	}
}

void pages_discard(struct inject_heap *h, uint32_t page, uint32_t count, enum page_state to)
{
	while (count) {
		uint32_t n = count < CHUNK ? count : CHUNK;

		chunk_discard(h, page, n, to);
		page += n;
		count -= n;
	}
}
