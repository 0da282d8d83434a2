/* SPDX-License-Identifier: MIT */
#include "common/options.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define MAX_OPTIONS 48

enum { OPT_HELP = 1000, OPT_VERSION, OPT_DUMP, OPT_FIRST };

static bool word_in(const char *word, const char *choices)
{
	size_t n = strlen(word);

	if (strchr(word, '|'))
		return false;
	for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
		if (!strncmp(c, word, n) && (c[n] == '|' || !c[n]))
			return true;
	return false;
}

/* Shows a limit the way the option is written. */
static const char *limit_text(const struct opt *o, uint64_t v, char *buf, size_t len)
{
	if (o->type == OPT_SIZE)
		return format_size(v, buf, len);
	if (o->type == OPT_DURATION)
		snprintf(buf, len, "%.6g s", (double)v / 1e9);
	else
		snprintf(buf, len, "%llu", (unsigned long long)v);
	return buf;
}

static int set_number(const struct opt *o, const char *value, uint64_t v, uint64_t *to)
{
	char min[32], max[32];

	if (v < o->min || (o->max && v > o->max))
		return err_fail(-ERANGE, "%s is not %s %s%s%s", value,
				o->max ? "between" : "at least",
				limit_text(o, o->min, min, sizeof min), o->max ? " and " : "",
				o->max ? limit_text(o, o->max, max, sizeof max) : "");
	*to = v;
	return 0;
}

static int set_value(const struct opt *o, const char *value, void *config)
{
	char *field = (char *)config + o->offset;
	struct opt_list *list = (struct opt_list *)(void *)field;
	uint64_t v;
	int r;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_STRING:
		*(const char **)(void *)field = value;
		return 0;
	case OPT_LIST:
		if (list->count == OPT_LIST_MAX)
			return err_fail(-E2BIG, "given more than %d times", OPT_LIST_MAX);
		list->item[list->count++] = value;
		return 0;
	case OPT_SIZE:
		r = parse_size(value, &v);
		return r ? r : set_number(o, value, v, (uint64_t *)(void *)field);
	case OPT_SHARE: {
		struct opt_share *s = (struct opt_share *)(void *)field;

		return parse_share(value, &s->bytes, &s->percent);
	}
	case OPT_DURATION:
		r = parse_duration(value, &v);
		return r ? r : set_number(o, value, v, (uint64_t *)(void *)field);
	case OPT_NUMBER:
		r = parse_u64(value, 0, UINT64_MAX, &v);
		return r ? r : set_number(o, value, v, (uint64_t *)(void *)field);
	case OPT_CHOICE:
		if (!word_in(value, o->choices))
			return err_fail(-EINVAL, "'%s' is not one of %s", value, o->choices);
		*(const char **)(void *)field = value;
		return 0;
	}
	return -EINVAL;
}

static void print_help(const struct opt_command *cmd)
{
	printf("Usage: %s %s\n%s\n\n", cmd->name, cmd->usage, cmd->summary);
	for (size_t i = 0; i < cmd->count; i++) {
		const struct opt *o = &cmd->table[i];
		const char *arg = o->arg ? o->arg : o->choices;
		char left[128];

		snprintf(left, sizeof left, "%c%c%c --%s%s%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
			 o->implied ? "[" : "", arg ? "=" : "", arg ? arg : "",
			 o->implied ? "]" : "");
		printf("  %-30s %s\n", left, o->help);
	}
	printf("  %-30s %s\n  %-30s %s\n", "-h, --help", "print this and exit", "    --version",
	       "print the version and exit");
}

static void print_names(const struct opt_command *cmd)
{
	for (size_t i = 0; i < cmd->count; i++)
		printf("%s\n", cmd->table[i].name);
	printf("help\nversion\n");
}

static int parse_one(const struct opt_command *cmd, int c, void *config)
{
	for (size_t i = 0; i < cmd->count; i++) {
		const struct opt *o = &cmd->table[i];
		int r;

		if (c != OPT_FIRST + (int)i && (!o->letter || c != o->letter))
			continue;
		r = set_value(o, optarg ? optarg : o->implied, config);
		return r ? err_fail(r, "--%s: %s", o->name, err_text()) : 0;
	}
	return -EINVAL;
}

/* What getopt(3) could not make sense of. word: the argument it was looking at. */
static int bad_option(const struct opt_command *cmd, bool no_value, const char *word)
{
	char name[8];

	if (optopt > 0 && optopt < OPT_HELP) {
		snprintf(name, sizeof name, "-%c", optopt);
		word = name;
	}
	if (no_value)
		return err_fail(-EINVAL, "option '%s' needs a value; see %s --help", word,
				cmd->name);
	if (optopt >= OPT_HELP)
		return err_fail(-EINVAL, "option '%.*s' takes no value; see %s --help",
				(int)strcspn(word, "="), word, cmd->name);
	return err_fail(-EINVAL, "unknown option '%s'; see %s --help", word, cmd->name);
}

/* getopt's two tables. shorts: room for 3 bytes an option and 4 more. */
static void make_tables(const struct opt_command *cmd, struct option *longs, char *shorts)
{
	size_t n = 0;

	if (cmd->stop_at_word)
		*shorts++ = '+';
	*shorts++ = ':';
	*shorts++ = 'h';
	for (; n < cmd->count; n++) {
		const struct opt *o = &cmd->table[n];

		longs[n] = (struct option){o->name,
					   o->type == OPT_FLAG ? no_argument
					   : o->implied        ? optional_argument
							       : required_argument,
					   NULL, OPT_FIRST + (int)n};
		if (!o->letter)
			continue;
		*shorts++ = o->letter;
		if (o->type != OPT_FLAG)
			*shorts++ = ':';
		if (o->implied)
			*shorts++ = ':';
	}
	*shorts = 0;
	longs[n++] = (struct option){"help", no_argument, NULL, OPT_HELP};
	longs[n++] = (struct option){"version", no_argument, NULL, OPT_VERSION};
	longs[n++] = (struct option){"dump-options", no_argument, NULL, OPT_DUMP};
}

int opt_parse(const struct opt_command *cmd, int argc, char **argv, void *config, int *first)
{
	struct option longs[MAX_OPTIONS + 4] = {{0}};
	char shorts[3 * MAX_OPTIONS + 4];
	int c, r;

	if (cmd->count > MAX_OPTIONS)
		return err_fail(-E2BIG, "%s has too many options", cmd->name);
	make_tables(cmd, longs, shorts);
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		switch (c) {
		case 'h':
		case OPT_HELP:
			print_help(cmd);
			return 1;
		case OPT_VERSION:
			printf("%s %s\n", cmd->name, INFUSE_VERSION);
			return 1;
		case OPT_DUMP:
			print_names(cmd);
			return 1;
		case ':':
		case '?':
			return bad_option(cmd, c == ':', argv[optind - 1]);
		default:
			r = parse_one(cmd, c, config);
			if (r)
				return r;
		}
	}
	*first = optind;
	return 0;
}
