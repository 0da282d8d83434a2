/* SPDX-License-Identifier: MIT */
/*
 * What a client can ask for: one table, a line each. To add an operation, write its function in
 * operations.c and add its line.
 */
#ifndef SERVER_OPERATIONS_H
#define SERVER_OPERATIONS_H

#include "server/session.h"

struct srv_operation {
	uint16_t minor;    /* spoken since this protocol minor */
	bool stream;       /* moves pages in the stream: not over RDMA */
	bool borrower;     /* not for sessions that only ask */
	uint8_t roles;     /* SRV_ROLE_*: any of them will do; 0: everybody */
	uint32_t unit;     /* data in units of so many bytes follows the fixed part; 0: none */
	uint32_t fixed;    /* bytes at the beginning of the body */
	uint32_t item;     /* and for each of header.count */
	uint32_t min, max; /* of header.count */
	/*
	 * body: the fixed part and the items, unaligned. 0: it has answered (or, for WRITE, has set
	 * s->runs); else the error to answer with.
	 */
	uint32_t (*run)(struct srv_session *s, const uint8_t *body, struct srv_out *out);
};

/* NULL: unknown. */
const struct srv_operation *srv_operation(uint16_t op);

#endif
