/* SPDX-License-Identifier: MIT */
/*
 * For programs that prove that memory works as the manuals say. They know nothing of Infuse, but
 * for where it may refuse; so each is right under a plain kernel, too, and is run there first.
 */
#ifndef TESTS_MAPPINGS_H
#define TESTS_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096ul
#define MIB  (1ul << 20)

/* Prints what is wrong and ends the process with status 1. */
_Noreturn void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define REQUIRE(cond, ...)                                                                         \
	do {                                                                                       \
		if (!(cond))                                                                       \
			wrong(__VA_ARGS__);                                                        \
	} while (0)

/* Private anonymous memory. */
char *map_new(size_t bytes);
/* Every word of every page is made of seed, the page's number and its own. */
void fill(char *p, size_t bytes, uint64_t seed);
/* first: the number of p's page when it was filled. */
void check_from(const char *p, size_t bytes, uint64_t seed, size_t first);
void check(const char *p, size_t bytes, uint64_t seed);
void check_zero(const char *p, size_t bytes);
/* Pushes everything else out of a local cache of a few MiB. */
void churn(void);
/* True if the access gets SIGSEGV. */
bool faults_on_read(const char *p);
bool faults_on_write(char *p);
/* Waits for a child and requires that it ended with 0. */
void reap(int pid);

bool under_infuse(void);

/* One test: its name is a sentence's short form. */
struct mapping_test {
	const char *name;
	void (*run)(void);
};
extern const struct mapping_test range_tests[], fork_tests[], use_tests[];

#endif
