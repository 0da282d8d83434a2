/* SPDX-License-Identifier: MIT */
/*
 * Plays a string of bytes as moves against the server's sessions: frames that are right, frames
 * that are nearly right, noise, partial sends, peers that do not read, and hang-ups. After each
 * string it checks that every answer was well formed, that a bystander's pages are untouched and
 * that no slab was lost. Aborts when something is wrong.
 */
#ifndef TESTS_FUZZ_SESSION_PLAY_H
#define TESTS_FUZZ_SESSION_PLAY_H

#include <stddef.h>
#include <stdint.h>

/* Returns how many frames were sent. */
unsigned play(const uint8_t *moves, size_t n);
/* Frees what is kept between strings. */
void play_end(void);

#endif
