/* SPDX-License-Identifier: MIT */
/*
 * The traces of `infuse bench residency`. What each stands for: zipf, skew without any order in
 * time; uniform, nothing to know; scan and loop, order without skew; hot-set and wander, a working
 * set that jumps or slides; tree, the levels of an index of which only the upper ones fit; stack,
 * reuse by recency alone. To add one: a function and a line.
 */
#include "bench/trace.h"
#include "bench/bench.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOUCHES_A_PAGE 24u /* a third of them before counting starts */
#define TOUCHES_MIN    1000000u

static double chance(uint64_t i)
{
	return (double)(page_mix(i + 1) >> 11) * 0x1p-53;
}

static uint32_t below(uint64_t i, uint32_t n)
{
	return (uint32_t)(chance(i) * n);
}

/* Gray et al., "Quickly Generating Billion-Record Synthetic Databases", 1994. state: zeta(n). */
static uint32_t rank(uint64_t i, uint32_t n, double theta, uint64_t *state)
{
	double zetan, zeta2 = 1 + pow(0.5, theta), eta, u = chance(i), uz;
	uint64_t r;

	memcpy(&zetan, state, sizeof zetan);
	if (!i) {
		zetan = 0;
		for (uint32_t k = 1; k <= n; k++)
			zetan += pow(k, -theta);
		memcpy(state, &zetan, sizeof zetan);
	}
	uz = u * zetan;
	if (uz < zeta2)
		return uz >= 1;
	eta = (1 - pow(2.0 / n, 1 - theta)) / (1 - zeta2 / zetan);
	r = (uint64_t)(n * pow(eta * u - eta + 1, 1 / (1 - theta)));
	return r < n ? (uint32_t)r : n - 1;
}

static uint32_t zipf(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	(void)local;
	return (uint32_t)page_shuffle(rank(i, pages, 0.99, state), pages);
}

static uint32_t uniform(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	(void)local, (void)state;
	return below(i, pages);
}

static uint32_t scan(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	(void)local, (void)state;
	return (uint32_t)(i % pages) | TRACE_SCAN;
}

static uint32_t loop(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	uint32_t n = local + local / 10 + 1;

	(void)state;
	return (uint32_t)(i % (n < pages ? n : pages)) | TRACE_SCAN;
}

/* Every 8 x pages touches a scan passes, one touch of it for each other touch. */
static uint32_t zipf_scans(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	uint64_t at = i % (8ull * pages);
	uint32_t page = zipf(i, pages, local, state);

	return at < 2ull * pages && at & 1 ? (uint32_t)(at / 2) | TRACE_SCAN : page;
}

/* Nine of ten touches go to two thirds of what fits, elsewhere every 6 x pages touches. */
static uint32_t hot_set(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	uint64_t base = page_mix(i / (6ull * pages)) % pages;
	uint32_t hot = local / 3 * 2 + 1;

	(void)state;
	if (page_mix(~i) % 10 == 0)
		return below(i, pages);
	return (uint32_t)((base + below(i, hot)) % pages);
}

/* The same, but it moves on by a page every 16 touches. */
static uint32_t wander(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	uint32_t hot = local / 3 * 2 + 1;

	(void)state;
	if (page_mix(~i) % 20 == 0)
		return below(i, pages);
	return (uint32_t)((i / 16 + below(i, hot)) % pages);
}

/* Descents in a tree of fan-out 50 whose leaves are half of the pages, then the row, elsewhere. */
static uint32_t tree(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	uint32_t leaves = pages / 2 + 1, inner = leaves / 50 + 1, above = inner / 50 + 1;
	uint32_t key = (uint32_t)page_shuffle(rank(i / 4, pages, 0.8, state), pages),
		 leaf = key / 2;

	(void)local;
	switch (i % 4) {
	case 0:
		return leaf / 2500 % above;
	case 1:
		return (above + leaf / 50 % inner) % pages;
	case 2:
		return (above + inner + leaf % leaves) % pages;
	default:
		return (uint32_t)page_shuffle(key, pages);
	}
}

