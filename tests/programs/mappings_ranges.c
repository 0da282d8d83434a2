/* SPDX-License-Identifier: MIT */
/* Changes to parts of a mapping: the rest stays as it was, and nothing old comes back. */
#include "mappings.h"

#include <errno.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void grows_and_shrinks(void)
{
	char *p = map_new(8 * MIB), *q;

	fill(p, 8 * MIB, 1);
	q = mremap(p, 8 * MIB, 24 * MIB, MREMAP_MAYMOVE);
	REQUIRE(q != MAP_FAILED, "grow: %m");
	check(q, 8 * MIB, 1);
	check_zero(q + 8 * MIB, 16 * MIB);
	fill(q, 24 * MIB, 2);
	REQUIRE(mremap(q, 24 * MIB, 4 * MIB, 0) == q, "shrink: %m");
	check(q, 4 * MIB, 2);
	p = mremap(q, 4 * MIB, 9 * MIB, MREMAP_MAYMOVE);
	REQUIRE(p != MAP_FAILED, "grow again: %m");
	check(p, 4 * MIB, 2);
	check_zero(p + 4 * MIB, 5 * MIB);
	REQUIRE(!munmap(p, 9 * MIB), "munmap: %m");
}

/* Something lies behind, so it has to move; half of it was never touched. */
static void moves_when_it_must(void)
{
	char *p[4], *q;

	for (int i = 0; i < 4; i++) {
		p[i] = map_new(6 * MIB);
		fill(p[i], 3 * MIB, 10 + (unsigned)i);
	}
	for (int i = 0; i < 4; i++) {
		q = mremap(p[i], 6 * MIB, 10 * MIB, MREMAP_MAYMOVE);
		REQUIRE(q != MAP_FAILED, "mremap: %m");
		check(q, 3 * MIB, 10 + (unsigned)i);
		check_zero(q + 3 * MIB, 7 * MIB);
		p[i] = q;
	}
	churn();
	for (int i = 0; i < 4; i++) {
		check(p[i], 3 * MIB, 10 + (unsigned)i);
		munmap(p[i], 10 * MIB);
	}
}

