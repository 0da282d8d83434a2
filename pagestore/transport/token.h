/* SPDX-License-Identifier: MIT */
/*
 * One-time tokens for connections that have no room for a conversation: got from the donor by TLS, over
 * TCP at the same host and port, and good while that connection is open.
 */
#ifndef PAGESTORE_TRANSPORT_TOKEN_H
#define PAGESTORE_TRANSPORT_TOKEN_H

#include "pagestore/transport/stream.h"

/* [text] Fills h->token for h->borrower; h->tls is needed. Blocks until until_ns. */
int token_take(const struct tp_addr *a, struct tp_hello *h, uint64_t until_ns, struct stream **ret);
/* The connection is there, or won't be. Takes NULL. */
void token_end(struct stream *s);

#endif
