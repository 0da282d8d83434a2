/* SPDX-License-Identifier: MIT */
/*
 * A simulated cluster in one thread: the page store's client and the memory server's sessions, both
 * as they are, over a virtual clock, a virtual network and virtual threads. Everything that happens
 * follows from one seed, so a failure can be played again byte by byte.
 *
 * The client's sources are compiled against client_env.h, where the clock and the system calls are
 * the simulation's (kernel.c); the server's against server_env.h, without threads. Neither has a
 * hook for it.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SIM_USEC 1000ull
#define SIM_MSEC 1000000ull
#define SIM_SEC  1000000000ull

#define SIM_MAX_DONORS 8u

/* --- world.c: time, chance, events --- */

typedef void sim_fn(void *arg, uint64_t n);

/* Everything starts anew. */
void sim_world_open(uint64_t seed, uint64_t fail_at, bool verbose);
void sim_world_close(void);
uint64_t sim_now(void);
/* Calls fn then; equal times in the order of asking. */
void sim_at(uint64_t when_ns, sim_fn *fn, void *arg, uint64_t n);
/* Until every task has ended and, after that, until the time is `linger` later. */
void sim_run(uint64_t linger_ns);
/* A number that all events so far went into. */
uint64_t sim_digest(void);
uint64_t sim_events(void);

uint64_t sim_random(void);
uint64_t sim_below(uint64_t n); /* 0..n-1 */
uint64_t sim_between(uint64_t low, uint64_t high);
bool sim_chance(uint64_t per_million);

