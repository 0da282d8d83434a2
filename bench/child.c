/* SPDX-License-Identifier: MIT */
/*
 * Programs that run beside the benchmark. They are ended by pid on every way out: by us, by the
 * handler of a signal that ends us, and by the kernel (PDEATHSIG) if we die without a word.
 */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 32
#define STOP_NS      (5 * NSEC_PER_SEC)
#define KEEPER_NS    (30 * NSEC_PER_SEC)

static volatile pid_t children[CHILDREN_MAX];
static volatile pid_t keeper; /* ends by itself when it is hung up on */
static volatile int keeper_fd;
static char folder[200];

static void folder_remove(void)
{
	struct dirent *e;
	DIR *d;

	if (!folder[0])
		return;
	d = opendir(folder);
	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(folder);
	folder[0] = 0;
}

void child_keep(int pid, int fd)
{
	keeper_fd = fd;
	keeper = pid;
}

/* What it undoes must be undone when we are gone: a shell's prompt says so. */
static void wait_for_keeper(void)
{
	const struct timespec nap = {.tv_nsec = 10 * (long)NSEC_PER_MSEC};

	if (!keeper)
		return;
	shutdown(keeper_fd, SHUT_WR);
	for (uint64_t end = clock_ns() + KEEPER_NS; clock_ns() < end;) {
		if (waitpid(keeper, NULL, WNOHANG))
			return;
		nanosleep(&nap, NULL);
	}
}

/* The children are told at once; the folder is removed by a shell of its own, since opendir() must
 * not be called here. */
static void on_signal(int sig)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		if (children[i]) {
			kill(children[i], SIGTERM);
			kill(children[i], SIGCONT);
		}
	wait_for_keeper();
	if (folder[0] && !_Fork()) {
		execl("/bin/rm", "rm", "-rf", "--", folder, (char *)NULL);
		_exit(127);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

void child_init(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	const int fatal[] = {SIGINT, SIGTERM, SIGHUP};

	for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++)
		sigaction(fatal[i], &sa, NULL);
}

int child_fork(void)
{
	const int fatal[] = {SIGINT, SIGTERM, SIGHUP};
	sigset_t block, before;
	pid_t parent = getpid(), p;

	sigemptyset(&block);
	for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++)
		sigaddset(&block, fatal[i]);
	sigprocmask(SIG_BLOCK, &block, &before);
	p = fork();
	if (!p) {
		/* Our children and our folder are not its own. */
		for (unsigned i = 0; i < CHILDREN_MAX; i++)
			children[i] = 0;
		folder[0] = 0;
		if (keeper)
			close(keeper_fd);
		keeper = 0;
		for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++)
			signal(fatal[i], SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return p < 0 ? err_fail(-errno, "can't start a process: %s", strerror(errno)) : p;
}

int child_folder(const char **ret)
{
	const char *tmp = getenv("TMPDIR");

	if (!folder[0]) {
		snprintf(folder, sizeof folder, "%s/infuse-bench.XXXXXX",
			 tmp && *tmp ? tmp : "/tmp");
		if (!mkdtemp(folder)) {
			int r = err_fail(-errno, "can't make the folder %s: %s", folder,
					 strerror(errno));

			folder[0] = 0;
			return r;
		}
	}
	*ret = folder;
	return 0;
}

static void child_main(const char *log, const char *const *argv, const struct child_place *place,
		       pid_t parent)
{
	int out = open(log, O_WRONLY | O_CREAT | (place->log ? O_APPEND : O_TRUNC), 0600);
	int in = open("/dev/null", O_RDONLY);

	prctl(PR_SET_PDEATHSIG, place->log ? SIGKILL : SIGTERM);
	if (getppid() != parent || (place->in_space && setns(place->space, CLONE_NEWNET)))
		_exit(127);
	if (place->apart)
		setpgid(0, 0);
	if (place->pinned)
		cpu_pin(place->cpu);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	dprintf(2, "can't run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

int child_start(const char *name, const char *const *argv, unsigned cpu, int *pid)
{
	const struct child_place place = {.pinned = true, .cpu = cpu};

	return child_start_at(name, argv, &place, pid);
}

int child_start_at(const char *name, const char *const *argv, const struct child_place *place,
		   int *pid)
{
	pid_t parent = getpid(), p;
	const char *dir;
	unsigned slot = 0;
	char log[300];
	int r = child_folder(&dir);

	if (r)
		return r;
	while (slot < CHILDREN_MAX && children[slot])
		slot++;
	if (slot == CHILDREN_MAX)
		return err_fail(-EMFILE, "more than %d programs beside the benchmark",
				CHILDREN_MAX);
	snprintf(log, sizeof log, "%s/%s.log", place->log ? place->log : dir, name);
	p = fork();
	if (p < 0)
		return err_fail(-errno, "can't start %s: %s", argv[0], strerror(errno));
	if (!p)
		child_main(log, argv, place, parent);
	children[slot] = p;
	*pid = p;
	return 0;
}

static void last_line(const char *name, char *line, size_t len)
{
	char path[300], buf[300];
	FILE *f;

	snprintf(line, len, "it said nothing");
	snprintf(path, sizeof path, "%s/%s.log", folder, name);
	f = fopen(path, "re");
	while (f && fgets(buf, sizeof buf, f)) {
		buf[strcspn(buf, "\n")] = 0;
		if (buf[0])
			snprintf(line, len, "%s", buf);
	}
	if (f)
		fclose(f);
}

static void forget(pid_t pid)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == pid)
			children[i] = 0;
}

void child_gone(int pid)
{
	forget(pid);
}

const char *child_program(const char *name, char *buf, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", buf, len - 1);
	char *slash;

	if (n > 0) {
		buf[n] = 0;
		slash = strrchr(buf, '/');
		if ((size_t)(slash - buf) + strlen(name) + 2 <= len) {
			strcpy(slash + 1, name);
			if (!access(buf, X_OK))
				return buf;
		}
	}
	return name;
}

int child_wait(const char *name, int pid, const char *file, uint64_t timeout_ns)
{
	const struct timespec nap = {.tv_nsec = 5 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + timeout_ns;
	struct stat st;
	char line[400];

	while (stat(file, &st) || !st.st_size) {
		if (waitpid(pid, NULL, WNOHANG) == pid) {
			forget(pid);
			last_line(name, line, sizeof line);
			return err_fail(-ECHILD, "%s ended at once: %s", name, line);
		}
		if (clock_ns() > end) {
			last_line(name, line, sizeof line);
			return err_fail(-ETIMEDOUT, "%s is not ready after %llu s: %s", name,
					(unsigned long long)(timeout_ns / NSEC_PER_SEC), line);
		}
		nanosleep(&nap, NULL);
	}
	return 0;
}

void child_stop(int pid)
{
	const struct timespec nap = {.tv_nsec = 2 * (long)NSEC_PER_MSEC};
	uint64_t end = clock_ns() + STOP_NS;
	bool killed = false;

	if (pid <= 0)
		return;
	kill(pid, SIGTERM);
	kill(pid, SIGCONT); /* it may be stopped */
	while (!waitpid(pid, NULL, WNOHANG)) {
		if (!killed && clock_ns() > end) {
			kill(pid, SIGKILL);
			killed = true;
		}
		nanosleep(&nap, NULL);
	}
	forget(pid);
}

void child_exit(void)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		child_stop(children[i]);
	folder_remove();
}
