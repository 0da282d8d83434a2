/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for Criterion where ThreadSanitizer is on: Criterion's own memory can't be mapped
 * beside the sanitizer's (github.com/Snaipe/Criterion/issues/274). As much of it as our tests that
 * are labelled tsan use: each test in a process of its own, the same words at the end.
 */
#ifndef TESTS_UNDER_TSAN_CRITERION_H
#define TESTS_UNDER_TSAN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct cri_options {
	void (*init)(void);
	void (*fini)(void);
	double timeout;
};

struct cri_test {
	const char *suite, *name; /* name NULL: the options of a suite */
	void (*run)(void);
	struct cri_options options;
	struct cri_test *next;
};

enum { CRI_FAILED = 1, CRI_SKIPPED = 77 };

static struct cri_test *cri_tests;
static bool cri_bad;

#define TestSuite(s, ...)                                                                          \
	static struct cri_test cri_suite_##s = {.suite = #s, .options = {__VA_ARGS__}};            \
	__attribute__((constructor)) static void cri_add_suite_##s(void)                           \
	{                                                                                          \
		cri_suite_##s.next = cri_tests;                                                    \
		cri_tests = &cri_suite_##s;                                                        \
	}                                                                                          \
	struct cri_test

#define Test(s, n, ...)                                                                            \
	static void cri_run_##s##_##n(void);                                                       \
	static struct cri_test cri_test_##s##_##n = {.suite = #s,                                  \
						     .name = #n,                                   \
						     .run = cri_run_##s##_##n,                     \
						     .options = {__VA_ARGS__}};                    \
	__attribute__((constructor)) static void cri_add_##s##_##n(void)                           \
	{                                                                                          \
		cri_test_##s##_##n.next = cri_tests;                                               \
		cri_tests = &cri_test_##s##_##n;                                                   \
	}                                                                                          \
	static void cri_run_##s##_##n(void)

#define cri_check(fatal, cond, text, ...)                                                          \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "[----] %s:%d: %s", __FILE__, __LINE__, text);             \
			fprintf(stderr, " " __VA_ARGS__);                                          \
			fputc('\n', stderr);                                                       \
			cri_bad = true;                                                            \
			if (fatal)                                                                 \
				_exit(CRI_FAILED);                                                 \
		}                                                                                  \
	} while (0)

#define cr_assert(c, ...)           cri_check(1, c, #c, __VA_ARGS__)
#define cr_assert_not(c, ...)       cri_check(1, !(c), "!" #c, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)     cri_check(1, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)    cri_check(1, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)     cri_check(1, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)    cri_check(1, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)     cri_check(1, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)    cri_check(1, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...)      cri_check(1, !(a), #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...)  cri_check(1, (a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cri_check(1, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)                                                             \
	cri_check(1, !memcmp(a, b, n), #a " has the bytes of " #b, __VA_ARGS__)
#define cr_assert_fail(...)         cri_check(1, false, "failed", __VA_ARGS__)
#define cr_expect(c, ...)           cri_check(0, c, #c, __VA_ARGS__)
#define cr_expect_not(c, ...)       cri_check(0, !(c), "!" #c, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)     cri_check(0, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)    cri_check(0, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)     cri_check(0, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)    cri_check(0, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)     cri_check(0, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)    cri_check(0, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(a, ...)      cri_check(0, !(a), #a " is NULL", __VA_ARGS__)
#define cr_expect_not_null(a, ...)  cri_check(0, (a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) cri_check(0, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_skip_test(...)                                                                          \
	do {                                                                                       \
		fprintf(stderr, " " __VA_ARGS__);                                                  \
		fputc('\n', stderr);                                                               \
		_exit(CRI_SKIPPED);                                                                \
	} while (0)

static void cri_run(const struct cri_test *t)
{
	struct cri_options o = t->options;

	for (const struct cri_test *s = cri_tests; s; s = s->next) {
		if (s->name || strcmp(s->suite, t->suite))
			continue;
		o.init = o.init ? o.init : s->options.init;
		o.fini = o.fini ? o.fini : s->options.fini;
		o.timeout = o.timeout > 0 ? o.timeout : s->options.timeout;
	}
	if (o.timeout > 0)
		alarm((unsigned)(o.timeout * 10)); /* the sanitizer takes its time */
	if (o.init)
		o.init();
	t->run();
	if (o.fini)
		o.fini();
	/* exit(), not _exit(): the sanitizer speaks there. */
	exit(cri_bad ? CRI_FAILED : 0);
}

int main(void)
{
	int tested = 0, passed = 0, failed = 0, crashed = 0, status;

	for (const struct cri_test *t = cri_tests; t; t = t->next) {
		pid_t pid;

		if (!t->name)
			continue;
		fflush(NULL);
		pid = fork();
		if (!pid)
			cri_run(t);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			abort();
		if (WIFEXITED(status) && WEXITSTATUS(status) == CRI_SKIPPED) {
			printf("[SKIP] %s::%s\n", t->suite, t->name);
			continue;
		}
		tested++;
		passed += WIFEXITED(status) && !WEXITSTATUS(status);
		failed += WIFEXITED(status) && WEXITSTATUS(status);
		crashed += !WIFEXITED(status);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			printf("[FAIL] %s::%s: status 0x%x\n", t->suite, t->name, status);
	}
	printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: %d \n", tested,
	       passed, failed, crashed);
	return failed || crashed;
}

#endif
