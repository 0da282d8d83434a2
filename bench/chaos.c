/* SPDX-License-Identifier: MIT */
/*
 * Plays a plan: a fault, its end, all pages written and read by both clients, and then the wait until
 * heap and volume are whole again; so never more is broken at once than the redundancy allows, and
 * every error and every wrong byte is one too many. What is left behind when we end by a signal: nothing.
 */
#include "bench/chaos.h"
#include "common/clock.h"
#include "common/error.h"
#include "secure/key.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAP_NS      (20 * NSEC_PER_MSEC)
#define WHOLE_NS    (120 * NSEC_PER_SEC) /* for all to be whole again, on a busy machine */
#define CALM        10u                  /* looks in a row that found it whole */
#define HUNG_NS     (60 * NSEC_PER_SEC)  /* no page may take so long */
#define REGISTER_NS (60 * NSEC_PER_SEC)
#define PLAN_A_MINUTE 12u

struct run {
	const struct bench_options *o;
	struct chaos_net *net;
	const char *no_net;
	struct chaos_disk disk;
	struct chaos_donors donors;
	struct chaos_setup setup;
	struct chaos_client *client; /* [2]: heap, nbd */
	char key_file[300], net_text[200];
	uint64_t begun_ns, sweeps;
	struct chaos_sum sum;
};

static volatile sig_atomic_t ending;

static void on_signal(int sig)
{
	ending = sig;
}

bool chaos_ending(void)
{
	return ending;
}

static void pass(uint64_t ns)
{
	uint64_t end = clock_ns() + ns, now;

	while (!ending && (now = clock_ns()) < end) {
		uint64_t left = end - now < NAP_NS ? end - now : NAP_NS;
		const struct timespec t = {.tv_nsec = (long)left};

		nanosleep(&t, NULL);
	}
}

/* --- faults --- */

static const char *why_not(const struct run *r, enum chaos_kind kind)
{
	bool net = kind == CHAOS_CUT || kind == CHAOS_FLAP || kind == CHAOS_DELAY ||
		   kind == CHAOS_LOSS || kind == CHAOS_STILL;

	if (net && !r->net)
		return r->no_net;
	if ((kind == CHAOS_DISK || kind == CHAOS_DISK_KILL) && !r->disk.small)
		return "no file system of our own may be mounted";
	return NULL;
}

static int kill_for(struct run *r, unsigned donor, uint64_t ns)
{
	chaos_donor_kill(&r->donors, donor);
	pass(ns);
	return chaos_donor_start(&r->donors, donor);
}

static int fill_disk(struct run *r, const struct chaos_fault *f)
{
	int e = chaos_disk_fill(&r->disk);

	if (!e && f->kind == CHAOS_DISK_KILL)
		e = kill_for(r, f->donor, f->length_ns / 4);
	pass(f->length_ns);
	chaos_disk_free(&r->disk);
	return e;
}

static void signal_borrowers(const struct run *r, int sig)
{
	kill(r->setup.heap_pid, sig);
	if (r->setup.nbdkit_pid > 0)
		kill(r->setup.nbdkit_pid, sig);
}

static void cut_all(struct run *r, bool cut)
{
	for (unsigned i = 0; i < r->donors.count; i++)
		atomic_store(&chaos_net_wire(r->net, i)->cut, cut);
}

