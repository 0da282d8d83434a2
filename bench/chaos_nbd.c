/* SPDX-License-Identifier: MIT */
/*
 * The block device's client: nbdkit with our plugin, a volume in code 2+1, and a process that reads and
 * writes it with libnbd over two connections. Whether the volume is whole nbdkit's log says.
 */
#include "bench/chaos.h"
#include "bench/peers/peers.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if HAVE_LIBNBD
#include <libnbd.h>
#include <pthread.h>

struct nbd_thread {
	const struct chaos_setup *s;
	struct nbd_handle *handle;
	unsigned number;
};

static int nbd_read(void *arg, uint64_t page, void *buf)
{
	return nbd_pread(arg, buf, BENCH_PAGE, page * BENCH_PAGE, 0)
		       ? err_fail(-EIO, "read: %s", nbd_get_error())
		       : 0;
}

static int nbd_write(void *arg, uint64_t page, const void *buf)
{
	return nbd_pwrite(arg, buf, BENCH_PAGE, page * BENCH_PAGE, 0)
		       ? err_fail(-EIO, "write: %s", nbd_get_error())
		       : 0;
}

static const struct chaos_access nbd_access = {nbd_read, nbd_write};

static void *work(void *arg)
{
	struct nbd_thread *t = arg;

	chaos_model_run(t->s->nbd, t->number, t->s->seed + 1, &nbd_access, t->handle);
	return NULL;
}

static void nbd_main(const struct chaos_setup *s, const char *socket)
{
	struct nbd_thread t[CHAOS_THREADS];
	pthread_t thread[CHAOS_THREADS];

	setpgid(0, 0); /* a terminal's signals are for who started us */
	for (unsigned i = 0; i < CHAOS_THREADS; i++) {
		t[i] = (struct nbd_thread){s, nbd_create(), i};
		if (!t[i].handle || nbd_connect_unix(t[i].handle, socket) ||
		    pthread_create(&thread[i], NULL, work, &t[i])) {
			atomic_fetch_add(&s->nbd->errors, 1);
			chaos_client_error(s->nbd, nbd_get_error());
			_exit(1);
		}
	}
	for (unsigned i = 0; i < CHAOS_THREADS; i++) {
		pthread_join(thread[i], NULL);
		nbd_shutdown(t[i].handle, 0);
		nbd_close(t[i].handle);
	}
	_exit(0);
}

static const char *plugin(char *buf, size_t len)
{
	char *slash;

	child_program("infuse-bench", buf, len);
	slash = strrchr(buf, '/');
	if (slash) {
		snprintf(slash, len - (size_t)(slash - buf), "/../lib/nbdkit-rswap-plugin.so");
		if (!access(buf, R_OK))
			return buf;
	}
	return "rswap";
}

static int nbdkit_start(struct chaos_setup *s, const char *dir, const char *socket)
{
	char so[300], ready[300], size[40], donor[DONORS_MAX][100], key[320];
	const struct child_place place = {.apart = true};
	const char *argv[20 + DONORS_MAX] = {"nbdkit", "-f", "-P", ready, "-U", socket,
					     plugin(so, sizeof so), size, "code=2+1", "deadline=10s"};
	unsigned n = 10;
	int r;

	snprintf(ready, sizeof ready, "%s/nbdkit.pid", dir);
	snprintf(size, sizeof size, "size=%llu", (unsigned long long)CHAOS_PAGES * BENCH_PAGE);
	for (unsigned i = 0; i < s->donors->count; i++) {
		snprintf(donor[i], sizeof donor[i], "donor=%s", s->donors->address[i]);
		argv[n++] = donor[i];
	}
	if (s->donors->key_file) {
		snprintf(key, sizeof key, "key=%s", s->donors->key_file);
		argv[n++] = key;
	}
	r = child_start_at("nbdkit", argv, &place, &s->nbdkit_pid);
	if (!r)
		r = child_wait("nbdkit", s->nbdkit_pid, ready, 30 * NSEC_PER_SEC);
	if (r == -ECHILD)
		s->nbdkit_pid = 0;
	return r;
}

int chaos_nbd_start(struct chaos_setup *s)
{
	char socket[300], so[300], command[400];
	const char *dir;
	int r = child_folder(&dir);

	if (r)
		return r;
	if (!peer_has_program("nbdkit")) {
		s->nbd_skipped = "nbdkit is not installed";
		return 0;
	}
	snprintf(command, sizeof command, "nbdkit %s --dump-plugin > /dev/null 2>&1",
		 plugin(so, sizeof so));
	if (system(command)) {
		s->nbd_skipped = "nbdkit has no plugin rswap";
		return 0;
	}
	snprintf(socket, sizeof socket, "%s/nbd.sock", dir);
	r = nbdkit_start(s, dir, socket);
	if (r)
		return r;
	s->nbd_pid = child_fork();
	if (!s->nbd_pid)
		nbd_main(s, socket);
	return s->nbd_pid < 0 ? s->nbd_pid : 0;
}
#else
int chaos_nbd_start(struct chaos_setup *s)
{
	s->nbd_skipped = "built without libnbd";
	return 0;
}
#endif

void chaos_nbd_look(struct chaos_setup *s)
{
	char path[300], line[400];
	uint64_t degraded = 0;
	const char *dir;
	FILE *f;

	if (s->nbd_skipped || child_folder(&dir))
		return;
	snprintf(path, sizeof path, "%s/nbdkit.log", dir);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		if (strstr(line, "have lost a copy") || strstr(line, "are lost"))
			degraded = 1;
		else if (strstr(line, "whole again"))
			degraded = 0;
	}
	if (f)
		fclose(f);
	atomic_store(&s->nbd->degraded, degraded);
}
