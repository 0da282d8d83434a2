/* SPDX-License-Identifier: MIT */
/* Medians and quantiles: a mean would tell of the one interrupt instead of the path. */
#include "bench/bench.h"

#include <stdlib.h>

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int by_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

double sample_median(double *v, size_t n)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof *v, by_double);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double sample_quantile_us(uint32_t *v, size_t n, double q)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof *v, by_u32);
	return v[(size_t)((double)(n - 1) * q)] / 1e3;
}

double sample_histogram_us(const uint64_t histogram[32], double q)
{
	double total = 0, left;

	for (unsigned i = 0; i < 32; i++)
		total += (double)histogram[i];
	left = total * q;
	for (unsigned i = 0; i < 32; i++) {
		double here = (double)histogram[i], low = (double)(1ull << i);

		if (here > 0 && left <= here)
			return low * (1 + left / here) / 1e3;
		left -= here;
	}
	return 0;
}
