/* SPDX-License-Identifier: MIT */
/* One behaviour of libinject a run: inject-check CASE MODE DONOR... Every page is checked. */
#include <infuse/inject.h>

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 4096u
#define LOCAL (512u << 12)
#define WORDS 512u

static const char *const *donors;
static unsigned donors_count;
static enum inject_mode mode;

static struct inject_heap *heap_open_named(const char *name)
{
	struct inject_heap *h;

	if (inject_open(&(struct inject_options){.size = sizeof(struct inject_options),
						 .name = name,
						 .donors = donors,
						 .donors_count = donors_count,
						 .heap_bytes = 1 << 30,
						 .local_bytes = LOCAL,
						 .mode = mode},
			&h))
		errx(1, "inject_open: %s", inject_error());
	return h;
}

static uint64_t *alloc(struct inject_heap *h, size_t pages)
{
	void *p;

	if (inject_alloc(h, pages * INJECT_PAGE_SIZE, &p))
		errx(1, "inject_alloc: %s", inject_error());
	return p;
}

static uint64_t value(uint64_t salt, size_t page, size_t word)
{
	return (salt + 1) * 0x9e3779b97f4a7c15ull ^ page << 20 ^ word;
}

static void fill(uint64_t *a, size_t pages, uint64_t salt)
{
	for (size_t p = 0; p < pages; p++)
		for (size_t w = 0; w < WORDS; w++)
			a[p * WORDS + w] = value(salt, p, w);
}

static void check(const char *who, const uint64_t *a, size_t pages, uint64_t salt)
{
	for (size_t p = 0; p < pages; p++)
		for (size_t w = 0; w < WORDS; w++)
			if (a[p * WORDS + w] != value(salt, p, w))
				errx(1, "%s: page %zu word %zu: %#llx instead of %#llx", who, p, w,
				     (unsigned long long)a[p * WORDS + w],
				     (unsigned long long)value(salt, p, w));
}

static void child_ends_well(pid_t child, const char *who)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		err(1, "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		errx(1, "%s ended with status %#x", who, status);
}

/* Parent, child and grandchild each see the moment of their fork, whatever the others write. */
static void case_fork(void)
{
	struct inject_heap *h = heap_open_named("fork");
	uint64_t *a = alloc(h, PAGES);

	fill(a, PAGES, 1);
	for (int round = 0; round < 3; round++) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (!child) {
			pid_t grandchild;

			fill(a, PAGES / 2, 100);
			check("child", a + PAGES / 2 * WORDS, 0, 0);
			grandchild = fork();
			if (!grandchild) {
				check("grandchild", a, PAGES / 2, 100);
				for (size_t p = PAGES / 2; p < PAGES; p++)
					for (size_t w = 0; w < WORDS; w++)
						if (a[p * WORDS + w] != value(1 + (uint64_t)round, p, w))
							errx(1, "grandchild: page %zu", p);
				fill(a, PAGES, 200);
				check("grandchild's own", a, PAGES, 200);
				_exit(0);
			}
			fill(a, PAGES, 101);
			child_ends_well(grandchild, "grandchild");
			check("child's own", a, PAGES, 101);
			_exit(0);
		}
		fill(a, PAGES, 2 + (uint64_t)round);
		child_ends_well(child, "child");
		check("parent", a, PAGES, 2 + (uint64_t)round);
	}
	inject_close(h);
}

/* A child that no fork hook knows of dies at its first touch, it never reads zeros. */
static void case_clone(void)
{
	struct inject_heap *h = heap_open_named("clone");
	volatile uint64_t *a = alloc(h, PAGES);
	int status;
	pid_t child;

	fill((uint64_t *)(uintptr_t)a, PAGES, 1);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		_exit(a[0] == value(1, 0, 0) ? 10 : 11);
	}
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
		errx(1, "the child ended with status %#x, not by SIGSEGV", status);
	check("parent", (uint64_t *)(uintptr_t)a, PAGES, 1);
	inject_close(h);
}

/* The donors have no room for a snapshot: the child is told, and dies if it touches the heap. */
static void case_fork_full(void)
{
	struct inject_heap *h = heap_open_named("full");
	volatile uint64_t *a = alloc(h, PAGES);
	int status;
	pid_t child;

	fill((uint64_t *)(uintptr_t)a, PAGES, 1);
	child = fork();
	if (!child) {
		void *p;

		if (inject_alloc(h, 4096, &p) != -ENODEV || inject_pin(h, (void *)(uintptr_t)a, 1) != -ENODEV)
			_exit(12);
		signal(SIGSEGV, SIG_DFL);
		_exit(a[0] == value(1, 0, 0) ? 10 : 11);
	}
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
		errx(1, "the child ended with status %#x, not by SIGSEGV", status);
	check("parent", (uint64_t *)(uintptr_t)a, PAGES, 1);
	inject_close(h);
}

