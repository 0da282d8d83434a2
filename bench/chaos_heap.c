/* SPDX-License-Identifier: MIT */
/* The heap's client: a process with a heap of two copies, most of which is remote. */
#include "bench/chaos.h"
#include "common/clock.h"
#include "common/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCAL_BYTES (2u << 20)
#define DEADLINE_NS (10 * NSEC_PER_SEC) /* the machine may be busy with other things */

struct heap_thread {
	const struct chaos_setup *s;
	void *mem;
	unsigned number;
};

/* A donor failed and nobody else has the page: the run has failed, too. */
static void on_failure(const struct inject_failure *f, void *arg)
{
	struct chaos_client *c = arg;

	atomic_fetch_add(&c->errors, 1);
	chaos_client_error(c, f->text);
	_exit(1);
}

static void *work(void *arg)
{
	struct heap_thread *t = arg;

	chaos_model_run(t->s->heap, t->number, t->s->seed, NULL, t->mem);
	return NULL;
}

static void end(struct chaos_client *c, const char *what)
{
	char text[300];

	atomic_fetch_add(&c->errors, 1);
	snprintf(text, sizeof text, "%s: %s", what, inject_error());
	chaos_client_error(c, text);
	_exit(1);
}

static void heap_main(const struct chaos_setup *s)
{
	const struct timespec nap = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
	struct inject_options o = {.size = sizeof o,
				   .name = "chaos",
				   .donors = s->donors->list,
				   .donors_count = s->donors->count,
				   .heap_bytes = 2ull * CHAOS_PAGES * BENCH_PAGE,
				   .local_bytes = LOCAL_BYTES,
				   .replicas = 2,
				   .deadline_ns = DEADLINE_NS,
				   .key_file = s->donors->key_file,
				   .failed = on_failure,
				   .failed_arg = s->heap};
	struct heap_thread t[CHAOS_THREADS];
	pthread_t thread[CHAOS_THREADS];
	struct inject_heap *heap;
	struct inject_stats st;
	void *mem;

	setpgid(0, 0); /* a terminal's signals are for who started us */
	if (inject_open(&o, &heap) || inject_alloc(heap, (size_t)CHAOS_PAGES * BENCH_PAGE, &mem))
		end(s->heap, "no heap");
	for (unsigned i = 0; i < CHAOS_THREADS; i++) {
		t[i] = (struct heap_thread){s, mem, i};
		if (pthread_create(&thread[i], NULL, work, &t[i]))
			end(s->heap, "no thread");
	}
	while (!atomic_load(&s->heap->stop)) {
		inject_stats(heap, &st);
		atomic_store(&s->heap->degraded, st.slabs_degraded);
		nanosleep(&nap, NULL);
	}
	for (unsigned i = 0; i < CHAOS_THREADS; i++)
		pthread_join(thread[i], NULL);
	inject_close(heap);
	_exit(0);
}

int chaos_heap_start(struct chaos_setup *s)
{
	s->heap_pid = child_fork();
	if (!s->heap_pid)
		heap_main(s);
	return s->heap_pid < 0 ? s->heap_pid : 0;
}
