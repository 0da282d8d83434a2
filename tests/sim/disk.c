/* SPDX-License-Identifier: MIT */
/*
 * The disk of the simulated spill file: what file_ring.c does with io_uring, over virtual time. Requests
 * take their time and end in any order, some in parts, some undone; what was begun lands even when whoever
 * asked has hung up, as on a real disk. Its contents are those of one file a volume (kernel.c opens them).
 */
#include "sim.h"
#include "client_env.h"
#include "kernel.h"
#include "pagestore/transport/file_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ASKS 1024u

struct request {
	bool used;
	uintptr_t number;
	struct file_ring *ring; /* NULL: it was closed */
	struct file_ask ask;
	unsigned char *data;    /* of a write, as it was when it began */
};

struct file_ring {
	unsigned char *pool;
	size_t pool_bytes;
	unsigned entries, under_way;
	int fd;
	struct file_end *end; /* entries of them, a ring */
	unsigned first, count;
};

static struct request request[MOST_ASKS];
static uintptr_t numbers;

void sim_disk_open(void)
{
	for (unsigned i = 0; i < MOST_ASKS; i++)
		free(request[i].data);
	memset(request, 0, sizeof request);
}

void sim_disk_forget(int fd)
{
	for (unsigned i = 0; i < MOST_ASKS; i++) {
		if (!request[i].used || request[i].ask.fd != fd)
			continue;
		free(request[i].data);
		request[i] = (struct request){0};
	}
}

static int transfer(struct request *q, uint64_t bytes)
{
	unsigned char *at = sim_kernel_file(q->ask.fd, q->ask.at, bytes);

	if (q->ask.kind == FILE_WRITE)
		memcpy(at, q->data, bytes);
	else if (q->ask.kind == FILE_PUNCH)
		memset(at, 0, bytes);
	else if (q->ask.kind == FILE_READ && q->ring)
		memcpy(q->ask.buf, at, bytes);
	return q->ask.kind == FILE_READ || q->ask.kind == FILE_WRITE ? (int)bytes : 0;
}

static void land(void *arg, uint64_t n)
{
	struct request *q = &request[n];
	struct file_ring *r = q->ring;
	uint64_t bytes = q->ask.bytes;
	bool pages = q->ask.kind == FILE_READ || q->ask.kind == FILE_WRITE;
	int res;

	if (!q->used || q->number != (uintptr_t)arg)
		return;
	if (pages && bytes > 512 && sim_chance(50000))
		bytes = (1 + sim_below(bytes / 512 - 1)) * 512;
	if (r && sim_chance(20000))
		res = sim_chance(500000) ? -ECANCELED : -EAGAIN;
	else
		res = transfer(q, bytes);
	free(q->data);
	if (r) {
		r->end[(r->first + r->count++) % r->entries] =
			(struct file_end){q->ask.tag, res};
		r->under_way--;
		sim_kernel_event_is(r->fd, true);
	}
	*q = (struct request){0};
}

int file_ring_open(unsigned entries, size_t pool_bytes, struct file_ring **ret)
{
	struct file_ring *r = calloc(1, sizeof *r);

	sim_must(r);
	r->entries = entries;
	r->end = calloc(entries, sizeof *r->end);
	r->pool_bytes = pool_bytes;
	r->pool = pool_bytes ? malloc(pool_bytes) : NULL;
	sim_must(r->end && (r->pool || !pool_bytes));
	r->fd = sim_kernel_event();
	*ret = r;
	return 0;
}

unsigned char *file_ring_pool(const struct file_ring *r)
{
	return r->pool;
}

void file_ring_ask(struct file_ring *r, const struct file_ask *a)
{
	unsigned i = 0;

	while (request[i].used)
		sim_must(++i < MOST_ASKS);
	/* Its owner counts. */
	sim_must(r->under_way + r->count < r->entries);
	r->under_way++;
	request[i] = (struct request){
		.used = true, .number = ++numbers, .ring = r, .ask = *a};
	if (a->kind == FILE_WRITE) {
		request[i].data = malloc(a->bytes);
		sim_must(request[i].data);
		memcpy(request[i].data, a->buf, a->bytes);
	}
	if (a->kind == FILE_READ || a->kind == FILE_WRITE)
		sim_must((unsigned char *)a->buf >= r->pool &&
			 (unsigned char *)a->buf + a->bytes <= r->pool + r->pool_bytes);
	sim_at(sim_now() + sim_between(20 * SIM_USEC, sim_chance(20000) ? 30 * SIM_MSEC : SIM_MSEC),
	       land, (void *)numbers, i);
}

bool file_ring_push(struct file_ring *r)
{
	(void)r;
	return true;
}

unsigned file_ring_reap(struct file_ring *r, struct file_end *ret, unsigned n)
{
	unsigned got = 0;

	while (got < n && r->count) {
		ret[got++] = r->end[r->first];
		r->first = (r->first + 1) % r->entries;
		r->count--;
	}
	sim_kernel_event_is(r->fd, r->count);
	return got;
}

int file_ring_fd(const struct file_ring *r)
{
	return r->fd;
}

void file_ring_close(struct file_ring *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < MOST_ASKS; i++)
		if (request[i].ring == r)
			request[i].ring = NULL;
	sys_call1(SYS_close, r->fd);
	free(r->pool);
	free(r->end);
	free(r);
}

void file_ring_forget(struct file_ring *r, bool inherited)
{
	sim_must(!r || inherited);
	file_ring_close(r);
}