/* read(2) and write(2) work on pages that are not local: in handler mode always, else if pinned. */
static void case_syscalls(void)
{
	struct inject_heap *h = heap_open_named("syscalls");
	uint64_t *a = alloc(h, PAGES);
	int fd[2];

	if (pipe(fd))
		err(1, "pipe");
	fill(a, PAGES, 1);
	for (size_t p = 0; p + 8 <= PAGES; p += 8) {
		uint64_t *from = a + p * WORDS, *to = a + (PAGES - 8 - p) * WORDS;

		if (mode == INJECT_MODE_SIGBUS &&
		    (inject_pin(h, from, 8 * 4096) || inject_pin(h, to, 8 * 4096)))
			errx(1, "inject_pin: %s", inject_error());
		if (write(fd[1], from, 8 * 4096) != 8 * 4096 || read(fd[0], to, 8 * 4096) != 8 * 4096)
			err(1, "page %zu", p);
		if (memcmp(from, to, 8 * 4096))
			errx(1, "page %zu came out differently", p);
		if (mode == INJECT_MODE_SIGBUS &&
		    (inject_unpin(h, from, 8 * 4096) || inject_unpin(h, to, 8 * 4096)))
			errx(1, "inject_unpin: %s", inject_error());
	}
	inject_close(h);
}

/* A handler counts a fault when its thread may already be running on. */
static void stats_settled(struct inject_heap *h, struct inject_stats *st)
{
	struct inject_stats next;

	inject_stats(h, &next);
	do {
		*st = next;
		usleep(20000);
		inject_stats(h, &next);
	} while (next.faults != st->faults);
}

static void case_pins(void)
{
	struct inject_heap *h = heap_open_named("pins");
	uint64_t *a = alloc(h, PAGES);
	struct inject_stats before, after;

	fill(a, PAGES, 1);
	if (inject_pin(h, a, LOCAL) != -ENOSPC || !strstr(inject_error(), "three quarters"))
		errx(1, "pinning all of the cache: %s", inject_error());
	if (inject_pin(h, a, LOCAL / 2) || inject_pin(h, a, 4096))
		errx(1, "inject_pin: %s", inject_error());
	check("while pinned", a, PAGES, 1);
	stats_settled(h, &before);
	check("pinned", a, LOCAL / 8192, 1);
	stats_settled(h, &after);
	if (after.faults != before.faults || after.pinned_bytes != LOCAL / 2)
		errx(1, "pinned pages faulted %llu times; %llu bytes are pinned",
		     (unsigned long long)(after.faults - before.faults),
		     (unsigned long long)after.pinned_bytes);
	inject_unpin(h, a, LOCAL / 2);
	inject_unpin(h, a, 4096);
	inject_stats(h, &after);
	if (after.pinned_bytes)
		errx(1, "still pinned: %llu", (unsigned long long)after.pinned_bytes);
	inject_close(h);
}

/* Two heaps at once, advice, alloc errors, re-use of freed ranges. */
static void case_heaps(void)
{
	struct inject_heap *h = heap_open_named("one"), *g = heap_open_named("two");
	uint64_t *a = alloc(h, PAGES), *b = alloc(g, PAGES), *c;
	const void *scattered[200];
	void *p;

	fill(a, PAGES, 1);
	fill(b, PAGES, 2);
	if (inject_advise(h, a, PAGES * 4096, INJECT_RANDOM) ||
	    inject_advise(g, b, PAGES * 4096, INJECT_SEQUENTIAL) ||
	    inject_advise(g, b, 64 * 4096, INJECT_WILLNEED))
		errx(1, "inject_advise: %s", inject_error());
	for (size_t i = 0; i < 200; i++)
		scattered[i] = b + (i * 37 + 5) % PAGES * WORDS;
	if (inject_prefetch(g, scattered, 200) || inject_prefetch(g, scattered, 0))
		errx(1, "inject_prefetch: %s", inject_error());
	scattered[199] = a;
	if (inject_prefetch(g, scattered, 200) != -EINVAL)
		errx(1, "a stranger's page was fetched ahead");
	check("one", a, PAGES, 1);
	check("two", b, PAGES, 2);
	if (inject_free(h, b) != -EINVAL || inject_free(h, a + 8) != -EINVAL)
		errx(1, "a stranger's pointer was freed");
	if (inject_alloc(h, 2ull << 30, &p) != -ENOMEM)
		errx(1, "more than the heap was allocated");
	if (inject_free(h, a))
		errx(1, "inject_free: %s", inject_error());
	if (inject_free(h, a) != -EINVAL)
		errx(1, "freed twice");
	c = alloc(h, PAGES);
	for (size_t i = 0; i < PAGES * WORDS; i++)
		if (c[i])
			errx(1, "freed memory came back with its bytes, word %zu", i);
	fill(c, PAGES, 3);
	if (inject_discard(h, c, PAGES / 2 * 4096))
		errx(1, "inject_discard: %s", inject_error());
	for (size_t i = 0; i < PAGES / 2 * WORDS; i++)
		if (c[i])
			errx(1, "discarded memory kept its bytes, word %zu", i);
	check("two again", b, PAGES, 2);
	inject_close(h);
	inject_close(g);
}

