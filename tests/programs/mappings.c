/* SPDX-License-Identifier: MIT */
/* `mappings NAME...` runs the tests of these names, `mappings` lists them. */
#include "mappings.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void wrong(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	line[n < (int)sizeof line - 1 ? n : (int)sizeof line - 2] = '\n';
	if (write(2, line, strlen(line)) < 0)
		_exit(2);
	_exit(1);
}

bool under_infuse(void)
{
	return getenv("INFUSE_DONOR") != NULL;
}

char *map_new(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(p != MAP_FAILED, "mmap of %zu bytes: %m", bytes);
	return p;
}

static uint64_t word_of(uint64_t seed, size_t page, size_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + page * 0xbf58476d1ce4e5b9ull + i;

	x ^= x >> 29;
	return x * 0x94d049bb133111ebull | 1;
}

void fill(char *p, size_t bytes, uint64_t seed)
{
	for (size_t page = 0; page < bytes / PAGE; page++) {
		uint64_t *w = (uint64_t *)(void *)(p + page * PAGE);

		for (size_t i = 0; i < PAGE / 8; i++)
			w[i] = word_of(seed, page, i);
	}
}

void check_from(const char *p, size_t bytes, uint64_t seed, size_t first)
{
	for (size_t page = 0; page < bytes / PAGE; page++) {
		const uint64_t *w = (const uint64_t *)(const void *)(p + page * PAGE);

		for (size_t i = 0; i < PAGE / 8; i++)
			REQUIRE(w[i] == word_of(seed, first + page, i),
				"page %zu at %p, word %zu: %#llx instead of %#llx", page,
				(const void *)w, i, (unsigned long long)w[i],
				(unsigned long long)word_of(seed, first + page, i));
	}
}

void check(const char *p, size_t bytes, uint64_t seed)
{
	check_from(p, bytes, seed, 0);
}

void check_zero(const char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		REQUIRE(!((const uint64_t *)(const void *)p)[i], "byte %zu of %p is not zero",
			i * 8, (const void *)p);
}

void churn(void)
{
	static char *area;
	static uint64_t round;

	if (!area)
		area = map_new(12 * MIB);
	else
		check(area, 12 * MIB, round);
	fill(area, 12 * MIB, ++round);
}

static sigjmp_buf out;

static void leave(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static bool faults(char *p, bool write_it)
{
	struct sigaction old, ours = {.sa_handler = leave};
	bool faulted = true;

	sigaction(SIGSEGV, &ours, &old);
	if (!sigsetjmp(out, 1)) {
		if (write_it)
			*(volatile char *)p = *(volatile char *)p;
		else
			(void)*(volatile char *)p;
		faulted = false;
	}
	sigaction(SIGSEGV, &old, NULL);
	return faulted;
}

bool faults_on_read(const char *p)
{
	return faults((char *)(uintptr_t)p, false);
}

bool faults_on_write(char *p)
{
	return faults(p, true);
}

void reap(int pid)
{
	int status;

	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid, "no child: %m");
	REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status), "child ended with status %#x", status);
}

static const struct mapping_test *const all[] = {range_tests, use_tests, fork_tests};

int main(int argc, char **argv)
{
	for (int a = 1; a < argc || argc == 1; a++) {
		bool found = false;

		for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
			for (const struct mapping_test *t = all[i]; t->name; t++) {
				if (argc == 1)
					puts(t->name);
				else if (!strcmp(t->name, argv[a])) {
					t->run();
					found = true;
				}
			}
		}
		if (argc == 1)
			break;
		REQUIRE(found, "there is no test '%s'", argv[a]);
	}
	return 0;
}
