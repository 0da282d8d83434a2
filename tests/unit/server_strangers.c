/* SPDX-License-Identifier: MIT */
/*
 * Strangers at a donor's port: no key, the wrong one, recorded bytes, noise, and ten thousand connections
 * that stop somewhere on the way in. They get no byte of data and no slab, the donor's memory stays
 * bounded, and its borrower's 99th percentile at most doubles, while they keep coming and while they sit
 * there. A program of its own, since it is skipped (77) where the host does not allow so many descriptors.
 */
#include "common/clock.h"
#include "common/error.h"
#include "secure/secret.h"
#include "secure/tls.h"
#include "server_client.h"
#include <infuse/pagestore.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STRANGERS 10000u
#define PAGES     64u
#define READS     3000u
#define WINDOWS   10u  /* of so many reads, of which the best counts: what else the machine does disturbs some */
#define MORE      90u  /* windows at most, among strangers */
#define PAUSE_US  4000 /* between two strangers: up to 250 come in a second */
#define KINDS     5u
#define LEAST     16384u /* what a stranger may be told: handshakes and errors */

#ifdef INFUSE_SANITIZED
#define RSS_LIMIT_KB (640u * 1024)
#define SLACK_NS     (200 * NSEC_PER_MSEC)
#else
#define RSS_LIMIT_KB (48u * 1024)
#define SLACK_NS     (10 * NSEC_PER_USEC)
#endif

static struct donor d;
static char key_file[64], other_file[64];
static struct key borrower, other;
static unsigned char page[PAGE];

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "FAIL: %s\n", what);
	donor_stop(&d);
	unlink(key_file);
	unlink(other_file);
	exit(1);
}

static void make_key(char *path, const char *name, struct key *role)
{
	struct key_set *set = key_set_create();

	snprintf(path, 64, "/tmp/infuse-%s.%d", name, getpid());
	key_generate(&set->key[0], (uint64_t)time(NULL));
	set->count = 1;
	check(!key_write(path, set), "no key file");
	key_derive(&set->key[0], KEY_BORROWER, role);
	key_free(set);
}

