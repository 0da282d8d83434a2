/* SPDX-License-Identifier: MIT */
/*
 * What stands between a socket and a session when the other end speaks TLS: a handshake, then records
 * in and out. A connection that only waits holds no buffers: those are the thread's. Handshakes cost
 * memory, so a thread has few at a time; one too many ends the oldest.
 */
#ifndef SERVER_CHANNEL_H
#define SERVER_CHANNEL_H

#include "server/gate.h"
#include "secure/record.h"

#include <sys/types.h>
#include <sys/uio.h>

#define SRV_RECORDS    4u  /* taken or made at a time */
#define SRV_HANDSHAKES 64u /* of a thread */

struct srv_channel;

/* A thread's. In secret_map()'s memory: decrypted bytes pass through. */
struct srv_channel_scratch {
	struct srv_channel *shaking[SRV_HANDSHAKES]; /* in turns: the next one to be replaced is the */
	unsigned next;                               /* oldest */
	unsigned char rx[SRV_RECORDS * RECORD_INPUT];
	unsigned char tx[SRV_RECORDS * RECORD_ROOM];
};

/* Does a connection that begins with this byte speak TLS? */
bool srv_channel_speaks(uint8_t first);
/* NULL: no memory, or there are neither keys nor certificates. */
struct srv_channel *srv_channel_open(struct srv_gate *g, int fd, struct srv_channel_scratch *t);
void srv_channel_close(struct srv_channel *c, struct srv_channel_scratch *t); /* takes NULL */

/*
 * Takes what is there, or the n bytes at p that were taken already. Returns how many bytes of the
 * conversation are at *plain (until the next call); -EAGAIN: none yet; 0: the end; or why it is
 * broken.
 */
ssize_t srv_channel_receive(struct srv_channel *c, struct srv_channel_scratch *t, const void *p,
			    size_t n, uint8_t **plain);
/* As sendmsg(): what it returns is on its way, or waits (pending). At most max bytes. */
ssize_t srv_channel_send(struct srv_channel *c, struct srv_channel_scratch *t,
			 const struct iovec *iov, unsigned n, size_t max);
bool srv_channel_pending(const struct srv_channel *c);
/* 0: nothing is pending any more; -EAGAIN: the other end does not read; or why it is broken. */
int srv_channel_push(struct srv_channel *c);

/* SRV_ROLE_*; 0: the handshake is not over. */
uint8_t srv_channel_roles(const struct srv_channel *c);
/* Why the handshake failed; NULL: it didn't. */
const char *srv_channel_reason(const struct srv_channel *c);

#endif