/* With --verbose: a line with the time. Always: into the digest. */
void sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The seed has failed: says why and how to play it again, and ends the program. */
_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define sim_must(condition)                                                                        \
	do {                                                                                       \
		if (!(condition))                                                                  \
			sim_fail("%s:%d: not true: %s", __FILE__, __LINE__, #condition);           \
	} while (0)

/* --- task.c: virtual threads; one runs until it sleeps --- */

struct sim_task;

void sim_tasks_open(void);
void sim_tasks_close(void);
struct sim_task *sim_task_start(const char *name, void (*fn)(void *), void *arg);
struct sim_task *sim_task_self(void); /* NULL: the event loop */
unsigned sim_tasks_left(void);
/* Until the time, or until it is woken. */
void sim_task_sleep(uint64_t until_ns);
void sim_task_wake(struct sim_task *t);
/* Others may run now: something that a thread can't rule out between two system calls. */
void sim_task_yield(void);
/* Fails the seed when the running task has looked at the clock without end. */
void sim_task_looked(void);

/* --- net.c: byte streams between the borrower and donors --- */

enum { SIM_TO_DONOR, SIM_TO_CLIENT };

struct sim_donor;
struct sim_conn;

struct sim_net {
	uint64_t delay_min_ns, delay_max_ns;
	uint64_t spike_ppm, spike_ns;  /* now and then a delay of that much more */
	uint64_t flip_ppm;             /* of sends in which a bit turns over */
	uint64_t yield_ppm;            /* of system calls after which others run */
	size_t window;                 /* bytes on their way in one direction at most */
	bool choppy;                   /* short sends and receives */
};
extern struct sim_net sim_net;

void sim_net_open(void);
void sim_net_close(void);
/* A connection begins; the client is told by sim_conn_state(). */
struct sim_conn *sim_conn_connect(struct sim_donor *d);
/* 0: under way; 1: up; or a negative errno. */
int sim_conn_state(const struct sim_conn *c);
/* Bytes taken, 0: no room, or a negative errno. */
long sim_conn_send(struct sim_conn *c, int dir, const struct iovec *iov, size_t n, size_t most);
/* Bytes given, -EAGAIN, 0: the other end closed, or a negative errno. */
long sim_conn_receive(struct sim_conn *c, int dir, const struct iovec *iov, size_t n);
size_t sim_conn_waiting(const struct sim_conn *c, int dir); /* bytes that have arrived */
bool sim_conn_ended(const struct sim_conn *c, int dir);     /* nothing more will come */
size_t sim_conn_room(const struct sim_conn *c, int dir);
void sim_conn_close(struct sim_conn *c, int from); /* by the client: SIM_TO_DONOR */
/* The network loses it: both ends see a reset, if they ever look. */
void sim_conn_reset(struct sim_conn *c);
/* Who is woken when something happens at the client's end. */
void sim_conn_wait(struct sim_conn *c, struct sim_task *t);
/* What is under way to and from a donor waits until it is let through again. */
void sim_net_cut(struct sim_donor *d, bool cut);
/* No connection that the client has is dead without its knowing. */
bool sim_net_sound(void);
/* One of the donor's connections, or NULL. */
struct sim_conn *sim_net_pick(struct sim_donor *d);
/* All of a donor's connections are reset; silent: nobody is told (the machine is gone). */
void sim_net_drop(struct sim_donor *d, bool silent);
void sim_net_kick(struct sim_donor *d); /* serve what waits */

/* --- donor.c --- */

struct sim_serve; /* a connection's session */

enum sim_hurt {
	SIM_HURT_NOT,
	SIM_HURT_CONN,   /* connections were lost or late: some port may have given it up */
	SIM_HURT_MEMORY, /* what it held is gone or spoilt */
};

struct sim_donor_options {
	uint32_t slabs, slab_pages;
	uint64_t service_ns; /* for one piece of work */
};

void sim_donors_open(unsigned n, const struct sim_donor_options *o);
void sim_donors_close(void);
unsigned sim_donors(void);
struct sim_donor *sim_donor(unsigned i);
unsigned sim_donor_index(const struct sim_donor *d);
/* How long the next piece of work takes. */
uint64_t sim_donor_pace(const struct sim_donor *d);
bool sim_donor_up(const struct sim_donor *d);
bool sim_donor_silent(const struct sim_donor *d); /* neither answers nor refuses */
enum sim_hurt sim_donor_hurt(unsigned i);
/* How many were hurt at once at most. */
unsigned sim_donors_hurt_most(void);
/* Those whose memory is as it was left, and whose faults are over, are as good as new: all is rebuilt. */
void sim_donors_heal(void);
/* Which are, in words. */
const char *sim_donors_hurt_text(void);
void sim_donor_hurts(struct sim_donor *d, enum sim_hurt how);
/* The events of its life. */
void sim_donor_start(struct sim_donor *d);
void sim_donor_crash(struct sim_donor *d, bool silent);
void sim_donor_freeze(struct sim_donor *d, bool frozen);
void sim_donor_slow(struct sim_donor *d, uint64_t factor);
void sim_donor_flip(struct sim_donor *d); /* a bit of lent memory */
/* net.c: a session for a new connection, bytes or an end for it, its end. */
struct sim_serve *sim_serve_open(struct sim_donor *d, struct sim_conn *c);
/* True: there is more to do. It may be gone afterwards. */
bool sim_serve(struct sim_serve *s);
void sim_serve_close(struct sim_serve *s, bool hung_up);
/* All is given back; fails the seed if not. */
void sim_donors_check_empty(void);

/* The donor whose code runs now, or NULL. */
struct sim_donor *sim_donor_busy(void);

/* --- memory.c: what client and donors have allocated --- */

/* The fail_at-th allocation of the play is refused; 0: none. */
void sim_memory_open(uint64_t fail_at);
uint64_t sim_memory_asked(void);
int64_t sim_memory_living(void);
bool sim_memory_client_failed(void);
bool sim_memory_donor_failed(const struct sim_donor *d);
void sim_memory_pause(bool yes); /* the simulation's own */
bool sim_memory_map(void);       /* kernel.c: the client's; false: refused */
void sim_memory_unmap(void);

/* --- model.c: what reads may return --- */

struct sim_model;

struct sim_model *sim_model_open(unsigned owner, uint64_t pages);
void sim_model_close(struct sim_model *m);
/* A page is used by one batch at a time. */
bool sim_model_take(struct sim_model *m, uint64_t page);
void sim_model_give(struct sim_model *m, uint64_t page);
/* Contents for a write that begins now; zeros: a page of zeros. */
void sim_model_write(struct sim_model *m, uint64_t page, void *buf, bool zeros);
void sim_model_written(struct sim_model *m, uint64_t page, bool acknowledged);
/* Fails the seed unless buf may be the page's contents. */
void sim_model_read(struct sim_model *m, uint64_t page, const void *buf);
void sim_model_zero(struct sim_model *m, uint64_t page); /* discarded */
/* All pages as they were then. */
void sim_model_save(struct sim_model *m);
void sim_model_restore(struct sim_model *m);

/* --- faults.c --- */

enum sim_faults {
	SIM_CALM,   /* delays and small pieces: no error is right */
	SIM_ROUGH,  /* connections are lost, donors slow or stopped for a while, the network cut */
	SIM_DEADLY, /* and crash, restart empty, bits turn over */
};

/* most: so many donors are hurt at once. heal: once all is rebuilt they don't count any more. */
void sim_faults_open(enum sim_faults kind, uint64_t every_ns, unsigned most, bool heal);
void sim_faults_stop(void);
uint64_t sim_faults_count(void);

/* --- borrower.c: the load --- */

#define SIM_MAX_BORROWERS 2u

struct sim_load {
	uint64_t pages;
	unsigned ports, depth, rounds;
	unsigned replicas, code_data, code_parity; /* a code: replicas is not looked at */
	uint64_t deadline_ns, suspect_ns;
	bool snapshots, seal, maintained, evacuates, spill;
};

struct sim_result {
	uint64_t batches, reads_checked, errors, events, virtual_ns, faults, allocations;
};

void sim_borrowers_open(unsigned n, const struct sim_load *l);
void sim_borrowers_close(void);
/* Every volume has all its members, and knows no donor that is gone. */
bool sim_borrowers_whole(void);
void sim_borrowers_count(struct sim_result *ret);

/* --- scenario.c: from a seed to all of the above --- */

/* fail_at: the allocation that is refused; 0: none. */
void sim_play(uint64_t seed, uint64_t fail_at, bool verbose, struct sim_result *ret);

#endif
