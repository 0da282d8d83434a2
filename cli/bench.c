/* SPDX-License-Identifier: MIT */
#include "cli/verb.h"

int verb_bench(int argc, char **argv)
{
	(void)argc;
	return exec_program("infuse-bench", argv);
}
