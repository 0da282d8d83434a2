/* SPDX-License-Identifier: MIT */
/*
 * Would a stream gain by being moved in huge pages? The bare work of a page that is scanned: its bytes
 * come (a copy), it is moved in, read, moved out and hashed, with windows of 64 pages or of one huge
 * page. No faults, no protocol: what is left of the difference there, a heap could gain at most.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"
#include "libinject/uffd.h"

#include <errno.h>
#include <infuse/pagestore.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES  ((size_t)2 << 20)
#define AREA_BYTES  ((size_t)256 << 20)
#define CACHE_BYTES ((size_t)64 << 20)

struct stream {
	int fd;
	bool huge;
	size_t window; /* bytes */
	char *source, *area, *stage;
	char *map; /* all of them */
	size_t map_bytes;
};

static int stream_map(struct stream *s)
{
	s->map_bytes = 2 * AREA_BYTES + 2 * HUGE_BYTES;
	s->map = mmap(NULL, s->map_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->map == MAP_FAILED)
		return err_fail(-ENOMEM, "no memory for the floors");
	s->area = (char *)(((uintptr_t)s->map + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	s->stage = s->area + AREA_BYTES;
	s->source = s->stage + HUGE_BYTES;
	madvise(s->map, s->map_bytes, MADV_NOHUGEPAGE);
	if (s->huge)
		madvise(s->area, AREA_BYTES + HUGE_BYTES, MADV_HUGEPAGE);
	memset(s->source, 1, AREA_BYTES);
	return 0;
}

/* The window at `at` comes, is read, and the oldest goes. */
static int pass(const struct stream *s, size_t at, uint64_t *sum)
{
	size_t done;
	int r;

	memcpy(s->stage, s->source + at, s->window);
	r = uffd_move_in(s->fd, s->area + at, s->stage, s->window, &done);
	for (size_t i = 0; i < s->window && !r; i += BENCH_PAGE)
		*sum += *(volatile uint64_t *)(void *)(s->area + at + i);
	if (r || at < CACHE_BYTES)
		return r;
	r = uffd_move_out(s->fd, s->stage, s->area + at - CACHE_BYTES, s->window, &done);
	for (size_t i = 0; i < s->window && !r; i += BENCH_PAGE)
		*sum += ps_hash(s->stage + i);
	return r;
}

static int stream_run(struct stream *s, struct floor_time *ret)
{
	uint64_t sum = 0, start = clock_ns();
	int r = 0;

	for (size_t at = 0; at < AREA_BYTES && !r; at += s->window) {
		/* From here on frames come from evictions, which must go to a registered area. */
		if (at == CACHE_BYTES) {
			r = uffd_register(s->fd, s->stage, HUGE_BYTES);
			start = clock_ns();
		}
		if (!r)
			r = pass(s, at, &sum);
		if (!r && at < CACHE_BYTES)
			memset(s->stage, 0, s->window);
	}
	if (r)
		return err_fail(r, "bare streams: MOVE failed (error %d)", -r);
	ret->us = (double)(clock_ns() - start) / 1e3 / ((AREA_BYTES - CACHE_BYTES) / BENCH_PAGE);
	return sum ? 0 : -EILSEQ;
}

int floor_huge(bool huge, struct floor_time *ret)
{
	struct stream s = {.huge = huge, .window = huge ? HUGE_BYTES : 64 * BENCH_PAGE};
	struct uffd_caps caps;
	int r;

	*ret = (struct floor_time){0};
	s.fd = uffd_open(-1, true, &caps);
	if (s.fd < 0)
		return s.fd;
	r = stream_map(&s);
	cpu_pin(0);
	if (!r)
		r = uffd_register(s.fd, s.area, AREA_BYTES);
	if (!r)
		r = stream_run(&s, ret);
	cpu_unpin();
	close(s.fd);
	if (s.map != MAP_FAILED)
		munmap(s.map, s.map_bytes);
	return r;
}
