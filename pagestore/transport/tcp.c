/* SPDX-License-Identifier: MIT */
/* tcp: the wire over TCP, by TLS where there is a key. The donor's CPU serves; see stream.c. */
#include "common/clock.h"
#include "pagestore/transport/stream.h"

static int tcp_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	uint64_t until = clock_ns() + timeout_ns;
	int fd = connect_socket(&c->addr, until);

	return fd < 0 ? fd : stream_open(stream_of(c), fd, h, until);
}

const struct tp_transport tp_tcp = {
	.name = "tcp",
	.conn_bytes = sizeof(struct stream),
	.open = tcp_open,
	.submit = stream_submit,
	.poll = stream_poll,
	.cancel = stream_cancel,
	.fd = stream_fd,
	.due = stream_due,
	.close = stream_close,
	.forget = stream_forget,
};
