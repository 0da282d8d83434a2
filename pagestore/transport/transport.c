/* SPDX-License-Identifier: MIT */
/*
 * The list of transports and the reading of addresses. To add a transport: write its file, declare
 * its table in transport.h, add a line to `transports`.
 *
 * Names are resolved here, once: opening must also work in a child after fork and in a fault
 * handler, where the resolver must not be called.
 */
#include "pagestore/transport/transport.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const struct tp_transport *const transports[] = {
	&tp_tcp, &tp_unix, &tp_shm, &tp_rdma, &tp_file, &tp_delay, &tp_fail, &tp_corrupt, &tp_reorder,
};

_Static_assert(sizeof(struct sockaddr_un) <= sizeof((struct tp_addr){0}.sockaddr), "UNIX paths");
_Static_assert(sizeof(struct sockaddr_in6) <= sizeof((struct tp_addr){0}.sockaddr), "IPv6");

#define ADDRESS_FORM "use tcp:HOST:PORT, rdma:HOST:PORT, unix:PATH or shm:PATH"

static const struct tp_transport *find_transport(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof transports / sizeof *transports; i++)
		if (strlen(transports[i]->name) == len && !memcmp(transports[i]->name, name, len))
			return transports[i];
	return NULL;
}

static int resolve_path(struct tp_addr *a, const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (!n)
		return err_fail(-EINVAL, "donor '%s': the socket's path is missing; " ADDRESS_FORM,
				a->text);
	if (n >= sizeof un.sun_path)
		return err_fail(-ENAMETOOLONG,
				"donor '%s': the socket's path is longer than %zu bytes", a->text,
				sizeof un.sun_path - 1);
	memcpy(un.sun_path, path, n + 1);
	a->family = AF_UNIX;
	a->len = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	memcpy(a->sockaddr, &un, a->len);
	return 0;
}

/* "HOST:PORT" or "[IPV6]:PORT" into its two words. */
static int split_host(const struct tp_addr *a, const char *s, char *host, size_t len, char **port)
{
	const char *colon = strrchr(s, ':');
	const char *end = colon;

	if (!colon)
		return err_fail(-EINVAL, "donor '%s': the port is missing; " ADDRESS_FORM, a->text);
	if (*s == '[' && end > s && end[-1] == ']') {
		s++;
		end--;
	}
	if (end <= s)
		return err_fail(-EINVAL, "donor '%s': the host is missing; " ADDRESS_FORM, a->text);
	snprintf(host, len, "%.*s", (int)(end - s), s);
	snprintf(*port, 16, "%s", colon + 1);
	return 0;
}

static bool resolve_number(struct tp_addr *a, const char *host, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool four = inet_pton(AF_INET, host, &in.sin_addr) == 1;

	if (!four && inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return false;
	a->family = four ? AF_INET : AF_INET6;
	a->len = four ? sizeof in : sizeof in6;
	memcpy(a->sockaddr, four ? (void *)&in : (void *)&in6, a->len);
	return true;
}

static int resolve_host(struct tp_addr *a, const char *s)
{
	static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
					      .ai_flags = AI_NUMERICSERV};
	char host[128], port_text[16], *port = port_text;
	struct addrinfo *found;
	uint64_t number;
	int r = split_host(a, s, host, sizeof host, &port);

	if (r)
		return r;
	if (parse_u64(port, 1, 65535, &number))
		return err_fail(-EINVAL, "donor '%s': port '%s' is not between 1 and 65535",
				a->text, port);
	/* A fork's child or a preloaded program must not meet the resolver's malloc. */
	if (resolve_number(a, host, (uint16_t)number))
		return 0;
	r = getaddrinfo(host, port, &hints, &found);
	if (r)
		return err_fail(-EADDRNOTAVAIL, "donor '%s': host '%s': %s", a->text, host,
				gai_strerror(r));
	a->family = (uint32_t)found->ai_family;
	a->len = (uint32_t)found->ai_addrlen;
	if (a->len <= sizeof a->sockaddr)
		memcpy(a->sockaddr, found->ai_addr, a->len);
	freeaddrinfo(found);
	return a->len <= sizeof a->sockaddr
		       ? 0
		       : err_fail(-EAFNOSUPPORT, "donor '%s': unknown address family", a->text);
}