/* To the n-th CPU of those that were allowed at first, round and round. */
static void go_to_cpu(unsigned n)
{
	static cpu_set_t all;
	cpu_set_t one;

	if (!CPU_COUNT(&all) && sched_getaffinity(0, sizeof all, &all))
		err(1, "sched_getaffinity");
	n %= (unsigned)CPU_COUNT(&all);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all) && !n--) {
			CPU_ZERO(&one);
			CPU_SET(i, &one);
			if (sched_setaffinity(0, sizeof one, &one))
				err(1, "sched_setaffinity");
			return;
		}
}

static void *check_moving(void *arg)
{
	for (unsigned i = 0; i < 4; i++) {
		go_to_cpu(i + 1);
		check("moving", arg, PAGES / 2, 7);
	}
	return NULL;
}

/* Whoever serves faults finds a thread that goes from CPU to CPU, and a second one. */
static void case_moves(void)
{
	struct inject_heap *h = heap_open_named("moves");
	uint64_t *a = alloc(h, PAGES / 2);
	pthread_t other;

	go_to_cpu(1);
	fill(a, PAGES / 2, 7);
	check_moving(a);
	if (pthread_create(&other, NULL, check_moving, a))
		errx(1, "no thread");
	check_moving(a);
	pthread_join(other, NULL);
	inject_close(h);
}

/* Waits on standard input after filling; the test kills a donor and says go. */
static sigjmp_buf lost;
static volatile int failures;

static void on_failed(const struct inject_failure *f, void *arg)
{
	(void)arg;
	failures++;
	if (write(1, f->text, strlen(f->text)) < 0 || write(1, "\n", 1) < 0)
		_exit(3);
	if (mode == INJECT_MODE_SIGBUS && f->address)
		siglongjmp(lost, 1);
}

static void case_lost(bool callback)
{
	struct inject_heap *h;
	struct inject_options o = {.size = sizeof o, .name = "lost", .donors = donors,
				   .donors_count = donors_count, .heap_bytes = 1 << 30,
				   .local_bytes = LOCAL, .mode = mode};
	volatile uint64_t *a;
	char line[16];

	if (callback)
		o.failed = on_failed;
	if (inject_open(&o, &h))
		errx(1, "inject_open: %s", inject_error());
	a = alloc(h, PAGES);
	fill((uint64_t *)(uintptr_t)a, PAGES, 1);
	printf("filled\n");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		errx(1, "nobody said go");
	if (callback) {
		if (inject_pin(h, (void *)(uintptr_t)a, 64 * 4096) >= 0)
			errx(1, "a page of a dead donor was pinned");
		printf("pin: %s\n", inject_error());
		if (!sigsetjmp(lost, 1)) {
			check("lost", (uint64_t *)(uintptr_t)a, PAGES, 1);
			errx(1, "all pages were there");
		}
		printf("escaped after %d\n", failures);
		fflush(stdout);
		_exit(0);
	}
	check("lost", (uint64_t *)(uintptr_t)a, PAGES, 1);
	errx(1, "all pages were there");
}

static void case_full(void)
{
	struct inject_heap *h = heap_open_named("big");
	void *p;

	if (inject_alloc(h, 900 << 20, &p) != -ENOSPC)
		errx(1, "900 MiB were to be had");
	printf("%s\n", inject_error());
	fill(alloc(h, 1024), 1024, 1); /* what is there can still be had */
	inject_close(h);
}

/* Touching freed memory is a SIGSEGV at that address, as anywhere else. */
static void *volatile wrong;

static void on_segv(int s, siginfo_t *i, void *c)
{
	(void)s;
	(void)c;
	_exit(i->si_addr == wrong ? 0 : 4);
}

static void case_use_after_free(void)
{
	struct sigaction act = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	struct inject_heap *h = heap_open_named("freed");
	volatile uint64_t *a = alloc(h, PAGES);

	a[0] = 1;
	if (inject_free(h, (void *)(uintptr_t)a))
		errx(1, "inject_free: %s", inject_error());
	sigaction(SIGSEGV, &act, NULL);
	wrong = (void *)(uintptr_t)(a + 1024);
	_exit(a[1024] ? 5 : 6);
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";

	if (argc < 4)
		errx(2, "usage: inject-check CASE sigbus|handler DONOR...");
	mode = argv[2][0] == 's' ? INJECT_MODE_SIGBUS : INJECT_MODE_HANDLER;
	donors = (const char *const *)argv + 3;
	donors_count = (unsigned)argc - 3;
	if (!strcmp(what, "fork"))
		case_fork();
	else if (!strcmp(what, "fork-full"))
		case_fork_full();
	else if (!strcmp(what, "clone"))
		case_clone();
	else if (!strcmp(what, "syscalls"))
		case_syscalls();
	else if (!strcmp(what, "pins"))
		case_pins();
	else if (!strcmp(what, "heaps"))
		case_heaps();
	else if (!strcmp(what, "moves"))
		case_moves();
	else if (!strcmp(what, "lost"))
		case_lost(false);
	else if (!strcmp(what, "lost-callback"))
		case_lost(true);
	else if (!strcmp(what, "full"))
		case_full();
	else if (!strcmp(what, "use-after-free"))
		case_use_after_free();
	else
		errx(2, "no case '%s'", what);
	printf("ok %s\n", what);
	return 0;
}
