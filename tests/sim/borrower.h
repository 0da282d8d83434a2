/* SPDX-License-Identifier: MIT */
/* What borrower.c (a volume's life) and request.c (its batches) share. */
#ifndef TESTS_SIM_BORROWER_H
#define TESTS_SIM_BORROWER_H

#include "client_env.h"
#include "pagestore/volume.h"
#include "sim.h"

#define VECS      3u
#define VEC_PAGES 6u
#define DEPTH     4u
#define PORTS     4u

struct borrower;
struct port_task;

struct request {
	struct ps_batch batch;
	struct ps_vec vec[VECS];
	uint64_t hash[VECS][VEC_PAGES];
	struct port_task *task;
	uint64_t begun_ns;
	uint64_t away_ns; /* the task's when it began */
	unsigned char *buf;
	bool used;
};

/* A thread with a port of its own. */
struct port_task {
	struct borrower *b;
	unsigned number;
	uint64_t away_ns; /* in which nobody drove the port: deadlines stand still */
	struct request request[DEPTH];
};

struct borrower {
	struct sim_load load;
	unsigned number;
	struct sim_model *model;
	struct ps_volume *volume;
	struct port_task task[PORTS];
	unsigned working;    /* tasks that are at work */
	bool maintaining, stop; /* the maintenance's task runs; is to end */
	bool crowded;        /* a donor was to be emptied: there may be no room elsewhere */
	bool open;
	bool *reserved;      /* by slab */
	unsigned slab_pages;
	struct sim_result count;
};

/* How many members of a slab may be lost. */
unsigned borrower_spare(const struct borrower *b);
/* May something fail now? donor: the one that is to blame, or -1. */
bool borrower_excused(const struct borrower *b, int donor);

/* Begins a batch of random pages. */
void request_begin(struct port_task *t, struct request *r);
/* Reads pages [page, page + VEC_PAGES) as far as they are free and reserved, and waits. */
void request_read_run(struct port_task *t, uint64_t page);
/* Takes answers in until at most `most` batches are under way. */
void request_reap(struct port_task *t, unsigned most);

#endif
