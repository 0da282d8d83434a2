/* SPDX-License-Identifier: MIT */
/*
 * A network namespace for each donor and one for us, and wires between them: a TUN device at each end
 * and a process in the middle that carries the packets, late, or not at all. The namespaces have no
 * names, so they go with the processes that are in them; and no queueing discipline is needed of the
 * kernel (netem is often not there).
 */
#include "bench/chaos.h"
#include "common/clock.h"
#include "common/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MTU     9000u
#define QUEUE   512u /* packets on their way in one direction; more are dropped, as a router does */
#define ADDRESS "10.66.%u.%u"

struct packet {
	uint64_t due_ns;
	unsigned len;
	unsigned char bytes[MTU];
};

/* Of one direction. */
struct queue {
	unsigned head, count;
	struct packet *packet; /* [QUEUE] */
};

struct chaos_net {
	unsigned donors;
	int space[DONORS_MAX];
	int ours[DONORS_MAX], theirs[DONORS_MAX]; /* TUN devices */
	int pid;
	struct chaos_wire *wire; /* shared with the process */
};

/* --- the process in the middle --- */

static uint64_t chance;

static uint64_t draw(uint64_t n)
{
	chance += 0x9e3779b97f4a7c15ull;
	return page_mix(chance) % n;
}

static void take(int from, struct queue *q, const struct chaos_wire *w, uint64_t now)
{
	static unsigned char spare[MTU];
	uint64_t delay_us = atomic_load(&w->delay_us);

	for (unsigned i = 0; i < 64; i++) {
		struct packet *p = &q->packet[(q->head + q->count) % QUEUE];
		bool full = q->count == QUEUE;
		ssize_t n = read(from, full ? spare : p->bytes, MTU);

		if (n <= 0)
			return;
		if (full || atomic_load(&w->cut) || draw(1000000) < atomic_load(&w->loss_ppm))
			continue;
		p->len = (unsigned)n;
		p->due_ns = now + (delay_us ? draw(delay_us) * NSEC_PER_USEC : 0);
		q->count++;
	}
}

/* Sends what is due; returns when the next one is. */
static uint64_t give(int to, struct queue *q, const struct chaos_wire *w, uint64_t now)
{
	while (q->count) {
		struct packet *p = &q->packet[q->head];

		if (p->due_ns > now)
			return p->due_ns;
		/* (What a device does not take is lost, as on any wire.) */
		if (!atomic_load(&w->cut) && write(to, p->bytes, p->len) < 0)
			(void)0;
		q->head = (q->head + 1) % QUEUE;
		q->count--;
	}
	return UINT64_MAX;
}

static void carry(const struct chaos_net *n)
{
	static struct queue to[DONORS_MAX], from[DONORS_MAX];
	struct pollfd fds[2 * DONORS_MAX];

	setpgid(0, 0); /* a terminal's signals are for who started us */
	for (unsigned i = 0; i < n->donors; i++) {
		to[i].packet = malloc(QUEUE * sizeof *to[i].packet);
		from[i].packet = malloc(QUEUE * sizeof *from[i].packet);
		if (!to[i].packet || !from[i].packet)
			_exit(1);
		fds[2 * i] = (struct pollfd){.fd = n->ours[i], .events = POLLIN};
		fds[2 * i + 1] = (struct pollfd){.fd = n->theirs[i], .events = POLLIN};
	}
	for (;;) {
		uint64_t now = clock_ns(), next = now + NSEC_PER_SEC, due;
		struct timespec t;

		for (unsigned i = 0; i < n->donors; i++) {
			if (fds[2 * i].revents)
				take(n->ours[i], &to[i], &n->wire[i], now);
			if (fds[2 * i + 1].revents)
				take(n->theirs[i], &from[i], &n->wire[i], now);
			due = give(n->theirs[i], &to[i], &n->wire[i], now);
			next = due < next ? due : next;
			due = give(n->ours[i], &from[i], &n->wire[i], now);
			next = due < next ? due : next;
		}
		t = (struct timespec){(time_t)((next - now) / NSEC_PER_SEC),
				      (long)((next - now) % NSEC_PER_SEC)};
		ppoll(fds, 2 * n->donors, &t, NULL);
	}
}

/* --- namespaces --- */

