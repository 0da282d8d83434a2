/* SPDX-License-Identifier: MIT */
/*
 * redis (RESP) and memcached (its text protocol), one thread each, over loopback TCP: a line or
 * two, then the value. What differs is how the server is started, and the words.
 */
#include "bench/peers/peers.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE  64
#define TEXT_MAX 80 /* before a value, either way */

/* What goes around a page; all but the formats are as long for each page. */
struct words {
	const char *name;
	const char *set, *get;   /* formats; the argument is the page's number */
	const char *stored;      /* the whole answer to a set */
	const char *value;       /* how the answer to a get begins, if there is the value */
	size_t head, tail, miss; /* bytes before the value, behind it; of an answer without one */
	/* Starts the server on the port, for so many pages. [text] */
	int (*start)(unsigned port, uint64_t pages, int *pid);
};

struct text_store {
	const struct words *words;
	int pid, fd;
};

/* --- redis --- */

/* Debian's redis-server is a name for a program in redis-tools. */
static int redis_available(void)
{
	return peer_has_program("redis-server") || peer_has_program("redis-check-rdb")
		       ? 0
		       : err_fail(-ENOENT, "redis-server is not installed");
}

static int redis_program(char *path, size_t len)
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

static int redis_start(unsigned number, uint64_t pages, int *pid)
{
	char path[300], port[16];
	int r = redis_program(path, sizeof path);

	(void)pages;
	if (r)
		return r;
	snprintf(port, sizeof port, "%u", number);

	const char *const argv[] = {path,     "--port", port,           "--bind", "127.0.0.1",
				    "--save", "",       "--appendonly", "no",     NULL};
	return child_start("redis", argv, 1, pid);
}

static const struct words redis_words = {
	.name = "redis",
	.set = "*3\r\n$3\r\nSET\r\n$16\r\n%016llx\r\n$4096\r\n",
	.get = "*2\r\n$3\r\nGET\r\n$16\r\n%016llx\r\n",
	.stored = "+OK\r\n",
	.value = "$4096",
	.head = sizeof "$4096\r\n" - 1,
	.tail = sizeof "\r\n" - 1,
	.miss = sizeof "$-1\r\n" - 1,
	.start = redis_start,
};

/* --- memcached --- */

static int memcached_available(void)
{
	return peer_has_program("memcached") ? 0 : err_fail(-ENOENT, "memcached is not installed");
}

static int memcached_start(unsigned number, uint64_t pages, int *pid)
{
	char port[16], mib[32];

	snprintf(port, sizeof port, "%u", number);
	/* Its chunks are up to a quarter bigger than what is in them. */
	snprintf(mib, sizeof mib, "%llu", (unsigned long long)(pages / 256 * 3 / 2 + 64));

	const char *const argv[] = {"memcached", "-l", "127.0.0.1", "-p", port, "-U",   "0",
				    "-m",        mib,  "-t",        "1",  "-u", "root", NULL};
	return child_start("memcached", argv, 1, pid);
}

static const struct words memcached_words = {
	.name = "memcached",
	.set = "set page%016llx 0 0 4096\r\n",
	.get = "get page%016llx\r\n",
	.stored = "STORED\r\n",
	.value = "VALUE",
	.head = sizeof "VALUE page0123456789abcdef 0 4096\r\n" - 1,
	.tail = sizeof "\r\nEND\r\n" - 1,
	.miss = sizeof "END\r\n" - 1,
	.start = memcached_start,
};

/* --- both --- */

static int text_open(const struct words *words, uint64_t pages, void **priv)
{
	struct text_store *s = calloc(1, sizeof *s);
	unsigned port;
	int r;

	if (!s)
		return err_fail(-ENOMEM, "no memory");
	s->words = words;
	s->fd = -1;
	*priv = s;
	r = wire_free_port(&port);
	if (!r)
		r = words->start(port, pages, &s->pid);
	return r ? r : wire_connect_tcp(port, &s->fd);
}

/* A word of the protocol with the page's number, as long as it says. */
static int say(const struct text_store *s, const char *format, uint64_t page)
{
	char text[TEXT_MAX];
	int len;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of struct words */
	len = snprintf(text, sizeof text, format, (unsigned long long)page);
#pragma GCC diagnostic pop
	return wire_send(s->fd, text, (size_t)len);
}

static int text_fill(void *priv, uint64_t from, uint64_t to)
{
	const struct text_store *s = priv;
	const struct words *w = s->words;
	char page[BENCH_PAGE + 2], said[AT_ONCE * TEXT_MAX];
	size_t word = strlen(w->stored);
	int r = 0;

	memcpy(page + BENCH_PAGE, "\r\n", 2);
	while (from < to && !r) {
		size_t n = to - from < AT_ONCE ? to - from : AT_ONCE;

		for (size_t i = 0; i < n && !r; i++) {
			page_fill(page, from + i);
			r = say(s, w->set, from + i);
			if (!r)
				r = wire_send(s->fd, page, sizeof page);
		}
		if (!r)
			r = wire_receive(s->fd, said, n * word);
		if (!r && memcmp(said, w->stored, word))
			r = err_fail(-EPROTO, "%s takes no value", w->name);
		from += n;
	}
	return r;
}

static int text_get(void *priv, uint64_t page, void *buf)
{
	const struct text_store *s = priv;
	const struct words *w = s->words;
	char said[TEXT_MAX + BENCH_PAGE + TEXT_MAX];
	int r = say(s, w->get, page);

	if (!r)
		r = wire_receive(s->fd, said, w->miss);
	if (!r && memcmp(said, w->value, w->miss))
		return err_fail(-EPROTO, "%s has no page %llu", w->name, (unsigned long long)page);
	if (!r)
		r = wire_receive(s->fd, said + w->miss, w->head + BENCH_PAGE + w->tail - w->miss);
	if (!r)
		memcpy(buf, said + w->head, BENCH_PAGE);
	return r;
}

static void text_close(void *priv)
{
	struct text_store *s = priv;

	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	child_stop(s->pid);
	free(s);
}

static int redis_open(uint64_t pages, void **priv)
{
	return text_open(&redis_words, pages, priv);
}

static int memcached_open(uint64_t pages, void **priv)
{
	return text_open(&memcached_words, pages, priv);
}

const struct store store_redis = {
	.name = "redis",
	.available = redis_available,
	.open = redis_open,
	.fill = text_fill,
	.get = text_get,
	.close = text_close,
};

const struct store store_memcached = {
	.name = "memcached",
	.available = memcached_available,
	.open = memcached_open,
	.fill = text_fill,
	.get = text_get,
	.close = text_close,
};
