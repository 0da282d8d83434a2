/* SPDX-License-Identifier: MIT */
/*
 * Plays a string of bytes as what untrustworthy donors do to the page store's client: volumes are
 * opened, written, read, released and snapshotted while answers come rightly, wrongly, twice, in
 * another order or never. Whatever happens, a read that succeeds is what was written, every wait
 * ends, and what the client sends keeps to the protocol.
 */
#include "client_donor.h"
#include "play.h"
#include "tests/sim/client_env.h"
#include "tests/sim/sim.h"
#include "common/error.h"
#include <infuse/pagestore.h>

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define PAGES   32u
#define DONORS  2u
#define BATCHES 3u
#define RUN     4u

struct request {
	struct ps_batch batch;
	struct ps_vec vec;
	bool used;
	_Alignas(64) unsigned char buf[RUN * PS_PAGE_SIZE];
};

static struct ps_volume *volume;
static struct sim_model *model;
static struct request request[BATCHES];

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

static void end(struct request *r)
{
	for (uint32_t i = 0; i < r->vec.count; i++) {
		if (r->batch.kind == PS_WRITE)
			sim_model_written(model, r->vec.page + i, !r->batch.status);
		else if (!r->batch.status)
			sim_model_read(model, r->vec.page + i, r->buf + (size_t)i * PS_PAGE_SIZE);
		sim_model_give(model, r->vec.page + i);
	}
	r->used = false;
}

static void reap(bool all)
{
	struct ps_port *p = ps_port(volume, 0);
	struct ps_batch *done;
	unsigned tries = 0;

	do {
		while (ps_poll(p, clock_ns(), &done, 1))
			end(done->user);
		if (ps_inflight(p))
			ps_wait(p, 20 * NSEC_PER_MSEC);
		must(++tries < 1000);
	} while (all && ps_inflight(p));
}

static void submit(struct request *r, uint64_t page, uint32_t count, bool write)
{
	uint32_t got = 0;

	while (got < count && page + got < PAGES && sim_model_take(model, page + got))
		got++;
	if (!got)
		return;
	r->vec = (struct ps_vec){.page = page, .count = got, .buf = r->buf};
	r->batch = (struct ps_batch){
		.kind = write ? PS_WRITE : PS_READ, .vecs = 1, .vec = &r->vec, .user = r};
	for (uint32_t i = 0; i < got && write; i++)
		sim_model_write(model, page + i, r->buf + (size_t)i * PS_PAGE_SIZE, false);
	must(!ps_submit(ps_port(volume, 0), &r->batch, clock_ns()));
	r->used = true;
}

static void zero(uint64_t page, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sim_model_zero(model, page + i);
}

static void step(struct moves *m)
{
	uint8_t what = take(m), where = take(m);
	uint64_t page = where % PAGES, count = 1 + where / PAGES;
	struct request *r = &request[what % BATCHES];

	if (page + count > PAGES)
		count = PAGES - page;
	if (what < 150) {
		if (!r->used)
			submit(r, page, 1 + (what & 3), what < 80);
		reap(false);
		return;
	}
	reap(true);
	if (what < 190) {
		if (ps_reserve(volume, page, count))
			must(err_text()[0]);
	} else if (what < 205) {
		ps_release(volume, page, count);
		zero(page, count);
	} else if (what < 220) {
		ps_discard(volume, page, count);
		zero(page, count);
	} else if (what < 235) {
		if (!ps_snapshot(volume))
			ps_snapshot_drop(volume, false);
	} else {
		struct ps_space s;

		ps_space(volume, &s);
	}
}

static int open_volume(uint8_t how)
{
	const char *donors[] = {"tcp:127.0.0.1:1", "tcp:127.0.0.1:2"};
	struct ps_options o = {.name = "fuzz",
			       .pages = PAGES,
			       .donors = donors,
			       .donors_count = 1 + how % DONORS,
			       .ports = 1,
			       .depth = BATCHES,
			       .deadline_ns = NSEC_PER_SEC,
			       .connect_ns = NSEC_PER_SEC,
			       .transient = how & 4};

	return ps_open(&o, &volume);
}

unsigned play(const uint8_t *bytes, size_t n)
{
	struct moves m = {bytes, n};
	unsigned frames;

	donor_open(&m);
	if (open_volume(take(&m))) {
		must(err_text()[0]);
		return donor_end();
	}
	model = sim_model_open(0, PAGES);
	if (ps_reserve(volume, 0, PAGES / 2))
		must(err_text()[0]);
	while (m.n)
		step(&m);
	donor_behave();
	reap(true);
	for (uint64_t page = 0; page < PAGES; page += RUN) {
		submit(&request[0], page, RUN, false);
		reap(true);
	}
	ps_close(volume);
	frames = donor_end();
	sim_model_close(model);
	return frames;
}

void play_end(void)
{
}
