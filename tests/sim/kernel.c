/* SPDX-License-Identifier: MIT */
/*
 * The kernel that the simulated client sees: the system calls that it makes, and no others.
 * Sockets are streams of net.c, sleeping is the scheduler's, memory is real; files have no names and
 * are disk.c's.
 */
#include "sim.h"
#include "client_env.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <unistd.h>

#define FIRST_FD 100000
#define MAX_FDS  256u
#define WAITERS  16u

#define FILE_BYTES (16u << 20) /* more than any volume here may spill */

struct sock {
	bool used;
	struct sim_conn *conn;
	/* or: */
	bool event, ready;
	struct sim_task *waiter;
	/* or: */
	unsigned char *file;
};

static struct sock sock[MAX_FDS];
static struct {
	const void *word;
	struct sim_task *task;
} futex[WAITERS];

void sim_kernel_open(void)
{
	for (unsigned i = 0; i < MAX_FDS; i++)
		free(sock[i].file);
	memset(sock, 0, sizeof sock);
	memset(futex, 0, sizeof futex);
}

unsigned sim_kernel_open_sockets(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MAX_FDS; i++)
		n += sock[i].used;
	return n;
}

uint64_t sim_clock_ns(void)
{
	sim_task_looked();
	return sim_now();
}

static void *ptr(long v)
{
	return (void *)(uintptr_t)v;
}

static struct sock *sock_of(long fd)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + (long)MAX_FDS || !sock[fd - FIRST_FD].used)
		sim_fail("the client uses descriptor %ld, which is not open", fd);
	return &sock[fd - FIRST_FD];
}

/* --- files, and what tells that something of them has ended --- */

static long new_fd(struct sock how)
{
	for (unsigned i = 0; i < MAX_FDS; i++) {
		if (sock[i].used)
			continue;
		sock[i] = how;
		return FIRST_FD + (long)i;
	}
	return -EMFILE;
}

int sim_kernel_event(void)
{
	long fd = new_fd((struct sock){.used = true, .event = true});

	sim_must(fd > 0);
	return (int)fd;
}

void sim_kernel_event_is(int fd, bool ready)
{
	struct sock *s = sock_of(fd);

	s->ready = ready;
	if (ready && s->waiter)
		sim_task_wake(s->waiter);
}

unsigned char *sim_kernel_file(int fd, uint64_t at, uint64_t bytes)
{
	struct sock *s = sock_of(fd);

	sim_must(s->file && at <= FILE_BYTES && bytes <= FILE_BYTES - at);
	return s->file + at;
}

static long do_open(int flags)
{
	unsigned char *file;

	sim_must((flags & O_TMPFILE) == O_TMPFILE);
	file = calloc(1, FILE_BYTES);
	sim_must(file);
	return new_fd((struct sock){.used = true, .file = file});
}

static long do_fstatfs(long fd, struct statfs *ret)
{
	sim_must(sock_of(fd)->file);
	*ret = (struct statfs){.f_bsize = 4096, .f_bavail = 1u << 20};
	return 0;
}

/* --- sockets --- */

static long do_socket(void)
{
	return new_fd((struct sock){.used = true});
}

/* Donor i listens at port 1 + i of any address. */
static long do_connect(long fd, const void *address, long len)
{
	struct sock *s = sock_of(fd);
	struct sockaddr_in in;

	sim_must(len == sizeof in);
	memcpy(&in, address, sizeof in);
	sim_must(in.sin_family == AF_INET && ntohs(in.sin_port) >= 1 &&
		 ntohs(in.sin_port) <= sim_donors());
	s->conn = sim_conn_connect(sim_donor(ntohs(in.sin_port) - 1u));
	return -EINPROGRESS;
}

static long do_close(long fd)
{
	struct sock *s = sock_of(fd);

	if (s->conn)
		sim_conn_close(s->conn, SIM_TO_DONOR);
	if (s->file)
		sim_disk_forget((int)fd);
	free(s->file);
	*s = (struct sock){0};
	return 0;
}

static long do_send(long fd, const struct iovec *iov, size_t n)
{
	struct sock *s = sock_of(fd);
	long r;

	if (!s->conn)
		return -ENOTCONN;
	r = sim_conn_send(s->conn, SIM_TO_DONOR, iov, n, SIZE_MAX);
	if (r >= 0 && sim_chance(sim_net.yield_ppm))
		sim_task_yield();
	return r ? r : -EAGAIN;
}

static long do_receive(long fd, const struct iovec *iov, size_t n)
{
	struct sock *s = sock_of(fd);
	long r;

	if (!s->conn)
		return -ENOTCONN;
	if (sim_chance(sim_net.yield_ppm))
		sim_task_yield();
	r = sim_conn_receive(s->conn, SIM_TO_CLIENT, iov, n);
	return r;
}

