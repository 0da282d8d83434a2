/* SPDX-License-Identifier: MIT */
/*
 * The addresses a server listens on: "tcp:HOST:PORT", "tcp:[V6]:PORT", "unix:PATH"; and
 * "rdma:HOST:PORT", which rdma.h opens.
 */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

struct addrinfo;
struct rdma_cm_id;

struct srv_listener {
	int fd; /* -1: RDMA */
	struct rdma_cm_id *rdma;
	bool is_unix;
	char actual[128]; /* as others reach it, the port filled in */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t dev; /* of the socket file, so that only our own is removed */
	ino_t ino;
};

/*
 * [text] Binds and listens. open: also where strangers can come from. A socket file that no
 * one listens on any more is replaced. May ask the resolver, which blocks.
 */
int srv_listen(const char *address, bool open, struct srv_listener *ret);
/* [text] "SCHEMEHOST:PORT", refused where strangers can come from. Free it with freeaddrinfo(). */
int srv_listen_resolve(const char *address, const char *scheme, bool open, struct addrinfo **ret);
/* Closes, and removes the socket file if it is still this one. */
void srv_unlisten(struct srv_listener *l);

#endif
