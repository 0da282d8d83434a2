/* SPDX-License-Identifier: MIT */
/*
 * Texts for parsers of texts: the moves' bytes as they are, or a right text with edits: bytes
 * changed, words of the language put in, runs cut out or doubled.
 */
#ifndef TESTS_FUZZ_TEXT_H
#define TESTS_FUZZ_TEXT_H

#include "play.h"

#include <string.h>

#define TEXT_MAX 4096u

struct text {
	char s[TEXT_MAX + 1]; /* NUL-terminated */
	size_t len;
};

static inline void text_put(struct text *t, size_t at, const char *p, size_t n)
{
	if (t->len + n > TEXT_MAX)
		return;
	memmove(t->s + at + n, t->s + at, t->len - at);
	memcpy(t->s + at, p, n);
	t->len += n;
}

static inline void text_edit(struct text *t, struct moves *m, const char *const *words, unsigned n)
{
	size_t at = t->len ? (take(m) * 256u + take(m)) % t->len : 0, run = 1 + take(m) % 16;
	uint8_t what = take(m);
	const char *word = words[take(m) % n];
	char copy[16];

	if (run > t->len - at)
		run = t->len - at;
	if (what < 80) {
		text_put(t, at, word, strlen(word));
	} else if (what < 130 && t->len) {
		t->s[at] = (char)take(m);
	} else if (what < 190) {
		memmove(t->s + at, t->s + at + run, t->len - at - run);
		t->len -= run;
	} else {
		memcpy(copy, t->s + at, run);
		text_put(t, at, copy, run);
	}
}

/* The next text. templates, words: what a right one is, and what else the language has. */
static inline void text_next(struct text *t, struct moves *m, const char *const *templates,
			     unsigned templates_count, const char *const *words, unsigned words_count)
{
	uint8_t how = take(m);
	size_t n = take(m);

	t->len = 0;
	if (how < 40) {
		if (n > m->n)
			n = m->n;
		text_put(t, 0, (const char *)m->p, n);
		m->p += n;
		m->n -= n;
	} else {
		const char *from = templates[how % templates_count];

		text_put(t, 0, from, strlen(from));
		for (unsigned i = 0; i < n % 8; i++)
			text_edit(t, m, words, words_count);
	}
	t->s[t->len] = 0;
}

#endif
