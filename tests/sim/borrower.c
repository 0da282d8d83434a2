/* SPDX-License-Identifier: MIT */
/*
 * The load: a volume with a task for each port, which read, write, discard and release pages at
 * random, several batches at once. No page is in two requests at a time (the page store's rule),
 * but the next request on it may go through any port.
 */
#include "sim.h"
#include "client_env.h"
#include "kernel.h"
#include "pagestore/volume.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VECS  3u
#define VEC_PAGES 6u
#define DEPTH     4u
#define MAX_PORTS 4u
#define CONTROL_STEPS 16 /* deadlines that a control operation takes at most: one a message */
#define SLACK_NS  (2 * SIM_SEC) /* beyond the deadline, for a batch to end */

struct request {
	struct ps_batch batch;
	struct ps_vec vec[MAX_VECS];
	uint64_t begun_ns, hash[MAX_VECS][VEC_PAGES];
	struct task *task;
	uint64_t away_ns; /* the task's when it began */
	unsigned char *buf;
	bool used;
};

struct task {
	unsigned number;
	uint64_t away_ns; /* in which nobody drove the port: deadlines stand still */
	struct request request[DEPTH];
};

static struct sim_load load;
static struct ps_volume *volume;
static struct task task[MAX_PORTS];
static unsigned working;
static bool *reserved; /* by slab: the model's view */
static unsigned slab_pages;
static struct sim_result count;

/* --- is this error right? --- */

/* A donor that nothing happened to has no reason to fail. */
static bool excused(int donor)
{
	if (donor >= 0)
		return sim_donor_hurt((unsigned)donor) != SIM_HURT_NOT;
	for (unsigned i = 0; i < sim_donors(); i++)
		if (sim_donor_hurt(i) != SIM_HURT_NOT)
			return true;
	return false;
}

static void check_error(const struct ps_batch *b)
{
	bool bad = b->status == -EBADMSG;

	count.errors++;
	if (b->status != -EIO && b->status != -ETIMEDOUT && !bad)
		sim_fail("a batch ended with %d (%s)", b->status, strerror(-b->status));
	if (b->donor < 0)
		sim_fail("a batch failed (%d), and no donor is named", b->status);
	if (!excused(b->donor))
		sim_fail("a batch failed with %d (%s) at donor %d, to which nothing has happened",
			 b->status, strerror(-b->status), b->donor);
}

/* --- requests --- */

static bool slab_ready(uint64_t page)
{
	return reserved[page / slab_pages];
}

/* A run of free pages from page on; they are taken. */
static uint32_t take_run(uint64_t page, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && page + n < load.pages && slab_ready(page + n) &&
	       sim_model_take(page + n))
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
			sim_model_write(v->page + k, p, sim_chance(100000));
		r->hash[i][k] = r->batch.kind == PS_WRITE && sim_chance(500000) ? ps_hash(p) : 0;
	}
	v->hashes = r->batch.kind == PS_WRITE && sim_chance(500000) ? r->hash[i] : NULL;
}

static void begin(struct task *t, struct request *r)
{
	unsigned vecs = 1 + (unsigned)sim_below(MAX_VECS), n = 0;
	int e;

	r->batch = (struct ps_batch){.kind = sim_chance(500000) ? PS_READ : PS_WRITE,
				     .vec = r->vec,
				     .user = r};
	for (unsigned i = 0; i < vecs; i++) {
		uint64_t page = sim_below(load.pages);
		uint32_t got = take_run(page, 1 + (uint32_t)sim_below(VEC_PAGES));

		if (!got)
			continue;
		r->vec[n] = (struct ps_vec){.page = page,
					    .count = got,
					    .buf = r->buf + (size_t)n * VEC_PAGES * PS_PAGE_SIZE};
		fill_vec(r, n++);
	}
	if (!n)
		return;
	r->batch.vecs = n;
	r->begun_ns = sim_now();
	r->away_ns = t->away_ns;
	e = ps_submit(ps_port(volume, t->number), &r->batch, sim_now());
	if (e)
		sim_fail("port %u took no batch: %d", t->number, e);
	r->used = true;
	count.batches++;
}

static void end_page(const struct request *r, uint64_t page, const void *buf)
{
	if (r->batch.kind == PS_WRITE) {
		sim_model_written(page, !r->batch.status);
	} else if (!r->batch.status) {
		sim_model_read(page, buf);
		count.reads_checked++;
	}
	sim_model_give(page);
}