static int set_address(int sock, unsigned long request, struct ifreq *f, const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};

	inet_pton(AF_INET, text, &a.sin_addr);
	memcpy(&f->ifr_addr, &a, sizeof a);
	return ioctl(sock, request, f) ? -errno : 0;
}

static int interface_up(int sock, struct ifreq *f)
{
	f->ifr_flags = IFF_UP | IFF_RUNNING;
	return ioctl(sock, SIOCSIFFLAGS, f) ? -errno : 0;
}

static int loopback_up(void)
{
	struct ifreq f = {.ifr_name = "lo"};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (sock < 0)
		return -errno;
	r = interface_up(sock, &f);
	close(sock);
	return r;
}

/* An end of wire i in the namespace that we are in: .1 is ours, .2 the donor's. */
static int end_of_wire(unsigned i, unsigned mine, unsigned other, int *ret)
{
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;
	struct ifreq f = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	char text[32];

	snprintf(f.ifr_name, sizeof f.ifr_name, "wire%u", i);
	if (tun < 0 || sock < 0 || ioctl(tun, TUNSETIFF, &f))
		r = -errno;
	snprintf(text, sizeof text, ADDRESS, i, mine);
	r = r ? r : set_address(sock, SIOCSIFADDR, &f, text);
	snprintf(text, sizeof text, ADDRESS, i, other);
	r = r ? r : set_address(sock, SIOCSIFDSTADDR, &f, text);
	f.ifr_mtu = MTU;
	if (!r && ioctl(sock, SIOCSIFMTU, &f))
		r = -errno;
	r = r ? r : interface_up(sock, &f);
	if (sock >= 0)
		close(sock);
	*ret = tun;
	return r;
}

static int own_space(void)
{
	if (unshare(CLONE_NEWNET))
		return -errno;
	return loopback_up();
}

static int this_space(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The donors' first, each with its end of a wire; ours last, in which we stay. */
static int make_spaces(struct chaos_net *n)
{
	int r = 0;

	for (unsigned i = 0; i < n->donors && !r; i++) {
		r = own_space();
		r = r ? r : end_of_wire(i, 2, 1, &n->theirs[i]);
		n->space[i] = r ? -1 : this_space();
		r = r ? r : n->space[i] < 0 ? n->space[i] : 0;
	}
	r = r ? r : own_space();
	for (unsigned i = 0; i < n->donors && !r; i++)
		r = end_of_wire(i, 1, 2, &n->ours[i]);
	return r;
}

int chaos_net_open(unsigned donors, uint64_t seed, struct chaos_net **ret)
{
	struct chaos_net *n = calloc(1, sizeof *n);
	int before = this_space(), r;

	*ret = NULL;
	if (!n || before < 0)
		return err_fail(-ENOMEM, "no memory");
	n->donors = donors;
	for (unsigned i = 0; i < donors; i++)
		n->ours[i] = n->theirs[i] = n->space[i] = -1;
	n->wire = mmap(NULL, sizeof *n->wire * DONORS_MAX, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = n->wire == MAP_FAILED ? -errno : make_spaces(n);
	if (r) {
		if (setns(before, CLONE_NEWNET) && r != -EPERM)
			(void)0; /* we are in an empty one, which will do for loopback */
		(void)loopback_up();
		err_fail(r, "no network namespaces with TUN devices: %s", strerror(-r));
	}
	close(before);
	if (r) {
		chaos_net_close(n);
		return 0;
	}
	chance = seed;
	n->pid = child_fork();
	if (!n->pid) {
		carry(n);
		_exit(0);
	}
	if (n->pid < 0) {
		r = n->pid;
		chaos_net_close(n);
		return r;
	}
	*ret = n;
	return 0;
}

struct chaos_wire *chaos_net_wire(struct chaos_net *n, unsigned donor)
{
	return &n->wire[donor];
}

int chaos_net_namespace(const struct chaos_net *n, unsigned donor)
{
	return n->space[donor];
}

void chaos_net_close(struct chaos_net *n)
{
	if (!n)
		return;
	if (n->pid > 0)
		child_stop(n->pid);
	for (unsigned i = 0; i < n->donors; i++) {
		const int fds[] = {n->ours[i], n->theirs[i], n->space[i]};

		for (unsigned k = 0; k < 3; k++)
			if (fds[k] >= 0)
				close(fds[k]);
	}
	if (n->wire != MAP_FAILED)
		munmap(n->wire, sizeof *n->wire * DONORS_MAX);
	free(n);
}
