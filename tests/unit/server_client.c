/* SPDX-License-Identifier: MIT */
/* See server_client.h. */
#include "server_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void client_nap(void)
{
	nanosleep(&(struct timespec){0, 10000000}, NULL);
}

static void run_server(const struct donor *d, const char *const *more)
{
	char listen_unix[300], ready[300];
	const char *argv[40] = {TEST_SERVER,    "--listen",  "tcp:127.0.0.1:0",
				"--listen",     listen_unix, "--no-registry",
				"--ready-file", ready,       "--size",
				"4M",           "--slab",    "64K",
				"--threads",    "2"};
	unsigned n = 0;
	int fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	snprintf(listen_unix, sizeof listen_unix, "unix:%s", d->socket);
	snprintf(ready, sizeof ready, "%s/ready", d->folder);
	while (argv[n])
		n++;
	while (more && *more && n < 39)
		argv[n++] = *more++;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, 2);
	dup2(fd, 1);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

void donor_start(struct donor *d, const char *const *more)
{
	const char *tmp = getenv("TMPDIR");
	char ready[300], line[128] = "";

	memset(d, 0, sizeof *d);
	snprintf(d->folder, sizeof d->folder, "%s/infuse-server.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert_not_null(mkdtemp(d->folder));
	snprintf(d->socket, sizeof d->socket, "%s/sock", d->folder);
	snprintf(d->log, sizeof d->log, "%s/log", d->folder);
	snprintf(ready, sizeof ready, "%s/ready", d->folder);
	d->pid = fork();
	cr_assert_geq(d->pid, 0);
	if (!d->pid)
		run_server(d, more);
	for (int i = 0; i < 3000; i++) {
		FILE *f = fopen(ready, "r");

		if (f) {
			cr_assert_not_null(fgets(line, sizeof line, f));
			fclose(f);
			break;
		}
		cr_assert_eq(waitpid(d->pid, NULL, WNOHANG), 0, "the server ended at once");
		client_nap();
	}
	line[strcspn(line, "\n")] = 0;
	cr_assert(!strncmp(line, "tcp:", 4), "no ready file");
	strcpy(d->tcp, line);
}

int donor_end(struct donor *d, int sig)
{
	int status = 0;

	if (sig)
		kill(d->pid, sig);
	for (int i = 0; i < 3000; i++) {
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			d->pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		}
		client_nap();
	}
	cr_assert_fail("the server does not end");
	return -1;
}

static void print_log(const struct donor *d)
{
	FILE *f = fopen(d->log, "r");
	char line[1024];

	while (f && fgets(line, sizeof line, f))
		fputs(line, stderr);
	if (f)
		fclose(f);
}

void donor_stop(struct donor *d)
{
	static const char *const files[] = {"sock", "ready", "log", "conf", "key", ""};
	char path[300];

	/* Two signals: borrowers are not waited for. Leaks and races are told at an orderly end. */
	if (d->pid > 0) {
		kill(d->pid, SIGTERM);
		donor_end(d, SIGINT);
	}
	/* Criterion takes no more asserts here. */
	if (donor_said(d, "Sanitizer") || donor_said(d, "runtime error")) {
		print_log(d);
		abort();
	}
	for (unsigned i = 0; *d->folder && i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "%s/%s", d->folder, files[i]);
		remove(path);
	}
}

bool donor_said(const struct donor *d, const char *words)
{
	FILE *f = fopen(d->log, "r");
	char line[1024];
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f))
		found = strstr(line, words);
	if (f)
		fclose(f);
	return found;
}

int client_connect(const struct donor *d, bool over_unix)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(over_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval t = {.tv_sec = 20};
	int one = 1;

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
	cr_assert_lt(strlen(d->socket), sizeof un.sun_path);
	strcpy(un.sun_path, d->socket);
	if (!over_unix)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	in.sin_port = htons((uint16_t)atoi(strrchr(d->tcp, ':') + 1));
	cr_assert_eq(connect(fd, over_unix ? (void *)&un : (void *)&in,
			     over_unix ? sizeof un : sizeof in),
		     0, "can't connect: %s", strerror(errno));
	return fd;
}

void client_id(unsigned id, uint8_t ret[16])
{
	memset(ret, 0, 16);
	memcpy(ret, &id, sizeof id);
}

struct wire_hello client_hello(unsigned id)
{
	struct wire_hello h = {.magic = htole64(WIRE_MAGIC),
			       .major = htole16(WIRE_MAJOR),
			       .minor = htole16(WIRE_MINOR),
			       .minor_min = htole16(WIRE_MINOR - 1),
			       .pid = htole32((uint32_t)getpid())};

	client_id(id, h.borrower);
	snprintf((char *)h.name, sizeof h.name, "borrower %u", id);
	return h;
}

int client_open(const struct donor *d, bool over_unix, unsigned id)
{
	int fd = client_connect(d, over_unix);
	struct wire_hello h = client_hello(id);
	struct wire_welcome w;
	size_t n = sizeof w;

	cr_assert_eq(client_ask(fd, WIRE_HELLO, 0, &h, sizeof h, &w, &n), WIRE_OK);
	cr_assert_eq(n, sizeof w);
	cr_assert_eq(le64toh(w.magic), WIRE_MAGIC);
	return fd;
}

void client_send(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t r = send(fd, p, n, MSG_NOSIGNAL);

		cr_assert_gt(r, 0, "send: %s", strerror(errno));
		p = (const char *)p + r;
		n -= (size_t)r;
	}
}

