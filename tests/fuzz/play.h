/* SPDX-License-Identifier: MIT */
/* What the plays have in common: a string of bytes that decides, and a test that aborts. */
#ifndef TESTS_FUZZ_PLAY_H
#define TESTS_FUZZ_PLAY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct moves {
	const uint8_t *p;
	size_t n;
};

/* The next byte; 0 when there is none. */
static inline uint8_t take(struct moves *m)
{
	if (!m->n)
		return 0;
	m->n--;
	return *m->p++;
}

/* Each target is a file with these; fuzz_main.c and random_main.c call them. */
/* Returns how many frames (documents, lines) were played. */
unsigned play(const uint8_t *moves, size_t n);
/* Frees what is kept between strings. */
void play_end(void);

#endif
