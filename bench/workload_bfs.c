/* SPDX-License-Identifier: MIT */
/*
 * Breadth-first search, level by level, on a Kronecker graph (R-MAT with 0.57, 0.19, 0.195, 0.045;
 * Chakrabarti et al., SDM 2004) in compressed rows: lists of very different length in random order,
 * and a distance looked up for each of their ends.
 *
 * The graph is generated vertex by vertex, straight into its rows: in R-MAT the number of edges
 * that leave a vertex follows from the zeros and ones of its number (here the expected one is
 * taken), and each bit of an edge's end depends on the same bit of its begin only. Vertices are
 * then renamed, or the big ones would be neighbours.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>
#include <math.h>

#define DEGREE_LEAST 64u /* edges a vertex, on average, as many vertices as that allows */
#define RENAME       0x9e3779b97f4a7c15ull
#define FAR          UINT32_MAX

struct graph {
	unsigned bits;
	uint64_t vertices, edges;
	uint64_t *row; /* vertices + 1 */
	uint32_t *end; /* of each edge */
	uint32_t *distance;
	uint32_t *queue;
};

struct search {
	uint64_t begin, end; /* of the level in the queue */
	uint64_t tail;
	uint32_t depth;
	uint64_t unname; /* inverse of RENAME */
};

static struct graph layout(const struct work *w)
{
	struct graph g = {.bits = 4};

	/* Bytes a vertex: row, distance, place in the queue, edges. */
	while ((2ull << g.bits) * (8 + 4 + 4 + 4 * DEGREE_LEAST) + 8 <= w->bytes)
		g.bits++;
	g.vertices = 1ull << g.bits;
	g.row = (uint64_t *)(void *)w->mem;
	g.distance = (uint32_t *)(g.row + g.vertices + 1);
	g.queue = g.distance + g.vertices;
	g.end = g.queue + g.vertices;
	g.edges = (w->bytes - 8 - g.vertices * 16) / 4;
	return g;
}

static uint64_t bfs_shape(uint64_t size)
{
	return size / BENCH_PAGE * BENCH_PAGE;
}

/* Expected edges that leave a vertex of this R-MAT number, rounded down: all of them fit. */
static uint64_t degree(const struct graph *g, uint64_t number)
{
	int ones = __builtin_popcountll(number);

	return (uint64_t)((double)g->edges * pow(0.24, ones) * pow(0.76, (int)g->bits - ones));
}

/* Bit by bit: after a 0 a 1 comes with 0.25, after a 1 with 3/16. */
static uint64_t edge_end(uint64_t number, uint64_t edge)
{
	uint64_t a = page_mix(2 * edge + 1), b = page_mix(2 * edge + 2);
	uint64_t quarter = a & a >> 32, other = b & b >> 32 & (a | a >> 32);

	return (~number & quarter) | (number & other);
}

static int fill_edges(struct work *w, unsigned t)
{
	const struct search *s = w->priv;
	const struct graph g = layout(w);
	uint64_t mask = g.vertices - 1, from, to;

	team_share(w, t, g.vertices, BENCH_PAGE, &from, &to);
	for (uint64_t v = from; v < to; v++) {
		uint64_t number = v * s->unname & mask;

		for (uint64_t e = g.row[v]; e < g.row[v + 1]; e++)
			g.end[e] = (uint32_t)(edge_end(number, e) * RENAME & mask);
		g.distance[v] = FAR;
		g.queue[v] = FAR;
	}
	return 0;
}

static int bfs_fill(struct work *w)
{
	const struct graph g = layout(w);
	struct search *s;
	uint64_t at = 0;
	int r = work_alloc(w, sizeof *s, &s);

	if (r)
		return r;
	w->priv = s;
	/* Newton: each step doubles the bits that are right. */
	s->unname = RENAME;
	for (unsigned i = 0; i < 6; i++)
		s->unname *= 2 - RENAME * s->unname;
	for (uint64_t v = 0; v < g.vertices; v++) {
		g.row[v] = at;
		at += degree(&g, v * s->unname & (g.vertices - 1));
	}
	g.row[g.vertices] = at;
	if (at > g.edges)
		return err_fail(-ERANGE, "the graph has too many edges");
	return team_run(w, fill_edges);
}

static void visit(struct search *s, const struct graph *g, uint32_t v)
{
	for (uint64_t e = g->row[v]; e < g->row[v + 1]; e++) {
		uint32_t far = FAR, *d = &g->distance[g->end[e]];

		if (__atomic_load_n(d, __ATOMIC_RELAXED) != FAR)
			continue;
		if (__atomic_compare_exchange_n(d, &far, s->depth + 1, false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			g->queue[__atomic_fetch_add(&s->tail, 1, __ATOMIC_RELAXED)] = g->end[e];
	}
}

static int visit_share(struct work *w, unsigned t)
{
	const struct graph g = layout(w);
	struct search *s = w->priv;
	uint64_t from, to;

	team_share(w, t, s->end - s->begin, 64, &from, &to);
	for (uint64_t i = s->begin + from; i < s->begin + to; i++)
		visit(s, &g, g.queue[i]);
	return 0;
}

/* From the vertex with the most edges, whose number is 0. */
static int bfs_run(struct work *w)
{
	const struct graph g = layout(w);
	struct search *s = w->priv;
	int r = 0;

	g.distance[0] = 0;
	g.queue[0] = 0;
	s->begin = 0;
	s->end = s->tail = 1;
	for (s->depth = 0; s->begin < s->end && !r; s->depth++) {
		r = team_run(w, visit_share);
		s->begin = s->end;
		s->end = s->tail;
	}
	w->done_pages = w->pages;
	return r;
}

/* Edges go one further at most, all that was reached was once in the queue, and the graph and the
 * distances are those of plain memory. */
static int bfs_check(struct work *w, uint64_t *digest)
{
	const struct graph g = layout(w);
	const struct search *s = w->priv;
	uint64_t h = s->tail, reached = 0, queued = 0;

	for (uint64_t v = 0; v < g.vertices; v++) {
		uint32_t d = g.distance[v];

		reached += d != FAR;
		for (uint64_t e = g.row[v]; e < g.row[v + 1]; e++) {
			if (d != FAR && g.distance[g.end[e]] > d + 1)
				return err_fail(-EILSEQ, "vertex %u is too far", g.end[e]);
			h = ((h << 5 | h >> 59) ^ g.end[e]) * 0x9e3779b97f4a7c15ull;
		}
		h = ((h << 5 | h >> 59) ^ d ^ g.row[v]) * 0x9e3779b97f4a7c15ull;
		/* The queue's order depends on the threads; its sum does not. */
		queued += g.queue[v] == FAR ? 0 : g.queue[v] + 1ull;
		queued -= d == FAR ? 0 : v + 1;
	}
	if (reached != s->tail || queued)
		return err_fail(-EILSEQ, "the search reached %llu vertices, not %llu",
				(unsigned long long)reached, (unsigned long long)s->tail);
	*digest = h;
	return 0;
}

const struct workload workload_bfs = {
	.name = "bfs",
	.summary = "breadth-first search on a generated Kronecker graph",
	.floor_is_plain = true,
	.shape = bfs_shape,
	.fill = bfs_fill,
	.run = bfs_run,
	.check = bfs_check,
};
