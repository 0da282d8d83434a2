/* SPDX-License-Identifier: MIT */
/* Finds a sister program: in the build tree, in an installation, or wherever PATH has it. */
#include "cli/verb.h"
#include "common/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* This executable's folder, without a slash at the end. */
static int own_folder(char *buf, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", buf, len - 1);
	char *slash;

	if (n < 0)
		return -errno;
	buf[n] = 0;
	slash = strrchr(buf, '/');
	if (!slash)
		return -ENOENT;
	*slash = 0;
	return 0;
}

int exec_program(const char *program, char **argv)
{
	static const char *const places[] = {"", "/../libexec/infuse"};
	char folder[PATH_MAX], path[PATH_MAX + 64];
	int e;

	argv[0] = (char *)(__UINTPTR_TYPE__)program;
	for (size_t i = 0; i < 2 && !own_folder(folder, sizeof folder); i++) {
		snprintf(path, sizeof path, "%s%s/%s", folder, places[i], program);
		if (access(path, X_OK))
			continue;
		execv(path, argv);
		return err_fail(-errno, "%s: %s", path, strerror(errno));
	}
	execvp(program, argv);
	e = errno;
	if (e == ENOENT)
		return err_fail(-e, "%s is not beside infuse, nor in libexec/infuse, nor in PATH",
				program);
	return err_fail(-e, "%s: %s", program, strerror(e));
}
