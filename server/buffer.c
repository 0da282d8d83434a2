/* SPDX-License-Identifier: MIT */
/* Sharing and pinning of buffers; the rules and why they hold are in buffer.h. */
#include "server/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void srv_buffer_pin(struct srv_buffer *b)
{
	/* Acquire: with the release in unpin, what earlier requests did in here is seen by this
	 * one. */
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_acquire);
}

void srv_buffer_unpin(struct srv_buffer *b)
{
	unsigned before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);

	if (before == 0)
		abort(); /* somebody worked in memory that was not his */
	if (before == 1)
		srv_arena_give(b);
}

static bool is_shared(const struct srv_buffer *b)
{
	return atomic_load_explicit(&b->shared, memory_order_acquire);
}

/* b->lock is held. The caller is the last holder: nobody else can reach the buffer any more. */
static bool unshare_last(struct srv_buffer *b)
{
	if (b->holders > 1)
		return false;
	atomic_store_explicit(&b->shared, false, memory_order_release);
	return true;
}

int srv_buffer_pin_own(struct srv_buffer **slab_buffer)
{
	struct srv_buffer *b = *slab_buffer, *own;

	if (is_shared(b)) {
		pthread_mutex_lock(&b->lock);
		if (!unshare_last(b)) {
			own = srv_arena_take(b->arena, false);
			if (!own) {
				pthread_mutex_unlock(&b->lock);
				return -ENOMEM;
			}
			memcpy(own->mem, b->mem, srv_arena_slab_bytes(b->arena));
			b->holders--;
			*slab_buffer = own;
		}
		pthread_mutex_unlock(&b->lock);
	}
	srv_buffer_pin(*slab_buffer);
	return 0;
}

int srv_buffer_renew(struct srv_buffer **slab_buffer)
{
	struct srv_buffer *b = *slab_buffer, *own;

	srv_buffer_conceal_all(b);
	if (!b->exported)
		return 0;
	/* No request is at work, and a new one would need the borrower's lock. */
	if (atomic_load_explicit(&b->refs, memory_order_acquire) == 1)
		return srv_arena_renew(b);
	if (!srv_arena_reserve(b->arena, 1))
		return -ENOSPC;
	own = srv_arena_take(b->arena, false);
	if (!own) {
		srv_arena_unreserve(b->arena, 1);
		return -ENOMEM;
	}
	memcpy(own->mem, b->mem, srv_arena_slab_bytes(b->arena));
	*slab_buffer = own;
	srv_buffer_drop(b);
	return 0;
}

bool srv_buffer_pin_read(struct srv_buffer *b, uint64_t at, uint64_t bytes, void **copy)
{
	if (is_shared(b)) {
		pthread_mutex_lock(&b->lock);
		if (!unshare_last(b)) {
			*copy = malloc(bytes);
			if (*copy)
				memcpy(*copy, b->mem + at, bytes);
			pthread_mutex_unlock(&b->lock);
			return false;
		}
		pthread_mutex_unlock(&b->lock);
	}
	srv_buffer_pin(b);
	return true;
}

bool srv_buffer_share(struct srv_buffer *b)
{
	bool ok = true;

	pthread_mutex_lock(&b->lock);
	if (is_shared(b)) {
		b->holders++;
	} else if (!b->exported && !b->exposed &&
		   atomic_load_explicit(&b->refs, memory_order_acquire) == 1) {
		/* No request is at work, and a new one would need the borrower's lock. */
		b->holders = 2;
		atomic_store_explicit(&b->shared, true, memory_order_release);
	} else {
		ok = false;
	}
	pthread_mutex_unlock(&b->lock);
	return ok;
}

void srv_buffer_drop(struct srv_buffer *b)
{
	bool last = true;

	pthread_mutex_lock(&b->lock);
	if (is_shared(b)) {
		last = b->holders == 1;
		b->holders--;
	}
	b->dropped = last;
	pthread_mutex_unlock(&b->lock);
	if (!last) {
		srv_arena_unreserve(b->arena, 1);
		return;
	}
	srv_buffer_conceal_all(b);
	srv_buffer_unpin(b);
}

bool srv_buffer_expose(struct srv_buffer *b, struct srv_exposure *e)
{
	bool ok;

	pthread_mutex_lock(&b->lock);
	ok = !b->dropped;
	e->buf = b;
	e->taken = false;
	e->prev = NULL;
	e->next = b->exposed;
	if (ok && b->exposed)
		b->exposed->prev = e;
	if (ok)
		b->exposed = e;
	pthread_mutex_unlock(&b->lock);
	return ok;
}

/* b->lock is held. */
static void exposure_remove(struct srv_buffer *b, struct srv_exposure *e)
{
	if (e->prev)
		e->prev->next = e->next;
	else
		b->exposed = e->next;
	if (e->next)
		e->next->prev = e->prev;
}

bool srv_buffer_conceal(struct srv_exposure *e)
{
	struct srv_buffer *b = e->buf;
	bool mine;

	pthread_mutex_lock(&b->lock);
	mine = !e->taken;
	if (mine)
		exposure_remove(b, e);
	pthread_mutex_unlock(&b->lock);
	return mine;
}

void srv_buffer_conceal_all(struct srv_buffer *b)
{
	for (;;) {
		struct srv_exposure *e;

		pthread_mutex_lock(&b->lock);
		e = b->exposed;
		if (e) {
			exposure_remove(b, e);
			e->taken = true;
		}
		pthread_mutex_unlock(&b->lock);
		if (!e)
			return;
		e->end(e);
	}
}

bool srv_buffer_is_exposed(struct srv_buffer *b)
{
	bool yes;

	pthread_mutex_lock(&b->lock);
	yes = b->exposed;
	pthread_mutex_unlock(&b->lock);
	return yes;
}
