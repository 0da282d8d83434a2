/* SPDX-License-Identifier: MIT */
/*
 * The memory servers of a chaos run: each in its namespace if there are any, at an address that stays
 * the same when it is killed and comes back, with its log and the registry on the small disk.
 */
#include "bench/chaos.h"
#include "common/clock.h"
#include "common/error.h"
#include "registry/registry.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_NS (30 * NSEC_PER_SEC)
#define SIZE     "64M"
#define SLAB     "256K" /* small, so that there is something to rebuild on every donor */
#define PORT     4770

/* What it got, the first time, when it could choose its port. */
static int read_address(struct chaos_donors *d, unsigned i, const char *ready)
{
	FILE *f = fopen(ready, "re");
	char line[160] = "";

	if (f && fgets(line, sizeof line, f))
		line[strcspn(line, " \n")] = 0;
	if (f)
		fclose(f);
	if (strncmp(line, "tcp:", 4) || strlen(line) >= sizeof d->address[i])
		return err_fail(-EPROTO, "%s names no address", ready);
	strcpy(d->address[i], line);
	d->list[i] = d->address[i];
	return 0;
}

static int start(struct chaos_donors *d, unsigned i, const char *name, const char *ready)
{
	char server[300], listen[80], registry[300];
	struct child_place place = {.apart = true, .log = d->disk->path};

	if (*d->address[i])
		snprintf(listen, sizeof listen, "%s", d->address[i]);
	else if (d->net)
		snprintf(listen, sizeof listen, "tcp:10.66.%u.2:%d", i, PORT);
	else
		snprintf(listen, sizeof listen, "tcp:127.0.0.1:0");
	snprintf(registry, sizeof registry, "%s/registry.db", d->disk->path);
	if (d->net) {
		place.in_space = true;
		place.space = chaos_net_namespace(d->net, i);
	}

	const char *argv[] = {child_program("infuse-memory-server", server, sizeof server),
			      "--name", name, "--listen", listen, "--size", SIZE, "--slab", SLAB,
			      "--lazy", "--no-reclaim", "--registry", registry, "--ready-file", ready,
			      "--insecure", NULL, NULL};
	if (d->key_file) {
		argv[15] = "--key";
		argv[16] = d->key_file;
	}
	return child_start_at(name, argv, &place, &d->pid[i]);
}

int chaos_donor_start(struct chaos_donors *d, unsigned i)
{
	uint64_t end = clock_ns() + READY_NS;
	char name[32], ready[300];
	const char *dir;
	int r = child_folder(&dir);

	if (r)
		return r;
	snprintf(name, sizeof name, "donor-%u", i);
	snprintf(ready, sizeof ready, "%s/%s.ready", dir, name);
	/* The kernel takes its time to close a killed server's sockets. */
	do {
		unlink(ready);
		r = start(d, i, name, ready);
		if (!r)
			r = child_wait(name, d->pid[i], ready, READY_NS);
		if (r == -ECHILD)
			d->pid[i] = 0;
	} while (r == -ECHILD && clock_ns() < end && !chaos_ending());
	if (r || *d->address[i])
		return r;
	return read_address(d, i, ready);
}

int chaos_donor_alive(const struct chaos_donors *d, unsigned i)
{
	siginfo_t info = {0};

	if (!waitid(P_PID, (id_t)d->pid[i], &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid)
		return 0;
	return err_fail(-ECHILD, "donor %u ended by itself, with %s %d", i,
			info.si_code == CLD_EXITED ? "status" : "signal", info.si_status);
}

void chaos_donor_kill(struct chaos_donors *d, unsigned i)
{
	if (d->pid[i] <= 0)
		return;
	kill(d->pid[i], SIGKILL);
	waitpid(d->pid[i], NULL, 0);
	child_gone(d->pid[i]);
	d->pid[i] = 0;
}

static unsigned registered(const char *path)
{
	struct registry *reg;
	struct reg_list list;
	unsigned n = 0;

	if (reg_open(path, &reg))
		return 0;
	if (!reg_list(reg, "donor/", &list)) {
		n = (unsigned)list.count;
		reg_list_free(&list);
	}
	reg_close(reg);
	return n;
}

int chaos_donors_registered(const struct chaos_donors *d, uint64_t timeout_ns)
{
	const struct timespec nap = {.tv_nsec = 100 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + timeout_ns;
	char path[300];
	unsigned n;

	snprintf(path, sizeof path, "%s/registry.db", d->disk->path);
	while ((n = registered(path)) < d->count && !chaos_ending()) {
		if (clock_ns() > end)
			return err_fail(-ETIMEDOUT, "only %u of %u donors are in the registry after %llu s",
					n, d->count, (unsigned long long)(timeout_ns / NSEC_PER_SEC));
		nanosleep(&nap, NULL);
	}
	return 0;
}

void chaos_donors_stop(struct chaos_donors *d)
{
	for (unsigned i = 0; i < d->count; i++)
		chaos_donor_kill(d, i);
}
