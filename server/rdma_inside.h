/* SPDX-License-Identifier: MIT */
/*
 * What the files behind rdma.h share. A *device* is opened once; a *domain* is a borrower's
 * protection domain on it, with keys to the slabs that it asked about; a *connection* is a queue
 * pair in a domain. Domains and keys outlive their connections by what other threads still do:
 * a slab may be freed by any thread, and its keys end there (rdma_keys.c).
 */
#ifndef SERVER_RDMA_INSIDE_H
#define SERVER_RDMA_INSIDE_H

#include "server/rdma.h"
#include "server/session.h"

#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>

#define RDMA_SLOTS WIRE_RDMA_CONTROLS /* messages in, and as many out */

struct rdma_device {
	struct ibv_context *verbs;
	struct ibv_comp_channel *channel;
	struct ibv_device_attr attr;
	bool windows;
	struct rdma_device *next;
};

struct rdma_key;

struct rdma_domain {
	struct rdma_device *device;
	uint8_t borrower[16];
	struct ibv_pd *pd;
	atomic_uint refs;     /* 1 for all connections, 1 for each key */
	unsigned connections; /* the thread's */
	struct rdma_domain *next;
	pthread_mutex_t lock; /* of the keys and what is in them; before a buffer's */
	struct rdma_key *keys;
};

struct rdma_conn {
	struct srv_exposer exposer;
	struct srv_rdma *server;
	struct rdma_cm_id *id;
	struct rdma_device *device;
	struct rdma_domain *domain;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	uint8_t *memory; /* RDMA_SLOTS messages in, then as many out */
	struct srv_session session;
	uint8_t borrower[16];
	char peer[64];
	uint32_t sending;               /* a bit for each message on its way out */
	uint32_t waiting[RDMA_SLOTS];   /* came in when all of them were: a queue */
	uint32_t waiting_bytes[RDMA_SLOTS];
	unsigned waiting_first, waiting_count;
	bool ending;                    /* when the last message is out */
	bool over;                      /* to be closed */
	bool asking;                    /* whether the other end is still there */
	uint64_t active_ns;
	uint64_t deadline_ns; /* for the hello; 0: it was said */
	struct rdma_conn *next, *prev;
};

struct srv_rdma {
	struct srv_rdma_options o;
	struct srv_lender *lender;
	struct srv_counters *counters;
	struct srv_out *out;
	struct rdma_event_channel *events;
	struct rdma_device *devices;
	struct rdma_domain *domains;
	struct rdma_conn *conns;
	unsigned connections;
	int epoll_fd, wake_fd;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	uint64_t now_ns, logged_ns;
	unsigned unlogged;
};

/* rdma_device.c: [text] The device behind a context, opened and tried out when it is new. */
int rdma_device_get(struct srv_rdma *s, struct ibv_context *verbs, struct rdma_device **ret);
void rdma_devices_close(struct srv_rdma *s);

/* rdma_keys.c. NULL: no memory. */
struct rdma_domain *rdma_domain_join(struct srv_rdma *s, struct rdma_device *d,
				     const uint8_t borrower[16]);
/* Before its queue pair is destroyed: some devices take long over one that has windows. */
void rdma_windows_end(struct rdma_conn *c);
/* c's queue pair is gone; with the domain's last connection all its keys end. */
void rdma_domain_leave(struct srv_rdma *s, struct rdma_conn *c);
uint32_t rdma_key_give(struct srv_exposer *x, struct srv_buffer *b, struct wire_rkey *ret);

/* rdma_conn.c. [text] Makes the queue pair and accepts; what was made is in *ret also on failure. */
int rdma_conn_open(struct srv_rdma *s, struct rdma_cm_id *id, const struct rdma_conn_param *asked,
		   const uint8_t borrower[16], uint32_t roles, struct rdma_conn **ret);
void rdma_conn_close(struct rdma_conn *c);
/* Takes what has completed. */
void rdma_conn_poll(struct rdma_conn *c);
/* Once a second or so. */
void rdma_conn_tick(struct rdma_conn *c);

#endif
