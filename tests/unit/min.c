/* SPDX-License-Identifier: MIT */
/* The simulated MIN does what one that looks through the whole future does. */
#include "bench/min.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>

#define PAGES   37u
#define TOUCHES 3000u

static unsigned next_touch(const uint32_t *touch, unsigned from, uint32_t page)
{
	while (from < TOUCHES && touch[from] != page)
		from++;
	return from;
}

static uint64_t hits_slowly(const uint32_t *touch, unsigned from, unsigned capacity)
{
	uint32_t cache[PAGES];
	unsigned count = 0;
	uint64_t hits = 0;

	for (unsigned i = 0; i < TOUCHES; i++) {
		unsigned at = 0, far = 0;

		while (at < count && cache[at] != touch[i])
			at++;
		hits += at < count && i >= from;
		if (at == count && count < capacity) {
			cache[count++] = touch[i];
		} else if (at == count) {
			for (unsigned k = 1; k < count; k++)
				if (next_touch(touch, i, cache[k]) >
				    next_touch(touch, i, cache[far]))
					far = k;
			cache[far] = touch[i];
		}
	}
	return hits;
}

Test(min, hits_what_a_search_of_the_future_hits)
{
	uint32_t touch[TOUCHES];
	uint64_t x = 5, hits;

	for (unsigned i = 0; i < TOUCHES; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		touch[i] = (uint32_t)(x >> 33) % (x >> 63 ? PAGES : PAGES / 3);
	}
	for (unsigned capacity = 1; capacity <= PAGES; capacity += 4)
		for (unsigned from = 0; from < TOUCHES; from += 1000) {
			cr_assert_eq(min_replay(touch, TOUCHES, from, PAGES, capacity, &hits), 0,
				     "%s", err_text());
			cr_assert_eq(hits, hits_slowly(touch, from, capacity), "%u pages",
				     capacity);
		}
}

Test(min, of_nothing_is_refused)
{
	uint32_t touch[1] = {0};
	uint64_t hits;

	cr_assert_eq(min_replay(touch, 0, 0, 1, 1, &hits), -EINVAL);
	cr_assert_eq(min_replay(touch, 1, 0, 1, 0, &hits), -EINVAL);
}
