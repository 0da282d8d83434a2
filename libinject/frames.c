/* SPDX-License-Identifier: MIT */
/*
 * Staging frames: pages of a port's own area through which injected pages come and go. UFFDIO_MOVE
 * carries a page in by taking the frame's memory away, and out by giving it memory, so evictions
 * feed fetches and nothing is allocated or copied in the steady state. Frames come in trays of 64,
 * a bit each: a window or a batch of victims is one tray and one request.
 */
#include "libinject/heap.h"

#include <assert.h>
#include <sys/mman.h>

#define TRAYS_KEPT 2u /* idle, with memory behind them, for the next windows */

/* What new frames are filled from. */
static const unsigned char *zeros(void)
{
	static unsigned char page[TRAY_FRAMES * 4096] __attribute__((aligned(4096)));

	return page;
}

static inline uint64_t low_bits(unsigned n)
{
	return n == 64 ? ~0ull : (1ull << n) - 1;
}

/* Puts memory behind count frames of a tray, where there is none yet. */
static int tray_populate(struct port *p, unsigned t, unsigned first, unsigned count)
{
	struct tray *tray = &p->tray[t];
	uint64_t want = low_bits(count) << first & ~tray->mapped;

	while (want) {
		unsigned at = (unsigned)__builtin_ctzll(want);
		uint64_t rest = ~(want >> at);
		unsigned run = rest ? (unsigned)__builtin_ctzll(rest) : 64;
		size_t done;
		int r;

		if (run > 64 - at)
			run = 64 - at;
		r = uffd_copy(p->heap->uffd, frame_address(p, t * TRAY_FRAMES + at), zeros(),
			      run * PAGE, &done);
		tray->mapped |= low_bits((unsigned)(done / PAGE)) << at;
		if (r)
			return r;
		want &= ~(low_bits(run) << at);
	}
	return 0;
}

int frame_take(struct port *p)
{
	unsigned best = TRAYS, best_count = 65;

	/* The tray with the fewest left, so that whole trays stay whole. */
	for (unsigned t = 0; t < TRAYS; t++) {
		uint64_t free = p->tray[t].mapped & ~p->tray[t].busy;
		unsigned n = (unsigned)__builtin_popcountll(free);

		if (n && n < best_count) {
			best = t;
			best_count = n;
		}
	}
	for (unsigned t = 0; best == TRAYS && t < TRAYS; t++)
		if (~p->tray[t].busy)
			best = t;
	if (best == TRAYS)
		return -1;

	struct tray *tray = &p->tray[best];
	uint64_t free = tray->mapped & ~tray->busy;
	unsigned bit = (unsigned)__builtin_ctzll(free ? free : ~tray->busy);

	if (!free && tray_populate(p, best, bit, 1))
		return -1;
	tray->busy |= 1ull << bit;
	return (int)(best * TRAY_FRAMES + bit);
}

int frames_take_window(struct port *p, unsigned count)
{
	unsigned best = TRAYS;
	int best_count = -1;

	for (unsigned t = 0; t < TRAYS; t++) {
		int n = __builtin_popcountll(p->tray[t].mapped & low_bits(count));

		if (!p->tray[t].busy && n > best_count) {
			best = t;
			best_count = n;
		}
	}
	if (best == TRAYS || tray_populate(p, best, 0, count))
		return -1;
	p->tray[best].busy = low_bits(count);
	return (int)(best * TRAY_FRAMES);
}

int frames_take_out_tray(struct port *p)
{
	unsigned best = TRAYS;
	int best_count = 65;

	/* Clean victims leave their frames' memory behind: it must not pile up tray by tray. */
	frames_trim(p);
	for (unsigned t = 0; t < TRAYS; t++) {
		int n = __builtin_popcountll(p->tray[t].mapped);

		if (!p->tray[t].busy && n < best_count) {
			best = t;
			best_count = n;
		}
	}
	if (best == TRAYS)
		return -1;
	if (best_count) {
		sys_call3(SYS_madvise, SYS_PTR(frame_address(p, best * TRAY_FRAMES)),
			  TRAY_FRAMES * PAGE, MADV_DONTNEED);
		p->tray[best].mapped = 0;
	}
	p->tray[best].busy = ~0ull;
	return (int)best;
}

void frame_put(struct port *p, unsigned frame, bool mapped)
{
	struct tray *tray = &p->tray[frame / TRAY_FRAMES];
	uint64_t bit = 1ull << frame % TRAY_FRAMES;

	assert(tray->busy & bit);
	tray->busy &= ~bit;
	tray->mapped = mapped ? tray->mapped | bit : tray->mapped & ~bit;
}

unsigned trays_idle(const struct port *p)
{
	unsigned n = 0;

	for (unsigned t = 0; t < TRAYS; t++)
		n += !p->tray[t].busy;
	return n;
}

void frames_trim(struct port *p)
{
	unsigned idle = 0, best = TRAYS;

	for (unsigned t = 0; t < TRAYS; t++) {
		if (p->tray[t].busy || !p->tray[t].mapped)
			continue;
		idle++;
		if (best == TRAYS || __builtin_popcountll(p->tray[t].mapped) <
					     __builtin_popcountll(p->tray[best].mapped))
			best = t;
	}
	if (idle <= TRAYS_KEPT)
		return;
	sys_call3(SYS_madvise, SYS_PTR(frame_address(p, best * TRAY_FRAMES)), TRAY_FRAMES * PAGE,
		  MADV_DONTNEED);
	p->tray[best].mapped = 0;
}
