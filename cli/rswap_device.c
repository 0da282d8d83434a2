/* SPDX-License-Identifier: MIT */
/* See rswap_device.h. The folder has `via` and `device`, a line each, and what rswap_nbd.c keeps. */
#include "cli/rswap_device.h"
#include "cli/rswap_swap.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NS   (60 * NSEC_PER_SEC)
#define ARGS_MAX  (2 * RSWAP_CONF_DONORS + 16)

static int make_folder(const char *path, mode_t mode)
{
	if (mkdir(path, mode) && errno != EEXIST)
		return err_fail(-errno, "can't make %s: %s", path, strerror(errno));
	return 0;
}

static int put(const struct rswap_device *d, const char *name, const char *text)
{
	char path[300];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof path, "%s/%s", d->folder, name);
	f = fopen(path, "we");
	if (!f || fputs(text, f) < 0 || fflush(f))
		return err_fail(-errno, "can't write %s: %s", path, strerror(errno));
	return 0;
}

static void get(const struct rswap_device *d, const char *name, char *text, size_t len)
{
	char path[300];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(path, sizeof path, "%s/%s", d->folder, name);
	f = fopen(path, "re");
	if (!f || !fgets(text, (int)len, f))
		text[0] = 0;
	text[strcspn(text, "\n")] = 0;
}

static int take_lock(struct rswap_device *d, const char *run)
{
	const struct timespec nap = {.tv_nsec = 50 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + LOCK_NS;
	char path[300];

	snprintf(path, sizeof path, "%s/%s.lock", run, d->name);
	d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock < 0)
		return err_fail(-errno, "can't open %s: %s", path, strerror(errno));
	while (flock(d->lock, LOCK_EX | LOCK_NB)) {
		if (clock_ns() > end)
			return err_fail(-EBUSY, "another infuse is at work on %s", d->name);
		nanosleep(&nap, NULL);
	}
	return 0;
}

int rswap_device_open(struct rswap_device *d, const char *run, const char *name)
{
	char via[16];
	int r;

	*d = (struct rswap_device){.lock = -1, .fd = -1};
	if (!rswap_name_ok(name))
		return err_fail(-EINVAL, "'%.40s' is not a device's name: rswap0, rswap1...", name);
	if (geteuid())
		return err_fail(-EPERM, "only root may change what is swapped to");
	snprintf(d->name, sizeof d->name, "%s", name);
	if (snprintf(d->folder, sizeof d->folder, "%s/%s", run, name) >= (int)sizeof d->folder)
		return err_fail(-ENAMETOOLONG, "%.80s... is too long", run);
	r = make_folder(run, 0755); /* donors' sockets are in there, too */
	if (!r)
		r = take_lock(d, run);
	if (r) {
		rswap_device_close(d);
		return r;
	}
	get(d, "via", via, sizeof via);
	get(d, "device", d->path, sizeof d->path);
	d->nbd = !strcmp(via, "nbd");
	return 0;
}

void rswap_device_close(struct rswap_device *d)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->lock >= 0)
		close(d->lock);
	d->fd = d->lock = -1;
}

/* --- the module's way: our own verbs --- */

bool rswap_has_module(void)
{
	static const char *const probe[] = {"modprobe", "rswap", NULL};

	return !access("/sys/module/rswap", F_OK) ||
	       (!rswap_run(probe) && !access("/sys/module/rswap", F_OK));
}

static int attach(struct rswap_device *d, const struct rswap_conf *c, uint64_t bytes)
{
	char size[32], replicas[32], deadline[40];
	const char *word[ARGS_MAX] = {"/proc/self/exe", "attach",     d->name, "--size", size,
				      "--replicas",     replicas};
	unsigned n = 7;

	snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
	snprintf(replicas, sizeof replicas, "%llu", (unsigned long long)c->replicas);
	snprintf(deadline, sizeof deadline, "%lluus",
		 (unsigned long long)(c->deadline_ns / NSEC_PER_USEC));
	if (c->deadline_ns) {
		word[n++] = "--deadline";
		word[n++] = deadline;
	}
	if (c->registry[0]) {
		word[n++] = "--registry";
		word[n++] = c->registry;
	}
	if (c->key[0]) {
		word[n++] = "--key";
		word[n++] = c->key;
	}
	for (unsigned i = 0; i < c->donors; i++) {
		word[n++] = "--donor";
		word[n++] = c->donor[i];
	}
	snprintf(d->path, sizeof d->path, "/dev/%s", d->name);
	return rswap_run(word);
}

static int detach(const struct rswap_device *d)
{
	const char *const argv[] = {"/proc/self/exe", "detach", d->name, NULL};

	if (access(d->path, F_OK))
		return 0;
	return rswap_run(argv);
}

/* --- */

int rswap_device_make(struct rswap_device *d, const struct rswap_conf *c, bool nbd, uint64_t bytes)
{
	char why[400];
	int r = make_folder(d->folder, 0700);

	d->nbd = nbd;
	if (!r)
		r = put(d, "via", nbd ? "nbd\n" : "module\n");
	if (!r)
		r = nbd ? rswap_nbd_open(c, bytes, d->folder, d->path, &d->fd)
			: attach(d, c, bytes);
	if (!r)
		r = put(d, "device", d->path);
	if (!r)
		return 0;
	snprintf(why, sizeof why, "%s", err_text());
	rswap_device_remove(d);
	return err_fail(r, "%s", why);
}

int rswap_device_remove(struct rswap_device *d)
{
	static const char *const names[] = {"via", "device"};
	char path[300];
	int r;

	if (access(d->folder, F_OK))
		return 0;
	/* A loop device is gone with the last who has it open. */
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	r = d->nbd ? rswap_nbd_close(d->folder) : d->path[0] ? detach(d) : 0;
	if (r)
		return r;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", d->folder, names[i]);
		unlink(path);
	}
	d->path[0] = 0;
	if (rmdir(d->folder))
		return err_fail(-errno, "can't remove %s: %s", d->folder, strerror(errno));
	return 0;
}
