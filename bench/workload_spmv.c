/* SPDX-License-Identifier: MIT */
/*
 * A sparse matrix (compressed rows) times a vector, --steps times, each result the next vector: a
 * scan of the matrix, and of x a band around the diagonal plus single elements anywhere. Rows have
 * 8 to 24 elements, three quarters of them in the band. A row's sum is always taken in the same
 * order, so the result is that of plain memory bit for bit.
 */
#include "bench/bench.h"

#include <string.h>

#define PERIOD  17u   /* rows have 8 + i % 17 elements */
#define A_ROW   16u   /* on average */
#define BAND    4096u /* columns to either side */
#define PER_ROW (3 * 8 + A_ROW * (8 + 4))

struct matrix {
	uint64_t rows;
	uint64_t *start; /* rows + 1 */
	double *value;
	double *x[2];
	uint32_t *column;
};

static uint64_t rows_of(uint64_t bytes)
{
	return bytes < 8 ? 0 : (bytes - 8) / PER_ROW / PERIOD * PERIOD;
}

static uint64_t spmv_shape(uint64_t size)
{
	uint64_t rows = rows_of(size / BENCH_PAGE * BENCH_PAGE);

	return rows && rows <= UINT32_MAX ? size / BENCH_PAGE * BENCH_PAGE : 0;
}

static struct matrix layout(const struct work *w)
{
	struct matrix m = {.rows = rows_of(w->bytes)};

	m.start = (uint64_t *)(void *)w->mem;
	m.value = (double *)(m.start + m.rows + 1);
	m.x[0] = m.value + m.rows * A_ROW;
	m.x[1] = m.x[0] + m.rows;
	m.column = (uint32_t *)(m.x[1] + m.rows);
	return m;
}

/* Elements before row i. */
static uint64_t before(uint64_t i)
{
	uint64_t rest = i % PERIOD;

	return i / PERIOD * PERIOD * A_ROW + rest * 8 + (rest ? rest * (rest - 1) / 2 : 0);
}

static uint32_t column_of(uint64_t rows, uint64_t row, uint64_t random, unsigned k)
{
	uint64_t at = k % 4 == 3 ? random : row + rows + random % (2 * BAND) - BAND % rows;

	return (uint32_t)(at % rows);
}

static int fill_rows(struct work *w, unsigned t)
{
	const struct matrix m = layout(w);
	uint64_t from, to;

	team_share(w, t, m.rows, BENCH_PAGE, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		uint64_t at = before(i), end = before(i + 1);

		m.start[i] = at;
		for (unsigned k = 0; at + k < end; k++) {
			uint64_t random = page_mix((at + k) * 2 + 1) >> 8;

			m.column[at + k] = column_of(m.rows, i, random, k);
			m.value[at + k] = ((double)(random % 2001) - 1000) / 8192;
		}
		m.x[0][i] = (double)(i % 1009) / 8 + 1;
		m.x[1][i] = -1;
	}
	if (t + 1 == w->threads)
		m.start[m.rows] = before(m.rows);
	return 0;
}

static int spmv_fill(struct work *w)
{
	return team_run(w, fill_rows);
}

static int step_rows(struct work *w, unsigned t)
{
	const struct matrix m = layout(w);
	const double *x = m.x[w->step % 2];
	double *y = m.x[(w->step + 1) % 2];
	uint64_t from, to;

	team_share(w, t, m.rows, BENCH_PAGE, &from, &to);
	for (uint64_t i = from; i < to; i++) {
		double sum = 0;

		for (uint64_t k = m.start[i]; k < m.start[i + 1]; k++)
			sum += m.value[k] * x[m.column[k]];
		y[i] = sum;
	}
	return 0;
}

static int spmv_run(struct work *w)
{
	w->done_pages = w->pages * w->o->steps;
	for (w->step = 0; w->step < w->o->steps; w->step++) {
		int r = team_run(w, step_rows);

		if (r)
			return r;
	}
	return 0;
}

/* Over the matrix and both vectors: everything that was stored. */
static int spmv_check(struct work *w, uint64_t *digest)
{
	const struct matrix m = layout(w);
	uint64_t words = (uint64_t)((char *)(m.column + m.rows * A_ROW) - w->mem) / 8, h = words;

	for (uint64_t i = 0; i < words; i++) {
		uint64_t bits;

		memcpy(&bits, w->mem + i * 8, sizeof bits);
		h = ((h << 5 | h >> 59) ^ bits) * 0x9e3779b97f4a7c15ull;
	}
	*digest = h;
	return 0;
}

const struct workload workload_spmv = {
	.name = "spmv",
	.summary = "a sparse matrix times a vector, --steps times",
	.floor_is_plain = true,
	.shape = spmv_shape,
	.fill = spmv_fill,
	.run = spmv_run,
	.check = spmv_check,
};
