/* SPDX-License-Identifier: MIT */
/*
 * swap-touch MEBIBYTES SECONDS [THREADS]: fills memory of its own, then touches its pages in random order for so
 * long, comparing all of a page's words with what they must be and writing every third page anew; at last
 * compares all pages. Says the longest time that a single touch took. Made to run under a memory limit.
 * Ends with 1 when a page was wrong.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE  4096
#define WORDS (PAGE / 8)

struct share {
	pthread_t thread;
	uint64_t *mem;
	uint64_t pages, first, touches, bad, longest_ns, run_ns;
	uint32_t *turn; /* how often a page was written */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static void write_page(struct share *s, uint64_t page)
{
	uint64_t *p = s->mem + page * WORDS, seed = mix((s->first + page) << 32 | ++s->turn[page]);

	for (unsigned i = 0; i < WORDS; i++)
		p[i] = seed + i * 0x9e3779b97f4a7c15u;
}

static void check_page(struct share *s, uint64_t page)
{
	uint64_t *p = s->mem + page * WORDS, seed = mix((s->first + page) << 32 | s->turn[page]);

	for (unsigned i = 0; i < WORDS; i++) {
		if (p[i] == seed + i * 0x9e3779b97f4a7c15u)
			continue;
		s->bad++;
		fprintf(stderr, "page %llu, word %u: %llx, not %llx\n",
			(unsigned long long)(s->first + page), i, (unsigned long long)p[i],
			(unsigned long long)(seed + i * 0x9e3779b97f4a7c15u));
		return;
	}
}

static void *work(void *arg)
{
	struct share *s = arg;
	uint64_t x = mix(s->first + 1), start, took, end_ns;

	for (uint64_t p = 0; p < s->pages; p++)
		write_page(s, p);
	end_ns = now_ns() + s->run_ns;
	while ((start = now_ns()) < end_ns) {
		uint64_t page = (x = mix(x + 1)) % s->pages;

		check_page(s, page);
		if (x % 3 == 0)
			write_page(s, page);
		took = now_ns() - start;
		if (took > s->longest_ns)
			s->longest_ns = took;
		s->touches++;
	}
	for (uint64_t p = 0; p < s->pages; p++)
		check_page(s, p);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	uint64_t threads = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
	uint64_t pages = mib * 256 / (threads ? threads : 1), touches = 0, bad = 0, longest = 0;
	struct share s[16];

	if (!mib || !threads || threads > 16 || !pages) {
		fprintf(stderr, "usage: swap-touch MEBIBYTES SECONDS [THREADS]\n");
		return 2;
	}
	for (uint64_t t = 0; t < threads; t++) {
		s[t] = (struct share){
			.pages = pages,
			.first = t * pages,
			.mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			.turn = calloc(pages, sizeof(uint32_t)),
			.run_ns = seconds * 1000000000u,
		};
		if (s[t].mem == MAP_FAILED || !s[t].turn)
			return 2;
		madvise(s[t].mem, pages * PAGE, MADV_NOHUGEPAGE);
		if (pthread_create(&s[t].thread, NULL, work, &s[t]))
			return 2;
	}
	for (uint64_t t = 0; t < threads; t++) {
		pthread_join(s[t].thread, NULL);
		touches += s[t].touches;
		bad += s[t].bad;
		if (s[t].longest_ns > longest)
			longest = s[t].longest_ns;
	}
	printf("pages=%llu touches=%llu bad=%llu longest_ms=%llu\n",
	       (unsigned long long)(pages * threads), (unsigned long long)touches,
	       (unsigned long long)bad, (unsigned long long)(longest / 1000000));
	return bad != 0;
}
