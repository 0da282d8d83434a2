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

	for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
		if (!strncmp(c, word, n) && (c[n] == '|' || !c[n]))
			return true;
	return false;
}

static int set_number(const struct opt *o, uint64_t v, uint64_t *to)
{
	if (v < o->min || (o->max && v > o->max))
		return err_fail(-ERANGE, "--%s must be between %llu and %llu", o->name,
				(unsigned long long)o->min,
				(unsigned long long)(o->max ? o->max : UINT64_MAX));
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
			return err_fail(-E2BIG, "--%s given more than %d times", o->name,
					OPT_LIST_MAX);
		list->item[list->count++] = value;
		return 0;
	case OPT_SIZE:
		r = parse_size(value, &v);
		return r ? r : set_number(o, v, (uint64_t *)(void *)field);
	case OPT_SHARE: {
		struct opt_share *s = (struct opt_share *)(void *)field;

		return parse_share(value, &s->bytes, &s->percent);
	}
	case OPT_DURATION:
		return parse_duration(value, (uint64_t *)(void *)field);
	case OPT_NUMBER:
		r = parse_u64(value, 0, UINT64_MAX, &v);
		return r ? r : set_number(o, v, (uint64_t *)(void *)field);
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
		char left[64];

		snprintf(left, sizeof left, "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
			 o->arg ? "=" : "", o->arg ? o->arg : "");
		printf("  %-30s %s\n", left, o->help);
	}
	printf("  %-30s %s\n  %-30s %s\n", "-h, --help", "print this and exit", "    --version",
	       "print the version and exit");
}

static int parse_one(const struct opt_command *cmd, int c, void *config)
{
	for (size_t i = 0; i < cmd->count; i++) {
		const struct opt *o = &cmd->table[i];
		int r;

		if (c != OPT_FIRST + (int)i && (!o->letter || c != o->letter))
			continue;
		r = set_value(o, optarg, config);
		if (r) {
			char why[400];

			snprintf(why, sizeof why, "%s", err_text());
			return err_fail(r, "--%s: %s", o->name, why);
		}
		return 0;
	}
	return -EINVAL;
}

int opt_parse(const struct opt_command *cmd, int argc, char **argv, void *config, int *first)
{
	struct option longs[MAX_OPTIONS + 4] = {{0}};
	char shorts[2 * MAX_OPTIONS + 8];
	size_t s = 0, n = 0;
	int c, r;

	if (cmd->count > MAX_OPTIONS)
		return err_fail(-E2BIG, "%s has too many options", cmd->name);
	if (cmd->stop_at_word)
		shorts[s++] = '+';
	shorts[s++] = ':';
	shorts[s++] = 'h';
	for (; n < cmd->count; n++) {
		const struct opt *o = &cmd->table[n];

		longs[n] = (struct option){o->name, o->type == OPT_FLAG ? no_argument : required_argument,
					   NULL, OPT_FIRST + (int)n};
		if (o->letter) {
			shorts[s++] = o->letter;
			if (o->type != OPT_FLAG)
				shorts[s++] = ':';
		}
	}
	shorts[s] = 0;
	longs[n++] = (struct option){"help", no_argument, NULL, OPT_HELP};
	longs[n++] = (struct option){"version", no_argument, NULL, OPT_VERSION};
	longs[n++] = (struct option){"dump-options", no_argument, NULL, OPT_DUMP};

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
			for (size_t i = 0; i < cmd->count; i++)
				printf("%s\n", cmd->table[i].name);
			return 1;
		case ':':
			return err_fail(-EINVAL, "option '%s' needs a value; see %s --help",
					argv[optind - 1], cmd->name);
		case '?':
			return err_fail(-EINVAL, "unknown option '%s'; see %s --help",
					argv[optind - 1], cmd->name);
		default:
			r = parse_one(cmd, c, config);
			if (r)
				return r;
		}
	}
	*first = optind;
	return 0;
}
