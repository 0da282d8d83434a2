/* SPDX-License-Identifier: MIT */
/*
 * See token.h. The whole table is looked through each time: that takes the same time whatever is
 * shown, and 4096 entries are some microseconds, once a connection.
 */
#include "server/token.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct entry {
	uint8_t token[WIRE_TOKEN_BYTES];
	uint8_t borrower[16];
	uint32_t roles;
	uint64_t until_ns; /* 0: free */
};

struct srv_tokens {
	pthread_mutex_t lock;
	struct entry entry[SRV_TOKENS];
};

struct srv_tokens *srv_tokens_create(void)
{
	struct srv_tokens *t = calloc(1, sizeof *t);

	if (t)
		pthread_mutex_init(&t->lock, NULL);
	return t;
}

void srv_tokens_free(struct srv_tokens *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	explicit_bzero(t, sizeof *t);
	free(t);
}

/* Who stops at the first byte that differs tells a stranger how far he has guessed. */
static bool same(const uint8_t *a, const uint8_t *b)
{
	uint8_t differ = 0;

	for (unsigned i = 0; i < WIRE_TOKEN_BYTES; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

uint32_t srv_token_make(struct srv_tokens *t, const uint8_t borrower[16], uint32_t roles,
			uint64_t now_ns, uint8_t ret[WIRE_TOKEN_BYTES])
{
	struct entry *room = NULL;
	unsigned own = 0;
	uint32_t status = WIRE_OK;

	if (getrandom(ret, WIRE_TOKEN_BYTES, 0) != WIRE_TOKEN_BYTES)
		return WIRE_EINTERNAL;
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < SRV_TOKENS; i++) {
		struct entry *e = &t->entry[i];

		if (e->until_ns <= now_ns)
			room = e;
		else if (!memcmp(e->borrower, borrower, sizeof e->borrower))
			own++;
	}
	if (!room || own >= SRV_TOKENS_OF_BORROWER) {
		status = WIRE_EBUSY;
	} else {
		memcpy(room->token, ret, sizeof room->token);
		memcpy(room->borrower, borrower, sizeof room->borrower);
		room->roles = roles;
		room->until_ns = now_ns + SRV_TOKEN_NS;
	}
	pthread_mutex_unlock(&t->lock);
	return status;
}

uint32_t srv_token_take(struct srv_tokens *t, const uint8_t token[WIRE_TOKEN_BYTES],
			uint64_t now_ns, uint8_t borrower[16], uint32_t *roles)
{
	struct entry *found = NULL;

	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < SRV_TOKENS; i++)
		if (same(t->entry[i].token, token) && t->entry[i].until_ns > now_ns)
			found = &t->entry[i];
	if (found) {
		memcpy(borrower, found->borrower, sizeof found->borrower);
		*roles = found->roles;
		explicit_bzero(found, sizeof *found);
	}
	pthread_mutex_unlock(&t->lock);
	return found ? WIRE_OK : WIRE_EAUTH;
}

void srv_token_void(struct srv_tokens *t, const uint8_t borrower[16])
{
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < SRV_TOKENS; i++)
		if (!memcmp(t->entry[i].borrower, borrower, sizeof t->entry[i].borrower))
			explicit_bzero(&t->entry[i], sizeof t->entry[i]);
	pthread_mutex_unlock(&t->lock);
}
