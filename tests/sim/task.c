/* SPDX-License-Identifier: MIT */
/*
 * The simulation's threads: contexts with stacks of their own, of which one runs at a time, until
 * it sleeps. A blocking call of the client sleeps here, and the world goes on meanwhile.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define MAX_TASKS   16
#define STACK_BYTES (256u * 1024)
#define MOST_LOOKS  2000000u

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS 1
#endif
#endif
#ifdef FIBERS
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size)  ((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

struct sim_task {
	const char *name;
	void (*fn)(void *);
	void *arg;
	ucontext_t context;
	void *stack;
	void *shadow; /* the sanitizer's */
	uint64_t sleeps; /* each sleep has a number; a wake-up is for one of them */
	bool used, asleep;
};

static struct sim_task task[MAX_TASKS], *running;
static ucontext_t loop;
static void *loop_shadow;
static const void *loop_stack;
static size_t loop_bytes;
static unsigned left, looks;

void sim_tasks_open(void)
{
	for (unsigned i = 0; i < MAX_TASKS; i++) {
		if (task[i].stack)
			continue;
		task[i].stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (task[i].stack == MAP_FAILED)
			abort();
	}
	left = 0;
	running = NULL;
}

void sim_tasks_close(void)
{
	for (unsigned i = 0; i < MAX_TASKS; i++) {
		if (task[i].stack)
			munmap(task[i].stack, STACK_BYTES);
		memset(&task[i], 0, sizeof task[i]);
	}
}

static void begin(void)
{
	struct sim_task *t = running;

	__sanitizer_finish_switch_fiber(NULL, &loop_stack, &loop_bytes);
	t->fn(t->arg);
	t->used = false;
	left--;
	running = NULL;
	__sanitizer_start_switch_fiber(NULL, loop_stack, loop_bytes);
	setcontext(&loop);
}

static void resume(void *arg, uint64_t sleep)
{
	struct sim_task *t = arg;

	if (!t->used || !t->asleep || t->sleeps != sleep)
		return;
	t->asleep = false;
	running = t;
	looks = 0;
	__sanitizer_start_switch_fiber(&loop_shadow, t->stack, STACK_BYTES);
	swapcontext(&loop, &t->context);
	__sanitizer_finish_switch_fiber(loop_shadow, NULL, NULL);
	running = NULL;
}

struct sim_task *sim_task_start(const char *name, void (*fn)(void *), void *arg)
{
	struct sim_task *t = task;

	while (t < task + MAX_TASKS && t->used)
		t++;
	sim_must(t < task + MAX_TASKS);
	t->name = name;
	t->fn = fn;
	t->arg = arg;
	t->used = t->asleep = true;
	getcontext(&t->context);
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = STACK_BYTES;
	t->context.uc_link = NULL;
	makecontext(&t->context, begin, 0);
	left++;
	sim_at(sim_now(), resume, t, ++t->sleeps);
	return t;
}

struct sim_task *sim_task_self(void)
{
	return running;
}

unsigned sim_tasks_left(void)
{
	return left;
}

void sim_task_sleep(uint64_t until_ns)
{
	struct sim_task *t = running;

	sim_must(t);
	t->asleep = true;
	t->sleeps++;
	if (until_ns != UINT64_MAX)
		sim_at(until_ns, resume, t, t->sleeps);
	__sanitizer_start_switch_fiber(&t->shadow, loop_stack, loop_bytes);
	swapcontext(&t->context, &loop);
	__sanitizer_finish_switch_fiber(t->shadow, NULL, NULL);
}

void sim_task_wake(struct sim_task *t)
{
	if (t->used && t->asleep)
		sim_at(sim_now(), resume, t, t->sleeps);
}

void sim_task_yield(void)
{
	if (running)
		sim_task_sleep(sim_now() + sim_between(100, 20000));
}

void sim_task_looked(void)
{
	if (running && ++looks > MOST_LOOKS)
		sim_fail("task '%s' spins: it looks at the clock and waits for nothing",
			 running->name);
}
