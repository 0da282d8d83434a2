/* SPDX-License-Identifier: MIT */
#include "common/parse.h"
#include "common/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit *find_unit(const struct unit *units, const char *name)
{
	for (; units->name; units++)
		if (!strcasecmp(units->name, name))
			return units;
	return NULL;
}

/* A number and a unit. Whole numbers are exact; only fractions go through floating point. */
static int parse_unit(const char *s, const char *what, const struct unit *units, uint64_t *value)
{
	size_t whole = strspn(s, "0123456789"), n = whole;
	const struct unit *u;
	double v;

	if (s[n] == '.')
		n += 1 + strspn(s + n + 1, "0123456789");
	if (!n || (n == 1 && *s == '.'))
		return err_fail(-EINVAL, "'%s' is not a %s", s, what);
	u = find_unit(units, s + n);
	if (!u)
		return err_fail(-EINVAL, "'%s' is not a %s: unknown unit '%s'", s, what, s + n);
	errno = 0;
	if (n == whole) {
		unsigned long long i = strtoull(s, NULL, 10);

		if (errno || __builtin_mul_overflow(i, u->factor, value) || *value > INT64_MAX)
			return err_fail(-ERANGE, "'%s' is out of range for a %s", s, what);
		return 0;
	}
	v = strtod(s, NULL) * (double)u->factor;
	if (errno || v >= 9.2e18)
		return err_fail(-ERANGE, "'%s' is out of range for a %s", s, what);
	*value = (uint64_t)v;
	return 0;
}

int parse_size(const char *s, uint64_t *bytes)
{
	const uint64_t k = 1ull << 10, m = 1ull << 20, g = 1ull << 30, t = 1ull << 40;
	const struct unit units[] = {
		{"", 1},    {"B", 1},  {"K", k},   {"KB", k},  {"KiB", k},
		{"M", m},   {"MB", m}, {"MiB", m}, {"G", g},   {"GB", g},
		{"GiB", g}, {"T", t},  {"TB", t},  {"TiB", t}, {NULL, 0},
	};
	uint64_t v;
	int r = parse_unit(s, "size", units, &v);

	if (!r)
		*bytes = v;
	return r;
}

int parse_share(const char *s, uint64_t *bytes, unsigned *percent)
{
	size_t n = strlen(s);
	char *end;
	int r;

	if (n && s[n - 1] == '%') {
		unsigned long p = strtoul(s, &end, 10);

		if (!isdigit((unsigned char)*s) || end != s + n - 1 || p < 1 || p > 100)
			return err_fail(-EINVAL, "'%s' is not a share: use 1%% to 100%%", s);
		*percent = (unsigned)p;
		*bytes = 0;
		return 0;
	}
	r = parse_size(s, bytes);
	if (!r)
		*percent = 0;
	return r;
}

int parse_duration(const char *s, uint64_t *ns)
{
	static const struct unit units[] = {
		{"", 1000000000ull},
		{"ns", 1},
		{"us", 1000},
		{"ms", 1000000},
		{"s", 1000000000ull},
		{"m", 60000000000ull},
		{"min", 60000000000ull},
		{"h", 3600000000000ull},
		{NULL, 0},
	};
	uint64_t v;
	int r = parse_unit(s, "time", units, &v);

	if (!r)
		*ns = v;
	return r;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)*s))
		return err_fail(-EINVAL, "'%s' is not a number", s);
	errno = 0;
	/* A leading zero is no octal here: people write "08". */
	v = strtoull(s, &end, s[0] == '0' && (s[1] | 32) == 'x' ? 16 : 10);
	if (*end)
		return err_fail(-EINVAL, "'%s' is not a number", s);
	if (errno || v < min || v > max)
		return err_fail(-ERANGE, "'%s' is not between %llu and %llu", s,
				(unsigned long long)min, (unsigned long long)max);
	*value = v;
	return 0;
}

int parse_code(const char *s, unsigned *data, unsigned *parity)
{
	if (!strchr("248", s[0]) || !s[0] || s[1] != '+' || s[2] < '1' || s[2] > '8' || s[3])
		return err_fail(-EINVAL,
				"'%s' is not a code: 2, 4 or 8 fragments and 1 to 8 parities, as 4+2",
				s);
	*data = (unsigned)(s[0] - '0');
	*parity = (unsigned)(s[2] - '0');
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
