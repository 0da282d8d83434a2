/* SPDX-License-Identifier: MIT */
/*
 * A client's TLS connection over a non-blocking socket: the handshake, then bytes in and out like those
 * of the socket itself. After the handshake nothing allocates, and only system calls are made. One
 * thread at a time. The socket stays the caller's.
 */
#ifndef SECURE_LINK_H
#define SECURE_LINK_H

#include "secure/tls.h"

#include <sys/uio.h>

struct link;

/* [text] name: whom the other end must be by its certificate; not used with a pre-shared key. */
int link_open(struct tls_config *c, int fd, const char *name, struct link **ret);
void link_close(struct link *l); /* takes NULL; wipes the keys */
/* [text] Moves the handshake on. 0: it is over; -EAGAIN: wait for *events on the socket. */
int link_shake(struct link *l, short *events);

/*
 * Bytes that were taken (they may still be here: link_pending()), -EAGAIN: the other end does not read;
 * or another error. Nothing to send: pushes out what is pending; 0: all is gone.
 */
long link_send(struct link *l, const struct iovec *iov, unsigned n);
bool link_pending(const struct link *l);
/* Bytes that came, -EAGAIN, -ECONNRESET at the end, or another error. */
long link_receive(struct link *l, const struct iovec *iov, unsigned n);
/* Something to receive is here already, whatever poll(2) says. */
bool link_ready(const struct link *l);

#endif
