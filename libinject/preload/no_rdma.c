/* SPDX-License-Identifier: MIT */
/*
 * Takes the place of pagestore's rdma transport: libibverbs keeps its queues in malloc's memory,
 * which is injected here, so serving a fault would fault; and every program would load it.
 */
#include "common/error.h"
#include "pagestore/transport/transport.h"

#include <errno.h>

static int rdma_open(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	(void)h;
	(void)timeout_ns;
	return err_fail(-EOPNOTSUPP,
			"donor '%s': rdma: is not for programs under infuse run; name the donor by "
			"tcp:, or use heaps (libinject) in the program",
			c->addr.text);
}

static void rdma_close(struct tp_conn *c)
{
	(void)c;
}

static void rdma_forget(struct tp_conn *c, bool inherited)
{
	(void)c;
	(void)inherited;
}

const struct tp_transport tp_rdma = {
	.name = "rdma",
	.conn_bytes = sizeof(struct tp_conn),
	.open = rdma_open,
	.close = rdma_close,
	.forget = rdma_forget,
};
