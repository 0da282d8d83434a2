/* SPDX-License-Identifier: MIT */
/*
 * fork: the heap's hooks must be registered before all others (prepare hooks run last to first,
 * the others first to last), so that every other hook finds a working heap. The C library's
 * registration is taken over and puts ours in front, whoever comes first: usually malloc itself.
 */
#include "libinject/preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

typedef int register_fn(void (*)(void), void (*)(void), void (*)(void), void *);

static register_fn *_Atomic real;

/* The locks keep a heap from coming to be, and malloc from taking more, while a child is born. */
static void prepare(void)
{
	extents_lock();
	lazy_lock();
	if (lazy_peek())
		fork_prepare();
}

static void parent(void)
{
	if (lazy_peek())
		fork_parent();
	lazy_unlock();
	extents_unlock();
}

static void child(void)
{
	if (lazy_peek()) {
		fork_child();
		lazy_child();
		attributes_child();
	}
	report_forget();
	lazy_unlock();
	extents_unlock();
}

static register_fn *get_real(void)
{
	register_fn *f = atomic_load(&real);

	if (f)
		return f;
	/* POSIX's way to say that the object pointer is a function's. */
	*(void **)&f = dlsym(RTLD_NEXT, "__register_atfork");
	if (f && !f(prepare, parent, child, NULL))
		atomic_store(&real, f);
	return f;
}

void fork_register(void)
{
	get_real();
}

register_fn __register_atfork;

EXPORT int __register_atfork(void (*a)(void), void (*b)(void), void (*c)(void), void *dso)
{
	register_fn *f = get_real();

	return f ? f(a, b, c, dso) : ENOMEM;
}
