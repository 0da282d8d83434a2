/* SPDX-License-Identifier: MIT */
/* nbdkit's memory plugin, read with libnbd (optional at build time), over TCP and a UNIX socket. */
#include "bench/peers/peers.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if HAVE_LIBNBD
#include <libnbd.h>

#define CHUNK (64u * BENCH_PAGE)

struct nbd {
	int pid;
	struct nbd_handle *handle;
};

static int nbd_available(void)
{
	return peer_has_program("nbdkit") ? 0 : err_fail(-ENOENT, "nbdkit is not installed");
}

static int failed(void)
{
	return err_fail(-EIO, "libnbd: %s", nbd_get_error());
}

static int start(struct nbd *s, uint64_t pages, const char *way, const char *where)
{
	char size[32], ready[300];
	const char *dir;
	int r = child_folder(&dir);

	if (r)
		return r;
	snprintf(ready, sizeof ready, "%s/nbdkit.ready", dir);
	snprintf(size, sizeof size, "%llu", (unsigned long long)pages * BENCH_PAGE);
	unlink(ready);

	const char *const argv[] = {"nbdkit", "-f",  "-P",     ready, "-i", "127.0.0.1",
				    way,      where, "memory", size,  NULL};
	r = child_start("nbdkit", argv, 1, &s->pid);
	if (!r)
		r = child_wait("nbdkit", s->pid, ready, 20 * NSEC_PER_SEC);
	if (r == -ECHILD)
		s->pid = 0;
	return r;
}

static int allocate(void **priv, struct nbd **ret)
{
	struct nbd *s = calloc(1, sizeof *s);

	*priv = *ret = s;
	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->handle = nbd_create();
	return s->handle ? 0 : failed();
}

static int nbd_tcp_open(uint64_t pages, void **priv)
{
	struct nbd *s;
	unsigned number;
	char port[16];
	int r = allocate(priv, &s);

	if (!r)
		r = wire_free_port(&number);
	if (r)
		return r;
	snprintf(port, sizeof port, "%u", number);
	r = start(s, pages, "-p", port);
	if (r)
		return r;
	return nbd_connect_tcp(s->handle, "127.0.0.1", port) ? failed() : 0;
}

static int nbd_unix_open(uint64_t pages, void **priv)
{
	struct nbd *s;
	const char *dir;
	char path[300];
	int r = allocate(priv, &s);

	if (!r)
		r = child_folder(&dir);
	if (r)
		return r;
	snprintf(path, sizeof path, "%s/nbdkit.sock", dir);
	unlink(path);
	r = start(s, pages, "-U", path);
	if (r)
		return r;
	return nbd_connect_unix(s->handle, path) ? failed() : 0;
}

static int nbd_fill(void *priv, uint64_t from, uint64_t to)
{
	const struct nbd *s = priv;
	static char chunk[CHUNK];

	while (from < to) {
		uint64_t n = to - from < CHUNK / BENCH_PAGE ? to - from : CHUNK / BENCH_PAGE;

		for (uint64_t i = 0; i < n; i++)
			page_fill(chunk + i * BENCH_PAGE, from + i);
		if (nbd_pwrite(s->handle, chunk, n * BENCH_PAGE, from * BENCH_PAGE, 0))
			return failed();
		from += n;
	}
	return 0;
}

static int nbd_get(void *priv, uint64_t page, void *buf)
{
	const struct nbd *s = priv;

	return nbd_pread(s->handle, buf, BENCH_PAGE, page * BENCH_PAGE, 0) ? failed() : 0;
}

static void nbd_store_close(void *priv)
{
	struct nbd *s = priv;

	if (!s)
		return;
	if (s->handle)
		nbd_close(s->handle);
	child_stop(s->pid);
	free(s);
}

#else

static int nbd_available(void)
{
	return err_fail(-ENOENT, "built without libnbd (libnbd-dev)");
}

#define nbd_tcp_open    NULL
#define nbd_unix_open   NULL
#define nbd_fill        NULL
#define nbd_get         NULL
#define nbd_store_close NULL
#endif

const struct store store_nbd_tcp = {
	.name = "libnbd-tcp",
	.available = nbd_available,
	.open = nbd_tcp_open,
	.fill = nbd_fill,
	.get = nbd_get,
	.close = nbd_store_close,
};

const struct store store_nbd_unix = {
	.name = "libnbd-unix",
	.available = nbd_available,
	.open = nbd_unix_open,
	.fill = nbd_fill,
	.get = nbd_get,
	.close = nbd_store_close,
};
