/* SPDX-License-Identifier: MIT */
/* The list of pieces behind out.h: filled by the session, emptied by whoever sends. */
#include "server/out.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>

#define NO_FDS UINT32_MAX

static void reset(struct srv_out *o)
{
	o->heads = o->first = o->count = 0;
	o->bytes = 0;
}

struct srv_out *srv_out_create(void)
{
	struct srv_out *o = malloc(sizeof *o);

	if (o) {
		reset(o);
		o->limit = SRV_OUT_BYTES;
		o->fds = 0;
		o->fds_at = NO_FDS;
	}
	return o;
}

static void part_end(struct srv_out *o, unsigned i)
{
	if (o->keep[i].buf)
		srv_buffer_unpin(o->keep[i].buf);
	free(o->keep[i].copy);
}

static void fds_end(struct srv_out *o)
{
	for (unsigned i = 0; i < o->fds; i++)
		srv_buffer_unpin(o->fd_buf[i]);
	o->fds = 0;
	o->fds_at = NO_FDS;
}

void srv_out_clear(struct srv_out *o)
{
	for (unsigned i = o->first; i < o->count; i++)
		part_end(o, i);
	fds_end(o);
	reset(o);
}

void srv_out_free(struct srv_out *o)
{
	if (o)
		srv_out_clear(o);
	free(o);
}

bool srv_out_has_room(const struct srv_out *o)
{
	return o->heads < SRV_OUT_HEADS && o->count + 1 + WIRE_MAX_SEGS <= SRV_OUT_PARTS &&
	       !o->fds && o->bytes < o->limit;
}

bool srv_out_empty(const struct srv_out *o)
{
	return o->first == o->count;
}

static void part_add(struct srv_out *o, void *p, size_t bytes, struct srv_buffer *buf, void *copy)
{
	assert(o->count < SRV_OUT_PARTS);
	o->iov[o->count] = (struct iovec){p, bytes};
	o->keep[o->count].buf = buf;
	o->keep[o->count].copy = copy;
	o->count++;
	o->bytes += bytes;
}

void srv_out_head(struct srv_out *o, const struct wire_header *request, uint32_t status,
		  uint32_t count, size_t bytes)
{
	struct wire_header *h = &o->head[o->heads++];

	assert(o->heads <= SRV_OUT_HEADS);
	*h = (struct wire_header){.op = request->op,
				  .flags = htole16(WIRE_F_REPLY),
				  .bytes = htole32((uint32_t)bytes),
				  .tag = request->tag,
				  .status = htole32(status),
				  .count = htole32(count)};
	part_add(o, h, sizeof *h, NULL, NULL);
}

void srv_out_body(struct srv_out *o, void *body, size_t bytes)
{
	part_add(o, body, bytes, NULL, body);
}

void srv_out_runs(struct srv_out *o, const struct srv_run *runs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		part_add(o, runs[i].mem, runs[i].bytes, runs[i].buf,
			 runs[i].buf ? NULL : runs[i].mem);
}

void srv_out_fds(struct srv_out *o, struct srv_buffer *const *bufs, uint32_t n)
{
	assert(!o->fds && n <= WIRE_MAX_FDS);
	for (uint32_t i = 0; i < n; i++)
		o->fd_buf[i] = bufs[i];
	o->fds = n;
	o->fds_at = o->count - 1;
}

struct iovec *srv_out_next(struct srv_out *o, unsigned *count, unsigned *fds)
{
	*fds = o->first == o->fds_at ? o->fds : 0;
	*count = (o->fds_at != NO_FDS && !*fds ? o->fds_at : o->count) - o->first;
	return &o->iov[o->first];
}

void srv_out_sent(struct srv_out *o, size_t n)
{
	if (n && o->first == o->fds_at)
		fds_end(o);
	assert(n <= o->bytes);
	o->bytes -= n;
	while (o->first < o->count && n >= o->iov[o->first].iov_len) {
		n -= o->iov[o->first].iov_len;
		part_end(o, o->first++);
	}
	if (o->first == o->count) {
		reset(o);
	} else if (n) {
		o->iov[o->first].iov_base = (char *)o->iov[o->first].iov_base + n;
		o->iov[o->first].iov_len -= n;
	}
}
