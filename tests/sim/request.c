/* SPDX-License-Identifier: MIT */
/* Batches: what they carry, whether they ended in time, whether their errors are right. */
#include "borrower.h"

#include <errno.h>
#include <string.h>

#define SLACK_NS (2 * SIM_SEC) /* beyond the deadline, for a batch to end */

static void check_error(struct borrower *b, const struct ps_batch *batch)
{
	b->count.errors++;
	if (batch->status != -EIO && batch->status != -ETIMEDOUT && batch->status != -EBADMSG)
		sim_fail("a batch ended with %d (%s)", batch->status, strerror(-batch->status));
	if (batch->donor < 0)
		sim_fail("a batch failed (%d), and no donor is named", batch->status);
	if (!borrower_excused(b, batch->donor))
		sim_fail("a batch failed with %d (%s) at donor %d, page %llu, without a reason: %s",
			 batch->status, strerror(-batch->status), batch->donor,
			 (unsigned long long)batch->page, sim_donors_hurt_text());
}

/* A run of free pages from page on; they are taken. */
static uint32_t take_run(struct borrower *b, uint64_t page, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && page + n < b->load.pages && b->reserved[(page + n) / b->slab_pages] &&
	       sim_model_take(b->model, page + n))
		n++;
	return n;
}

static void fill_vec(struct request *r, unsigned i)
{
	struct ps_vec *v = &r->vec[i];

	for (uint32_t k = 0; k < v->count; k++) {
		unsigned char *p = (unsigned char *)v->buf + (size_t)k * PS_PAGE_SIZE;

		if (r->batch.kind == PS_READ)
			memset(p, 0xee, PS_PAGE_SIZE);
		else
			sim_model_write(r->task->b->model, v->page + k, p, sim_chance(100000));
		r->hash[i][k] = r->batch.kind == PS_WRITE && sim_chance(500000) ? ps_hash(p) : 0;
	}
	v->hashes = r->batch.kind == PS_WRITE && sim_chance(500000) ? r->hash[i] : NULL;
}

static void submit(struct request *r, unsigned vecs)
{
	struct port_task *t = r->task;
	int e;

	r->batch.vec = r->vec;
	r->batch.vecs = vecs;
	r->batch.user = r;
	r->begun_ns = sim_now();
	r->away_ns = t->away_ns;
	e = ps_submit(ps_port(t->b->volume, t->number), &r->batch, sim_now());
	if (e)
		sim_fail("port %u took no batch: %d", t->number, e);
	r->used = true;
	t->b->count.batches++;
}

void request_begin(struct port_task *t, struct request *r)
{
	unsigned vecs = 1 + (unsigned)sim_below(VECS), n = 0;
	struct borrower *b = t->b;

	r->task = t;
	r->batch = (struct ps_batch){.kind = sim_chance(500000) ? PS_READ : PS_WRITE};
	for (unsigned i = 0; i < vecs; i++) {
		uint64_t page = sim_below(b->load.pages);
		uint32_t got = take_run(b, page, 1 + (uint32_t)sim_below(VEC_PAGES));

		if (!got)
			continue;
		r->vec[n] = (struct ps_vec){.page = page,
					    .count = got,
					    .buf = r->buf + (size_t)n * VEC_PAGES * PS_PAGE_SIZE};
		fill_vec(r, n++);
	}
	if (n)
		submit(r, n);
}

static void end_page(struct request *r, uint64_t page, const void *buf)
{
	struct borrower *b = r->task->b;

	if (r->batch.kind == PS_WRITE) {
		sim_model_written(b->model, page, !r->batch.status);
	} else if (!r->batch.status) {
		sim_model_read(b->model, page, buf);
		b->count.reads_checked++;
	}
	sim_model_give(b->model, page);
}

static void end(struct request *r)
{
	const struct ps_batch *batch = &r->batch;
	struct borrower *b = r->task->b;
	uint64_t took = sim_now() - r->begun_ns;
	uint64_t away = r->task->away_ns - r->away_ns;

	sim_say("%u.%u %s of %u at %llu: %d after %llu us", b->number, r->task->number,
		batch->kind == PS_READ ? "read" : "write", r->vec[0].count,
		(unsigned long long)r->vec[0].page, batch->status, (unsigned long long)(took / 1000));
	/* A member that misses it leaves; the others have as long again. */
	if (took > b->load.deadline_ns * (1 + borrower_spare(b)) + SLACK_NS + away)
		sim_fail("a batch of port %u took %llu ms (deadline %llu, away %llu)",
			 r->task->number, (unsigned long long)(took / SIM_MSEC),
			 (unsigned long long)(b->load.deadline_ns / SIM_MSEC),
			 (unsigned long long)(away / SIM_MSEC));
	if (batch->status)
		check_error(b, batch);
	for (unsigned i = 0; i < batch->vecs; i++)
		for (uint32_t k = 0; k < r->vec[i].count; k++)
			end_page(r, r->vec[i].page + k,
				 (unsigned char *)r->vec[i].buf + (size_t)k * PS_PAGE_SIZE);
	r->used = false;
}

void request_reap(struct port_task *t, unsigned most)
{
	struct ps_port *p = ps_port(t->b->volume, t->number);
	struct ps_batch *done[2];

	for (;;) {
		unsigned n = ps_poll(p, sim_now(), done, 2);

		for (unsigned i = 0; i < n; i++)
			end(done[i]->user);
		if (n)
			continue;
		if (ps_inflight(p) <= most)
			return;
		ps_wait(p, 50 * SIM_MSEC);
	}
}

void request_read_run(struct port_task *t, uint64_t page)
{
	struct request *r = &t->request[0];
	uint32_t n = take_run(t->b, page, VEC_PAGES);

	if (!n)
		return;
	r->task = t;
	r->batch = (struct ps_batch){.kind = PS_READ};
	r->vec[0] = (struct ps_vec){.page = page, .count = n, .buf = r->buf};
	memset(r->buf, 0xee, (size_t)n * PS_PAGE_SIZE);
	submit(r, 1);
	request_reap(t, 0);
}
