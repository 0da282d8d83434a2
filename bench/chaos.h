/* SPDX-License-Identifier: MIT */
/*
 * infuse bench chaos: real memory servers, a heap and a network block device on them that check every
 * page, and faults from a seed, one after the other. Each part is a file: the plan (what happens, by
 * the seed alone), the net (namespaces and the wires between them), the disk (small, for the registry
 * and the servers' logs), the donors, the two clients, the report. chaos.c plays the plan.
 */
#ifndef BENCH_CHAOS_H
#define BENCH_CHAOS_H

#include "bench/bench.h"

#include <stdatomic.h>

#define CHAOS_DONORS  5u /* one may be lost, and a code of 2+1 still finds three to be whole on */
#define CHAOS_THREADS 2u /* of a client */
#define CHAOS_PAGES   4096u

/* --- chaos_plan.c: the same for the same seed, on any machine --- */

enum chaos_kind {
	CHAOS_KILL,      /* kill -9, and started again after `length` */
	CHAOS_STOP,      /* SIGSTOP for `length` */
	CHAOS_CUT,       /* nothing gets through to or from it for `length` */
	CHAOS_FLAP,      /* cut for `length` and not, `times` over */
	CHAOS_DELAY,     /* each packet takes up to `amount` us longer */
	CHAOS_LOSS,      /* `amount` of a million packets are lost */
	CHAOS_DISK,      /* the registry's and the logs' disk is full for `length` */
	CHAOS_DISK_KILL, /* the same, and a server dies and starts again meanwhile */
	CHAOS_PAUSE,     /* the borrowers are stopped for `length`, as machines are */
	CHAOS_STILL,     /* the network to all donors stands still for `length` */
	CHAOS_KINDS
};

struct chaos_fault {
	enum chaos_kind kind;
	unsigned donor, times;
	uint64_t pause_ns; /* before it */
	uint64_t length_ns;
	uint64_t amount;
};
const char *chaos_kind_name(enum chaos_kind kind);
/* The next fault of the plan; *state is the seed at first. */
void chaos_plan_next(uint64_t *state, unsigned donors, struct chaos_fault *ret);
/* "stop donor 3 for 4.2 s" */
void chaos_plan_text(const struct chaos_fault *f, char *text, size_t len);

/* --- chaos_net.c --- */

struct chaos_net;
/* What a wire does now; the conductor writes it, the wires' process reads it. */
struct chaos_wire {
	_Atomic bool cut;
	_Atomic uint64_t delay_us, loss_ppm;
};
/*
 * Puts this process into a network namespace of its own, with a wire to one for each donor. NULL in
 * *ret with 0: not permitted here, donors are on loopback; err_text() says why.
 */
int chaos_net_open(unsigned donors, uint64_t seed, struct chaos_net **ret);
struct chaos_wire *chaos_net_wire(struct chaos_net *n, unsigned donor);
int chaos_net_namespace(const struct chaos_net *n, unsigned donor);
void chaos_net_close(struct chaos_net *n); /* takes NULL */

/* --- chaos_disk.c --- */

struct chaos_disk {
	char path[240];
	bool small; /* a file system of its own that can be filled */
};
int chaos_disk_open(struct chaos_disk *d);
int chaos_disk_fill(const struct chaos_disk *d);
void chaos_disk_free(const struct chaos_disk *d);
void chaos_disk_close(struct chaos_disk *d); /* takes a zeroed one */

/* --- chaos_donors.c --- */

struct chaos_donors {
	unsigned count;
	struct chaos_net *net; /* NULL: loopback */
	struct chaos_disk *disk;
	const char *key_file; /* NULL: none */
	int pid[DONORS_MAX];
	char address[DONORS_MAX][80];
	const char *list[DONORS_MAX];
};
/* Starts donor i, at the address that it had before if it had one; waits until it serves. */
int chaos_donor_start(struct chaos_donors *d, unsigned i);
/* 0, or an error if it died by itself. */
int chaos_donor_alive(const struct chaos_donors *d, unsigned i);
void chaos_donor_kill(struct chaos_donors *d, unsigned i);
/* Until all donors stand in the registry. */
int chaos_donors_registered(const struct chaos_donors *d, uint64_t timeout_ns);
void chaos_donors_stop(struct chaos_donors *d);

/* --- clients: processes that share this with the conductor --- */

struct chaos_client {
	_Atomic uint64_t checks, mismatches, errors;
	_Atomic uint64_t longest_ns;                /* of one page; the conductor sets it to 0 */
	_Atomic uint64_t began_ns[CHAOS_THREADS];   /* of the page under way; 0: none */
	_Atomic uint64_t sweep_wanted, sweeps_done; /* all pages written and read: times, threads */
	_Atomic uint64_t degraded;                  /* slabs that lack a member */
	_Atomic bool stop;
	char error[400]; /* the first one */
	_Atomic bool told;
};

/* A client's thread: how to read and write a page. 0 or a negative errno with the words. */
struct chaos_access {
	int (*read)(void *arg, uint64_t page, void *buf);
	int (*write)(void *arg, uint64_t page, const void *buf);
};
/*
 * Checks and writes pages page % CHAOS_THREADS == thread at random until c->stop. Errors go into c. in
 * place: a page's bytes are at the pointer (void *)arg + page * BENCH_PAGE, there is nothing to call.
 */
void chaos_model_run(struct chaos_client *c, unsigned thread, uint64_t seed,
		     const struct chaos_access *access, void *arg);
void chaos_client_error(struct chaos_client *c, const char *text);

struct chaos_setup {
	const struct chaos_donors *donors;
	uint64_t seed;
	struct chaos_client *heap, *nbd; /* shared memory */
	int heap_pid, nbd_pid, nbdkit_pid;
	const char *nbd_skipped; /* why there is no such client, or NULL */
};
/* Start the process and wait until it has written its first pages. */
int chaos_heap_start(struct chaos_setup *s);
int chaos_nbd_start(struct chaos_setup *s);
/* Looks into nbdkit's log: is the volume whole, by its last word? */
void chaos_nbd_look(struct chaos_setup *s);

/* --- chaos_report.c --- */

struct chaos_outcome {
	struct chaos_fault fault;
	unsigned number;
	const char *skipped;
	uint64_t at_ns, whole_ns; /* since the start; after the fault's end */
	uint64_t heap_checks, nbd_checks, mismatches, errors;
	uint64_t heap_stall_ns, nbd_stall_ns;
};
struct chaos_sum {
	uint64_t seed, ns, heap_checks, nbd_checks, mismatches, errors;
	uint64_t heap_stall_ns, nbd_stall_ns; /* longest */
	unsigned played, skipped;
	unsigned kinds[CHAOS_KINDS];
	const char *stopped; /* what ended it early, or NULL */
};
void chaos_report_plan(bool json, unsigned number, const struct chaos_fault *f);
void chaos_report_fault(bool json, const struct chaos_outcome *o);
void chaos_report_sum(bool json, const struct chaos_sum *s);

/* --- chaos.c --- */

int chaos_run(const struct bench_options *o);
/* Something asks us to end. */
bool chaos_ending(void);

#endif
