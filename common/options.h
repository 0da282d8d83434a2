/* SPDX-License-Identifier: MIT */
/*
 * One table says a command's options: it parses them, checks them, prints the help, and a test
 * compares it with the man page. `--dump-options` prints the long names, one a line, for that.
 * Every command has -h, --help and --version beside its own.
 */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

enum opt_type {
	OPT_FLAG,     /* bool: set to true */
	OPT_STRING,   /* const char * */
	OPT_LIST,     /* struct opt_list: may be given several times */
	OPT_SIZE,     /* uint64_t, bytes ("64M") */
	OPT_SHARE,    /* struct opt_share ("64M" or "25%") */
	OPT_DURATION, /* uint64_t, ns ("250ms") */
	OPT_NUMBER,   /* uint64_t */
	OPT_CHOICE,   /* const char *, one of the words in .choices ("tcp|unix|shm") */
};

#define OPT_LIST_MAX 64

struct opt_list {
	const char *item[OPT_LIST_MAX];
	unsigned count;
};

struct opt_share {
	uint64_t bytes;
	unsigned percent; /* 0 when bytes says it */
};

struct opt {
	const char *name; /* long name, without the dashes */
	char letter;      /* short name or 0 */
	enum opt_type type;
	size_t offset;       /* of the field in the caller's struct */
	const char *arg;     /* what the help calls the argument: "SIZE" */
	const char *help;    /* one line; says the default */
	const char *choices; /* OPT_CHOICE */
	uint64_t min, max;   /* OPT_NUMBER, OPT_SIZE, OPT_DURATION; max 0: no limit */
	const char *implied; /* the argument may be left out ("--watch"), then it is this */
};

struct opt_command {
	const char *name;    /* "infuse run" */
	const char *usage;   /* "[OPTIONS] -- COMMAND [ARGS]..." */
	const char *summary; /* one line */
	const struct opt *table;
	size_t count;
	bool stop_at_word; /* what follows the first word belongs to another program */
};

/*
 * Fills config. Returns 0 and the index of the first word that is no option in *first, or 1 when
 * help or version was asked for and printed, or a negative errno with err_text() set. argv is
 * permuted unless stop_at_word. Blocks never.
 */
int opt_parse(const struct opt_command *cmd, int argc, char **argv, void *config, int *first);

#endif
