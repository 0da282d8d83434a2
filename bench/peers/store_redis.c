/* SPDX-License-Identifier: MIT */
/* redis, asked with GET over loopback TCP in its own protocol (RESP). */
#include "bench/peers/peers.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE 64
#define OK      "+OK\r\n"
#define VALUE   "$4096\r\n"

struct redis {
	int pid, fd;
};

/* Debian's redis-server is a name for a program in redis-tools. */
static int redis_available(void)
{
	return peer_has_program("redis-server") || peer_has_program("redis-check-rdb")
		       ? 0
		       : err_fail(-ENOENT, "redis-server is not installed");
}

static int program(char *path, size_t len)
{
	const char *dir, *paths = getenv("PATH");
	char target[300];
	int r;

	snprintf(path, len, "redis-server");
	if (peer_has_program("redis-server"))
		return 0;
	r = child_folder(&dir);
	if (r)
		return r;
	snprintf(path, len, "%s/redis-server", dir);
	for (const char *p = paths; p && *p; p += strcspn(p, ":"), p += *p == ':') {
		snprintf(target, sizeof target, "%.*s/redis-check-rdb", (int)strcspn(p, ":"), p);
		if (access(target, X_OK))
			continue;
		unlink(path);
		return symlink(target, path) ? err_fail(-errno, "can't make %s", path) : 0;
	}
	return err_fail(-ENOENT, "redis-server is not installed");
}

static int redis_open(uint64_t pages, void **priv)
{
	struct redis *s = calloc(1, sizeof *s);
	char path[300], port[16];
	unsigned number;
	int r;

	(void)pages;
	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->fd = -1;
	*priv = s;
	r = program(path, sizeof path);
	if (!r)
		r = wire_free_port(&number);
	if (r)
		return r;
	snprintf(port, sizeof port, "%u", number);

	const char *const argv[] = {path,     "--port", port,           "--bind", "127.0.0.1",
				    "--save", "",       "--appendonly", "no",     NULL};
	r = child_start("redis", argv, 1, &s->pid);
	return r ? r : wire_connect_tcp(number, &s->fd);
}

static int redis_fill(void *priv, uint64_t from, uint64_t to)
{
	const struct redis *s = priv;
	char head[80], page[BENCH_PAGE + 2], said[AT_ONCE * (sizeof OK - 1)];
	int r = 0;

	memcpy(page + BENCH_PAGE, "\r\n", 2);
	while (from < to && !r) {
		size_t n = to - from < AT_ONCE ? to - from : AT_ONCE;

		for (size_t i = 0; i < n && !r; i++) {
			int len = snprintf(head, sizeof head,
					   "*3\r\n$3\r\nSET\r\n$16\r\n%016llx\r\n$4096\r\n",
					   (unsigned long long)(from + i));

			page_fill(page, from + i);
			r = wire_send(s->fd, head, (size_t)len);
			if (!r)
				r = wire_send(s->fd, page, sizeof page);
		}
		if (!r)
			r = wire_receive(s->fd, said, n * (sizeof OK - 1));
		if (!r && memcmp(said, OK, sizeof OK - 1))
			r = err_fail(-EPROTO, "redis takes no value");
		from += n;
	}
	return r;
}

static int redis_get(void *priv, uint64_t page, void *buf)
{
	const struct redis *s = priv;
	char ask[64], said[sizeof VALUE - 1 + BENCH_PAGE + 2];
	int len = snprintf(ask, sizeof ask, "*2\r\n$3\r\nGET\r\n$16\r\n%016llx\r\n",
			   (unsigned long long)page);
	int r = wire_send(s->fd, ask, (size_t)len);

	if (!r)
		r = wire_receive(s->fd, said, sizeof VALUE - 1);
	if (!r && memcmp(said, VALUE, sizeof VALUE - 1))
		return err_fail(-EPROTO, "redis has no page %llu", (unsigned long long)page);
	if (!r)
		r = wire_receive(s->fd, said + sizeof VALUE - 1, BENCH_PAGE + 2);
	if (!r)
		memcpy(buf, said + sizeof VALUE - 1, BENCH_PAGE);
	return r;
}

static void redis_close(void *priv)
{
	struct redis *s = priv;

	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	child_stop(s->pid);
	free(s);
}

const struct store store_redis = {
	.name = "redis",
	.available = redis_available,
	.open = redis_open,
	.fill = redis_fill,
	.get = redis_get,
	.close = redis_close,
};
