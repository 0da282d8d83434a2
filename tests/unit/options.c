/* SPDX-License-Identifier: MIT */
/* One table parses a command line, checks it, prints the help, and names its options. */
#include "common/options.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct config {
	bool flag;
	const char *text, *kind, *pace;
	struct opt_list list;
	uint64_t size, number, time;
	struct opt_share share;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt table[] = {
	{"flag", 'f', OPT_FLAG, FIELD(flag), NULL, "a flag", NULL, 0, 0, NULL},
	{"text", 't', OPT_STRING, FIELD(text), "WORD", "a word", NULL, 0, 0, NULL},
	{"item", 'i', OPT_LIST, FIELD(list), "WORD", "several", NULL, 0, 0, NULL},
	{"size", 0, OPT_SIZE, FIELD(size), "SIZE", "bytes [4K]", NULL, 4096, 1 << 20, NULL},
	{"share", 0, OPT_SHARE, FIELD(share), "SHARE", "a share", NULL, 0, 0, NULL},
	{"time", 0, OPT_DURATION, FIELD(time), "TIME", "a time", NULL, 1000000, 0, "2s"},
	{"number", 'n', OPT_NUMBER, FIELD(number), "N", "a number", NULL, 1, 10, NULL},
	{"kind", 'k', OPT_CHOICE, FIELD(kind), NULL, "a choice", "tcp|unix|shm", 0, 0, NULL},
};

static const struct opt_command command = {
	.name = "infuse try",
	.usage = "[OPTIONS] [WORD]...",
	.summary = "Tries.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static struct config c;
static int first;

/* Splits line at spaces, as a shell does. */
static int parse(const struct opt_command *cmd, const char *line)
{
	static char copy[1024];
	static char *argv[80];
	int argc = 0;

	c = (struct config){0};
	first = -1;
	snprintf(copy, sizeof copy, "try %s", line);
	for (char *s = strtok(copy, " "); s && argc < 79; s = strtok(NULL, " "))
		argv[argc++] = s;
	argv[argc] = NULL;
	return opt_parse(cmd, argc, argv, &c, &first);
}

static void taken(const char *line)
{
	cr_assert_eq(parse(&command, line), 0, "%s: %s", line, err_text());
}

static void refused(const char *line, int expected, const char *words)
{
	cr_assert_eq(parse(&command, line), expected, "%s", line);
	cr_assert_str_eq(err_text(), words);
}

Test(options, every_type_is_read_into_its_field)
{
	taken("--flag --text=x --item a --item b --size 8K --share 25% --time=3ms "
	      "--number 7 --kind unix");
	cr_assert(c.flag);
	cr_assert_str_eq(c.text, "x");
	cr_assert_eq(c.list.count, 2);
	cr_assert_str_eq(c.list.item[1], "b");
	cr_assert_eq(c.size, 8192);
	cr_assert_eq(c.share.percent, 25);
	cr_assert_eq(c.time, 3000000);
	cr_assert_eq(c.number, 7);
	cr_assert_str_eq(c.kind, "unix");
}

Test(options, short_names_may_be_joined)
{
	taken("-fn3 -tx -i a");
	cr_assert(c.flag);
	cr_assert_eq(c.number, 3);
	cr_assert_str_eq(c.text, "x");
	cr_assert_eq(c.list.count, 1);
}

Test(options, an_implied_argument_may_be_left_out)
{
	taken("--time word");
	cr_assert_eq(c.time, 2000000000);
	cr_assert_eq(first, 2, "the word is not the option's");
	taken("--time=5");
	cr_assert_eq(c.time, 5000000000);
}

Test(options, words_stay_in_order_behind_the_options)
{
	taken("one --flag two -- --text");
	cr_assert(c.flag);
	cr_assert_null(c.text);
	cr_assert_eq(first, 3);
}

Test(options, another_programs_options_are_left_to_it)
{
	struct opt_command stop = command;

	stop.stop_at_word = true;
	cr_assert_eq(parse(&stop, "--flag sort --text=x -n"), 0);
	cr_assert_null(c.text);
	cr_assert_eq(first, 2);
	cr_assert_eq(parse(&stop, "-f -- --text=x"), 0);
	cr_assert_null(c.text);
	cr_assert_eq(first, 3);
}

Test(options, bad_ones_get_one_clear_line)
{
	refused("--foo", -EINVAL, "unknown option '--foo'; see infuse try --help");
	refused("--foo=1", -EINVAL, "unknown option '--foo=1'; see infuse try --help");
	refused("-x", -EINVAL, "unknown option '-x'; see infuse try --help");
	refused("-fx word", -EINVAL, "unknown option '-x'; see infuse try --help");
	refused("--flag=1", -EINVAL, "option '--flag' takes no value; see infuse try --help");
	refused("--text", -EINVAL, "option '--text' needs a value; see infuse try --help");
	refused("-n", -EINVAL, "option '-n' needs a value; see infuse try --help");
	refused("--size=12X", -EINVAL, "--size: '12X' is not a size: unknown unit 'X'");
	refused("--size=1", -ERANGE, "--size: 1 is not between 4 KiB and 1 MiB");
	refused("--size=2M", -ERANGE, "--size: 2M is not between 4 KiB and 1 MiB");
	refused("--number=0", -ERANGE, "--number: 0 is not between 1 and 10");
	refused("--time=1us", -ERANGE, "--time: 1us is not at least 0.001 s");
	refused("--kind=un", -EINVAL, "--kind: 'un' is not one of tcp|unix|shm");
	refused("--kind=", -EINVAL, "--kind: '' is not one of tcp|unix|shm");
	refused("--kind=tcp|unix", -EINVAL, "--kind: 'tcp|unix' is not one of tcp|unix|shm");
}

Test(options, a_list_has_an_end)
{
	char line[1000] = "";

	for (int i = 0; i < OPT_LIST_MAX; i++)
		strcat(line, "-ix ");
	taken(line);
	cr_assert_eq(c.list.count, OPT_LIST_MAX);
	strcat(line, "-ix");
	refused(line, -E2BIG, "--item: given more than 64 times");
}

Test(options, the_help_names_every_option, .init = cr_redirect_stdout)
{
	cr_assert_eq(parse(&command, "--help"), 1);
	fflush(stdout);
	cr_assert_stdout_eq_str("Usage: infuse try [OPTIONS] [WORD]...\n"
				"Tries.\n"
				"\n"
				"  -f, --flag                     a flag\n"
				"  -t, --text=WORD                a word\n"
				"  -i, --item=WORD                several\n"
				"      --size=SIZE                bytes [4K]\n"
				"      --share=SHARE              a share\n"
				"      --time[=TIME]              a time\n"
				"  -n, --number=N                 a number\n"
				"  -k, --kind=tcp|unix|shm        a choice\n"
				"  -h, --help                     print this and exit\n"
				"      --version                  print the version and exit\n");
}

Test(options, the_names_are_dumped_for_the_man_pages_test, .init = cr_redirect_stdout)
{
	cr_assert_eq(parse(&command, "--dump-options"), 1);
	fflush(stdout);
	cr_assert_stdout_eq_str(
		"flag\ntext\nitem\nsize\nshare\ntime\nnumber\nkind\nhelp\nversion\n");
}
