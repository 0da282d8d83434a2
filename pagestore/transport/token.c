/* SPDX-License-Identifier: MIT */
/* See token.h. */
#include "pagestore/transport/token.h"
#include "common/error.h"
#include "common/memory.h"

#include <errno.h>
#include <string.h>

/* "rdma:HOST:PORT" is asked at "tcp:HOST:PORT". */
static void as_tcp(struct tp_addr *a)
{
	char *scheme = strstr(a->text, "rdma:");

	if (!scheme)
		return;
	memmove(scheme + 4, scheme + 5, strlen(scheme + 5) + 1);
	memcpy(scheme, "tcp:", 4);
}

int token_take(const struct tp_addr *a, struct tp_hello *h, uint64_t until_ns, struct stream **ret)
{
	struct stream *s = mem_map(sizeof *s);
	struct tp_hello first = *h;
	int fd, r;

	if (!s)
		return err_fail(-ENOMEM, "no memory for a connection");
	s->base.t = &tp_tcp;
	s->base.addr = *a;
	as_tcp(&s->base.addr);
	fd = connect_socket(&s->base.addr, until_ns);
	r = fd < 0 ? fd : stream_open(s, fd, &first, until_ns);
	if (!r)
		r = stream_token(s, h->token, until_ns);
	if (r)
		token_end(s);
	else
		*ret = s;
	return r;
}

void token_end(struct stream *s)
{
	if (!s)
		return;
	stream_close(&s->base);
	mem_unmap(s, sizeof *s);
}