static int new_conn(const struct tp_transport *t, struct tp_conn **ret)
{
	struct tp_conn *c = mem_map(t->conn_bytes);

	if (!c)
		return err_fail(-ENOMEM, "no memory for a connection");
	c->t = t;
	*ret = c;
	return 0;
}

/* One link of the chain: its transport, its arguments, and what comes after the colon. */
static int read_link(const char *address, const char *s, struct tp_conn **ret, const char **rest)
{
	size_t word = strcspn(s, ",:"), all = strcspn(s, ":"), args = all - word;
	const struct tp_transport *t = find_transport(s, word);
	int r;

	if (!t)
		return err_fail(-EINVAL, "donor '%s': '%.*s' is not a transport; " ADDRESS_FORM,
				address, (int)word, s);
	if (!s[all])
		return err_fail(-EINVAL, "donor '%s': nothing follows '%s'; " ADDRESS_FORM, address,
				t->name);
	if (args && !t->filter)
		return err_fail(-EINVAL, "donor '%s': '%s' takes no options", address, t->name);
	if (args > sizeof((*ret)->args))
		return err_fail(-EINVAL, "donor '%s': the options of '%s' are too long", address,
				t->name);
	r = new_conn(t, ret);
	if (r)
		return r;
	if (args)
		memcpy((*ret)->args, s + word + 1, args - 1);
	*rest = s + all + 1;
	return t->check ? t->check(*ret) : 0;
}

int tp_create(const char *address, struct tp_conn **ret)
{
	struct tp_conn *first = NULL, **at = &first;
	const char *s = address;
	int r;

	if (!address || !*address)
		return err_fail(-EINVAL, "a donor's address is empty; " ADDRESS_FORM);
	if (strlen(address) >= sizeof first->addr.text)
		return err_fail(-ENAMETOOLONG, "donor '%.40s...': the address is too long",
				address);
	for (;;) {
		r = read_link(address, s, at, &s);
		if (r)
			goto fail;
		memcpy((*at)->addr.text, address, strlen(address) + 1);
		if (!(*at)->t->filter)
			break;
		at = &(*at)->inner;
	}
	if ((*at)->t == &tp_tcp || (*at)->t == &tp_rdma)
		r = resolve_host(&(*at)->addr, s);
	else if ((*at)->t != &tp_file)
		r = resolve_path(&(*at)->addr, s);
	if (r)
		goto fail;
	*ret = first;
	return 0;
fail:
	tp_free(first);
	return r;
}

int tp_clone(const struct tp_conn *from, uint64_t seed, struct tp_conn **ret)
{
	struct tp_conn *first = NULL, **at = &first;

	for (; from; from = from->inner) {
		int r = new_conn(from->t, at);

		if (r) {
			tp_free(first);
			return r;
		}
		(*at)->addr = from->addr;
		memcpy((*at)->args, from->args, sizeof from->args);
		(*at)->seed = seed;
		if (from->t->check)
			from->t->check(*at); /* the same words were good before */
		at = &(*at)->inner;
	}
	*ret = first;
	return 0;
}

void tp_share(struct tp_conn *c, struct tp_conn *owner)
{
	for (; c && owner; c = c->inner, owner = owner->inner)
		c->peer = owner;
}

void tp_free(struct tp_conn *c)
{
	if (c)
		c->t->close(c);
	while (c) {
		struct tp_conn *inner = c->inner;

		mem_unmap(c, c->t->conn_bytes);
		c = inner;
	}
}

const char *tp_wire_text(uint32_t error)
{
	switch (error) {
#define X(name, number, text)                                                                      \
	case WIRE_##name:                                                                          \
		return text;
		WIRE_ERRORS(X)
#undef X
	}
	return "an error of a newer protocol";
}

int tp_wire_errno(uint32_t error)
{
	switch (error) {
	case WIRE_OK:
		return 0;
	case WIRE_ENOSPC:
	case WIRE_EQUOTA:
		return -ENOSPC;
	case WIRE_EDRAINING:
		return -ESHUTDOWN;
	case WIRE_EDENIED:
	case WIRE_EAUTH:
	case WIRE_EPLAIN:
		return -EACCES;
	case WIRE_EVERSION:
		return -EPROTONOSUPPORT;
	case WIRE_EEPOCH:
		return -ESTALE;
	case WIRE_EBUSY:
		return -EBUSY;
	default:
		return -EIO;
	}
}
