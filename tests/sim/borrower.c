/* SPDX-License-Identifier: MIT */
/*
 * The load: a volume with a task for each port, which read, write, discard and release pages at
 * random, several batches at once. No page is in two requests at a time (the page store's rule),
 * but the next request on it may go through any port.
 */
#include "borrower.h"
#include "common/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_STEPS 16 /* deadlines that a control operation takes at most: one a message */

static struct borrower borrower[SIM_MAX_BORROWERS];
static unsigned borrowers, living;

unsigned borrower_spare(const struct borrower *b)
{
	return b->load.code_data ? b->load.code_parity : b->load.replicas - 1;
}

bool borrower_excused(const struct borrower *b, int donor)
{
	/* Without maintenance what is lost stays lost: the second one at once may be too many. */
	unsigned spare = b->load.maintained ? borrower_spare(b) : borrower_spare(b) > 0;

	/* (What was refused is asked for by the caller, as a rule, with an error.) */
	if (sim_memory_client_failed())
		return true;
	/* A donor that nothing happened to has no reason to fail. (What is lost may be moved to one.) */
	if (!spare && donor >= 0 && !b->load.maintained)
		return donor < (int)sim_donors() && /* and the spill file never has */
		       sim_donor_hurt((unsigned)donor) != SIM_HURT_NOT;
	/* With donors that take nothing new a set may have fewer members than it should. */
	if (b->crowded)
		return donor < 0 || sim_donors_hurt_most();
	return sim_donors_hurt_most() > (donor >= 0 ? spare : 0);
}

bool sim_borrowers_whole(void)
{
	for (unsigned i = 0; i < borrowers; i++) {
		struct ps_health h;

		if (!borrower[i].open)
			continue;
		/* (Its lock may be taken: then it is busy repairing.) */
		if (borrower[i].volume->lock)
			return false;
		ps_health(borrower[i].volume, &h);
		if (h.degraded || h.filling || h.lost || map_gone(&borrower[i].volume->map))
			return false;
	}
	return true;
}

/* --- what is done besides reading and writing --- */

/* All of a range, or none of it. */
static bool take_range(struct borrower *b, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (sim_model_take(b->model, first + i))
			continue;
		while (i-- > 0)
			sim_model_give(b->model, first + i);
		return false;
	}
	return true;
}

static void zero_range(struct borrower *b, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		sim_model_zero(b->model, first + i);
		sim_model_give(b->model, first + i);
	}
}

static void discard(struct borrower *b)
{
	uint64_t n = 1 + sim_below(2 * b->slab_pages), first = sim_below(b->load.pages);

	if (first + n > b->load.pages)
		n = b->load.pages - first;
	if (!take_range(b, first, n))
		return;
	ps_discard(b->volume, first, n);
	zero_range(b, first, n);
}

static uint64_t slabs(const struct borrower *b)
{
	return b->load.pages / b->slab_pages;
}

/* A few slabs, cut at the volume's end. */
static uint64_t some_slabs(const struct borrower *b, uint64_t *first)
{
	uint64_t n = 1 + sim_below(3);

	*first = sim_below(slabs(b));
	return *first + n > slabs(b) ? slabs(b) - *first : n;
}

static void release_slabs(struct borrower *b)
{
	uint64_t slab, n = some_slabs(b, &slab), first = slab * b->slab_pages;
	int r;

	if (!take_range(b, first, n * b->slab_pages))
		return;
	memset(&b->reserved[slab], 0, n * sizeof *b->reserved);
	r = ps_release(b->volume, first, n * b->slab_pages);
	sim_say("%u: release of %llu slabs from %llu on: %d", b->number, (unsigned long long)n,
		(unsigned long long)slab, r);
	if (r && !borrower_excused(b, -1))
		sim_fail("slab %llu can't be released: %d", (unsigned long long)slab, r);
	zero_range(b, first, n * b->slab_pages);
}

static void reserve_slabs(struct borrower *b, uint64_t slab, uint64_t n)
{
	uint64_t first = slab * b->slab_pages;
	int r;

	if (!take_range(b, first, n * b->slab_pages))
		return;
	r = ps_reserve(b->volume, first, n * b->slab_pages);
	sim_say("%u: reservation of %llu slabs from %llu on: %d", b->number, (unsigned long long)n,
		(unsigned long long)slab, r);
	if (r && !borrower_excused(b, -1))
		sim_fail("slab %llu can't be reserved: %s", (unsigned long long)slab, err_text());
	for (uint64_t i = 0; i < n && !r; i++)
		b->reserved[slab + i] = true;
	for (uint64_t i = 0; i < n * b->slab_pages; i++)
		sim_model_give(b->model, first + i);
}

