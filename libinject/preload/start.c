/* SPDX-License-Identifier: MIT */
/*
 * Where the preload library meets the program's beginning and end. The constructor runs before
 * those of the program and its libraries; but malloc, mmap and fork hooks may be called earlier.
 */
#include "libinject/preload/preload.h"

#include "common/sys.h"

#include <stdlib.h>
#include <unistd.h>

static void __attribute__((constructor(101))) start(void)
{
	fork_register();
	settings_get();
	/* Before main(): the first thing xz does is to forbid itself to write files. */
	report_prepare();
	extents_install();
}

static void __attribute__((destructor(101))) end(void)
{
	report();
}

/* Who leaves by these runs no destructors. */

EXPORT _Noreturn void _exit(int status)
{
	report();
	for (;;)
		sys_call1(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status)
{
	_exit(status);
}
