/* SPDX-License-Identifier: MIT */
/* memcached, one thread, asked with get over loopback TCP in its text protocol. */
#include "bench/peers/peers.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 64
#define STORED  "STORED\r\n"
#define KEY     "page%016llx" /* 20 characters */
#define HEAD    (sizeof "VALUE page0123456789abcdef 0 4096\r\n" - 1)
#define TAIL    (sizeof "\r\nEND\r\n" - 1)
#define MISS    (sizeof "END\r\n" - 1)

struct memcached {
	int pid, fd;
};

static int memcached_available(void)
{
	return peer_has_program("memcached") ? 0 : err_fail(-ENOENT, "memcached is not installed");
}

static int memcached_open(uint64_t pages, void **priv)
{
	struct memcached *s = calloc(1, sizeof *s);
	char port[16], mib[32];
	unsigned number;
	int r;

	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->fd = -1;
	*priv = s;
	r = wire_free_port(&number);
	if (r)
		return r;
	snprintf(port, sizeof port, "%u", number);
	/* Its chunks are up to a quarter bigger than what is in them. */
	snprintf(mib, sizeof mib, "%llu", (unsigned long long)(pages / 256 * 3 / 2 + 64));

	const char *const argv[] = {"memcached", "-l", "127.0.0.1", "-p", port, "-U",   "0",
				    "-m",        mib,  "-t",        "1",  "-u", "root", NULL};
	r = child_start("memcached", argv, 1, &s->pid);
	return r ? r : wire_connect_tcp(number, &s->fd);
}

static int memcached_fill(void *priv, uint64_t from, uint64_t to)
{
	const struct memcached *s = priv;
	char head[80], page[BENCH_PAGE + 2], said[AT_ONCE * (sizeof STORED - 1)];
	int r = 0;

	memcpy(page + BENCH_PAGE, "\r\n", 2);
	while (from < to && !r) {
		size_t n = to - from < AT_ONCE ? to - from : AT_ONCE;

		for (size_t i = 0; i < n && !r; i++) {
			int len = snprintf(head, sizeof head, "set " KEY " 0 0 4096\r\n",
					   (unsigned long long)(from + i));

			page_fill(page, from + i);
			r = wire_send(s->fd, head, (size_t)len);
			if (!r)
				r = wire_send(s->fd, page, sizeof page);
		}
		if (!r)
			r = wire_receive(s->fd, said, n * (sizeof STORED - 1));
		if (!r && memcmp(said, STORED, sizeof STORED - 1))
			r = err_fail(-EPROTO, "memcached takes no value");
		from += n;
	}
	return r;
}

static int memcached_get(void *priv, uint64_t page, void *buf)
{
	const struct memcached *s = priv;
	char ask[64], said[HEAD + BENCH_PAGE + TAIL];
	int len = snprintf(ask, sizeof ask, "get " KEY "\r\n", (unsigned long long)page);
	int r = wire_send(s->fd, ask, (size_t)len);

	if (!r)
		r = wire_receive(s->fd, said, MISS);
	if (!r && memcmp(said, "VALUE", 5))
		return err_fail(-EPROTO, "memcached has no page %llu", (unsigned long long)page);
	if (!r)
		r = wire_receive(s->fd, said + MISS, sizeof said - MISS);
	if (!r)
		memcpy(buf, said + HEAD, BENCH_PAGE);
	return r;
}

static void memcached_close(void *priv)
{
	struct memcached *s = priv;

	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	child_stop(s->pid);
	free(s);
}

const struct store store_memcached = {
	.name = "memcached",
	.available = memcached_available,
	.open = memcached_open,
	.fill = memcached_fill,
	.get = memcached_get,
	.close = memcached_close,
};
