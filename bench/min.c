/* SPDX-License-Identifier: MIT */
/* A page that is not touched again is given up first: its time is `touches` plus its number. */
#include "bench/min.h"
#include "common/error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 6u /* of 64 bits each: 36 bits of time */

/* A set of times; a bit of level n + 1 says that a word of level n is not 0. */
struct times {
	uint64_t *level[DEPTH];
};

static void times_set(struct times *t, uint64_t at)
{
	for (unsigned l = 0; l < DEPTH; l++, at >>= 6)
		t->level[l][at >> 6] |= 1ull << (at & 63);
}

static void times_clear(struct times *t, uint64_t at)
{
	for (unsigned l = 0; l < DEPTH; l++, at >>= 6) {
		t->level[l][at >> 6] &= ~(1ull << (at & 63));
		if (t->level[l][at >> 6])
			return;
	}
}

/* Of a set that is not empty. */
static uint64_t times_last(const struct times *t)
{
	uint64_t at = 0;

	for (unsigned l = DEPTH; l--;)
		at = at << 6 | (63 - (uint64_t)__builtin_clzll(t->level[l][at]));
	return at;
}

static int times_create(struct times *t, uint64_t end)
{
	for (unsigned l = 0; l < DEPTH; l++) {
		end = (end >> 6) + 1;
		t->level[l] = calloc(end, sizeof *t->level[l]);
		if (!t->level[l])
			return -ENOMEM;
	}
	return 0;
}

static void times_free(struct times *t)
{
	for (unsigned l = 0; l < DEPTH; l++)
		free(t->level[l]);
}

static uint64_t replay(const uint32_t *touch, uint64_t touches, uint64_t from, uint64_t capacity,
		       const uint64_t *next, uint64_t *due, struct times *local)
{
	uint64_t count = 0, hits = 0;

	for (uint64_t i = 0; i < touches; i++) {
		uint32_t page = touch[i];

		if (due[page]) {
			hits += i >= from;
			times_clear(local, due[page]);
		} else if (count < capacity) {
			count++;
		} else {
			uint64_t last = times_last(local);

			times_clear(local, last);
			due[last < touches ? touch[last] : last - touches] = 0;
		}
		due[page] = next[i];
		times_set(local, next[i]);
	}
	return hits;
}

int min_replay(const uint32_t *touch, uint64_t touches, uint64_t from, uint64_t pages,
	       uint64_t capacity, uint64_t *hits)
{
	struct times local = {0};
	uint64_t *next, *due;
	int r = 0;

	if (!pages || !touches || !capacity || (touches + pages) >> 6 * DEPTH)
		return err_fail(-EINVAL, "can't simulate MIN of %llu pages among %llu",
				(unsigned long long)capacity, (unsigned long long)pages);
	next = malloc(touches * sizeof *next);
	due = malloc(pages * sizeof *due); /* when a page comes next; then, 0: not local */
	if (!next || !due || times_create(&local, touches + pages)) {
		r = err_fail(-ENOMEM, "no memory to simulate MIN");
	} else {
		for (uint64_t p = 0; p < pages; p++)
			due[p] = touches + p;
		for (uint64_t i = touches; i--;) {
			next[i] = due[touch[i]];
			due[touch[i]] = i;
		}
		memset(due, 0, pages * sizeof *due);
		*hits = replay(touch, touches, from, capacity, next, due, &local);
	}
	times_free(&local);
	free(next);
	free(due);
	return r;
}
