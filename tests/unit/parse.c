/* SPDX-License-Identifier: MIT */
/* What people write as sizes, shares, times and numbers, and how sizes are written for them. */
#include "common/parse.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static uint64_t size_of(const char *s)
{
	uint64_t v = 1234567;

	cr_assert_eq(parse_size(s, &v), 0, "%s", err_text());
	return v;
}

static void refused(int got, int expected, const char *words)
{
	cr_assert_eq(got, expected, "%d: %s", got, err_text());
	cr_assert(strstr(err_text(), words), "'%s' is not in '%s'", words, err_text());
}

Test(parse, sizes_are_powers_of_1024)
{
	cr_assert_eq(size_of("0"), 0);
	cr_assert_eq(size_of("4096"), 4096);
	cr_assert_eq(size_of("64K"), 65536);
	cr_assert_eq(size_of("64kib"), 65536);
	cr_assert_eq(size_of("2GiB"), 2ull << 30);
	cr_assert_eq(size_of("1.5G"), 3ull << 29);
	cr_assert_eq(size_of(".5m"), 1 << 19);
	cr_assert_eq(size_of("3TB"), 3ull << 40);
	cr_assert_eq(size_of("9223372036854775807"), INT64_MAX, "large sizes are exact");
	cr_assert_eq(size_of("9007199254740993"), 9007199254740993ull, "large sizes are exact");
}

Test(parse, what_is_no_size_is_refused_and_the_output_untouched)
{
	uint64_t v = 5;

	refused(parse_size("", &v), -EINVAL, "'' is not a size");
	refused(parse_size("much", &v), -EINVAL, "'much' is not a size");
	refused(parse_size("-1", &v), -EINVAL, "'-1' is not a size");
	refused(parse_size(" 1", &v), -EINVAL, "' 1' is not a size");
	refused(parse_size(".", &v), -EINVAL, "'.' is not a size");
	refused(parse_size("1X", &v), -EINVAL, "unknown unit 'X'");
	refused(parse_size("1GiBs", &v), -EINVAL, "unknown unit 'GiBs'");
	refused(parse_size("0x10", &v), -EINVAL, "unknown unit 'x10'");
	refused(parse_size("1e9", &v), -EINVAL, "unknown unit 'e9'");
	refused(parse_size("nan", &v), -EINVAL, "'nan' is not a size");
	refused(parse_size("8388608T", &v), -ERANGE, "out of range");
	refused(parse_size("99999999999999999999", &v), -ERANGE, "out of range");
	refused(parse_size("99999999.5T", &v), -ERANGE, "out of range");
	cr_assert_eq(v, 5);
}

Test(parse, a_share_is_a_percentage_or_a_size)
{
	uint64_t bytes = 7;
	unsigned percent = 9;

	cr_assert_eq(parse_share("25%", &bytes, &percent), 0);
	cr_assert_eq(percent, 25);
	cr_assert_eq(bytes, 0);
	cr_assert_eq(parse_share("64M", &bytes, &percent), 0);
	cr_assert_eq(percent, 0);
	cr_assert_eq(bytes, 64 << 20);
	refused(parse_share("0%", &bytes, &percent), -EINVAL, "1% to 100%");
	refused(parse_share("101%", &bytes, &percent), -EINVAL, "1% to 100%");
	refused(parse_share("%", &bytes, &percent), -EINVAL, "1% to 100%");
	refused(parse_share("-5%", &bytes, &percent), -EINVAL, "1% to 100%");
	refused(parse_share("18446744073709551617%", &bytes, &percent), -EINVAL, "1% to 100%");
	refused(parse_share("", &bytes, &percent), -EINVAL, "not a size");
	cr_assert_eq(percent, 0);
	cr_assert_eq(bytes, 64 << 20);
}

Test(parse, a_time_without_a_unit_is_seconds)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} cases[] = {{"1", 1000000000},
		     {"250us", 250000},
		     {"30ms", 30000000},
		     {"0.5", 500000000},
		     {"1.5s", 1500000000},
		     {"2m", 120000000000},
		     {"2min", 120000000000},
		     {"1h", 3600000000000},
		     {"7ns", 7},
		     {"0", 0}};
	uint64_t ns;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		cr_assert_eq(parse_duration(cases[i].text, &ns), 0, "%s", err_text());
		cr_assert_eq(ns, cases[i].ns, "%s", cases[i].text);
	}
	refused(parse_duration("soon", &ns), -EINVAL, "'soon' is not a time");
	refused(parse_duration("1y", &ns), -EINVAL, "unknown unit 'y'");
	refused(parse_duration("9999999999h", &ns), -ERANGE, "out of range");
}

Test(parse, numbers_are_decimal_or_hexadecimal_and_within_their_bounds)
{
	uint64_t v = 3;

	cr_assert_eq(parse_u64("08", 0, 10, &v), 0, "%s", err_text());
	cr_assert_eq(v, 8);
	cr_assert_eq(parse_u64("0x10", 0, 100, &v), 0);
	cr_assert_eq(v, 16);
	cr_assert_eq(parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	cr_assert_eq(v, UINT64_MAX);
	refused(parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE, "not between");
	refused(parse_u64("11", 1, 10, &v), -ERANGE, "'11' is not between 1 and 10");
	refused(parse_u64("-1", 0, 10, &v), -EINVAL, "not a number");
	refused(parse_u64("1x", 0, 10, &v), -EINVAL, "not a number");
	refused(parse_u64("0x", 0, 10, &v), -EINVAL, "not a number");
	refused(parse_u64("", 0, 10, &v), -EINVAL, "not a number");
	cr_assert_eq(v, UINT64_MAX);
}

Test(parse, sizes_are_written_for_people)
{
	char s[24];

	cr_assert_str_eq(format_size(0, s, sizeof s), "0 B");
	cr_assert_str_eq(format_size(1023, s, sizeof s), "1023 B");
	cr_assert_str_eq(format_size(4096, s, sizeof s), "4 KiB");
	cr_assert_str_eq(format_size(3ull << 29, s, sizeof s), "1.5 GiB");
	cr_assert_str_eq(format_size(UINT64_MAX, s, sizeof s), "16384 PiB");
}
