/* SPDX-License-Identifier: MIT */
/*
 * The verbs of `infuse`. To add one: write cli/NAME.c with verb_NAME(), add a line here and the
 * file to CMakeLists.txt, and its man page infuse-NAME.1 beside it.
 */
#ifndef CLI_VERB_H
#define CLI_VERB_H

/* X(verb, what it does, in one line of the help) */
#define VERBS(X)                                                                                   \
	X(run, "run a program whose memory is the donors'")                                        \
	X(check, "say what this machine can do")                                                   \
	X(serve, "lend memory: run a memory server (infuse-memory-server)")                        \
	X(donors, "list the donors and how they are")                                              \
	X(volumes, "list who uses the donors' memory")                                             \
	X(up, "make a device of rswap.conf and swap to it")                                        \
	X(down, "stop swapping to a device and remove it")                                         \
	X(key, "make, show and change keys")                                                       \
	X(stat, "show pages in and out, once or over and over")                                    \
	X(drain, "empty a donor, for its maintenance")                                             \
	X(rebalance, "spread what is lent evenly over the donors")                                 \
	X(attach, "make a block device of the donors' memory, for swap or a file system")          \
	X(detach, "remove such a device")                                                          \
	X(devices, "list such devices")                                                            \
	X(bench, "measure (infuse-bench)")

/*
 * Each gets its own name as argv[0] and returns what the process exits with (0 to 255), a negative
 * errno with err_text() set, which main.c prints, or VERB_USAGE for words about the command line.
 */
#define X(verb, text) int verb_##verb(int argc, char **argv);
VERBS(X)
#undef X

#define VERB_USAGE (-100000)

/* For verbs that take options only: VERB_USAGE when there is a word left at argv[first]. [text] */
int verb_no_words(int argc, char **argv, int first);

/*
 * Runs another program of this project in place of this one, with the same arguments: the one
 * beside this executable, else in ../libexec/infuse, else in PATH. Returns only on failure. [text]
 */
int exec_program(const char *program, char **argv);

#endif
