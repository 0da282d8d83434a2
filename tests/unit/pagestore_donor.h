/* SPDX-License-Identifier: MIT */
/*
 * Real donors for the page store's tests: memory servers from the same build, each in a folder of
 * its own, ended with the test.
 */
#ifndef TESTS_UNIT_PAGESTORE_DONOR_H
#define TESTS_UNIT_PAGESTORE_DONOR_H

#include "common/clock.h"
#include "common/error.h"
#include "secure/key.h"
#include <infuse/pagestore.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct test_donor {
	pid_t pid;
	char dir[64], tcp[64], rdma[96], path[96];
	char size[16], slab[16];
};

/* Not empty: donors that are started have this key, and volumes are opened with it. */
static char test_key[96];

static inline void donors_with_key(void)
{
	struct key_set *set = key_set_create();

	snprintf(test_key, sizeof test_key, "/tmp/infuse-test-key.%d", getpid());
	key_generate(&set->key[0], 1);
	set->count = 1;
	cr_assert_eq(key_write(test_key, set), 0, "%s", err_text());
	key_free(set);
}

static inline void donors_without_key(void)
{
	unlink(test_key);
	test_key[0] = 0;
}

/* An address of an RDMA device of this machine, where there is one: tests over RDMA need it. */
static inline const char *test_rdma(void)
{
	return getenv("INFUSE_TEST_RDMA");
}

/* argv gets what RDMA needs; arg holds the words. */
static inline void donor_rdma_args(const struct test_donor *d, char **argv, char arg[3][128])
{
	const char *kind = getenv("INFUSE_TEST_RDMA_KEYS");

	if (!test_rdma())
		return;
	while (*argv)
		argv++;
	if (d->rdma[0])
		snprintf(arg[0], 128, "--listen=%s", d->rdma);
	else
		snprintf(arg[0], 128, "--listen=rdma:%s:0", test_rdma());
	snprintf(arg[1], 128, "--rdma-keys=%s", kind ? kind : "auto");
	strcpy(arg[2], "--insecure");
	for (unsigned i = 0; i < 3; i++)
		argv[i] = arg[i];
}

/*
 * setpriv(1): a failed test leaves no donor behind. Spawned, as fork() of a process with threads
 * hangs in ThreadSanitizer's child now and then.
 */
static inline pid_t donor_exec(char *exe, char **argv)
{
	char *args[24] = {(char[]){"setpriv"}, (char[]){"--pdeathsig=KILL"}, exe};
	unsigned n = 3;
	pid_t pid;

	for (unsigned i = 1; argv[i]; i++) {
		cr_assert_lt(n + 1, sizeof args / sizeof *args);
		args[n++] = argv[i];
	}
	cr_assert_eq(posix_spawnp(&pid, args[0], NULL, NULL, args, environ), 0);
	return pid;
}

/* On the addresses that it has, or on new ones. */
static inline void donor_run(struct test_donor *d)
{
	char key_arg[128], exe[512], ready[96], listen_arg[128], ready_arg[128], size_arg[32], slab_arg[32];
	char tcp_arg[96], rdma_arg[3][128];
	char *argv[] = {exe,
			listen_arg,
			tcp_arg,
			(char[]){"--no-registry"},
			(char[]){"--quiet"},
			(char[]){"--lazy"},
			(char[]){"--grace=2s"},
			ready_arg,
			size_arg,
			slab_arg,
			NULL,
			NULL,
			NULL,
			NULL,
			NULL};
	uint64_t end = clock_ns() + 20 * NSEC_PER_SEC;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 32);
	FILE *f = NULL;

	cr_assert_gt(n, 0);
	exe[n] = 0;
	strcpy(strrchr(exe, '/'), "/infuse-memory-server");
	snprintf(tcp_arg, sizeof tcp_arg, "--listen=%s", d->tcp[0] ? d->tcp : "tcp:127.0.0.1:0");
	snprintf(ready, sizeof ready, "%s/ready", d->dir);
	snprintf(listen_arg, sizeof listen_arg, "--listen=unix:%s", d->path);
	snprintf(ready_arg, sizeof ready_arg, "--ready-file=%s", ready);
	snprintf(size_arg, sizeof size_arg, "--size=%s", d->size);
	snprintf(slab_arg, sizeof slab_arg, "--slab=%s", d->slab);
	snprintf(key_arg, sizeof key_arg, "--key=%s", test_key);
	if (test_key[0])
		argv[10] = key_arg;
	donor_rdma_args(d, argv, rdma_arg);
	unlink(ready);
	d->tcp[0] = 0;
	d->pid = donor_exec(exe, argv);
	while (!d->tcp[0]) {
		char line[128];

		cr_assert_lt(clock_ns(), end, "the donor did not get ready");
		/* The kernel takes its time to close a killed one's sockets. */
		if (waitpid(d->pid, NULL, WNOHANG)) {
			usleep(20000);
			d->pid = donor_exec(exe, argv);
		}
		f = fopen(ready, "r");
		while (f && fgets(line, sizeof line, f))
			if (!strncmp(line, "tcp:", 4))
				snprintf(d->tcp, sizeof d->tcp, "%.*s", (int)strcspn(line, "\n"),
					 line);
			else if (!strncmp(line, "rdma:", 5))
				snprintf(d->rdma, sizeof d->rdma, "%.*s",
					 (int)strcspn(line, "\n"), line);
		if (f)
			fclose(f);
		usleep(2000);
	}
}