static void other_things(struct borrower *b)
{
	struct ps_space s;
	uint64_t slab, n;

	switch (sim_below(b->load.maintained ? 6 : 4)) {
	case 0:
		discard(b);
		break;
	case 1:
		release_slabs(b);
		break;
	case 2:
		n = some_slabs(b, &slab);
		reserve_slabs(b, slab, n);
		break;
	case 3:
		slab = sim_below(slabs(b));
		n = sim_below(sim_donors());
		sim_say("%u: move of slab %llu from donor %llu: %d", b->number,
			(unsigned long long)slab, (unsigned long long)n,
			ps_move(b->volume, slab, (int)n, -1));
		break;
	case 4:
		if (!b->load.evacuates)
			break;
		n = sim_below(sim_donors());
		b->crowded = true;
		sim_say("%u: evacuation of donor %llu", b->number, (unsigned long long)n);
		ps_evacuate(b->volume, (int)n, sim_chance(500000));
		break;
	default:
		if (ps_space(b->volume, &s) && !borrower_excused(b, -1))
			sim_fail("the donors' room can't be asked: %s", err_text());
	}
}

static void be_away(struct port_task *t)
{
	uint64_t begun = sim_now();

	if (sim_chance(30000))
		other_things(t->b);
	if (sim_now() - begun > CONTROL_STEPS * t->b->load.deadline_ns)
		sim_fail("a control operation took %llu ms",
			 (unsigned long long)((sim_now() - begun) / SIM_MSEC));
	if (sim_chance(100000))
		sim_task_sleep(sim_now() + sim_below(200 * SIM_MSEC));
	t->away_ns += sim_now() - begun;
}

/* --- tasks --- */

static void work(void *arg)
{
	struct port_task *t = arg;
	const struct sim_load *l = &t->b->load;

	for (unsigned i = 0; i < l->rounds; i++) {
		struct request *r = &t->request[sim_below(l->depth)];

		if (!r->used)
			request_begin(t, r);
		request_reap(t, sim_chance(500000) ? l->depth : l->depth - 1);
		be_away(t);
	}
	request_reap(t, 0);
	t->b->working--;
}

static void work_on_all_ports(struct borrower *b)
{
	b->working = b->load.ports;
	for (unsigned i = 1; i < b->load.ports; i++)
		sim_task_start("port", work, &b->task[i]);
	work(&b->task[0]);
	while (b->working)
		sim_task_sleep(sim_now() + 10 * SIM_MSEC);
}

/* --- maintenance --- */

static void maintain(void *arg)
{
	struct borrower *b = arg;

	while (!b->stop) {
		uint64_t ns = ps_maintain(b->volume, sim_now());

		if (ns)
			ps_maintain_wait(b->volume, ns < 100 * SIM_MSEC ? ns : 100 * SIM_MSEC);
		else
			sim_task_yield();
	}
	b->maintaining = false;
}

static void maintenance_start(struct borrower *b)
{
	b->stop = false;
	b->maintaining = b->load.maintained;
	if (b->maintaining)
		sim_task_start("maintenance", maintain, b);
}

static void maintenance_stop(struct borrower *b)
{
	b->stop = true;
	while (b->maintaining)
		sim_task_sleep(sim_now() + 10 * SIM_MSEC);
}

/* --- snapshots --- */

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

static void remember(struct borrower *b, struct past *p)
{
	const struct map *m = &b->volume->map;

	p->hash = copy_of(m->hash, m->pages * sizeof *m->hash);
	p->slab = copy_of(m->slab, m->slabs * sizeof *m->slab);
	p->reserved = copy_of(b->reserved, b->load.pages * sizeof *b->reserved);
	sim_model_save(b->model);
}

static void forget(struct past *p)
{
	free(p->hash);
	free(p->slab);
	free(p->reserved);
}

/* The forked child's way, in place: from here on the volume is what it was at the snapshot. */
static bool adopt(struct borrower *b, const struct past *p)
{
	struct map *m = &b->volume->map;
	int r;

	memcpy(m->hash, p->hash, m->pages * sizeof *m->hash);
	memcpy(m->slab, p->slab, m->slabs * sizeof *m->slab);
	memcpy(b->reserved, p->reserved, b->load.pages * sizeof *b->reserved);
	sim_model_restore(b->model);
	r = ps_adopt(b->volume, true);
	if (!r)
		return true;
	sim_say("%u: the snapshot can't be adopted: %s", b->number, err_text());
	if (!borrower_excused(b, -1))
		sim_fail("the snapshot can't be adopted: %s", err_text());
	return false;
}