static int inflict(struct run *r, const struct chaos_fault *f)
{
	struct chaos_wire *w = r->net ? chaos_net_wire(r->net, f->donor) : NULL;

	switch (f->kind) {
	case CHAOS_KILL:
		return kill_for(r, f->donor, f->length_ns);
	case CHAOS_STOP:
		kill(r->donors.pid[f->donor], SIGSTOP);
		pass(f->length_ns);
		kill(r->donors.pid[f->donor], SIGCONT);
		return 0;
	case CHAOS_PAUSE:
		signal_borrowers(r, SIGSTOP);
		pass(f->length_ns);
		signal_borrowers(r, SIGCONT);
		return 0;
	case CHAOS_STILL:
		cut_all(r, true);
		pass(f->length_ns);
		cut_all(r, false);
		return 0;
	case CHAOS_CUT:
	case CHAOS_FLAP:
		for (unsigned i = 0; i < f->times; i++) {
			atomic_store(&w->cut, true);
			pass(f->length_ns);
			atomic_store(&w->cut, false);
			if (i + 1 < f->times)
				pass(f->length_ns);
		}
		return 0;
	case CHAOS_DELAY:
	case CHAOS_LOSS:
		atomic_store(f->kind == CHAOS_DELAY ? &w->delay_us : &w->loss_ppm, f->amount);
		pass(f->length_ns);
		atomic_store(f->kind == CHAOS_DELAY ? &w->delay_us : &w->loss_ppm, 0);
		return 0;
	default:
		return fill_disk(r, f);
	}
}

/* --- is all well? --- */

/* No client, donor or nbdkit has ended, nothing was wrong, no page waits for ever. */
static int look_at(const struct run *r, const struct chaos_client *c, int pid, const char *name)
{
	uint64_t now = clock_ns();
	siginfo_t info = {0};

	if (atomic_load(&c->mismatches) || atomic_load(&c->errors))
		return err_fail(-EIO, "%s: %s", name, c->error);
	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid)
		return err_fail(-ECHILD, "%s has ended by itself, with %s %d", name,
				info.si_code == CLD_EXITED ? "status" : "signal", info.si_status);
	for (unsigned i = 0; i < CHAOS_THREADS; i++) {
		uint64_t began = atomic_load(&c->began_ns[i]);

		if (began && now > began + HUNG_NS)
			return err_fail(-ETIMEDOUT, "%s waits for a page for %llu s", name,
					(unsigned long long)((now - began) / NSEC_PER_SEC));
	}
	(void)r;
	return 0;
}

static int look(struct run *r)
{
	struct chaos_setup *s = &r->setup;
	int e = look_at(r, s->heap, s->heap_pid, "the heap");

	if (!e && !s->nbd_skipped)
		e = look_at(r, s->nbd, s->nbd_pid, "the NBD client");
	if (!e && !s->nbd_skipped && waitpid(s->nbdkit_pid, NULL, WNOHANG) == s->nbdkit_pid) {
		child_gone(s->nbdkit_pid);
		s->nbdkit_pid = 0;
		e = err_fail(-ECHILD, "nbdkit has ended by itself");
	}
	for (unsigned i = 0; i < r->donors.count && !e; i++)
		e = chaos_donor_alive(&r->donors, i);
	chaos_nbd_look(s);
	return e;
}

static bool swept(const struct run *r, const struct chaos_client *c)
{
	return atomic_load(&c->sweeps_done) >= r->sweeps * CHAOS_THREADS;
}

/* Both clients write and read all they have, so that whoever lost something is noticed; then until all
 * is whole, and stays so. */
static int wait_whole(struct run *r)
{
	const struct chaos_setup *s = &r->setup;
	uint64_t end = clock_ns() + WHOLE_NS;
	unsigned calm = 0;
	int e = 0;

	r->sweeps++;
	for (unsigned i = 0; i < 2; i++)
		atomic_store(&r->client[i].sweep_wanted, r->sweeps);
	while (!e && !ending && calm < CALM) {
		bool done = swept(r, s->heap) && (s->nbd_skipped || swept(r, s->nbd));

		pass(NAP_NS);
		e = look(r);
		calm = done && !atomic_load(&s->heap->degraded) && !atomic_load(&s->nbd->degraded)
			       ? calm + 1
			       : 0;
		if (!e && clock_ns() > end)
			e = err_fail(-ETIMEDOUT, "not whole after %llu s: %llu slabs of the heap%s%s",
				     (unsigned long long)(WHOLE_NS / NSEC_PER_SEC),
				     (unsigned long long)atomic_load(&s->heap->degraded),
				     atomic_load(&s->nbd->degraded) ? ", the volume" : "",
				     done ? "" : ", and not all pages were written");
	}
	return e;
}

