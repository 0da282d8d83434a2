/* SPDX-License-Identifier: MIT */
/* A client's socket to a server on this machine. It blocks, as users' clients do; no wait is longer
 * than ten seconds. */
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WAIT_S 10

static const struct sockaddr_in loopback = {.sin_family = AF_INET};

static struct sockaddr_in address_of(unsigned port)
{
	struct sockaddr_in a = loopback;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.sin_port = htons((uint16_t)port);
	return a;
}

int wire_free_port(unsigned *port)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = address_of(0);
	socklen_t len = sizeof a;

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) ||
	    getsockname(fd, (struct sockaddr *)&a, &len))
		return err_fail(-errno, "no port of the loopback is free");
	*port = ntohs(a.sin_port);
	return 0;
}

int wire_connect_tcp(unsigned port, int *fd)
{
	const struct timespec nap = {.tv_nsec = 10 * (long)NSEC_PER_MSEC};
	const struct timeval wait = {.tv_sec = WAIT_S};
	uint64_t end = clock_ns() + WAIT_S * NSEC_PER_SEC;
	struct sockaddr_in a = address_of(port);
	int one = 1;

	for (;;) {
		*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (*fd < 0)
			return err_fail(-errno, "no socket: %s", strerror(errno));
		if (!connect(*fd, (struct sockaddr *)&a, sizeof a))
			break;
		close(*fd);
		*fd = -1;
		if (clock_ns() > end)
			return err_fail(-ETIMEDOUT, "nobody serves port %u", port);
		nanosleep(&nap, NULL);
	}
	setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	return 0;
}

int wire_send(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_fail(-EIO, "the server takes no request: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int wire_receive(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = recv(fd, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_fail(-EIO, "the server doesn't answer: %s",
					n ? strerror(errno) : "it hung up");
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
