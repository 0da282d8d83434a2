/* SPDX-License-Identifier: MIT */
/*
 * One-time tokens: what an authenticated session asks for so that a connection of another kind (an
 * RDMA one, which has room for 32 bytes and no conversation) is known to be its borrower's. A table
 * of fixed size; a token is taken out by whoever shows it, or forgotten after its time. Any thread.
 */
#ifndef SERVER_TOKEN_H
#define SERVER_TOKEN_H

#include <infuse/wire.h>

#define SRV_TOKENS             4096u /* in all */
#define SRV_TOKENS_OF_BORROWER 64u
#define SRV_TOKEN_NS           (60ull * 1000 * 1000 * 1000)

struct srv_tokens;

/* NULL: no memory. */
struct srv_tokens *srv_tokens_create(void);
void srv_tokens_free(struct srv_tokens *t); /* takes NULL */

/* A token for the borrower and what it may do. WIRE_OK, WIRE_EBUSY (too many), WIRE_EINTERNAL. */
uint32_t srv_token_make(struct srv_tokens *t, const uint8_t borrower[16], uint32_t roles,
			uint64_t now_ns, uint8_t ret[WIRE_TOKEN_BYTES]);
/* Whose it is; it is used up by this. WIRE_OK or WIRE_EAUTH. Takes as long for any token. */
uint32_t srv_token_take(struct srv_tokens *t, const uint8_t token[WIRE_TOKEN_BYTES],
			uint64_t now_ns, uint8_t borrower[16], uint32_t *roles);
/* All of a borrower's are void: it is gone, or another has its volume now. */
void srv_token_void(struct srv_tokens *t, const uint8_t borrower[16]);

#endif