/* --- a fault and what came of it --- */

static uint64_t stall(const struct chaos_client *c)
{
	uint64_t longest = atomic_load(&c->longest_ns), now = clock_ns();

	for (unsigned i = 0; i < CHAOS_THREADS; i++) {
		uint64_t began = atomic_load(&c->began_ns[i]);

		if (began && now > began && now - began > longest)
			longest = now - began;
	}
	return longest;
}

static void account(struct run *r, struct chaos_outcome *out)
{
	struct chaos_sum *s = &r->sum;
	const struct chaos_client *heap = &r->client[0], *nbd = &r->client[1];

	out->heap_stall_ns = stall(heap);
	out->nbd_stall_ns = stall(nbd);
	out->heap_checks = atomic_load(&heap->checks) - s->heap_checks;
	out->nbd_checks = atomic_load(&nbd->checks) - s->nbd_checks;
	out->errors = atomic_load(&heap->errors) + atomic_load(&nbd->errors);
	out->mismatches = atomic_load(&heap->mismatches) + atomic_load(&nbd->mismatches);
	s->heap_checks += out->heap_checks;
	s->nbd_checks += out->nbd_checks;
	s->errors = out->errors;
	s->mismatches = out->mismatches;
	s->heap_stall_ns = out->heap_stall_ns > s->heap_stall_ns ? out->heap_stall_ns : s->heap_stall_ns;
	s->nbd_stall_ns = out->nbd_stall_ns > s->nbd_stall_ns ? out->nbd_stall_ns : s->nbd_stall_ns;
}

static int play(struct run *r, unsigned number, const struct chaos_fault *f)
{
	struct chaos_outcome out = {.fault = *f, .number = number};
	uint64_t over;
	int e;

	out.skipped = why_not(r, f->kind);
	out.at_ns = clock_ns() - r->begun_ns;
	if (out.skipped) {
		r->sum.skipped++;
		chaos_report_fault(r->o->json, &out);
		return 0;
	}
	pass(f->pause_ns);
	for (unsigned i = 0; i < 2; i++)
		atomic_store(&r->client[i].longest_ns, 0);
	out.at_ns = clock_ns() - r->begun_ns;
	e = inflict(r, f);
	over = clock_ns();
	if (!e)
		e = wait_whole(r);
	out.whole_ns = clock_ns() - over;
	if (!e && (f->kind == CHAOS_DISK || f->kind == CHAOS_DISK_KILL))
		e = chaos_donors_registered(&r->donors, REGISTER_NS);
	account(r, &out);
	r->sum.played++;
	r->sum.kinds[f->kind]++;
	chaos_report_fault(r->o->json, &out);
	return e;
}

static int play_all(struct run *r)
{
	uint64_t state = r->o->seed, end = r->begun_ns + r->o->minutes * 60 * NSEC_PER_SEC;
	struct chaos_fault f;
	int e = 0;

	for (unsigned n = 1; !e && !ending && clock_ns() < end; n++) {
		if (r->o->faults && n > r->o->faults)
			break;
		chaos_plan_next(&state, r->donors.count, &f);
		e = play(r, n, &f);
	}
	return e;
}

/* --- begin and end --- */

static int make_key(struct run *r)
{
	struct key_set *set = key_set_create();
	const char *dir;
	int e = set ? child_folder(&dir) : err_fail(-ENOMEM, "no memory for keys");

	if (!e) {
		snprintf(r->key_file, sizeof r->key_file, "%s/key", dir);
		key_generate(&set->key[0], (uint64_t)time(NULL));
		set->count = 1;
		e = key_write(r->key_file, set);
		r->donors.key_file = r->key_file;
	}
	key_free(set);
	return e;
}

