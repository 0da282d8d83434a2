/* SPDX-License-Identifier: MIT */
/* Changes of a page's word. */
#ifndef LIBINJECT_PAGE_H
#define LIBINJECT_PAGE_H

#include "libinject/heap.h"

static inline uint32_t page_load(const struct inject_heap *h, uint32_t page)
{
	return atomic_load_explicit(&h->word[page], memory_order_acquire);
}

/* Moves a page on if its word is still `from`; KEEP flags stay unless cleared by the caller. */
static inline bool page_claim(struct inject_heap *h, uint32_t page, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&h->word[page], &from, to);
}

/* For the owner of a transition: others may only change KEEP flags meanwhile. */
static inline void page_become(struct inject_heap *h, uint32_t page, enum page_state s,
			       uint32_t flags, uint32_t where)
{
	uint32_t old = page_load(h, page);

	while (!atomic_compare_exchange_weak(&h->word[page], &old,
					     page_word(s, (old & PG_KEEP) | flags, where)))
		;
}

static inline void page_flag(struct inject_heap *h, uint32_t page, uint32_t set, uint32_t clear)
{
	if (set)
		atomic_fetch_or(&h->word[page], set);
	if (clear)
		atomic_fetch_and(&h->word[page], ~clear);
}

/* A thread faults. true: it is the first one besides another. Looks before it writes: each fault
 * calls it. */
static inline bool crowd_join(struct inject_heap *h, uint32_t thread)
{
	uint32_t first = atomic_load_explicit(&h->first_thread, memory_order_relaxed);

	if (first == thread || atomic_load_explicit(&h->crowded, memory_order_relaxed))
		return false;
	if (!first && atomic_compare_exchange_strong(&h->first_thread, &first, thread))
		return false;
	return first != thread &&
	       !atomic_exchange_explicit(&h->crowded, true, memory_order_relaxed);
}

#endif