/* False: the volume can't be used any more. */
static bool take_snapshot(struct borrower *b)
{
	struct past past;
	bool usable = true;
	int r = ps_snapshot(b->volume);

	if (r) {
		sim_say("%u: no snapshot: %s", b->number, err_text());
		if (!borrower_excused(b, -1))
			sim_fail("a snapshot can't be taken: %s", err_text());
		return true;
	}
	remember(b, &past);
	b->load.rounds = 1 + b->load.rounds / 4;
	work_on_all_ports(b);
	/* (What seals pages is not to be copied from outside.) */
	if (!b->load.seal && sim_chance(500000)) {
		maintenance_stop(b);
		usable = adopt(b, &past);
		maintenance_start(b);
	} else {
		ps_snapshot_drop(b->volume, false);
	}
	forget(&past);
	return usable;
}

/* --- a volume's life --- */

static int open_volume(struct borrower *b)
{
	char text[SIM_MAX_DONORS][32];
	const char *address[SIM_MAX_DONORS];
	struct ps_options o = {.name = "sim",
			       .pages = b->load.pages,
			       .donors = address,
			       .donors_count = sim_donors(),
			       .ports = b->load.ports,
			       .depth = b->load.depth,
			       .deadline_ns = b->load.deadline_ns,
			       .connect_ns = b->load.deadline_ns,
			       .suspect_ns = b->load.suspect_ns,
			       .replicas = b->load.code_data ? 0 : b->load.replicas,
			       .code_data = b->load.code_data,
			       .code_parity = b->load.code_parity,
			       .seal = b->load.seal,
			       .spill = b->load.spill ? "/spill" : NULL,
			       .transient = sim_chance(500000)};

	for (unsigned i = 0; i < sim_donors(); i++) {
		snprintf(text[i], sizeof text[i], "tcp:127.0.0.1:%u", 1 + i);
		address[i] = text[i];
	}
	return ps_open(&o, &b->volume);
}

static void use_volume(struct borrower *b)
{
	bool usable = true;

	for (uint64_t i = 0; i < slabs(b); i++)
		if (sim_chance(900000))
			reserve_slabs(b, i, 1);
	work_on_all_ports(b);
	if (b->load.snapshots)
		usable = take_snapshot(b);
	for (uint64_t page = 0; usable && page < b->load.pages; page += VEC_PAGES)
		request_read_run(&b->task[0], page);
}

static void borrow(void *arg)
{
	struct borrower *b = arg;
	int r = open_volume(b);

	if (r) {
		sim_say("%u: the volume can't be opened: %s", b->number, err_text());
		if (!borrower_excused(b, -1))
			sim_fail("the volume can't be opened: %s", err_text());
	} else {
		b->slab_pages = ps_slab_pages(b->volume);
		b->load.pages -= b->load.pages % b->slab_pages;
		b->open = true;
		maintenance_start(b);
		use_volume(b);
		maintenance_stop(b);
		b->open = false;
	}
	if (!--living)
		sim_faults_stop();
	if (!r)
		ps_close(b->volume);
	sim_say("%u: the volume is closed", b->number);
}

static void get_ready(struct borrower *b)
{
	b->model = sim_model_open(b->number, b->load.pages);
	b->reserved = calloc(b->load.pages, sizeof *b->reserved);
	if (!b->reserved)
		abort();
	for (unsigned i = 0; i < PORTS; i++) {
		struct port_task *t = &b->task[i];

		t->b = b;
		t->number = i;
		t->away_ns = 0;
		for (unsigned k = 0; k < DEPTH; k++) {
			t->request[k].used = false;
			if (!t->request[k].buf)
				t->request[k].buf = malloc(VECS * VEC_PAGES * PS_PAGE_SIZE);
			if (!t->request[k].buf)
				abort();
		}
	}
}

void sim_borrowers_open(unsigned n, const struct sim_load *l)
{
	borrowers = living = n;
	for (unsigned i = 0; i < n; i++) {
		struct borrower *b = &borrower[i];

		b->load = l[i];
		b->number = i;
		b->count = (struct sim_result){0};
		b->open = b->crowded = false;
		get_ready(b);
		sim_task_start("borrower", borrow, b);
	}
}

void sim_borrowers_close(void)
{
	for (unsigned i = 0; i < borrowers; i++) {
		sim_model_close(borrower[i].model);
		free(borrower[i].reserved);
		borrower[i].reserved = NULL;
	}
}

void sim_borrowers_count(struct sim_result *ret)
{
	*ret = (struct sim_result){0};
	for (unsigned i = 0; i < borrowers; i++) {
		ret->batches += borrower[i].count.batches;
		ret->reads_checked += borrower[i].count.reads_checked;
		ret->errors += borrower[i].count.errors;
	}
}