static unsigned long rss_kb(void)
{
	char path[64], line[128];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)d.pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "VmRSS:", 6))
			kb = strtoul(line + 6, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

/* --- a borrower with the key --- */

static int open_volume(const char *address, const char *key, struct ps_volume **ret)
{
	struct ps_options o = {.name = "test",
			       .pages = PAGES,
			       .donors = &address,
			       .donors_count = 1,
			       .ports = 1,
			       .deadline_ns = 30 * NSEC_PER_SEC,
			       .connect_ns = 10 * NSEC_PER_SEC,
			       .key_file = key,
			       .transient = true};

	return ps_open(&o, ret);
}

static int transfer(struct ps_volume *v, enum ps_kind kind, uint64_t at, void *buf)
{
	struct ps_vec vec = {.page = at, .count = 1, .buf = buf};
	struct ps_batch b = {.kind = kind, .vecs = 1, .vec = &vec}, *done;

	if (ps_submit(ps_port(v, 0), &b, clock_ns()))
		return -1;
	while (!ps_poll(ps_port(v, 0), clock_ns(), &done, 1))
		ps_wait(ps_port(v, 0), NSEC_PER_SEC);
	return b.status;
}

static void fill_page(unsigned char *p, unsigned what)
{
	for (unsigned i = 0; i < PAGE; i += 16)
		memcpy(p + i, "SECRET OF PAGE ", 15), p[i + 15] = (unsigned char)(what + i / 16);
}

static int less(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The 99th percentile of a window's reads, in ns; every page is looked at. */
static uint64_t read_window(struct ps_volume *v)
{
	static uint64_t ns[READS];
	unsigned char want[PAGE];

	for (unsigned i = 0; i < READS; i++) {
		uint64_t begin = clock_ns();

		check(!transfer(v, PS_READ, i % PAGES, page), "a borrower's read failed");
		ns[i] = clock_ns() - begin;
		fill_page(want, i % PAGES);
		check(!memcmp(page, want, PAGE), "a borrower read something else");
	}
	qsort(ns, READS, sizeof *ns, less);
	return ns[READS / 100 * 99];
}

/* The best of n windows; ends when one is good enough. */
static uint64_t read_windows(struct ps_volume *v, unsigned n, uint64_t enough_ns)
{
	uint64_t best = UINT64_MAX;

	for (; n && best > enough_ns; n--) {
		uint64_t ns = read_window(v);

		best = ns < best ? ns : best;
	}
	return best;
}

static bool at_most_doubled(struct ps_volume *v, const char *when, uint64_t alone_ns)
{
	uint64_t most = 2 * alone_ns + SLACK_NS, among_ns = read_windows(v, MORE, most);

	printf("the borrower's p99: %.0f us alone, %.0f us %s\n", (double)alone_ns / 1e3,
	       (double)among_ns / 1e3, when);
	return among_ns <= most;
}

/* --- strangers --- */

static int stranger_fd[STRANGERS];

static size_t first_words(unsigned char *buf, size_t room, struct tls_config *config)
{
	struct tls *t;
	size_t n;

	check(!tls_open(config, NULL, &t) && tls_input(t, NULL, 0) == -EAGAIN, "no ClientHello");
	n = tls_output(t, buf, room);
	tls_close(t);
	return n;
}

static void send_some(int fd, const void *p, size_t n)
{
	/* It may have been closed already: that is good too. */
	if (send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void come_in(unsigned i, const unsigned char *hello, size_t n)
{
	struct {
		struct wire_header head;
		struct wire_hello hello;
	} plain = {client_header(WIRE_HELLO, 0, sizeof plain.hello), client_hello(i)};
	unsigned char words[2048];

	memcpy(words, hello, n);
	stranger_fd[i] = client_connect(&d, false);
	switch (i % KINDS) {
	case 0: /* says nothing */
		break;
	case 1: /* stops in the middle of a ClientHello */
		send_some(stranger_fd[i], words, 1 + i % n);
		break;
	case 2: /* stops behind it */
		send_some(stranger_fd[i], words, n);
		break;
	case 3: /* stops at the challenge */
		send_some(stranger_fd[i], &plain, sizeof plain);
		break;
	default: /* noise, some of which begins like TLS or like a hello */
		for (size_t k = 0; k < n; k++)
			words[k] = (unsigned char)(i * 31 + k * k * 7);
		words[0] = (unsigned char)(i % 3 == 0 ? 22 : i % 3 == 1 ? 1 : words[0]);
		send_some(stranger_fd[i], words, n);
	}
}

/* All that a stranger was told: little, and none of the borrower's bytes. */
static size_t hear(int fd)
{
	static unsigned char buf[65536];
	size_t all = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
		check(!memmem(buf, (size_t)n, "SECRET OF PAGE", 14), "a stranger got data");
		all += (size_t)n;
	}
	check(all <= LEAST, "a stranger was told much");
	return all;
}

static struct wire_stat stat_of(void)
{
	struct wire_stat s;
	size_t n = sizeof s;
	int fd = client_open(&d, true, 0);

	check(client_ask(fd, WIRE_STAT, 0, NULL, 0, &s, &n) == WIRE_OK, "no STAT");
	close(fd);
	return s;
}

static void crowd(struct ps_volume *v)
{
	struct tls_options o = {.key = &borrower};
	unsigned long before = rss_kb(), after;
	uint64_t begin = clock_ns(), alone_ns;
	struct tls_config *config;
	unsigned char words[2048];
	size_t told = 0, n;

	check(!tls_config_open(&o, &config), "no TLS");
	n = first_words(words, sizeof words, config);
	tls_config_close(config);
	alone_ns = read_windows(v, WINDOWS, 0);
	for (unsigned i = 0; i < STRANGERS; i++) {
		come_in(i, words, n);
		if (i % 500 == 0)
			check(!transfer(v, PS_READ, i % PAGES, page), "a read failed meanwhile");
	}
	printf("%u strangers came in %.1f s\n", STRANGERS, (double)(clock_ns() - begin) / 1e9);
	check(at_most_doubled(v, "with all of them there", alone_ns),
	      "strangers who sit there make the borrower wait");
	after = rss_kb();
	printf("the donor's memory: %lu and %lu KiB\n", before, after);
	check(after < before + RSS_LIMIT_KB, "strangers cost the donor much memory");
	for (unsigned i = 0; i < STRANGERS; i++) {
		told += hear(stranger_fd[i]);
		close(stranger_fd[i]);
	}
	printf("they were told %zu bytes in all\n", told);
}

/* --- a recorder between a borrower and the donor --- */

static struct {
	int listen;
	unsigned char bytes[1 << 20];
	size_t count;
} record;

static int own_port(char address[64])
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof in;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	check(fd >= 0 && !bind(fd, (struct sockaddr *)&in, sizeof in) && !listen(fd, 16) &&
		      !getsockname(fd, (struct sockaddr *)&in, &len),
	      "no port");
	snprintf(address, 64, "tcp:127.0.0.1:%u", ntohs(in.sin_port));
	return fd;
}

/* The first connection's bytes are kept. */
static void *relay(void *arg)
{
	bool keep = !arg;
	int a = accept(record.listen, NULL, NULL), b = client_connect(&d, false);
	struct pollfd p[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
	static unsigned char buf[65536];

	while (poll(p, 2, 10000) > 0) {
		for (unsigned i = 0; i < 2; i++) {
			ssize_t n;

			if (!p[i].revents)
				continue;
			n = recv(p[i].fd, buf, sizeof buf, 0);
			if (n <= 0)
				goto end;
			if (!i && keep && record.count + (size_t)n <= sizeof record.bytes) {
				memcpy(record.bytes + record.count, buf, (size_t)n);
				record.count += (size_t)n;
			}
			send_some(p[!i].fd, buf, (size_t)n);
		}
	}
end:
	close(a);
	close(b);
	return NULL;
}

/* Control, and the port's connection: the latter writes a page. */
static void replay(void)
{
	struct wire_stat before, after;
	char address[64];
	struct ps_volume *v;
	pthread_t first, second;
	unsigned told = 0;

	record.listen = own_port(address);
	pthread_create(&first, NULL, relay, NULL);
	nanosleep(&(struct timespec){0, 50000000}, NULL);
	pthread_create(&second, NULL, relay, &record);
	check(!open_volume(address, key_file, &v), "no volume through the recorder");
	check(!ps_reserve(v, 0, PAGES), "nothing reserved through the recorder");
	fill_page(page, 1);
	check(!transfer(v, PS_WRITE, 1, page), "no write through the recorder");
	ps_close(v);
	pthread_join(first, NULL);
	pthread_join(second, NULL);
	close(record.listen);
	check(record.count > 500, "nothing was recorded");
	check(!memmem(record.bytes, record.count, "SECRET OF PAGE", 14), "plaintext on the wire");
	for (unsigned i = 0; i < 500 && le32toh(stat_of().borrowers) > 1; i++)
		client_nap(); /* until the recorder's borrower is gone */
	before = stat_of();
	for (unsigned i = 0; i < 20; i++) {
		int fd = client_connect(&d, false);
		struct pollfd p = {.fd = fd, .events = POLLIN};

		send_some(fd, record.bytes, record.count);
		while (poll(&p, 1, 5000) > 0) {
			size_t n = hear(fd);

			told += (unsigned)n;
			if (!n)
				break;
		}
		close(fd);
	}
	after = stat_of();
	check(after.slabs_free == before.slabs_free && after.borrowers == before.borrowers &&
		      after.pages_written == before.pages_written,
	      "recorded bytes did something");
	check(le64toh(after.denied) >= le64toh(before.denied) + 20, "denials are not counted");
	printf("%zu recorded bytes, sent again 20 times: %u bytes of answers\n", record.count, told);
}

/* --- strangers who keep coming --- */

static atomic_bool enough;
static atomic_uint came;

/* What the next one says: the wrong key's ClientHello, a hello without a key, recorded bytes, noise. */
static size_t next_words(unsigned i, struct tls_config *wrong, unsigned char *words, size_t room)
{
	struct {
		struct wire_header head;
		struct wire_hello hello;
	} plain = {client_header(WIRE_HELLO, 0, sizeof plain.hello), client_hello(i)};

	switch (i % 4) {
	case 0:
		return first_words(words, room, wrong);
	case 1:
		memcpy(words, &plain, sizeof plain);
		return sizeof plain;
	case 2:
		memcpy(words, record.bytes, record.count < room ? record.count : room);
		return record.count < room ? record.count : room;
	default:
		for (size_t k = 0; k < 500; k++)
			words[k] = (unsigned char)(i * 31 + k * k * 7);
		return 500;
	}
}

static void *keep_coming(void *arg)
{
	struct tls_options o = {.key = &other};
	struct tls_config *wrong;

	check(!tls_config_open(&o, &wrong), "no TLS");
	for (unsigned i = 0; !atomic_load(&enough); i++) {
		static unsigned char words[8192];
		size_t n = next_words(i, wrong, words, sizeof words);
		int fd = client_connect(&d, false);
		struct pollfd p = {.fd = fd, .events = POLLIN};

		send_some(fd, words, n);
		(void)poll(&p, 1, 2);
		hear(fd);
		close(fd);
		atomic_fetch_add(&came, 1);
		usleep(PAUSE_US);
	}
	tls_config_close(wrong);
	return arg;
}

static void one_after_the_other(struct ps_volume *v)
{
	uint64_t alone_ns = read_windows(v, WINDOWS, 0), begin;
	struct wire_stat before = stat_of(), after;
	pthread_t t;
	bool good;

	pthread_create(&t, NULL, keep_coming, NULL);
	while (!atomic_load(&came))
		usleep(100);
	begin = clock_ns();
	good = at_most_doubled(v, "while they come", alone_ns);
	/* Some more, whatever the windows were like. */
	while (atomic_load(&came) < 50)
		(void)read_window(v);
	atomic_store(&enough, true);
	pthread_join(t, NULL);
	printf("%u strangers, one after the other, in %.1f s\n", atomic_load(&came),
	       (double)(clock_ns() - begin) / 1e9);
	check(good, "strangers who keep coming make the borrower wait");
	after = stat_of();
	check(after.slabs_free == before.slabs_free && after.pages_written == before.pages_written,
	      "strangers did something");
}

/* --- a donor that is none --- */

static void *impostor(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	struct {
		struct wire_header head;
		struct wire_welcome welcome;
	} w = {.head = {.op = htole16(WIRE_HELLO),
			.flags = htole16(WIRE_F_REPLY),
			.bytes = htole32(sizeof w.welcome),
			.tag = htole64(1)},
	       .welcome = {.magic = htole64(WIRE_MAGIC),
			   .major = htole16(WIRE_MAJOR),
			   .minor = htole16(WIRE_MINOR),
			   .slab_pages = htole32(16)}};
	static unsigned char buf[4096];
	ssize_t n = recv(fd, buf, sizeof buf, 0);

	check(n > 0 && buf[0] == 22, "a borrower with a key spoke plainly");
	send_some(fd, &w, sizeof w);
	while (recv(fd, buf, sizeof buf, 0) > 0)
		;
	close(fd);
	return NULL;
}

static void refuses_others(void)
{
	char address[64];
	struct ps_volume *v;
	pthread_t t;
	int fd;

	check(open_volume(d.tcp, other_file, &v) == -EACCES, "a wrong key opened a volume");
	printf("a wrong key: %s\n", err_text());
	check(open_volume(d.tcp, NULL, &v) < 0, "no key opened a volume");
	printf("no key: %s\n", err_text());
	fd = own_port(address);
	pthread_create(&t, NULL, impostor, &fd);
	check(open_volume(address, key_file, &v) < 0, "an impostor was believed");
	printf("an impostor: %s\n", err_text());
	pthread_join(t, NULL);
	close(fd);
}

int main(void)
{
	const char *const more[] = {"--key", key_file, "--allow-plain", "--hello-timeout", "120s",
				    "--slab", "64K", NULL};
	struct rlimit lim;
	struct wire_stat before, after;
	struct ps_volume *v;

	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < STRANGERS + 2000) {
		printf("SKIP: the limit of open files is %llu (ulimit -Hn); this needs %u\n",
		       (unsigned long long)lim.rlim_max, STRANGERS + 2000);
		return 77;
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	signal(SIGPIPE, SIG_IGN);
	setlinebuf(stdout);
	make_key(key_file, "strangers-key", &borrower);
	make_key(other_file, "strangers-other", &other);
	donor_start(&d, more);
	check(!open_volume(d.tcp, key_file, &v), err_text());
	check(!ps_reserve(v, 0, PAGES), err_text());
	for (unsigned i = 0; i < PAGES; i++) {
		fill_page(page, i);
		check(!transfer(v, PS_WRITE, i, page), "a borrower's write failed");
	}
	before = stat_of();
	refuses_others();
	replay();
	one_after_the_other(v);
	crowd(v);
	after = stat_of();
	check(after.slabs_free == before.slabs_free && after.borrowers == before.borrowers,
	      "strangers have slabs");
	check(after.pages_written == before.pages_written ||
		      le64toh(after.pages_written) == le64toh(before.pages_written) + 1,
	      "strangers have written");
	(void)read_window(v);
	ps_close(v);
	donor_stop(&d);
	unlink(key_file);
	unlink(other_file);
	return 0;
}