/* "--slab=64K" and the like; sizes small, so that borders are met often. */
static inline void donor_start(struct test_donor *d, const char *size, const char *slab)
{
	*d = (struct test_donor){0};
	snprintf(d->size, sizeof d->size, "%s", size);
	snprintf(d->slab, sizeof d->slab, "%s", slab);
	strcpy(d->dir, "/tmp/infuse-test.XXXXXX");
	cr_assert(mkdtemp(d->dir));
	snprintf(d->path, sizeof d->path, "%s/sock", d->dir);
	if (test_key[0] && test_rdma()) {
		static unsigned next;
		unsigned port = 20000 + (unsigned)getpid() % 1000 * 40 + next++ % 40;

		/* Tokens are given by TCP at the address of the RDMA one. */
		snprintf(d->tcp, sizeof d->tcp, "tcp:%s:%u", test_rdma(), port);
		snprintf(d->rdma, sizeof d->rdma, "rdma:%s:%u", test_rdma(), port);
	}
	donor_run(d);
}

static inline void donor_kill(struct test_donor *d)
{
	if (d->pid <= 0)
		return;
	kill(d->pid, SIGKILL);
	waitpid(d->pid, NULL, 0);
	d->pid = 0;
}

/* Stopped when it returns: a thread that spins may answer until it is. */
static inline void donor_freeze(struct test_donor *d)
{
	kill(d->pid, SIGSTOP);
	cr_assert_eq(waitpid(d->pid, NULL, WUNTRACED), d->pid);
}

static inline void donor_stop(struct test_donor *d)
{
	char name[128];

	donor_kill(d);
	snprintf(name, sizeof name, "%s/ready", d->dir);
	unlink(name);
	unlink(d->path);
	rmdir(d->dir);
}

/* "tcp", or filters and one: "delay,us=9:shm". */
static inline const char *donor_address(const struct test_donor *d, const char *way, char buf[160])
{
	const char *last = strrchr(way, ':') ? strrchr(way, ':') + 1 : way;

	if (!strcmp(last, "tcp"))
		cr_assert_lt(snprintf(buf, 160, "%.*s%s", (int)(last - way), way, d->tcp), 160);
	else if (!strcmp(last, "rdma"))
		cr_assert_lt(snprintf(buf, 160, "%.*s%s", (int)(last - way), way, d->rdma), 160);
	else
		cr_assert_lt(snprintf(buf, 160, "%s:%s", way, d->path), 160);
	return buf;
}

#define TEST_MAX_DONORS 4

static inline int try_open(const struct test_donor *d, unsigned donors, const char *way,
			   uint64_t pages, unsigned ports, uint64_t deadline_ms,
			   struct ps_volume **ret)
{
	char text[TEST_MAX_DONORS][160];
	const char *address[TEST_MAX_DONORS];
	struct ps_options o = {.name = "test",
			       .pages = pages,
			       .donors = address,
			       .donors_count = donors,
			       .ports = ports,
			       .deadline_ns = deadline_ms * NSEC_PER_MSEC};

	if (test_key[0])
		o.key_file = test_key;
	/* "seal:tcp": not a filter, an option */
	if (!strncmp(way, "seal:", 5)) {
		o.seal = true;
		way += 5;
	}
	for (unsigned i = 0; i < donors; i++)
		address[i] = donor_address(&d[i], way, text[i]);
	return ps_open(&o, ret);
}

static inline struct ps_volume *open_volume(const struct test_donor *d, unsigned donors,
					    const char *way, uint64_t pages, unsigned ports,
					    uint64_t deadline_ms)
{
	struct ps_volume *v = NULL;

	cr_assert_eq(try_open(d, donors, way, pages, ports, deadline_ms, &v), 0, "%s: %s", way,
		     err_text());
	return v;
}

/* Until the port gives a batch back. Fails the test when that takes longer than it may. */
static inline struct ps_batch *wait_done(struct ps_port *p, uint64_t limit_ns)
{
	uint64_t end = clock_ns() + limit_ns;
	struct ps_batch *b;

	while (!ps_poll(p, clock_ns(), &b, 1)) {
		cr_assert_lt(clock_ns(), end, "a batch did not end in time");
		ps_wait(p, 50 * NSEC_PER_MSEC);
	}
	return b;
}

/* One run of pages, in and out. */
static inline int transfer(struct ps_port *p, enum ps_kind kind, uint64_t page, uint32_t count,
			   void *buf, struct ps_batch *b)
{
	struct ps_vec v = {.page = page, .count = count, .buf = buf};

	*b = (struct ps_batch){.kind = kind, .vecs = 1, .vec = &v};
	cr_assert_eq(ps_submit(p, b, clock_ns()), 0);
	cr_assert_eq(wait_done(p, 20 * NSEC_PER_SEC), b);
	return b->status;
}

/* A page's contents for a number; 0: zeros. */
static inline void fill_page(void *page, uint64_t what)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		((uint64_t *)page)[i] = what ? what * 0x9e3779b97f4a7c15ull + i : 0;
}

static inline bool page_is(const void *page, uint64_t what)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		if (((const uint64_t *)page)[i] != (what ? what * 0x9e3779b97f4a7c15ull + i : 0))
			return false;
	return true;
}

#endif
