/* SPDX-License-Identifier: MIT */
/*
 * Keys: a memory region for each slab in its borrower's protection domain, so that a key that leaks
 * opens nothing else and to nobody else. On devices whose windows hold, the region itself can't be
 * reached from outside; each connection that asks gets a window of its own, unless its borrower has
 * one table of keys for all connections, as a kernel has, and says so in its hello.
 *
 * A key ends with its slab, whoever frees it, or with the domain's last connection. Everything that
 * is done to keys is done under the domain's lock.
 */
#include "server/rdma_inside.h"

#include <endian.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define REMOTE (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

struct rdma_window {
	struct rdma_conn *conn;
	struct ibv_mw *mw;
	uint32_t rkey;
	struct rdma_window *next;
};

struct rdma_key {
	struct srv_exposure e;
	struct rdma_domain *domain;
	struct ibv_mr *mr;
	bool windowed; /* the region is reached through windows only */
	struct rdma_window *windows;
	struct rdma_key *next, *prev; /* the domain's */
};

static struct rdma_key *key_of(struct srv_exposure *e)
{
	return (struct rdma_key *)(void *)((char *)e - offsetof(struct rdma_key, e));
}

static void domain_put(struct rdma_domain *d)
{
	if (atomic_fetch_sub(&d->refs, 1) > 1)
		return;
	ibv_dealloc_pd(d->pd);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* The lock is held, unless the key was never listed. When this returns nobody can use it. */
static void key_destroy(struct rdma_key *k)
{
	struct rdma_window *w;

	while ((w = k->windows)) {
		k->windows = w->next;
		ibv_dealloc_mw(w->mw);
		free(w);
	}
	if (k->mr)
		ibv_dereg_mr(k->mr);
	free(k);
}

static void key_unlist(struct rdma_domain *d, struct rdma_key *k)
{
	if (k->prev)
		k->prev->next = k->next;
	else
		d->keys = k->next;
	if (k->next)
		k->next->prev = k->prev;
}

/* The slab goes; any thread. */
static void key_end(struct srv_exposure *e)
{
	struct rdma_key *k = key_of(e);
	struct rdma_domain *d = k->domain;

	pthread_mutex_lock(&d->lock);
	key_unlist(d, k);
	key_destroy(k);
	pthread_mutex_unlock(&d->lock);
	domain_put(d);
}

struct rdma_domain *rdma_domain_join(struct srv_rdma *s, struct rdma_device *dev,
				     const uint8_t borrower[16])
{
	static const uint8_t nobody[16];
	struct rdma_domain *d = s->domains;

	while (d && (d->device != dev || memcmp(d->borrower, borrower, 16) ||
		     !memcmp(borrower, nobody, 16)))
		d = d->next;
	if (d) {
		d->connections++;
		return d;
	}
	d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->pd = ibv_alloc_pd(dev->verbs);
	if (!d->pd) {
		free(d);
		return NULL;
	}
	d->device = dev;
	memcpy(d->borrower, borrower, 16);
	pthread_mutex_init(&d->lock, NULL);
	d->refs = d->connections = 1;
	d->next = s->domains;
	s->domains = d;
	return d;
}

void rdma_windows_end(struct rdma_conn *c)
{
	struct rdma_domain *d = c->domain;

	pthread_mutex_lock(&d->lock);
	for (struct rdma_key *k = d->keys; k; k = k->next) {
		struct rdma_window **at = &k->windows, *w;

		while ((w = *at)) {
			if (w->conn != c) {
				at = &w->next;
				continue;
			}
			*at = w->next;
			ibv_dealloc_mw(w->mw);
			free(w);
		}
	}
	pthread_mutex_unlock(&d->lock);
}

/* Those that a freed slab is just taking with it are left to it. */
static void end_keys(struct rdma_domain *d)
{
	struct rdma_key *next;
	unsigned ended = 0;

	pthread_mutex_lock(&d->lock);
	for (struct rdma_key *k = d->keys; k; k = next) {
		next = k->next;
		if (!srv_buffer_conceal(&k->e))
			continue;
		key_unlist(d, k);
		key_destroy(k);
		ended++;
	}
	pthread_mutex_unlock(&d->lock);
	while (ended--)
		domain_put(d);
}

void rdma_domain_leave(struct srv_rdma *s, struct rdma_conn *c)
{
	struct rdma_domain *d = c->domain, **at = &s->domains;

	if (!d)
		return;
	c->domain = NULL;
	if (--d->connections)
		return;
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	end_keys(d);
	domain_put(d);
}

static struct rdma_key *key_find(struct rdma_domain *d, struct srv_buffer *b, bool windowed)
{
	struct rdma_key *found = NULL;

	pthread_mutex_lock(&b->lock);
	for (struct srv_exposure *e = b->exposed; e && !found; e = e->next)
		if (e->end == key_end && key_of(e)->domain == d && key_of(e)->windowed == windowed)
			found = key_of(e);
	pthread_mutex_unlock(&b->lock);
	return found;
}

static uint32_t key_make(struct rdma_domain *d, struct srv_buffer *b, bool windowed,
			 struct rdma_key **ret)
{
	int access = IBV_ACCESS_LOCAL_WRITE | (windowed ? IBV_ACCESS_MW_BIND : REMOTE);
	struct rdma_key *k = calloc(1, sizeof *k);

	if (!k)
		return WIRE_EINTERNAL;
	k->domain = d;
	k->windowed = windowed;
	k->e.end = key_end;
	k->mr = ibv_reg_mr(d->pd, b->mem, srv_arena_slab_bytes(b->arena), access);
	if (!k->mr || !srv_buffer_expose(b, &k->e)) {
		bool freed = k->mr;

		key_destroy(k);
		return freed ? WIRE_ESLAB : WIRE_EREGISTER;
	}
	atomic_fetch_add(&d->refs, 1);
	k->next = d->keys;
	if (d->keys)
		d->keys->prev = k;
	d->keys = k;
	*ret = k;
	return WIRE_OK;
}

/* Bound by c's own queue, so it is there before the answer that tells of it. */
static uint32_t window_give(struct rdma_conn *c, struct rdma_key *k, uint32_t *rkey)
{
	struct ibv_send_wr *bad, wr = {.opcode = IBV_WR_BIND_MW};
	struct rdma_window *w;

	for (w = k->windows; w && w->conn != c; w = w->next)
		;
	if (w) {
		*rkey = w->rkey;
		return WIRE_OK;
	}
	w = calloc(1, sizeof *w);
	if (!w)
		return WIRE_EINTERNAL;
	w->conn = c;
	w->mw = ibv_alloc_mw(k->domain->pd, IBV_MW_TYPE_2);
	if (!w->mw) {
		free(w);
		return WIRE_EREGISTER;
	}
	w->rkey = ibv_inc_rkey(w->mw->rkey);
	wr.bind_mw.mw = w->mw;
	wr.bind_mw.rkey = w->rkey;
	wr.bind_mw.bind_info.mr = k->mr;
	wr.bind_mw.bind_info.addr = (uintptr_t)k->mr->addr;
	wr.bind_mw.bind_info.length = k->mr->length;
	wr.bind_mw.bind_info.mw_access_flags = REMOTE;
	if (ibv_post_send(c->id->qp, &wr, &bad)) {
		ibv_dealloc_mw(w->mw);
		free(w);
		return WIRE_EREGISTER;
	}
	w->next = k->windows;
	k->windows = w;
	*rkey = w->rkey;
	return WIRE_OK;
}

uint32_t rdma_key_give(struct srv_exposer *x, struct srv_buffer *b, struct wire_rkey *ret)
{
	struct rdma_conn *c = (struct rdma_conn *)(void *)x; /* its first member */
	struct rdma_domain *d = c->domain;
	bool windowed = d->device->windows && !x->shared;
	uint32_t status = WIRE_OK, rkey;
	struct rdma_key *k;

	pthread_mutex_lock(&d->lock);
	k = key_find(d, b, windowed);
	if (!k)
		status = key_make(d, b, windowed, &k);
	if (!status) {
		rkey = k->mr->rkey;
		if (windowed)
			status = window_give(c, k, &rkey);
		*ret = (struct wire_rkey){.addr = htole64((uintptr_t)k->mr->addr),
					  .bytes = htole64(k->mr->length),
					  .rkey = htole32(rkey)};
	}
	pthread_mutex_unlock(&d->lock);
	return status;
}
