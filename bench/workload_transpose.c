/* SPDX-License-Identifier: MIT */
/*
 * B[j][i] = A[i][j], the naive way or in blocks. Naive: A is a scan, B a walk down its columns, one
 * page in many at a time. A stride prefetcher's case. The side is a multiple of 512 doubles, so
 * that a column's elements lie at the same place of their pages, the worst for caches. Elements are
 * checked one by one against what their indices say.
 */
#include "bench/bench.h"
#include "common/error.h"

#include <errno.h>

#define SIDE_STEP 512u

static uint64_t side_of(uint64_t bytes)
{
	uint64_t side = 0;

	while (2 * (side + SIDE_STEP) * (side + SIDE_STEP) * sizeof(double) <= bytes)
		side += SIDE_STEP;
	return side;
}

static uint64_t transpose_shape(uint64_t size)
{
	uint64_t side = side_of(size);

	return 2 * side * side * sizeof(double);
}

static double element(uint64_t i, uint64_t j)
{
	return (double)(i * 1048583 + j * 3 + 1);
}

static double *matrix(const struct work *w, unsigned which)
{
	return (double *)(void *)(w->mem + which * (w->bytes / 2));
}

static int fill_rows(struct work *w, unsigned t)
{
	uint64_t side = side_of(w->bytes), from, to;
	double *a = matrix(w, 0), *b = matrix(w, 1);

	team_share(w, t, side, 1, &from, &to);
	for (uint64_t i = from; i < to; i++)
		for (uint64_t j = 0; j < side; j++)
			a[i * side + j] = element(i, j);
	/* B has been written before, or its pages would be zeros that nobody fetches. */
	for (uint64_t i = from; i < to; i++)
		for (uint64_t j = 0; j < side; j++)
			b[i * side + j] = -1;
	return 0;
}

static int transpose_fill(struct work *w)
{
	return team_run(w, fill_rows);
}

static int transpose_rows(struct work *w, unsigned t)
{
	uint64_t side = side_of(w->bytes), from, to;
	/* A naive one is a block of one row. */
	uint64_t tall = w->o->block ? w->o->block : 1, wide = w->o->block ? w->o->block : side;
	const double *a = matrix(w, 0);
	double *b = matrix(w, 1);

	/* Shares are whole pages of B's rows: threads don't write to each other's pages. */
	team_share(w, t, side, SIDE_STEP, &from, &to);
	for (uint64_t i0 = from; i0 < to; i0 += tall)
		for (uint64_t j0 = 0; j0 < side; j0 += wide)
			for (uint64_t i = i0; i < i0 + tall && i < to; i++)
				for (uint64_t j = j0; j < j0 + wide && j < side; j++)
					b[j * side + i] = a[i * side + j];
	return 0;
}

static int transpose_run(struct work *w)
{
	w->done_pages = w->pages;
	return team_run(w, transpose_rows);
}

static int transpose_check(struct work *w, uint64_t *digest)
{
	uint64_t side = side_of(w->bytes);
	const double *b = matrix(w, 1);

	*digest = side;
	for (uint64_t j = 0; j < side; j++)
		for (uint64_t i = 0; i < side; i++)
			if (b[j * side + i] != element(i, j))
				return err_fail(-EILSEQ, "B[%llu][%llu] is %g, not %g",
						(unsigned long long)j, (unsigned long long)i,
						b[j * side + i], element(i, j));
	return 0;
}

const struct workload workload_transpose = {
	.name = "transpose",
	.summary = "B[j][i] = A[i][j] of doubles, row by row of A or in blocks (--block)",
	.floor_is_plain = true,
	.shape = transpose_shape,
	.fill = transpose_fill,
	.run = transpose_run,
	.check = transpose_check,
};
