/* SPDX-License-Identifier: MIT */
#include "common/parse.h"
#include "common/error.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_unit(const char *s, const char *what, const char *const *names,
		      const double *factors, size_t n, double *value)
{
	char *end;
	double v;

	if (!isdigit((unsigned char)*s) && *s != '.')
		return err_fail(-EINVAL, "'%s' is not a %s", s, what);
	errno = 0;
	v = strtod(s, &end);
	if (errno || !isfinite(v))
		return err_fail(-ERANGE, "'%s' is out of range for a %s", s, what);
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(end, names[i]))
			continue;
		v *= factors[i];
		if (v >= 9.2e18)
			return err_fail(-ERANGE, "'%s' is out of range for a %s", s, what);
		*value = v;
		return 0;
	}
	return err_fail(-EINVAL, "'%s' is not a %s: unknown unit '%s'", s, what, end);
}

int parse_size(const char *s, uint64_t *bytes)
{
	static const char *const names[] = {"",  "B",  "K",   "KB",  "KiB", "M",  "MB",
					    "MiB", "G", "GB", "GiB", "T",   "TB", "TiB"};
	static const double k = 1024, m = k * k, g = m * k, t = g * k;
	static const double factors[] = {1, 1, k, k, k, m, m, m, g, g, g, t, t, t};
	double v;
	int r = parse_unit(s, "size", names, factors, sizeof factors / sizeof *factors, &v);

	if (r)
		return r;
	*bytes = (uint64_t)v;
	return 0;
}

int parse_share(const char *s, uint64_t *bytes, unsigned *percent)
{
	size_t n = strlen(s);
	char *end;

	if (n && s[n - 1] == '%') {
		unsigned long p = strtoul(s, &end, 10);

		if (!isdigit((unsigned char)*s) || end != s + n - 1 || p < 1 || p > 100)
			return err_fail(-EINVAL, "'%s' is not a share: use 1%% to 100%%", s);
		*percent = (unsigned)p;
		*bytes = 0;
		return 0;
	}
	*percent = 0;
	return parse_size(s, bytes);
}

int parse_duration(const char *s, uint64_t *ns)
{
	static const char *const names[] = {"", "ns", "us", "ms", "s", "m", "min", "h"};
	static const double factors[] = {1e9, 1, 1e3, 1e6, 1e9, 60e9, 60e9, 3600e9};
	double v;
	int r = parse_unit(s, "time", names, factors, sizeof factors / sizeof *factors, &v);

	if (r)
		return r;
	*ns = (uint64_t)v;
	return 0;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)*s))
		return err_fail(-EINVAL, "'%s' is not a number", s);
	errno = 0;
	v = strtoull(s, &end, 0);
	if (*end)
		return err_fail(-EINVAL, "'%s' is not a number", s);
	if (errno || v < min || v > max)
		return err_fail(-ERANGE, "'%s' is not between %llu and %llu", s,
				(unsigned long long)min, (unsigned long long)max);
	*value = v;
	return 0;
}

const char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < sizeof units / sizeof *units) {
		v /= 1024;
		u++;
	}
	snprintf(buf, len, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[u]);
	return buf;
}