static void refuses_odd_moves(void)
{
	char *p = map_new(4 * MIB), *to = map_new(4 * MIB);

	fill(p, 4 * MIB, 20);
	fill(to, 4 * MIB, 21);
	errno = 0;
	REQUIRE(mremap(p + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL,
		"a crooked address was taken");
	REQUIRE(mremap(p, 4 * MIB, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL,
		"no size was taken");
	if (under_infuse()) {
		REQUIRE(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED &&
				errno == EINVAL,
			"MREMAP_FIXED was taken");
		REQUIRE(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED &&
				errno == EINVAL,
			"MREMAP_DONTUNMAP was taken");
	}
	check(p, 4 * MIB, 20);
	check(to, 4 * MIB, 21);
}

static void unmaps_parts(void)
{
	char *p = map_new(16 * MIB);

	fill(p, 16 * MIB, 30);
	REQUIRE(!munmap(p + 4 * MIB, 4 * MIB), "middle: %m");
	REQUIRE(!munmap(p + 4 * MIB, 4 * MIB), "nothing there: %m");
	REQUIRE(!munmap(p, PAGE), "first page: %m");
	churn();
	check_from(p + PAGE, 4 * MIB - PAGE, 30, 1);
	check_from(p + 8 * MIB, 8 * MIB, 30, 8 * MIB / PAGE);
	REQUIRE(!munmap(p, 16 * MIB), "all with its holes: %m");
	errno = 0;
	REQUIRE(munmap(p + 1, PAGE) && errno == EINVAL, "a crooked address was taken");
	for (int i = 0; i < 8; i++) {
		char *q = map_new(3 * MIB);

		check_zero(q, 3 * MIB);
		fill(q, 3 * MIB, 31);
		if (i & 1)
			munmap(q, 3 * MIB);
	}
}

static void protects_parts(void)
{
	char *p = map_new(8 * MIB), *ro = p + 2 * MIB, *none = p + 5 * MIB;

	fill(p, 8 * MIB, 40);
	churn();
	REQUIRE(!mprotect(ro, 2 * MIB, PROT_READ), "PROT_READ: %m");
	REQUIRE(!mprotect(none, 64 * PAGE, PROT_NONE), "PROT_NONE: %m");
	for (int i = 0; i < 3; i++) {
		churn();
		check(p, 5 * MIB, 40);
		REQUIRE(faults_on_write(ro) && faults_on_write(ro + 2 * MIB - 1),
			"a protected page was written");
		REQUIRE(!faults_on_write(ro - 1) && !faults_on_write(ro + 2 * MIB),
			"its neighbour can't be written");
		REQUIRE(faults_on_read(none) && faults_on_read(none + 64 * PAGE - 1),
			"a page without access was read");
		check_from(none + 64 * PAGE, PAGE * 512, 40, 5 * MIB / PAGE + 64);
	}
	REQUIRE(!mprotect(p, 8 * MIB, PROT_READ | PROT_WRITE), "back: %m");
	check(p, 8 * MIB, 40);
	fill(p, 8 * MIB, 41);
	churn();
	check(p, 8 * MIB, 41);
	/* Freed while protected: whoever gets it next can use it. */
	REQUIRE(!mprotect(p, 8 * MIB, PROT_READ), "PROT_READ: %m");
	munmap(p, 8 * MIB);
	p = map_new(8 * MIB);
	check_zero(p, 8 * MIB);
	fill(p, 8 * MIB, 42);
	check(p, 8 * MIB, 42);
	munmap(p, 8 * MIB);
}

/* Guard pages of stacks that somebody made himself: never touched, then closed. */
static void guards_pages(void)
{
	char *stack[16];

	for (int i = 0; i < 16; i++) {
		stack[i] = map_new(MIB);
		REQUIRE(!mprotect(stack[i], PAGE, PROT_NONE), "guard: %m");
		fill(stack[i] + PAGE, MIB - PAGE, 50 + (unsigned)i);
	}
	churn();
	for (int i = 0; i < 16; i++) {
		REQUIRE(faults_on_write(stack[i]), "a guard page was written");
		check(stack[i] + PAGE, MIB - PAGE, 50 + (unsigned)i);
		munmap(stack[i], MIB);
	}
}

static void runs_code(void)
{
#if defined(__x86_64__)
	static const unsigned char code[] = {0x8d, 0x47, 0x2a, 0xc3}; /* lea 42(%rdi),%eax; ret */
	char *p = map_new(4 * MIB);
	int (*f)(int);

	for (size_t i = 0; i < 4 * MIB; i += PAGE)
		memcpy(p + i, code, sizeof code);
	REQUIRE(!mprotect(p, 4 * MIB, PROT_READ | PROT_EXEC), "PROT_EXEC: %m");
	for (int k = 0; k < 2; k++) {
		churn();
		for (size_t i = 0; i < 4 * MIB; i += PAGE) {
			char *at = p + i;

			memcpy(&f, &at, sizeof f);
			REQUIRE(f((int)(i / PAGE)) == (int)(i / PAGE) + 42, "wrong code at %zu", i);
		}
	}
	munmap(p, 4 * MIB);
#endif
}

static void maps_over(void)
{
	char *p = map_new(8 * MIB), *q, *file;
	const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	fill(p, 8 * MIB, 60);
	q = mmap(p + 2 * MIB, 2 * MIB, PROT_READ | PROT_WRITE, fixed, -1, 0);
	REQUIRE(q == p + 2 * MIB, "MAP_FIXED: %m");
	check_zero(q, 2 * MIB);
	q = mmap(p + 5 * MIB, MIB, PROT_NONE, fixed | MAP_NORESERVE, -1, 0);
	REQUIRE(q == p + 5 * MIB && faults_on_read(q), "MAP_FIXED, PROT_NONE: %m");
	churn();
	check(p, 2 * MIB, 60);
	check_from(p + 6 * MIB, 2 * MIB, 60, 6 * MIB / PAGE);
	q = mmap(p + 5 * MIB, MIB, PROT_READ | PROT_WRITE, fixed, -1, 0);
	REQUIRE(q == p + 5 * MIB, "MAP_FIXED: %m");
	check_zero(q, MIB);
	fill(q, MIB, 61);
	churn();
	check(q, MIB, 61);
	errno = 0;
	REQUIRE(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		     0) == MAP_FAILED &&
			errno == EEXIST,
		"MAP_FIXED_NOREPLACE replaced");
	file = mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (under_infuse())
		REQUIRE(file == MAP_FAILED && errno == EINVAL, "shared memory over injected");
	munmap(p, 8 * MIB);
}

static void takes_advice(void)
{
	char *p = map_new(8 * MIB);

	fill(p, 8 * MIB, 70);
	REQUIRE(!madvise(p, 8 * MIB, MADV_SEQUENTIAL) && !madvise(p, 8 * MIB, MADV_WILLNEED) &&
			!madvise(p, 8 * MIB, MADV_RANDOM) && !madvise(p, 8 * MIB, MADV_NORMAL) &&
			!posix_madvise(p, 8 * MIB, POSIX_MADV_DONTNEED),
		"a hint failed: %m");
	check(p, 8 * MIB, 70);
	REQUIRE(!madvise(p + MIB, MIB, MADV_DONTNEED), "DONTNEED: %m");
	check_zero(p + MIB, MIB);
	churn();
	check_zero(p + MIB, MIB);
	check(p, MIB, 70);
	check_from(p + 2 * MIB, 6 * MIB, 70, 2 * MIB / PAGE);
	REQUIRE(!madvise(p + 4 * MIB, MIB, MADV_FREE), "FREE: %m");
	fill(p + 4 * MIB, MIB, 71);
	churn();
	check(p + 4 * MIB, MIB, 71);
	errno = 0;
	REQUIRE(madvise(p + 1, PAGE, MADV_DONTNEED) && errno == EINVAL, "crooked address");
	if (under_infuse())
		REQUIRE(madvise(p, PAGE, MADV_WIPEONFORK) && errno == EINVAL,
			"a promise that is not kept");
	munmap(p, 8 * MIB);
}

static void locks_pages(void)
{
	char *p = map_new(8 * MIB);
	unsigned char in[256];

	fill(p, 8 * MIB, 80);
	churn();
	REQUIRE(!mlock(p + 5, 255 * PAGE), "mlock: %m");
	churn();
	REQUIRE(!mincore(p, 256 * PAGE, in), "mincore: %m");
	for (int i = 0; i < 256; i++)
		REQUIRE(in[i] & 1, "locked page %d is not there", i);
	check(p, 8 * MIB, 80);
	REQUIRE(!mlock(p, PAGE) && !munlock(p, 256 * PAGE), "munlock: %m");
	REQUIRE(!mlock2(p, 2 * PAGE, MLOCK_ONFAULT), "mlock2: %m");
	if (under_infuse()) {
		errno = 0;
		REQUIRE(mlock(p, 8 * MIB) && errno == ENOMEM, "more than fits was locked");
		REQUIRE(mlockall(MCL_CURRENT) && errno == ENOMEM, "everything was locked");
	}
	munmap(p, 8 * MIB);
	churn();
}

const struct mapping_test range_tests[] = {
	{"grows-and-shrinks", grows_and_shrinks},
	{"moves-when-it-must", moves_when_it_must},
	{"refuses-odd-moves", refuses_odd_moves},
	{"unmaps-parts", unmaps_parts},
	{"protects-parts", protects_parts},
	{"guards-pages", guards_pages},
	{"runs-code", runs_code},
	{"maps-over", maps_over},
	{"takes-advice", takes_advice},
	{"locks-pages", locks_pages},
	{NULL, NULL},
};
