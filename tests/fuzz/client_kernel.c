/* SPDX-License-Identifier: MIT */
/*
 * The kernel of the fuzzed client: sockets whose other end is client_donor.c, and a clock that
 * moves when the client looks at it or waits. The client's sources are compiled against
 * tests/sim/client_env.h.
 */
#include "client_donor.h"
#include "play.h"
#include "tests/sim/client_env.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 100000
#define LOOK_NS  200u

static uint64_t now = 1;

uint64_t sim_clock_ns(void)
{
	return now += LOOK_NS;
}

static void *ptr(long v)
{
	return (void *)(uintptr_t)v;
}

static unsigned socket_of(long fd)
{
	must(fd >= FIRST_FD && fd < FIRST_FD + (long)DONOR_SOCKETS);
	return (unsigned)(fd - FIRST_FD);
}

static long do_connect(long fd, const void *address, long len)
{
	struct sockaddr_in in;

	must(len == sizeof in);
	memcpy(&in, address, sizeof in);
	return donor_connect(socket_of(fd), ntohs(in.sin_port));
}

static long do_send(long fd, const struct iovec *iov, size_t n)
{
	size_t sent = 0;

	for (size_t i = 0; i < n; i++) {
		long r = donor_send(socket_of(fd), iov[i].iov_base, iov[i].iov_len);

		if (r < 0)
			return sent ? (long)sent : r;
		sent += (size_t)r;
		if ((size_t)r < iov[i].iov_len)
			break;
	}
	return (long)sent;
}

static long do_receive(long fd, const struct iovec *iov, size_t n)
{
	size_t got = 0;

	for (size_t i = 0; i < n; i++) {
		long r = donor_receive(socket_of(fd), iov[i].iov_base, iov[i].iov_len);

		if (r <= 0)
			return got ? (long)got : r;
		got += (size_t)r;
		if ((size_t)r < iov[i].iov_len)
			break;
	}
	return (long)got;
}

static long look(struct pollfd *p, unsigned n)
{
	long found = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i].revents = donor_ready(socket_of(p[i].fd), p[i].events);
		found += p[i].revents != 0;
	}
	return found;
}

/* The donors move until there is something to see, or one of them lets the time pass. */
static long do_poll(struct pollfd *p, unsigned n, const struct timespec *t)
{
	uint64_t wait;

	must(t);
	wait = (uint64_t)t->tv_sec * NSEC_PER_SEC + (uint64_t)t->tv_nsec;
	for (unsigned i = 0; i < 64; i++) {
		long found = look(p, n);

		if (found)
			return found;
		if (!donor_move())
			break;
	}
	now += wait + 1;
	return look(p, n);
}

static long do_random(unsigned char *p, size_t n)
{
	static uint64_t x = 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = (unsigned char)(x >> 56);
	}
	return (long)n;
}

static long real(long n, long a, long b, long c, long d, long e, long f)
{
	long r = syscall(n, a, b, c, d, e, f);

	return r == -1 ? -errno : r;
}

long sim_call(long n, long a, long b, long c, long d, long e, long f)
{
	const struct msghdr *m;
	struct iovec one;

	switch (n) {
	case SYS_socket:
		return FIRST_FD + (long)donor_socket();
	case SYS_connect:
		return do_connect(a, ptr(b), c);
	case SYS_close:
		donor_close(socket_of(a));
		return 0;
	case SYS_setsockopt:
		return 0;
	case SYS_getsockopt:
		*(int *)ptr(d) = 0;
		return 0;
	case SYS_sendmsg:
		m = ptr(b);
		return do_send(a, m->msg_iov, m->msg_iovlen);
	case SYS_recvmsg:
		m = ptr(b);
		return do_receive(a, m->msg_iov, m->msg_iovlen);
	case SYS_sendto:
		one = (struct iovec){ptr(b), (size_t)c};
		return do_send(a, &one, 1);
	case SYS_recvfrom:
		one = (struct iovec){ptr(b), (size_t)c};
		return do_receive(a, &one, 1);
	case SYS_ppoll:
		return do_poll(ptr(a), (unsigned)b, ptr(c));
	case SYS_getrandom:
		return do_random(ptr(a), (size_t)b);
	case SYS_getpid:
		return 4711;
	case SYS_futex: /* one thread: nobody waits */
		must(c == 1);
		return 0;
	case SYS_mmap:
	case SYS_munmap:
	case SYS_madvise:
		return real(n, a, b, c, d, e, f);
	default:
		fprintf(stderr, "system call %ld is not simulated\n", n);
		abort();
	}
}
