/* SPDX-License-Identifier: MIT */
/* See run_keeper.h. */
#include "cli/run_keeper.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int run_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool run_ended(int pidfd, int ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* A file of /proc has the text. empty: says if there was nothing but NULs in it. */
static bool proc_has(const char *pid, const char *file, const char *text, bool *empty)
{
	char path[300], *buf = NULL;
	CLEANUP_FILE FILE *f = NULL;
	bool found = false;
	size_t room = 0;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
	f = fopen(path, "re");
	*empty = true;
	while (f && !found && (n = getdelim(&buf, &room, *file == 'e' ? 0 : '\n', f)) > 0) {
		*empty &= !*buf;
		found = strstr(buf, text);
	}
	free(buf);
	return found && f;
}

/*
 * Daemons that the command left behind and that have no heap yet. They have our folder's name in
 * their environment; or they have written over it, as daemons do for their title: then who has the
 * preload library is taken for one of ours.
 */
bool run_has_descendants(const char *folder, pid_t but)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	bool found = false, empty, unused;

	while (d && !found && (e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || atoi(e->d_name) == getpid() ||
		    atoi(e->d_name) == but)
			continue;
		found = proc_has(e->d_name, "environ", folder, &empty) ||
			(empty && proc_has(e->d_name, "maps", "libinject-preload.so", &unused));
	}
	if (d)
		closedir(d);
	return found;
}

/* The keeper's parent is gone at once, so that the command has no child that it does not know. */
int run_detach(void)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_fail(-errno, "fork: %s", strerror(errno));
	if (!pid) {
		if (setsid() < 0)
			_exit(1);
		pid = fork();
		if (!pid)
			return 1;
		_exit(pid < 0);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

void run_let_go(int keep, int also)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	int null = open("/dev/null", O_RDWR);

	/* Pipelines end when their writers are gone, so nothing of the caller's stays open. */
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	for (int fd = 3; fd < 1024; fd++)
		if (fd != keep && fd != also)
			close(fd);
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	prctl(PR_SET_NAME, "infuse-keeper");
	if (chdir("/"))
		_exit(1);
}

int run_folder(char *folder, size_t len)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || *tmp != '/' || strlen(tmp) > 50)
		tmp = "/tmp";
	snprintf(folder, len, "%s/infuse-run.XXXXXX", tmp);
	if (!mkdtemp(folder))
		return err_fail(-errno, "%s: %s", folder, strerror(errno));
	return 0;
}
