/* SPDX-License-Identifier: MIT */
/*
 * The explicit heat equation in a cube, 7 points, two grids in turn: what a mechanical code does
 * all day. Each step scans both grids with three planes in use at once. The result is the same bit
 * for bit with any memory and any number of threads, so a hash of it is compared with plain
 * memory's.
 *
 * u' = u + c (sum of the 6 neighbours - 6 u), c = a dt / dx^2 <= 1/6 for stability.
 */
#include "bench/bench.h"

#include <string.h>

#define HEAT_C 0.15

static uint64_t side_of(uint64_t bytes)
{
	uint64_t n = 0;

	while (2 * (n + 8) * (n + 8) * (n + 8) * sizeof(double) <= bytes)
		n += 8;
	return n;
}

/* Both grids begin at a page. */
static uint64_t grid_bytes(uint64_t n)
{
	return (n * n * n * sizeof(double) + BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE;
}

static uint64_t stencil_shape(uint64_t size)
{
	uint64_t n = side_of(size < 2 * BENCH_PAGE ? 0 : size - 2 * BENCH_PAGE);

	return 2 * grid_bytes(n);
}

/* The side whose two grids are w->bytes. */
static uint64_t side(const struct work *w)
{
	return side_of(w->bytes);
}

static double *grid(const struct work *w, unsigned step)
{
	return (double *)(void *)(w->mem + step % 2 * (w->bytes / 2));
}

static int fill_planes(struct work *w, unsigned t)
{
	uint64_t n = side(w), from, to;

	team_share(w, t, n, 1, &from, &to);
	for (unsigned g = 0; g < 2; g++) {
		double *u = grid(w, g) + from * n * n;

		for (uint64_t z = from; z < to; z++)
			for (uint64_t y = 0; y < n; y++)
				for (uint64_t x = 0; x < n; x++)
					*u++ = (double)((x * 7 + y * 13 + z * 29) % 1009) / 8;
	}
	return 0;
}

static int stencil_fill(struct work *w)
{
	return team_run(w, fill_planes);
}

static int step_planes(struct work *w, unsigned t)
{
	uint64_t n = side(w), plane = n * n, from, to;

	/* The faces keep their heat. */
	team_share(w, t, n - 2, 1, &from, &to);
	for (uint64_t z = from + 1; z <= to; z++) {
		for (uint64_t y = 1; y < n - 1; y++) {
			const double *u = grid(w, w->step) + z * plane + y * n;
			double *v = grid(w, w->step + 1) + z * plane + y * n;

			for (uint64_t x = 1; x < n - 1; x++)
				v[x] = u[x] + HEAT_C * (u[x - 1] + u[x + 1] + u[x - n] + u[x + n] +
							u[x - plane] + u[x + plane] - 6 * u[x]);
		}
	}
	return 0;
}

static int stencil_run(struct work *w)
{
	/* A step passes each page of both grids once. */
	w->done_pages = w->pages * w->o->steps;
	for (w->step = 0; w->step < w->o->steps; w->step++) {
		int r = team_run(w, step_planes);

		if (r)
			return r;
	}
	return 0;
}

static int stencil_check(struct work *w, uint64_t *digest)
{
	uint64_t n = side(w), h = n;
	const double *u = grid(w, w->step);

	for (uint64_t i = 0; i < n * n * n; i++) {
		uint64_t bits;

		memcpy(&bits, &u[i], sizeof bits);
		h = ((h << 5 | h >> 59) ^ bits) * 0x9e3779b97f4a7c15ull;
	}
	*digest = h;
	return 0;
}

const struct workload workload_stencil = {
	.name = "stencil",
	.summary = "the heat equation in a cube, 7 points, --steps time steps",
	.floor_is_plain = true,
	.shape = stencil_shape,
	.fill = stencil_fill,
	.run = stencil_run,
	.check = stencil_check,
};