bool client_receive(int fd, void *p, size_t n)
{
	while (n) {
		ssize_t r = recv(fd, p, n, 0);

		if (!r || (r < 0 && errno == ECONNRESET))
			return false;
		cr_assert_gt(r, 0, "no answer in time: %s", strerror(errno));
		p = (char *)p + r;
		n -= (size_t)r;
	}
	return true;
}

bool client_closed(int fd)
{
	char c;

	return !client_receive(fd, &c, 1);
}

struct wire_header client_header(uint16_t op, uint32_t count, size_t bytes)
{
	static _Atomic uint64_t tag = 1000;

	return (struct wire_header){.op = htole16(op),
				    .bytes = htole32((uint32_t)bytes),
				    .tag = htole64(++tag),
				    .count = htole32(count)};
}

uint32_t client_ask(int fd, uint16_t op, uint32_t count, const void *body, size_t bytes,
		    void *answer, size_t *answer_bytes)
{
	struct wire_header h = client_header(op, count, bytes), a;

	client_send(fd, &h, sizeof h);
	client_send(fd, body, bytes);
	cr_assert(client_receive(fd, &a, sizeof a), "the server hung up");
	cr_assert_eq(a.op, h.op);
	cr_assert_eq(a.tag, h.tag);
	cr_assert_eq(a.flags, htole16(WIRE_F_REPLY));
	cr_assert_eq(a.epoch, 0);
	cr_assert_leq(le32toh(a.bytes), answer_bytes ? *answer_bytes : 0);
	if (answer_bytes)
		*answer_bytes = le32toh(a.bytes);
	cr_assert(client_receive(fd, answer, le32toh(a.bytes)));
	if (a.status)
		cr_assert_eq(a.bytes, 0, "an error has no body");
	return le32toh(a.status);
}

uint32_t client_grant(int fd, uint32_t n, uint64_t *slabs)
{
	struct wire_grant g = {.slabs = htole32(n)};
	size_t bytes = n * sizeof *slabs;
	uint32_t status = client_ask(fd, WIRE_GRANT, 1, &g, sizeof g, slabs, &bytes);

	cr_assert_eq(bytes, status ? 0 : n * sizeof *slabs);
	for (uint32_t i = 0; !status && i < n; i++)
		slabs[i] = le64toh(slabs[i]);
	return status;
}

uint32_t client_free(int fd, const uint64_t *slabs, uint32_t n)
{
	struct wire_slab w[WIRE_MAX_SLABS];

	for (uint32_t i = 0; i < n; i++)
		w[i].slab = htole64(slabs[i]);
	return client_ask(fd, WIRE_FREE, n, w, n * sizeof *w, NULL, NULL);
}

uint32_t client_clone(int fd, unsigned owner, const uint64_t *slabs, uint32_t n, uint64_t *ret)
{
	struct {
		struct wire_clone to;
		struct wire_slab slab[WIRE_MAX_SLABS];
	} body = {0};
	size_t bytes = n * sizeof *ret;
	uint32_t status;

	client_id(owner, body.to.owner);
	snprintf((char *)body.to.name, sizeof body.to.name, "clone %u", owner);
	for (uint32_t i = 0; i < n; i++)
		body.slab[i].slab = htole64(slabs[i]);
	status = client_ask(fd, WIRE_CLONE, n, &body, sizeof body.to + n * sizeof *body.slab, ret,
			    &bytes);
	for (uint32_t i = 0; !status && i < n; i++)
		ret[i] = le64toh(ret[i]);
	return status;
}

struct wire_seg client_seg(uint64_t slab, uint32_t page, uint32_t pages)
{
	return (struct wire_seg){htole64(slab), htole32(page), htole32(pages)};
}

static size_t seg_bytes(const struct wire_seg *seg, uint32_t n)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += (size_t)le32toh(seg[i].pages) * PAGE;
	return bytes;
}

uint32_t client_read(int fd, const struct wire_seg *seg, uint32_t n, void *pages)
{
	size_t want = seg_bytes(seg, n), got = want;
	uint32_t status = client_ask(fd, WIRE_READ, n, seg, n * sizeof *seg, pages, &got);

	cr_assert_eq(got, status ? 0 : want);
	return status;
}

uint32_t client_write(int fd, const struct wire_seg *seg, uint32_t n, const void *pages)
{
	size_t data = seg_bytes(seg, n), head = n * sizeof *seg;
	char *body = malloc(head + data);
	uint32_t status;

	memcpy(body, seg, head);
	memcpy(body + head, pages, data);
	status = client_ask(fd, WIRE_WRITE, n, body, head + data, NULL, NULL);
	free(body);
	return status;
}

uint32_t client_trim(int fd, const struct wire_seg *seg, uint32_t n)
{
	return client_ask(fd, WIRE_TRIM, n, seg, n * sizeof *seg, NULL, NULL);
}

struct wire_stat client_stat(int fd)
{
	struct wire_stat st;
	size_t n = sizeof st;

	cr_assert_eq(client_ask(fd, WIRE_STAT, 0, NULL, 0, &st, &n), WIRE_OK);
	cr_assert_eq(n, sizeof st);
	return st;
}

uint64_t client_slabs_free(int fd)
{
	return le64toh(client_stat(fd).slabs_free);
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void fill(void *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = random_next(&seed);

		memcpy((char *)p + i, &v, 8);
	}
}

bool is_filled(const void *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = random_next(&seed);

		if (memcmp((const char *)p + i, &v, 8))
			return false;
	}
	return true;
}

bool is_zero(const void *p, size_t n)
{
	for (const char *c = p; n; c++, n--)
		if (*c)
			return false;
	return true;
}
