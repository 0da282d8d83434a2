/* SPDX-License-Identifier: MIT */
/*
 * `infuse VERB`: finds the verb, runs it, and is the only place that prints errors and chooses the
 * exit status: 0, 1 when something failed, 2 when the command line is wrong.
 */
#include "cli/verb.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *text;
} verbs[] = {
#define X(verb, words) {#verb, verb_##verb, words},
	VERBS(X)
#undef X
};

#define COUNT (sizeof verbs / sizeof *verbs)

int verb_no_words(int argc, char **argv, int first)
{
	if (first >= argc)
		return 0;
	return err_fail(VERB_USAGE, "'%s' is not an option; see infuse %s --help", argv[first],
			argv[0]);
}

static void print_help(void)
{
	printf("Usage: infuse VERB [OPTIONS]\n"
	       "Memory injection for Linux clusters: programs use the memory of other nodes.\n\n");
	for (size_t i = 0; i < COUNT; i++)
		printf("  %-10s %s\n", verbs[i].name, verbs[i].text);
	printf("\ninfuse VERB --help tells a verb's options; infuse(1) is the manual.\n");
}

/* Levenshtein's distance, for words shorter than 32 bytes. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[32];

	if (n >= 32 || m >= 32)
		return 32;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned corner = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[m];
}

static int unknown_verb(const char *word)
{
	unsigned best = 32, d;
	size_t nearest = 0;

	for (size_t i = 0; i < COUNT; i++) {
		/* A beginning ("vol") is as near as can be. */
		d = strncmp(verbs[i].name, word, strlen(word)) ? distance(word, verbs[i].name) : 0;
		if (d < best) {
			best = d;
			nearest = i;
		}
	}
	if (best <= 2)
		fprintf(stderr, "infuse: unknown verb '%s'; did you mean '%s'?\n", word,
			verbs[nearest].name);
	else
		fprintf(stderr, "infuse: unknown verb '%s'; infuse --help lists them\n", word);
	return 2;
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	int r = v->run(argc, argv);

	/* What was printed counts only once it is out: the disk may be full. */
	if (fflush(stdout) && r >= 0)
		r = err_fail(-errno, "standard output: %s", strerror(errno));
	if (r >= 0)
		return r;
	fprintf(stderr, "infuse %s: %s\n", v->name, err_text());
	return r == VERB_USAGE ? 2 : 1;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "infuse: which verb? infuse --help lists them\n");
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help();
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("infuse %s\n", INFUSE_VERSION);
		return 0;
	}
	if (!strcmp(argv[1], "--dump-verbs")) {
		for (size_t i = 0; i < COUNT; i++)
			printf("%s\n", verbs[i].name);
		return 0;
	}
	for (size_t i = 0; i < COUNT; i++)
		if (!strcmp(argv[1], verbs[i].name))
			return run_verb(&verbs[i], argc - 1, argv + 1);
	if (argv[1][0] == '-') {
		fprintf(stderr, "infuse: unknown option '%s'; see infuse --help\n", argv[1]);
		return 2;
	}
	return unknown_verb(argv[1]);
}
