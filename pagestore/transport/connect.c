/* SPDX-License-Identifier: MIT */
/*
 * Opening a connection: the one place of a transport that blocks, never longer than it was told.
 * Raw system calls only, since a forked child opens its connections in a fork handler.
 */
#include "common/clock.h"
#include "common/error.h"
#include "common/sys.h"
#include "pagestore/transport/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Room for two windows of 64 pages and their headers; what the system allows if that is less. */
#define SOCKET_BYTES (1 << 20)

int connect_wait(int fd, short events, uint64_t until_ns)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		uint64_t now = clock_ns(), left = until_ns > now ? until_ns - now : 0;
		struct timespec t = {(time_t)(left / NSEC_PER_SEC), (long)(left % NSEC_PER_SEC)};
		long r = sys_call5(SYS_ppoll, SYS_PTR(&p), 1, SYS_PTR(&t), 0, 0);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (r != -EINTR)
			return (int)r;
		if (!left)
			return -ETIMEDOUT;
	}
}

static void set_option(int fd, int level, int name, int value)
{
	/* Without them it is only slower. */
	sys_call5(SYS_setsockopt, fd, level, name, SYS_PTR(&value), sizeof value);
}

static int finish_connect(int fd, uint64_t until_ns)
{
	int error = 0;
	unsigned len = sizeof error;
	int r = connect_wait(fd, POLLOUT, until_ns);

	if (r)
		return r;
	r = (int)sys_call5(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, SYS_PTR(&error),
			   SYS_PTR(&len));
	return r ? r : -error;
}

/* A UNIX listener with a full backlog says -EAGAIN and offers nothing to wait for. */
static int connect_once(int fd, const struct tp_addr *a, uint64_t until_ns)
{
	for (;;) {
		int r = (int)sys_call3(SYS_connect, fd, SYS_PTR(a->sockaddr), a->len);
		struct timespec nap = {0, 5 * NSEC_PER_MSEC};

		if (r == -EINPROGRESS || r == -EINTR)
			return finish_connect(fd, until_ns);
		if (r != -EAGAIN)
			return r;
		if (clock_ns() >= until_ns)
			return -ETIMEDOUT;
		sys_call2(SYS_nanosleep, SYS_PTR(&nap), 0);
	}
}

int connect_socket(const struct tp_addr *a, uint64_t until_ns)
{
	int fd = (int)sys_call3(SYS_socket, a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				0);
	int r;

	if (fd < 0)
		return err_fail(fd, "donor '%s': no socket: %s", a->text, strerrordesc_np(-fd));
	if (a->family == AF_UNIX)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BYTES);
	else
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	r = connect_once(fd, a, until_ns);
	if (r) {
		sys_call1(SYS_close, fd);
		return err_fail(r, "donor '%s' can't be reached: %s", a->text, strerrordesc_np(-r));
	}
	return fd;
}
