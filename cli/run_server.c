/* SPDX-License-Identifier: MIT */
/*
 * A private memory server for `infuse run`. The command takes this process's place, so that its
 * status, signals and terminal are its own; a keeper, which belongs to nobody, stays behind:
 *
 *	infuse run -> the command            (exec)
 *	   `- keeper (own session) -> infuse-memory-server
 *
 * The keeper ends the server by its pid when the command and all that it left behind are gone,
 * and removes the folder. If the keeper is killed, the server gets SIGTERM.
 */
#include "cli/run.h"
#include "cli/donor.h"
#include "cli/run_keeper.h"
#include "cli/verb.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define START_NS     (20 * NSEC_PER_SEC)
#define END_NS       (3 * NSEC_PER_SEC)
#define IDLE_POLL_MS 200

struct keeper {
	char folder[80]; /* a UNIX socket's path has room for 107 bytes */
	char socket[100], ready[100], log[100];
	char size[32], name[48];
	int command; /* pidfd of the process that becomes the command */
	int server;  /* pidfd */
	pid_t server_pid;
	int answer; /* pipe to the waiting parent */
};

static void server_exec(const struct keeper *k, pid_t keeper)
{
	char listen[120];
	const char *args[] = {"infuse-memory-server",
			      "--lazy",
			      "--no-registry",
			      "--quiet",
			      "--listen",
			      listen,
			      "--size",
			      k->size,
			      "--name",
			      k->name,
			      "--grace",
			      "1s",
			      "--drain-timeout",
			      "1s",
			      "--ready-file",
			      k->ready,
			      NULL};
	sigset_t none;
	int fd;

	snprintf(listen, sizeof listen, "unix:%s", k->socket);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != keeper)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	fd = open(k->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	exec_program(args[0], (char **)(uintptr_t)args);
	dprintf(STDERR_FILENO, "%s\n", err_text());
	_exit(1);
}

/* The last line that the server wrote: why it did not start. */
static void last_words(const struct keeper *k, char *to, size_t len)
{
	CLEANUP_FILE FILE *f = fopen(k->log, "re");
	char line[400];

	snprintf(to, len, "it said nothing");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		snprintf(to, len, "%s", line);
	}
}

static void remove_folder(const struct keeper *k)
{
	unlink(k->socket);
	unlink(k->ready);
	unlink(k->log);
	rmdir(k->folder);
}

static bool server_ready(const struct keeper *k)
{
	uint64_t end = clock_ns() + START_NS;

	while (clock_ns() < end) {
		struct stat st;

		if (!stat(k->ready, &st) && st.st_size)
			return true;
		if (run_ended(k->server, 5))
			return false;
	}
	return false;
}

static void server_end(const struct keeper *k)
{
	kill(k->server_pid, SIGTERM);
	if (!run_ended(k->server, (int)(END_NS / NSEC_PER_MSEC)))
		kill(k->server_pid, SIGKILL);
	waitpid(k->server_pid, NULL, 0);
}

/* Connections of borrowers, without the one that asks; 0 also when it can't be asked. */
static bool has_borrowers(const struct keeper *k)
{
	struct donor_list l = {0};
	struct opt_list given = {.count = 1};
	char address[120];
	bool busy = false;

	snprintf(address, sizeof address, "unix:%s", k->socket);
	given.item[0] = address;
	if (donor_find(&given, NULL, &l))
		return false;
	donor_ask(&l, DONOR_BORROWERS, DONOR_TIMEOUT);
	for (unsigned i = 0; !l.item[0].status && i < l.item[0].borrowers; i++)
		busy |= l.item[0].borrower[i].sessions > 0;
	donor_list_free(&l);
	return busy;
}

static void keep(struct keeper *k)
{
	struct pollfd p[2] = {{.fd = k->command, .events = POLLIN},
			      {.fd = k->server, .events = POLLIN}};

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	while (!run_ended(k->server, 0) && (has_borrowers(k) || run_has_descendants(k->folder, k->server_pid)))
		if (run_ended(k->server, IDLE_POLL_MS))
			break;
	server_end(k);
	remove_folder(k);
}

static _Noreturn void keeper_main(struct keeper *k)
{
	char words[400] = "";
	pid_t self = getpid();

	run_let_go(k->command, k->answer);
	k->server_pid = fork();
	if (!k->server_pid)
		server_exec(k, self);
	k->server = k->server_pid < 0 ? -1 : run_pidfd(k->server_pid);
	if (k->server < 0) {
		snprintf(words, sizeof words, "%s", strerror(errno));
	} else if (!server_ready(k)) {
		last_words(k, words, sizeof words);
		server_end(k);
	}
	if (*words)
		remove_folder(k);
	if (write(k->answer, *words ? words : "", *words ? strlen(words) : 1) < 0)
		_exit(1);
	close(k->answer);
	if (!*words)
		keep(k);
	_exit(0);
}

static int name_files(struct keeper *k)
{
	int r = run_folder(k->folder, sizeof k->folder);

	if (r)
		return r;
	snprintf(k->socket, sizeof k->socket, "%s/donor.sock", k->folder);
	snprintf(k->ready, sizeof k->ready, "%s/ready", k->folder);
	snprintf(k->log, sizeof k->log, "%s/log", k->folder);
	return 0;
}

int run_server_start(uint64_t size_bytes, char *address, size_t len)
{
	struct keeper k = {.command = run_pidfd(getpid())};
	CLEANUP_FD int command = k.command, read_end = -1;
	char words[400];
	ssize_t n;
	int ends[2], r;

	if (k.command < 0)
		return err_fail(-errno, "pidfd_open: %s", strerror(errno));
	if (pipe2(ends, O_CLOEXEC))
		return err_fail(-errno, "pipe: %s", strerror(errno));
	read_end = ends[0];
	k.answer = ends[1];
	snprintf(k.size, sizeof k.size, "%llu", (unsigned long long)size_bytes);
	snprintf(k.name, sizeof k.name, "run-%d", (int)getpid());
	r = name_files(&k);
	if (!r)
		r = run_detach();
	if (r > 0)
		keeper_main(&k);
	close(ends[1]);
	if (r)
		return r;
	n = read(read_end, words, sizeof words - 1);
	if (n == 1 && !*words) {
		snprintf(address, len, "shm:%s", k.socket);
		return 0;
	}
	words[n > 0 ? n : 0] = 0;
	remove_folder(&k);
	return err_fail(-ECHILD, "the private memory server did not start: %s",
			n > 0 ? words : "it was killed");
}
