/* SPDX-License-Identifier: MIT */
/*
 * SIGBUS mode: the kernel raises SIGBUS in the thread that touches a missing page, and the handler
 * fetches it right there. All signals are blocked meanwhile: a signal handler that faults must not
 * meet its own thread's locks. Other SIGBUSes go to whoever was there before.
 */
#include "libinject/page.h"
#include "libinject/runtime.h"
#include "common/error.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

static struct sigaction previous;
static _Atomic uint32_t threads_seen;
static _Thread_local uint32_t thread_number __attribute__((tls_model("initial-exec")));

static uint32_t thread_id(void)
{
	if (!thread_number)
		thread_number = atomic_fetch_add(&threads_seen, 1) + 1;
	return thread_number;
}

/* By core: two threads on one of them don't fault at the same time. */
unsigned thread_port(struct inject_heap *h)
{
	int cpu = sched_getcpu();

	return (cpu < 0 ? thread_id() : (unsigned)cpu) % h->ports;
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) {
		previous.sa_sigaction(signal, info, context);
	} else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
		/* The instruction runs again and ends the process as if we were not here. */
		struct sigaction none = {.sa_handler = SIG_DFL};

		sigaction(SIGBUS, &none, NULL);
	} else {
		previous.sa_handler(signal);
	}
}

/* Was it a write? Where the processor's word is not known, a write is assumed. */
static bool is_write(const void *context)
{
#if defined(__x86_64__)
	const ucontext_t *u = context;

	return u->uc_mcontext.gregs[REG_ERR] & 2;
#else
	(void)context;
	return true;
#endif
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	struct inject_heap *h = heap_of(info->si_addr);
	int saved = errno, r = -EFAULT;
	struct fault f;

	if (h) {
		unsigned port = thread_port(h);

		f = (struct fault){
			.page = page_of(h, info->si_addr),
			.thread = thread_id(),
			.write = is_write(context),
		};
		crowd_join(h, f.thread);
		r = fault_resolve(h, port, &f);
		if (r && r != -EFAULT)
			heap_failure(h, info->si_addr, r, f.donor);
	}
	if (r)
		pass_on(signal, info, context);
	errno = saved;
}

int sigbus_install(void)
{
	static struct lock once;
	static bool done;
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	int r = 0;

	sigfillset(&action.sa_mask);
	lock_take(&once);
	if (!done && sigaction(SIGBUS, &action, &previous))
		r = err_fail(-errno, "can't handle SIGBUS: %s", strerror(errno));
	else
		done = true;
	lock_drop(&once);
	return r;
}