static void end(struct request *r)
{
	const struct ps_batch *b = &r->batch;
	uint64_t took = sim_now() - r->begun_ns;

	sim_say("%s of %u at %llu: %d after %llu us", b->kind == PS_READ ? "read" : "write",
		r->vec[0].count, (unsigned long long)r->vec[0].page, b->status,
		(unsigned long long)(took / 1000));
	if (took > load.deadline_ns + SLACK_NS + r->task->away_ns - r->away_ns)
		sim_fail("a batch of port %u took %llu ms (deadline %llu, away %llu)", r->task->number,
			 (unsigned long long)(took / SIM_MSEC),
			 (unsigned long long)(load.deadline_ns / SIM_MSEC),
			 (unsigned long long)((r->task->away_ns - r->away_ns) / SIM_MSEC));
	if (b->status)
		check_error(b);
	for (unsigned i = 0; i < b->vecs; i++)
		for (uint32_t k = 0; k < r->vec[i].count; k++)
			end_page(r, r->vec[i].page + k,
				 (unsigned char *)r->vec[i].buf + (size_t)k * PS_PAGE_SIZE);
	r->used = false;
}

/* Until at most `most` batches are under way. */
static void reap(struct task *t, unsigned most)
{
	struct ps_port *p = ps_port(volume, t->number);
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

/* --- what is done besides reading and writing --- */

/* All of a range, or none of it. */
static bool take_range(uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (sim_model_take(first + i))
			continue;
		while (i-- > 0)
			sim_model_give(first + i);
		return false;
	}
	return true;
}

static void zero_range(uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		sim_model_zero(first + i);
		sim_model_give(first + i);
	}
}

static void discard(void)
{
	uint64_t n = 1 + sim_below(2 * slab_pages), first = sim_below(load.pages);

	if (first + n > load.pages)
		n = load.pages - first;
	if (!take_range(first, n))
		return;
	ps_discard(volume, first, n);
	zero_range(first, n);
}

/* A few slabs, cut at the volume's end. */
static uint64_t some_slabs(uint64_t *first)
{
	uint64_t all = load.pages / slab_pages, n = 1 + sim_below(3);

	*first = sim_below(all);
	return *first + n > all ? all - *first : n;
}

static void release_slabs(void)
{
	uint64_t slab, n = some_slabs(&slab), first = slab * slab_pages;
	int r;

	if (!take_range(first, n * slab_pages))
		return;
	memset(&reserved[slab], 0, n * sizeof *reserved);
	r = ps_release(volume, first, n * slab_pages);
	sim_say("release of %llu slabs from %llu on: %d", (unsigned long long)n,
		(unsigned long long)slab, r);
	if (r && !excused(-1))
		sim_fail("slab %llu can't be released: %d", (unsigned long long)slab, r);
	zero_range(first, n * slab_pages);
}

static void reserve_slabs(uint64_t slab, uint64_t n)
{
	uint64_t first = slab * slab_pages;
	int r;

	if (!take_range(first, n * slab_pages))
		return;
	r = ps_reserve(volume, first, n * slab_pages);
	sim_say("reservation of %llu slabs from %llu on: %d", (unsigned long long)n,
		(unsigned long long)slab, r);
	if (r && !excused(-1))
		sim_fail("slab %llu can't be reserved: %s", (unsigned long long)slab, err_text());
	for (uint64_t i = 0; i < n && !r; i++)
		reserved[slab + i] = true;
	for (uint64_t i = 0; i < n * slab_pages; i++)
		sim_model_give(first + i);
}

static void space(void)
{
	struct ps_space s;
	int r = ps_space(volume, &s);

	if (r && !excused(-1))
		sim_fail("the donors' room can't be asked: %s", err_text());
}

static void other_things(void)
{
	uint64_t slab, n;

	switch (sim_below(4)) {
	case 0:
		discard();
		break;
	case 1:
		release_slabs();
		break;
	case 2:
		n = some_slabs(&slab);
		reserve_slabs(slab, n);
		break;
	default:
		space();
	}
}

static void be_away(struct task *t)
{
	uint64_t begun = sim_now();

	if (sim_chance(30000))
		other_things();
	if (sim_now() - begun > CONTROL_STEPS * load.deadline_ns)
		sim_fail("a control operation took %llu ms",
			 (unsigned long long)((sim_now() - begun) / SIM_MSEC));
	if (sim_chance(100000))
		sim_task_sleep(sim_now() + sim_below(200 * SIM_MSEC));
	t->away_ns += sim_now() - begun;
}

/* --- tasks --- */

static void work(void *arg)
{
	struct task *t = arg;

	for (unsigned i = 0; i < load.rounds; i++) {
		struct request *r = &t->request[sim_below(load.depth)];

		if (!r->used)
			begin(t, r);
		reap(t, sim_chance(500000) ? load.depth : load.depth - 1);
		be_away(t);
	}
	reap(t, 0);
	working--;
}

/* What a forked child has its own copy of. */
struct past {
	uint64_t *hash;
	struct map_slab *slab;
	bool *reserved;
};

static void *copy_of(const void *p, size_t bytes)
{
	void *to = malloc(bytes);

	if (!to)
		abort();
	return memcpy(to, p, bytes);
}