static short ready(const struct sock *s, short events)
{
	int state = s->conn ? sim_conn_state(s->conn) : 0;
	short r = 0;

	if (s->event)
		return s->ready ? (short)(events & POLLIN) : 0;

	if (state < 0)
		return (short)(events | POLLERR | POLLHUP);
	if (state && (sim_conn_waiting(s->conn, SIM_TO_CLIENT) ||
		      sim_conn_ended(s->conn, SIM_TO_CLIENT)))
		r |= POLLIN;
	if (state && sim_conn_room(s->conn, SIM_TO_DONOR))
		r |= POLLOUT;
	return (short)(r & events);
}

static long poll_once(struct pollfd *p, unsigned n)
{
	long found = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i].revents = p[i].fd < 0 ? 0 : ready(sock_of(p[i].fd), p[i].events);
		found += p[i].revents != 0;
	}
	return found;
}

/* t is woken when something happens to one of them; NULL: nobody is. */
static void wait_for(const struct pollfd *p, unsigned n, struct sim_task *t)
{
	for (unsigned i = 0; i < n; i++) {
		struct sock *s = p[i].fd < 0 ? NULL : sock_of(p[i].fd);

		if (s && s->conn)
			sim_conn_wait(s->conn, t);
		if (s)
			s->waiter = t;
	}
}

static long do_poll(struct pollfd *p, unsigned n, const struct timespec *t)
{
	uint64_t until = UINT64_MAX;
	long r;

	if (t)
		until = sim_now() + (uint64_t)t->tv_sec * SIM_SEC + (uint64_t)t->tv_nsec;
	else
		sim_fail("the client waits without a bound");
	while (!(r = poll_once(p, n)) && sim_now() < until) {
		wait_for(p, n, sim_task_self());
		sim_task_sleep(until);
	}
	wait_for(p, n, NULL);
	return r;
}

static long do_futex(uint32_t *word, int op, uint32_t value, const struct timespec *t)
{
	long woken = 0;

	if ((op & FUTEX_CMD_MASK) == FUTEX_WAKE) {
		for (unsigned i = 0; i < WAITERS && woken < (long)value; i++) {
			if (futex[i].word != word)
				continue;
			futex[i].word = NULL;
			sim_task_wake(futex[i].task);
			woken++;
		}
		return woken;
	}
	sim_must((op & FUTEX_CMD_MASK) == FUTEX_WAIT);
	if (*word != value)
		return -EAGAIN;
	for (unsigned i = 0; i < WAITERS; i++) {
		if (futex[i].word)
			continue;
		futex[i].word = word;
		futex[i].task = sim_task_self();
		sim_task_sleep(t ? sim_now() + (uint64_t)t->tv_sec * SIM_SEC + (uint64_t)t->tv_nsec
				 : UINT64_MAX);
		if (futex[i].word == word && futex[i].task == sim_task_self())
			futex[i].word = NULL; /* the time was up */
		return 0;
	}
	sim_fail("more than %u tasks wait for locks", WAITERS);
}

static long do_random(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)sim_random();
	return (long)n;
}

static long do_sleep(const struct timespec *t)
{
	sim_task_sleep(sim_now() + (uint64_t)t->tv_sec * SIM_SEC + (uint64_t)t->tv_nsec);
	return 0;
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
		return do_socket();
	case SYS_connect:
		return do_connect(a, ptr(b), c);
	case SYS_close:
		return do_close(a);
	case SYS_setsockopt:
		sock_of(a);
		return 0;
	case SYS_getsockopt:
		sim_must(b == SOL_SOCKET && c == SO_ERROR);
		*(int *)ptr(d) = sim_conn_state(sock_of(a)->conn) < 0
					 ? -sim_conn_state(sock_of(a)->conn)
					 : 0;
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
	case SYS_openat:
		return do_open((int)c);
	case SYS_fallocate: /* those that wait are file_ring_ask()'s */
		sim_must(sock_of(a)->file);
		return 0;
	case SYS_ioctl:
		return -ENOTTY;
	case SYS_fstatfs:
		return do_fstatfs(a, ptr(b));
	case SYS_ppoll:
		return do_poll(ptr(a), (unsigned)b, ptr(c));
	case SYS_nanosleep:
		return do_sleep(ptr(a));
	case SYS_futex:
		return do_futex(ptr(a), (int)b, (uint32_t)c, ptr(d));
	case SYS_getrandom:
		return do_random(ptr(a), (size_t)b);
	case SYS_getpid:
	case SYS_gettid:
		return 4711;
	case SYS_sched_yield:
		sim_task_yield();
		return 0;
	case SYS_mmap:
		return sim_memory_map() ? real(n, a, b, c, d, e, f) : -ENOMEM;
	case SYS_munmap:
		sim_memory_unmap();
		return real(n, a, b, c, d, e, f);
	case SYS_madvise:
		return real(n, a, b, c, d, e, f);
	default:
		sim_fail("system call %ld is not simulated: teach kernel.c what it does", n);
	}
}
