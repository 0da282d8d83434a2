/* SPDX-License-Identifier: MIT */
/*
 * Where borrowers don't prove who they are with keys, only this machine may connect: other addresses
 * are refused unless the operator insists.
 */
#include "server/listen.h"
#include "server/rdma.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define BACKLOG 4096
#define TRIES   20u

/* Cuts "HOST:PORT" or "[HOST]:PORT" in two. */
static int split(const char *s, char *host, size_t len, const char **port)
{
	const char *colon = strrchr(s, ':'), *from = s, *to = colon;

	if (!colon || colon == s || !colon[1])
		return -EINVAL;
	if (*s == '[') {
		if (colon[-1] != ']')
			return -EINVAL;
		from = s + 1;
		to = colon - 1;
	} else if (memchr(s, ':', (size_t)(colon - s))) {
		return -EINVAL; /* an IPv6 address without its brackets */
	}
	if (to <= from || (size_t)(to - from) >= len)
		return -EINVAL;
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = 0;
	*port = colon + 1;
	return 0;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	if (sa->sa_family == AF_INET6) {
		const struct in6_addr *a =
			&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(a) ||
		       (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
	}
	return false;
}

/*
 * The kernel lets go of a killed server's sockets a little after the process is gone (its io_uring
 * holds them), so what is in use is tried again for a while.
 */
static bool try_again(unsigned *tries)
{
	if (!(*tries)--)
		return false;
	nanosleep(&(struct timespec){0, 50 * 1000 * 1000}, NULL);
	return true;
}

static int bind_tcp(const char *address, const struct addrinfo *ai, struct srv_listener *ret)
{
	CLEANUP_FD int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	char host[INET6_ADDRSTRLEN], port[8];
	int one = 1, r;
	unsigned tries = TRIES;

	if (fd < 0)
		return err_fail(-errno, "can't listen on %s: %s", address, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	/* Accepted sockets inherit it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	do
		r = bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, BACKLOG) ? errno : 0;
	while (r == EADDRINUSE && try_again(&tries));
	errno = r;
	if (r || getsockname(fd, (struct sockaddr *)&ss, &len))
		return err_fail(-errno, "can't listen on %s: %s", address, strerror(errno));
	if (getnameinfo((struct sockaddr *)&ss, len, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV))
		return err_fail(-EINVAL, "can't tell where %s listens", address);
	snprintf(ret->actual, sizeof ret->actual, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s",
		 host, port);
	ret->fd = steal_fd(&fd);
	return 0;
}

int srv_listen_resolve(const char *address, const char *scheme, bool open, struct addrinfo **ret)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
	const char *port;
	char host[256];
	int r;

	if (split(address + strlen(scheme), host, sizeof host, &port))
		return err_fail(-EINVAL, "'%s' is not %sHOST:PORT (IPv6: %s[ADDRESS]:PORT)",
				address, scheme, scheme);
	r = getaddrinfo(host, port, &hints, &ai);
	if (r)
		return err_fail(-EINVAL, "can't listen on %s: %s", address, gai_strerror(r));
	if (!open && !is_loopback(ai->ai_addr)) {
		freeaddrinfo(ai);
		return err_fail(-EPERM,
				"%s can be reached from other machines, and whoever connects is "
				"lent memory: give the server a --key, listen on 127.0.0.1 or a "
				"UNIX socket, or say --insecure",
				address);
	}
	*ret = ai;
	return 0;
}

static int listen_tcp(const char *address, bool open, struct srv_listener *ret)
{
	struct addrinfo *ai;
	int r = srv_listen_resolve(address, "tcp:", open, &ai);

	if (r)
		return r;
	r = bind_tcp(address, ai, ret);
	freeaddrinfo(ai);
	return r;
}

/* Does anybody listen on the socket file? */
static bool is_live(const struct sockaddr_un *un)
{
	unsigned tries = TRIES;

	do {
		CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		/* A full backlog (EAGAIN) is a live server too. */
		if (fd >= 0 && connect(fd, (const struct sockaddr *)un, sizeof *un) &&
		    errno == ECONNREFUSED)
			return false;
	} while (try_again(&tries));
	return true;
}

/* Removes a socket file whose server is gone. */
static int remove_stale(const char *address, const struct sockaddr_un *un)
{
	struct stat st;

	if (lstat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return err_fail(-EEXIST, "can't listen on %s: there is a file that is no socket",
				address);
	if (is_live(un))
		return err_fail(-EADDRINUSE, "can't listen on %s: another server listens there",
				address);
	if (unlink(un->sun_path))
		return err_fail(-errno, "can't replace the dead socket %s: %s", address,
				strerror(errno));
	return 0;
}

static int listen_unix(const char *address, struct srv_listener *ret)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *path = address + strlen("unix:");
	struct stat st;
	int r;

	if (!*path || strlen(path) >= sizeof un.sun_path)
		return err_fail(-EINVAL, "'%s' is not unix:PATH with a path of 1 to %zu bytes",
				address, sizeof un.sun_path - 1);
	if (fd < 0)
		return err_fail(-errno, "can't listen on %s: %s", address, strerror(errno));
	strcpy(un.sun_path, path);
	r = bind(fd, (struct sockaddr *)&un, sizeof un);
	if (r && errno == EADDRINUSE) {
		r = remove_stale(address, &un);
		if (r)
			return r;
		r = bind(fd, (struct sockaddr *)&un, sizeof un);
	}
	if (r || listen(fd, BACKLOG) || lstat(path, &st))
		return err_fail(-errno, "can't listen on %s: %s", address, strerror(errno));
	strcpy(ret->path, path);
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	ret->is_unix = true;
	snprintf(ret->actual, sizeof ret->actual, "unix:%s", path);
	ret->fd = steal_fd(&fd);
	return 0;
}

int srv_listen(const char *address, bool open, struct srv_listener *ret)
{
	*ret = (struct srv_listener){.fd = -1};
	if (!strncmp(address, "tcp:", 4))
		return listen_tcp(address, open, ret);
	if (!strncmp(address, "unix:", 5))
		return listen_unix(address, ret);
	return err_fail(-EINVAL, "'%s' is not an address: use tcp:HOST:PORT, rdma:HOST:PORT or unix:PATH",
			address);
}

void srv_unlisten(struct srv_listener *l)
{
	struct stat st;

	srv_rdma_unlisten(l);
	if (l->fd < 0)
		return;
	if (l->is_unix && !lstat(l->path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	close(l->fd);
	l->fd = -1;
}