static void remember(struct past *p)
{
	const struct map *m = &volume->map;

	p->hash = copy_of(m->hash, m->pages * sizeof *m->hash);
	p->slab = copy_of(m->slab, m->slabs * sizeof *m->slab);
	p->reserved = copy_of(reserved, load.pages * sizeof *reserved);
	sim_model_save();
}

static void forget(struct past *p)
{
	free(p->hash);
	free(p->slab);
	free(p->reserved);
}

/* The forked child's way, in place: from here on the volume is what it was at the snapshot. */
static bool adopt(const struct past *p)
{
	struct map *m = &volume->map;
	int r;

	memcpy(m->hash, p->hash, m->pages * sizeof *m->hash);
	memcpy(m->slab, p->slab, m->slabs * sizeof *m->slab);
	memcpy(reserved, p->reserved, load.pages * sizeof *reserved);
	sim_model_restore();
	r = ps_adopt(volume, true);
	if (!r)
		return true;
	sim_say("the snapshot can't be adopted: %s", err_text());
	if (!excused(-1))
		sim_fail("the snapshot can't be adopted: %s", err_text());
	return false;
}

static void read_all(void)
{
	struct task *t = &task[0];
	struct request *r = &t->request[0];

	for (uint64_t page = 0; page < load.pages; page += VEC_PAGES) {
		uint32_t n = take_run(page, VEC_PAGES);

		if (!n)
			continue;
		r->batch = (struct ps_batch){
			.kind = PS_READ, .vecs = 1, .vec = r->vec, .user = r};
		r->vec[0] = (struct ps_vec){.page = page, .count = n, .buf = r->buf};
		memset(r->buf, 0xee, (size_t)n * PS_PAGE_SIZE);
		r->begun_ns = sim_now();
		r->away_ns = t->away_ns;
		sim_must(!ps_submit(ps_port(volume, 0), &r->batch, sim_now()));
		r->used = true;
		reap(t, 0);
	}
}

static void work_on_all_ports(void)
{
	working = load.ports;
	for (unsigned i = 1; i < load.ports; i++)
		sim_task_start("port", work, &task[i]);
	work(&task[0]);
	while (working)
		sim_task_sleep(sim_now() + 10 * SIM_MSEC);
}

static int open_volume(void)
{
	char text[SIM_MAX_DONORS][32];
	const char *address[SIM_MAX_DONORS];
	struct ps_options o = {.name = "sim",
			       .pages = load.pages,
			       .donors = address,
			       .donors_count = sim_donors(),
			       .ports = load.ports,
			       .depth = load.depth,
			       .deadline_ns = load.deadline_ns,
			       .connect_ns = load.deadline_ns,
			       .transient = sim_chance(500000)};

	for (unsigned i = 0; i < sim_donors(); i++) {
		snprintf(text[i], sizeof text[i], "tcp:127.0.0.1:%u", 1 + i);
		address[i] = text[i];
	}
	return ps_open(&o, &volume);
}

static void use_volume(void)
{
	bool usable = true;
	struct past past;

	for (uint64_t i = 0; i < load.pages / slab_pages; i++)
		if (sim_chance(900000))
			reserve_slabs(i, 1);
	work_on_all_ports();
	if (load.snapshots && !ps_snapshot(volume)) {
		remember(&past);
		load.rounds = 1 + load.rounds / 4;
		work_on_all_ports();
		if (sim_chance(500000))
			usable = adopt(&past);
		else
			ps_snapshot_drop(volume, false);
		forget(&past);
	}
	if (usable)
		read_all();
}

static void borrow(void *arg)
{
	int r = open_volume();

	(void)arg;
	if (r) {
		sim_say("the volume can't be opened: %s", err_text());
		if (!excused(-1))
			sim_fail("the volume can't be opened: %s", err_text());
		sim_faults_stop();
		return;
	}
	slab_pages = ps_slab_pages(volume);
	use_volume();
	sim_faults_stop();
	ps_close(volume);
	sim_say("the volume is closed");
	if (sim_kernel_open_sockets())
		sim_fail("%u sockets are open after the volume's end", sim_kernel_open_sockets());
}

void sim_borrower_open(const struct sim_load *l)
{
	load = *l;
	memset(&count, 0, sizeof count);
	reserved = calloc(l->pages, sizeof *reserved);
	if (!reserved)
		abort();
	sim_model_open(l->pages);
	for (unsigned i = 0; i < l->ports; i++) {
		task[i].number = i;
		for (unsigned k = 0; k < DEPTH; k++) {
			task[i].request[k].used = false;
			task[i].request[k].task = &task[i];
			if (!task[i].request[k].buf)
				task[i].request[k].buf = malloc(MAX_VECS * VEC_PAGES * PS_PAGE_SIZE);
			if (!task[i].request[k].buf)
				abort();
		}
	}
	sim_task_start("borrower", borrow, NULL);
}

void sim_borrower_close(void)
{
	sim_model_close();
	free(reserved);
	reserved = NULL;
}

void sim_borrower_count(struct sim_result *ret)
{
	*ret = count;
}
