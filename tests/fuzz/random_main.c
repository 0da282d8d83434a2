/* SPDX-License-Identifier: MIT */
/*
 * The same play with any compiler: the corpus's files, then random strings from a fixed seed until
 * so many frames were sent. random-session FRAMES [CORPUS_FILE...]
 */
#include "play.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 0x1f05e;

static uint64_t random_next(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

int main(int argc, char **argv)
{
	unsigned long frames = 0, want = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
	static uint8_t moves[4096];

	for (int i = 2; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");

		if (!f) {
			perror(argv[i]);
			return 1;
		}
		frames += play(moves, fread(moves, 1, sizeof moves, f));
		fclose(f);
	}
	while (frames < want) {
		size_t n = 16 + random_next() % (sizeof moves - 16);

		for (size_t i = 0; i < n; i++)
			moves[i] = (uint8_t)random_next();
		frames += play(moves, n);
	}
	play_end();
	printf("%lu frames\n", frames);
	return 0;
}
