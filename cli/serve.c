/* SPDX-License-Identifier: MIT */
/* The memory server is a program of its own, so that a donor needs nothing else. */
#include "cli/verb.h"

int verb_serve(int argc, char **argv)
{
	(void)argc;
	return exec_program("infuse-memory-server", argv);
}