static int set_up(struct run *r)
{
	unsigned donors = r->o->donors > 1 ? (unsigned)r->o->donors : CHAOS_DONORS;
	int e;

	if (donors < 4)
		return err_fail(-EINVAL, "chaos wants 4 donors at least, so that one may be lost");
	r->client = mmap(NULL, 2 * sizeof *r->client, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r->client == MAP_FAILED)
		return err_fail(-errno, "no memory");
	e = chaos_disk_open(&r->disk);
	e = e ? e : chaos_net_open(donors, r->o->seed, &r->net);
	if (!e && !r->net) {
		snprintf(r->net_text, sizeof r->net_text, "%s", err_text());
		r->no_net = r->net_text;
	}
	r->donors.net = r->net;
	r->donors.disk = &r->disk;
	if (!e && !strcmp(r->o->transport, "tls"))
		e = make_key(r);
	for (unsigned i = 0; i < donors && !e; i++) {
		r->donors.count = i + 1;
		e = chaos_donor_start(&r->donors, i);
	}
	r->setup = (struct chaos_setup){.donors = &r->donors,
					.seed = r->o->seed,
					.heap = &r->client[0],
					.nbd = &r->client[1]};
	e = e ? e : chaos_heap_start(&r->setup);
	e = e ? e : chaos_nbd_start(&r->setup);
	if (!e && r->setup.nbd_skipped)
		fprintf(stderr, "no NBD client: %s\n", r->setup.nbd_skipped);
	return e ? e : wait_whole(r);
}

/* They close what they have, if they can. */
static int end_client(struct chaos_client *c, int pid, const char *name)
{
	uint64_t end = clock_ns() + HUNG_NS;
	int status;

	if (pid <= 0)
		return 0;
	atomic_store(&c->stop, true);
	while (!waitpid(pid, &status, WNOHANG)) {
		const struct timespec t = {.tv_nsec = (long)NAP_NS};

		if (clock_ns() > end) {
			child_stop(pid);
			return err_fail(-ETIMEDOUT, "%s does not end", name);
		}
		nanosleep(&t, NULL);
	}
	return status ? err_fail(-ECHILD, "%s ended with status %#x: %s", name, (unsigned)status, c->error)
		      : 0;
}

static int tear_down(struct run *r)
{
	int a = end_client(r->setup.heap, r->setup.heap_pid, "the heap");
	int b = end_client(r->setup.nbd, r->setup.nbd_pid, "the NBD client");

	child_stop(r->setup.nbdkit_pid);
	chaos_donors_stop(&r->donors);
	chaos_net_close(r->net);
	chaos_disk_close(&r->disk);
	if (r->client && r->client != MAP_FAILED)
		munmap(r->client, 2 * sizeof *r->client);
	return a ? a : b;
}

static void show_plan(const struct bench_options *o)
{
	unsigned donors = o->donors > 1 ? (unsigned)o->donors : CHAOS_DONORS;
	unsigned n = o->faults ? (unsigned)o->faults : (unsigned)o->minutes * PLAN_A_MINUTE;
	uint64_t state = o->seed;
	struct chaos_fault f;

	for (unsigned i = 1; i <= n; i++) {
		chaos_plan_next(&state, donors, &f);
		chaos_report_plan(o->json, i, &f);
	}
}

int chaos_run(const struct bench_options *o)
{
	struct run r = {.o = o, .sum.seed = o->seed};
	const struct sigaction sa = {.sa_handler = on_signal};
	char text[500] = "";
	int e, end;

	if (o->plan) {
		show_plan(o);
		return 0;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	r.begun_ns = clock_ns();
	e = set_up(&r);
	if (!e && !ending) {
		r.begun_ns = clock_ns();
		e = play_all(&r);
	}
	if (e)
		snprintf(text, sizeof text, "%s", err_text());
	end = tear_down(&r);
	if (!e && end) {
		e = end;
		snprintf(text, sizeof text, "%s", err_text());
	}
	r.sum.ns = clock_ns() - r.begun_ns;
	r.sum.stopped = e ? text : ending ? "a signal" : NULL;
	chaos_report_sum(o->json, &r.sum);
	return e ? err_fail(e, "seed %llu: %s", (unsigned long long)o->seed, text) : 0;
}
