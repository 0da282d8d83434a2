/* SPDX-License-Identifier: MIT */
/* The waiting part of the event loop, over one io_uring. See events.h. */
#include "server/events.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE 512u

struct srv_events {
	struct io_uring ring;
};

int srv_events_open(struct srv_events **ret)
{
	struct srv_events *e = calloc(1, sizeof *e);
	struct io_uring_params p = {.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE |
					     IORING_SETUP_CLAMP,
				    .cq_entries = 8 * QUEUE};
	int r;

	if (!e)
		return err_fail(-ENOMEM, "no memory");
	r = io_uring_queue_init_params(QUEUE, &e->ring, &p);
	if (r) {
		free(e);
		return err_fail(r,
				"can't set up io_uring: %s; it needs Linux 5.19 and "
				"kernel.io_uring_disabled=0, and a container may forbid it",
				strerror(-r));
	}
	*ret = e;
	return 0;
}

void srv_events_close(struct srv_events *e)
{
	if (!e)
		return;
	io_uring_queue_exit(&e->ring);
	free(e);
}

static struct io_uring_sqe *entry(struct srv_events *e)
{
	struct io_uring_sqe *q;

	while (!(q = io_uring_get_sqe(&e->ring)))
		io_uring_submit(&e->ring);
	return q;
}

void srv_events_poll(struct srv_events *e, int fd, unsigned events, void *who)
{
	struct io_uring_sqe *q = entry(e);

	io_uring_prep_poll_add(q, fd, events);
	io_uring_sqe_set_data(q, who);
}

void srv_events_accept(struct srv_events *e, int fd, void *who)
{
	struct io_uring_sqe *q = entry(e);

	io_uring_prep_multishot_accept(q, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	io_uring_sqe_set_data(q, who);
}

void srv_events_cancel(struct srv_events *e, void *who)
{
	struct io_uring_sqe *q = entry(e);

	io_uring_prep_cancel(q, who, 0);
	io_uring_sqe_set_data(q, NULL);
}

unsigned srv_events_take(struct srv_events *e, uint64_t timeout_ns, struct srv_event *ret,
			 unsigned n)
{
	struct io_uring_cqe *cqe;
	unsigned done = 0;

	if (timeout_ns) {
		struct __kernel_timespec ts = {(long long)(timeout_ns / NSEC_PER_SEC),
					       (long long)(timeout_ns % NSEC_PER_SEC)};

		/* Its result says no more than that there may be nothing. */
		(void)io_uring_submit_and_wait_timeout(&e->ring, &cqe, 1, &ts, NULL);
	} else if (io_uring_sq_ready(&e->ring)) {
		(void)io_uring_submit(&e->ring);
	}
	while (done < n && !io_uring_peek_cqe(&e->ring, &cqe)) {
		void *who = io_uring_cqe_get_data(cqe);

		if (who && cqe->user_data != LIBURING_UDATA_TIMEOUT)
			ret[done++] =
				(struct srv_event){who, cqe->res, cqe->flags & IORING_CQE_F_MORE};
		io_uring_cqe_seen(&e->ring, cqe);
	}
	return done;
}
