/* SPDX-License-Identifier: MIT */
/*
 * Will the dynamic linker preload a library into this program? It says nothing when it will not:
 * a static program has none, and one with privileges of its own ignores the environment.
 */
#include "cli/run.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define MAX_SCRIPTS 5 /* as in the kernel */

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#endif

/* As execvp() finds it. */
static int find_program(const char *name, char *path, size_t len)
{
	const char *dirs = getenv("PATH"), *end;
	int r = RUN_NOT_FOUND;

	if (strchr(name, '/')) {
		snprintf(path, len, "%s", name);
		if (access(path, F_OK))
			return err_fail(RUN_NOT_FOUND, "%s: %s", name, strerror(errno));
		return 0;
	}
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (; *name && dirs; dirs = *end ? end + 1 : NULL) {
		struct stat st;

		end = strchrnul(dirs, ':');
		snprintf(path, len, "%.*s%s%s", (int)(end - dirs), dirs, end > dirs ? "/" : "",
			 name);
		if (stat(path, &st) || !S_ISREG(st.st_mode))
			continue;
		if (!access(path, X_OK))
			return 0;
		r = RUN_CANT;
	}
	return err_fail(r,
			r == RUN_CANT ? "%s is in PATH, but is not executable"
				      : "there is no command '%s' in PATH",
			name);
}

static int check_privileges(const char *path, int fd)
{
	struct stat st;
	const char *what = NULL;

	if (fstat(fd, &st))
		return err_fail(RUN_CANT, "%s: %s", path, strerror(errno));
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		what = "setuid";
	else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		what = "setgid";
	else if (getuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		what = "given capabilities of its own";
	if (!what)
		return 0;
	return err_fail(
		RUN_CANT,
		"%s is %s: the system lets nothing be preloaded into it; run it as the user "
		"it changes to, or without infuse",
		path, what);
}

static int check_linker(const char *path, int fd, const Elf64_Phdr *h)
{
	char linker[PATH_MAX];
	size_t n = h->p_filesz < sizeof linker - 1 ? h->p_filesz : sizeof linker - 1;
	ssize_t got = pread(fd, linker, n, (off_t)h->p_offset);

	if (got < 0)
		return err_fail(RUN_CANT, "%s: %s", path, strerror(errno));
	linker[got] = 0;
	if (strstr(linker, "/ld-linux"))
		return 0;
	return err_fail(
		RUN_CANT,
		"%s uses another C library (its linker is %s): infuse can be preloaded into "
		"programs of the GNU C library only",
		path, linker);
}

static int check_elf(const char *path, int fd, const Elf64_Ehdr *e)
{
	if (e->e_ident[EI_CLASS] != ELFCLASS64)
		return err_fail(RUN_CANT, "%s is a 32-bit program: too little address space", path);
	if (e->e_machine != OWN_MACHINE)
		return err_fail(RUN_CANT, "%s is a program for another processor", path);
	for (unsigned i = 0; i < e->e_phnum; i++) {
		Elf64_Phdr h;

		if (pread(fd, &h, sizeof h, (off_t)(e->e_phoff + i * e->e_phentsize)) !=
		    (ssize_t)sizeof h)
			return err_fail(RUN_CANT, "%s is cut off", path);
		if (h.p_type == PT_INTERP)
			return check_linker(path, fd, &h);
	}
	return err_fail(RUN_CANT,
			"%s is statically linked: nothing can be preloaded into it; link it "
			"dynamically, or with libinject",
			path);
}

/* The interpreter's path in place of the line. False: there is none. */
static bool cut_interpreter(char *line)
{
	char *from = line + 2 + strspn(line + 2, " \t");

	from[strcspn(from, " \t\r\n")] = 0;
	memmove(line, from, strlen(from) + 1);
	return *line;
}

int run_check_program(const char *name)
{
	char path[PATH_MAX], line[PATH_MAX];
	int r = find_program(name, path, sizeof path);

	for (int depth = 0; !r && depth < MAX_SCRIPTS; depth++) {
		CLEANUP_FD int fd = -1;
		struct stat st;
		ssize_t n;

		if (stat(path, &st))
			return err_fail(depth ? RUN_CANT : RUN_NOT_FOUND, "%s: %s", path,
					strerror(errno));
		if (S_ISDIR(st.st_mode))
			return err_fail(RUN_CANT, "%s is a folder", path);
		if (access(path, X_OK))
			return err_fail(RUN_CANT, "%s: %s", path, strerror(errno));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return 0; /* may be run but not read: it is what it is */
		n = pread(fd, line, sizeof line - 1, 0);
		if (n < 0)
			return err_fail(RUN_CANT, "%s: %s", path, strerror(errno));
		line[n] = 0;
		if (n > (ssize_t)sizeof(Elf64_Ehdr) && !memcmp(line, ELFMAG, SELFMAG)) {
			Elf64_Ehdr e;

			memcpy(&e, line, sizeof e);
			r = check_privileges(path, fd);
			return r ? r : check_elf(path, fd, &e);
		}
		/* Without #! the shell runs it, as execvp() would do. */
		if (n < 3 || line[0] != '#' || line[1] != '!' || !cut_interpreter(line))
			return 0;
		memcpy(path, line, sizeof path);
	}
	return r;
}
