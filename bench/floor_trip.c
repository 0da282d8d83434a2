/* SPDX-License-Identifier: MIT */
/*
 * The bare round trip of a page and the bare stream, without protocol, hash or heap: a child
 * answers 16-byte requests out of an array. Either both ends spin on a CPU of their own, or both
 * block on one CPU; a sleeping peer on another CPU is not a floor, its wake-up costs more than all
 * the rest. Shared memory has no round trip: its floor is the copy out of it.
 */
#include "bench/bench.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SOURCE_BYTES  (256u << 20)
#define MESSAGE_BYTES (256u << 10)
#define TRIPS         8000u
#define TRIPS_FIRST   500u /* not counted */
#define STREAM_BYTES  (128u << 20)
#define STREAMS       4u
#define IN_FLIGHT     2u
#define GIVE_UP_NS    (5 * NSEC_PER_SEC)

struct request {
	uint64_t offset;
	uint64_t bytes;
};

struct wire {
	int client;
	pid_t server;
	bool spin;
	char *source; /* shared with the server */
	char *buf;    /* a message */
};

static int tcp_pair(int *a, int *b)
{
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof s;
	CLEANUP_FD int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (l < 0 || bind(l, (struct sockaddr *)&s, len) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&s, &len))
		return -errno;
	*a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*a < 0 || connect(*a, (struct sockaddr *)&s, len))
		return -errno;
	*b = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (*b < 0)
		return -errno;
	setsockopt(*a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(*b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return 0;
}

static int unix_pair(int *a, int *b)
{
	int pair[2], bytes = 4 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
		setsockopt(pair[i], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	}
	*a = pair[0];
	*b = pair[1];
	return 0;
}

/* All of it or false: the peer is gone, or silent for too long. */
static bool transfer(int fd, void *p, size_t bytes, bool out, bool spin)
{
	int flags = MSG_NOSIGNAL | (spin ? MSG_DONTWAIT : 0);
	uint64_t end = 0;
	char *at = p;

	for (unsigned idle = 1; bytes; idle++) {
		ssize_t n = out ? send(fd, at, bytes, flags) : recv(fd, at, bytes, flags);

		if (n > 0) {
			at += n;
			bytes -= (size_t)n;
			continue;
		}
		if (!n || (errno != EAGAIN && errno != EINTR) || !spin)
			return false;
		if (idle % 4096)
			continue;
		if (!end)
			end = clock_ns() + GIVE_UP_NS;
		if (clock_ns() > end)
			return false;
	}
	return true;
}

static void serve(int fd, char *source, bool spin)
{
	struct request q;

	while (transfer(fd, &q, sizeof q, false, spin))
		if (!transfer(fd, source + q.offset, q.bytes, true, spin))
			break;
	_exit(0);
}

static void wire_close(struct wire *w)
{
	if (w->client >= 0)
		close(w->client);
	if (w->server > 0) {
		kill(w->server, SIGKILL);
		waitpid(w->server, NULL, 0);
	}
	if (w->source)
		munmap(w->source, SOURCE_BYTES);
	free(w->buf);
	cpu_unpin();
}

static int wire_open(enum floor_wire kind, bool one_core, struct wire *w)
{
	struct timeval patience = {.tv_sec = GIVE_UP_NS / NSEC_PER_SEC};
	CLEANUP_FD int server = -1;
	int r;

	*w = (struct wire){.client = -1, .spin = !one_core};
	w->source = mmap(NULL, SOURCE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (w->source == MAP_FAILED) {
		w->source = NULL;
		return err_fail(-ENOMEM, "no memory for the floors");
	}
	w->buf = malloc(MESSAGE_BYTES);
	if (!w->buf)
		return err_fail(-ENOMEM, "no memory for the floors");
	memset(w->source, 1, SOURCE_BYTES);
	memset(w->buf, 1, MESSAGE_BYTES);
	cpu_pin(0);
	if (kind == FLOOR_SHM)
		return 0;
	r = kind == FLOOR_TCP ? tcp_pair(&w->client, &server) : unix_pair(&w->client, &server);
	if (r)
		return err_fail(r, "no socket for the floors: %s", strerror(-r));
	setsockopt(w->client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	w->server = fork();
	if (w->server < 0)
		return err_fail(-errno, "can't start the floors' other end");
	if (!w->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(w->client);
		cpu_pin(one_core ? 0 : 1);
		serve(server, w->source, w->spin);
	}
	return 0;
}

static bool wire_ask(struct wire *w, uint64_t offset, uint64_t bytes)
{
	struct request q = {offset, bytes};

	return w->client < 0 || transfer(w->client, &q, sizeof q, true, w->spin);
}

static bool wire_get(struct wire *w, uint64_t offset, uint64_t bytes)
{
	if (w->client >= 0)
		return transfer(w->client, w->buf, bytes, false, w->spin);
	memcpy(w->buf, w->source + offset, bytes);
	__asm__ volatile("" : : "r"(w->buf) : "memory");
	return true;
}

static int trips(struct wire *w, struct floor_time *ret)
{
	static uint32_t ns[TRIPS];
	uint64_t start = 0, then;

	for (uint64_t i = 0; i < TRIPS_FIRST + TRIPS; i++) {
		uint64_t page = page_shuffle(i, SOURCE_BYTES / BENCH_PAGE) * BENCH_PAGE;

		then = clock_ns();
		if (i == TRIPS_FIRST)
			start = then;
		if (!wire_ask(w, page, BENCH_PAGE) || !wire_get(w, page, BENCH_PAGE))
			return err_fail(-EPIPE, "the floors' other end is gone");
		if (i >= TRIPS_FIRST)
			ns[i - TRIPS_FIRST] = (uint32_t)(clock_ns() - then);
	}
	ret->us = (double)(clock_ns() - start) / TRIPS / 1e3;
	ret->p50_us = sample_quantile_us(ns, TRIPS, 0.5);
	ret->p99_us = sample_quantile_us(ns, TRIPS, 0.99);
	return 0;
}

int floor_trip(enum floor_wire wire, bool one_core, struct floor_time *ret)
{
	struct wire w;
	int r = wire_open(wire, one_core, &w);

	*ret = (struct floor_time){0};
	if (!r)
		r = trips(&w, ret);
	wire_close(&w);
	return r;
}

static int stream(struct wire *w, struct floor_time *ret)
{
	const uint64_t messages = STREAM_BYTES / MESSAGE_BYTES;
	uint64_t start = clock_ns();

	for (uint64_t i = 0; i < messages + IN_FLIGHT; i++) {
		uint64_t at = i * MESSAGE_BYTES % SOURCE_BYTES;

		/* What was asked for IN_FLIGHT messages ago. */
		if (i >= IN_FLIGHT &&
		    !wire_get(w, (at + SOURCE_BYTES - IN_FLIGHT * MESSAGE_BYTES) % SOURCE_BYTES,
			      MESSAGE_BYTES))
			return err_fail(-EPIPE, "the floors' other end is gone");
		if (i < messages && !wire_ask(w, at, MESSAGE_BYTES))
			return err_fail(-EPIPE, "the floors' other end is gone");
	}
	ret->us = (double)(clock_ns() - start) / 1e3 / (STREAM_BYTES / BENCH_PAGE);
	return 0;
}

int floor_stream(enum floor_wire wire, bool one_core, struct floor_time *ret)
{
	struct wire w;
	int r = wire_open(wire, one_core, &w);

	*ret = (struct floor_time){0};
	/* The best of a few: the first pass has cold connections, others are disturbed. */
	for (unsigned i = 0; i < STREAMS && !r; i++) {
		struct floor_time pass = {0};

		r = stream(&w, &pass);
		if (!i || pass.us < ret->us)
			*ret = pass;
	}
	wire_close(&w);
	return r;
}