/* The k-th page before the newest new one, k skewed: what was touched of late is touched again. */
static uint32_t recent(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state)
{
	double k = pow(chance(i), 4) * 4 * local;

	(void)state;
	return (uint32_t)page_shuffle((i / 8 + 16ull * pages - (uint64_t)k) % pages, pages);
}

static const struct trace_kind kinds[] = {
	{"zipf", {10, 25, 50, 75}, false, zipf},
	{"uniform", {25}, false, uniform},
	{"scan", {25}, true, scan},
	{"loop", {25}, true, loop},
	{"loop-random", {25}, false, loop}, /* not prefetched */
	{"zipf-scans", {25}, true, zipf_scans},
	{"hot-set", {25}, false, hot_set},
	{"wander", {25}, false, wander},
	{"tree", {10, 25}, false, tree},
	{"recent", {25}, false, recent},
};

const struct trace_kind *trace_kind(unsigned i)
{
	return i < sizeof kinds / sizeof *kinds ? &kinds[i] : NULL;
}

int trace_make(struct trace *t, const struct trace_kind *k, uint32_t pages, uint32_t local)
{
	uint64_t state = 0;

	*t = (struct trace){.pages = pages, .ahead = k->ahead};
	t->touches = (uint64_t)pages * TOUCHES_A_PAGE;
	if (t->touches < TOUCHES_MIN)
		t->touches = TOUCHES_MIN;
	t->warm = t->touches / 3;
	t->page = malloc(t->touches * sizeof *t->page);
	if (!t->page)
		return err_fail(-ENOMEM, "no memory for a trace of %llu touches",
				(unsigned long long)t->touches);
	for (uint64_t i = 0; i < t->touches; i++) {
		t->page[i] = k->touch(i, pages, local, &state);
		if (!k->ahead)
			t->page[i] &= ~TRACE_SCAN;
	}
	return 0;
}

static int append(struct trace *t, uint64_t *room, uint32_t page, const char *file)
{
	if (page >= TRACE_SCAN)
		return err_fail(-EINVAL, "%s: page %u is too big", file, page);
	if (t->touches == *room) {
		uint64_t n = *room ? *room * 2 : 1 << 16;
		uint32_t *more = realloc(t->page, n * sizeof *more);

		if (!more)
			return err_fail(-ENOMEM, "%s: no memory for so long a trace", file);
		t->page = more;
		*room = n;
	}
	t->page[t->touches++] = page;
	if (page >= t->pages)
		t->pages = page + 1;
	return 0;
}

static int read_lines(struct trace *t, FILE *f, const char *file)
{
	uint64_t room = 0, page;
	char line[64];

	while (fgets(line, sizeof line, f)) {
		int r;

		line[strcspn(line, "\r\n")] = 0;
		if (!*line || *line == '#')
			continue;
		if (parse_u64(line, 0, TRACE_SCAN - 1, &page))
			return err_fail(-EINVAL, "%s: '%s' is not a page number", file, line);
		r = append(t, &room, (uint32_t)page, file);
		if (r)
			return r;
	}
	return 0;
}

static int read_binary(struct trace *t, FILE *f, const char *file)
{
	uint64_t room = 0;
	unsigned char b[4];
	int r = 0;

	while (!r && fread(b, sizeof b, 1, f) == 1)
		r = append(t, &room,
			   b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24,
			   file);
	return r;
}

int trace_read(struct trace *t, const char *file)
{
	size_t n = strlen(file);
	FILE *f = fopen(file, "re");
	int r;

	*t = (struct trace){0};
	if (!f)
		return err_fail(-errno, "%s: %s", file, strerror(errno));
	r = n > 4 && !strcmp(file + n - 4, ".bin") ? read_binary(t, f, file)
						   : read_lines(t, f, file);
	if (!r && ferror(f))
		r = err_fail(-EIO, "%s: can't be read", file);
	if (!r && !t->touches)
		r = err_fail(-EINVAL, "%s: no page number in it", file);
	fclose(f);
	t->warm = t->touches / 3;
	if (r)
		trace_free(t);
	return r;
}

void trace_free(struct trace *t)
{
	free(t->page);
	*t = (struct trace){0};
}
