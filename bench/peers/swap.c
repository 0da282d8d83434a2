/* SPDX-License-Identifier: MIT */
/*
 * A process keeps the swap area and the limited group: it makes them, says so, waits until its
 * socket is hung up, and undoes them. The socket is hung up when we close it and however we die,
 * SIGKILL included, so that there is one way to tear down. It ignores the signals that end us, and
 * is in a session of its own.
 */
#include "bench/peers/peers.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_NS (60 * NSEC_PER_SEC)

struct answer {
	int status;
	char text[300];
	char group[LIMIT_PATH];
	char device[260];
};

static const char *const names[] = {
	[SWAP_DISK] = "swap-disk",
	[SWAP_ZRAM] = "swap-zram",
	[SWAP_NBD] = "swap-nbd",
	[SWAP_RSWAP_TCP] = "swap-rswap-tcp",
	[SWAP_RSWAP_SHM] = "swap-rswap-shm",
	[SWAP_DEVICE] = "swap-device",
};

const char *swap_name(enum swap_kind kind)
{
	return names[kind];
}

int swap_available(enum swap_kind kind)
{
	int r = limit_available();

	return r ? r : swap_area_available(kind);
}

static void tell(int fd, int status, const struct limit *l, const struct swap_area *a)
{
	struct answer out = {.status = status};

	if (status)
		snprintf(out.text, sizeof out.text, "%.299s", err_text());
	memcpy(out.group, l->path, sizeof out.group);
	memcpy(out.device, a->device, sizeof out.device);
	send(fd, &out, sizeof out, MSG_NOSIGNAL);
}

static void keeper_main(int fd, enum swap_kind kind, const char *device, uint64_t area_bytes,
			uint64_t limit_bytes)
{
	struct swap_area area = {0};
	struct limit limit = {0};
	char name[40], byte;
	int r, undone;

	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	cpu_unpin();
	snprintf(name, sizeof name, "infuse-bench.%d", getpid());
	r = swap_area_open(&area, kind, device, area_bytes);
	if (!r)
		r = limit_create(&limit, name, limit_bytes);
	tell(fd, r, &limit, &area);
	if (!r)
		while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR)
			;
	r = limit_remove(&limit);
	undone = swap_area_close(&area);
	tell(fd, r ? r : undone, &limit, &area);
	_exit(0);
}

static int listen_to(struct swap *s, struct answer *ret)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int r;

	do
		r = poll(&p, 1, (int)(ANSWER_NS / NSEC_PER_MSEC));
	while (r < 0 && errno == EINTR);
	if (r <= 0 || recv(s->fd, ret, sizeof *ret, 0) != (ssize_t)sizeof *ret)
		return err_fail(-ETIMEDOUT, "the process that keeps the swap area doesn't answer");
	return ret->status ? err_fail(ret->status, "%s", ret->text) : 0;
}

int swap_open(struct swap *s, enum swap_kind kind, const char *device, uint64_t area_bytes,
	      uint64_t limit_bytes)
{
	struct answer answer;
	int pair[2], r;

	*s = (struct swap){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return err_fail(-errno, "no pair of sockets: %s", strerror(errno));
	r = child_fork();
	if (!r) {
		close(pair[0]);
		keeper_main(pair[1], kind, device, area_bytes, limit_bytes);
	}
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	s->fd = pair[0];
	s->keeper = r;
	child_keep(s->keeper, s->fd);
	r = listen_to(s, &answer);
	if (r) {
		char why[300];

		snprintf(why, sizeof why, "%.299s", err_text());
		swap_close(s);
		return err_fail(r, "%s", why);
	}
	memcpy(s->group, answer.group, sizeof s->group);
	memcpy(s->device, answer.device, sizeof s->device);
	return 0;
}

int swap_close(struct swap *s)
{
	struct answer answer;
	int r;

	if (!s->keeper)
		return 0;
	shutdown(s->fd, SHUT_WR);
	r = listen_to(s, &answer);
	/* One that doesn't answer is left to itself: it still holds what it could not undo. */
	if (r != -ETIMEDOUT)
		waitpid(s->keeper, NULL, 0);
	child_keep(0, -1);
	close(s->fd);
	*s = (struct swap){.fd = -1};
	return r;
}
