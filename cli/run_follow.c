/* SPDX-License-Identifier: MIT */
/*
 * Donors that join while a program of `infuse run` runs. The program can't ask the registry itself
 * (libinject/donor_file.c says why), so a keeper like that of a private server stays behind: it reads
 * the registry every --refresh, and soon after it changed, asks who is there, and replaces the file of
 * addresses whole. It ends, and removes its folder, when the command and all that it left behind are
 * gone.
 */
#include "cli/run.h"
#include "cli/donor.h"
#include "cli/run_keeper.h"
#include "common/clock.h"
#include "common/error.h"
#include "registry/follow.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_MS 1000

struct keeper {
	char folder[80], file[100], next[110];
	const char *registry;
	uint64_t refresh_ns;
	int command; /* pidfd */
};

/* By numbers: the program must not meet the resolver. Names that nobody knows are passed over. */
static int put_address(char *to, size_t len, const char *address)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	char host[128], number[NI_MAXHOST], port[NI_MAXSERV];
	const char *colon = strrchr(address, ':');
	bool six = false;
	int r;

	if (!strncmp(address, "unix:", 5))
		return snprintf(to, len, "shm:%s\n", address + 5);
	if (strncmp(address, "tcp:", 4) || colon == address + 3 ||
	    (size_t)(colon - address) - 4 >= sizeof host)
		return 0;
	snprintf(host, sizeof host, "%.*s", (int)(colon - address) - 4, address + 4);
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		memmove(host, host + 1, strlen(host));
		host[strlen(host) - 1] = 0;
	}
	if (getaddrinfo(host, colon + 1, &hints, &found))
		return 0;
	six = found->ai_family == AF_INET6;
	r = getnameinfo(found->ai_addr, found->ai_addrlen, number, sizeof number, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV);
	freeaddrinfo(found);
	return r ? 0 : snprintf(to, len, "tcp:%s%s%s:%s\n", six ? "[" : "", number, six ? "]" : "", port);
}

static void write_file(const struct keeper *k, const char *text)
{
	FILE *f = fopen(k->next, "we");
	bool good = f && fputs(text, f) >= 0;

	if (f && fclose(f))
		good = false;
	if (good)
		rename(k->next, k->file);
}

/* Each by the address at which it answers; who does not is left out until it does. */
static void ask_all(const struct keeper *k)
{
	const struct opt_list none = {0};
	struct donor_list l;
	char text[8000] = "";
	size_t at = 0;

	if (donor_find(&none, k->registry, &l))
		return;
	donor_ask(&l, 0, DONOR_TIMEOUT);
	for (size_t i = 0; i < l.count; i++) {
		const struct donor *d = &l.item[i];
		int n = d->status ? 0 : put_address(text + at, sizeof text - at, d->address[d->answered].text);

		if ((size_t)n >= sizeof text - at)
			break;
		at += (size_t)n;
	}
	text[at] = 0;
	donor_list_free(&l);
	if (at)
		write_file(k, text);
}

static void found(const struct known_donors *l, void *arg)
{
	(void)l;
	ask_all(arg);
}

static void keep(struct keeper *k)
{
	const struct follow_options o = {.url = k->registry,
					 .interval_ms = k->refresh_ns / NSEC_PER_MSEC,
					 .found = found,
					 .arg = k};
	struct follow *f = NULL;

	if (!follow_start(&o, &f)) {
		while (!run_ended(k->command, LOOK_MS) || run_has_descendants(k->folder, 0))
			if (run_ended(k->command, 0))
				poll(NULL, 0, LOOK_MS);
		follow_stop(f);
	}
	unlink(k->next);
	unlink(k->file);
	rmdir(k->folder);
}

int run_follow_start(const char *registry, uint64_t refresh_ns, char *file, size_t len)
{
	struct keeper k = {.registry = registry, .refresh_ns = refresh_ns};
	int r = run_folder(k.folder, sizeof k.folder);

	if (r)
		return r;
	snprintf(k.file, sizeof k.file, "%s/donors", k.folder);
	snprintf(k.next, sizeof k.next, "%s/donors.new", k.folder);
	snprintf(file, len, "%s", k.file);
	k.command = run_pidfd(getpid());
	r = k.command < 0 ? err_fail(-errno, "pidfd_open: %s", strerror(errno)) : run_detach();
	if (r > 0) {
		run_let_go(k.command, -1);
		keep(&k);
		_exit(0);
	}
	if (k.command >= 0)
		close(k.command);
	if (r < 0)
		rmdir(k.folder);
	return r;
}
