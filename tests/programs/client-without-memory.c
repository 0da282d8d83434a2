/* SPDX-License-Identifier: MIT */
/*
 * The page store's client against real donors, again and again: each time another one of its mappings is
 * refused (its library takes memory in no other way), until a run has none left to refuse. Each run opens a
 * volume, writes, reads and compares, loses a donor if it was given one, is made whole, takes a snapshot,
 * and closes. A run may end with an error that has words; it may not crash, hang, read a wrong byte,
 * or leave a mapping or a descriptor behind.
 */
#include "common/clock.h"
#include "common/error.h"
#include "common/options.h"
#include "common/parse.h"
#include "common/sys.h"
#include <infuse/pagestore.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES    96u
#define RUN      8u
#define HANGS_S  60 /* for one run, on any machine */
#define WHOLE_NS (20 * NSEC_PER_SEC)

static struct config {
	struct opt_list donor;
	uint64_t replicas, most;
	const char *code, *key, *victim, *server;
	bool seal, once, lenient;
} config = {.most = 100000};

#define OPTION(n, t, field, a, h)                                                                  \
	{.name = n, .type = t, .offset = offsetof(struct config, field), .arg = a, .help = h}

static const struct opt table[] = {
	OPTION("donor", OPT_LIST, donor, "ADDR", "a donor"),
	OPTION("replicas", OPT_NUMBER, replicas, "N", "copies"),
	OPTION("code", OPT_STRING, code, "K+M", "fragments and parities"),
	OPTION("key", OPT_STRING, key, "FILE", "the donors' key"),
	OPTION("seal", OPT_FLAG, seal, NULL, "seal pages"),
	OPTION("victim", OPT_STRING, victim, "PATH", "one more donor at this socket, which dies in each run"),
	OPTION("server", OPT_STRING, server, "PATH", "the server for it"),
	OPTION("once", OPT_FLAG, once, NULL, "one run, nothing is refused"),
	OPTION("lenient", OPT_FLAG, lenient, NULL, "errors are right, too: the donor has its troubles"),
	OPTION("most", OPT_NUMBER, most, "N", "runs at most"),
};

long failing_call(long n, long a, long b, long c, long d, long e, long f);

static uint64_t asked, fail_at;
static int64_t mapped;
static bool refused;

long failing_call(long n, long a, long b, long c, long d, long e, long f)
{
	long r;

	if (n == SYS_mmap && ++asked == fail_at) {
		refused = true;
		return -ENOMEM;
	}
	r = sys_call6(n, a, b, c, d, e, f);
	if (n == SYS_mmap && (r >= 0 || r < -4095))
		mapped += (b + 4095) & ~4095l;
	if (n == SYS_munmap && !r)
		mapped -= (b + 4095) & ~4095l;
	return r;
}

static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void on_alarm(int sig)
{
	static const char text[] = "client-without-memory: a run does not end\n";

	(void)sig;
	if (write(2, text, sizeof text - 1) < 0)
		_exit(3);
	_exit(2);
}

/* --- the donor that dies --- */

static pid_t victim;

static void victim_start(void)
{
	const struct timespec nap = {.tv_nsec = 2 * (long)NSEC_PER_MSEC};
	char listen[300], ready[300];
	uint64_t end = clock_ns() + 20 * NSEC_PER_SEC;

	if (!config.victim)
		return;
	snprintf(listen, sizeof listen, "unix:%s", config.victim);
	snprintf(ready, sizeof ready, "%s.ready", config.victim);
	while (clock_ns() < end) {
		unlink(ready);
		victim = fork();
		if (!victim) {
			execl(config.server, config.server, "--listen", listen, "--size", "8M", "--slab", "64K",
			      "--lazy", "--quiet", "--no-reclaim", "--no-registry", "--threads", "1",
			      "--ready-file", ready, (char *)NULL);
			_exit(127);
		}
		while (access(ready, F_OK) && !waitpid(victim, NULL, WNOHANG))
			nanosleep(&nap, NULL);
		if (!access(ready, F_OK))
			return;
		/* (The last one's socket may be there for a moment.) */
	}
	errx(1, "the victim does not start");
}

static void victim_kill(void)
{
	if (victim <= 0)
		return;
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	victim = 0;
}

/* --- a run --- */

static uint64_t version[PAGES]; /* UINT64_MAX: nobody knows */
static uint64_t mem[RUN][PS_PAGE_SIZE / 8];

static void fill(uint64_t *p, uint64_t page)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		p[i] = version[page] ? (version[page] << 32 | page) * 0x9e3779b97f4a7c15ull + i : 0;
}

static int batch(struct ps_volume *v, enum ps_kind kind, uint64_t page)
{
	struct ps_vec vec = {.page = page, .count = RUN, .buf = mem};
	struct ps_batch b = {.kind = kind, .vecs = 1, .vec = &vec}, *done;
	struct ps_port *p = ps_port(v, page / RUN % 2);

	if (ps_submit(p, &b, clock_ns()))
		errx(1, "a batch is not taken");
	while (!ps_poll(p, clock_ns(), &done, 1)) {
		ps_maintain(v, clock_ns());
		ps_wait(p, NSEC_PER_MSEC);
	}
	return b.status;
}

static bool write_all(struct ps_volume *v)
{
	bool fine = true;

	for (uint64_t page = 0; page < PAGES; page += RUN) {
		int r;

		for (uint64_t i = 0; i < RUN; i++) {
			version[page + i] = version[page + i] == UINT64_MAX ? 1000 : version[page + i] + 1;
			fill(mem[i], page + i);
		}
		r = batch(v, PS_WRITE, page);
		for (uint64_t i = 0; i < RUN && r; i++)
			version[page + i] = UINT64_MAX;
		fine = fine && !r;
	}
	return fine;
}

static bool read_all(struct ps_volume *v)
{
	static uint64_t want[PS_PAGE_SIZE / 8];
	bool fine = true;

	for (uint64_t page = 0; page < PAGES; page += RUN) {
		if (batch(v, PS_READ, page)) {
			fine = false;
			continue;
		}
		for (uint64_t i = 0; i < RUN; i++) {
			fill(want, page + i);
			if (version[page + i] != UINT64_MAX && memcmp(want, mem[i], sizeof want))
				errx(1, "mapping %llu refused: page %llu has wrong bytes",
				     (unsigned long long)fail_at, (unsigned long long)(page + i));
		}
	}
	return fine;
}

/* Whatever was refused, the next try has it. */
static void until_whole(struct ps_volume *v)
{
	uint64_t end = clock_ns() + WHOLE_NS;
	struct ps_health h;

	for (;;) {
		uint64_t ns = ps_maintain(v, clock_ns());

		ps_health(v, &h);
		if (!h.degraded && !h.filling)
			return;
		if (clock_ns() > end)
			errx(1, "mapping %llu refused: %llu slabs are not made whole",
			     (unsigned long long)fail_at, (unsigned long long)h.degraded);
		ps_maintain_wait(v, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
}

static int use(struct ps_volume *v, const char **what)
{
	bool fine;
	int r = ps_reserve(v, 0, PAGES);

	*what = "no room";
	if (r)
		return r;
	*what = "pages";
	fine = write_all(v) && read_all(v);
	if (victim) {
		victim_kill();
		fine = write_all(v) && fine;
		until_whole(v);
		fine = read_all(v) && fine;
	}
	if (!fine && !refused && !config.lenient)
		return err_fail(-EIO, "a page failed, and nothing was refused");
	*what = "no snapshot";
	r = ps_snapshot(v);
	if (r)
		return r;
	ps_snapshot_drop(v, false);
	*what = "no release, or no room after it";
	r = ps_release(v, 0, PAGES / 2);
	memset(version, 0, PAGES / 2 * sizeof *version);
	if (!r)
		r = ps_reserve(v, 0, PAGES);
	if (r)
		return r;
	fine = read_all(v) && write_all(v) && read_all(v);
	return fine || refused || config.lenient ? 0 : err_fail(-EIO, "a page failed at last, and nothing was refused");
}

static void run(struct ps_options *o)
{
	struct ps_volume *v;
	const char *what = "no volume";
	int r;

	memset(version, 0, sizeof version);
	err_fail(0, "%s", "");
	alarm(HANGS_S);
	victim_start();
	asked = 0;
	refused = false;
	r = ps_open(o, &v);
	if (!r) {
		r = use(v, &what);
		ps_close(v);
	}
	if (r && !refused && !config.lenient)
		errx(1, "nothing was refused, but: %s: %s", what, err_text());
	if (r && !*err_text())
		errx(1, "mapping %llu refused: %s, and no words", (unsigned long long)fail_at, what);
	victim_kill();
	alarm(0);
}

int main(int argc, char **argv)
{
	static const struct opt_command cmd = {.name = "client-without-memory",
					       .usage = "[OPTIONS]",
					       .summary = "Refuses each mapping in turn.",
					       .table = table,
					       .count = sizeof table / sizeof *table};
	struct ps_options o = {.name = "without-memory",
			       .pages = PAGES,
			       .ports = 2,
			       .depth = 4,
			       .deadline_ns = 20 * NSEC_PER_SEC,
			       .suspect_ns = 10 * NSEC_PER_SEC,
			       .connect_ns = 20 * NSEC_PER_SEC,
			       .transient = true};
	int first, r = opt_parse(&cmd, argc, argv, &config, &first);
	unsigned open_before, errors = 0;
	char address[300];
	int64_t before;

	if (r)
		errx(r > 0 ? 0 : 2, "%s", r > 0 ? "" : err_text());
	signal(SIGALRM, on_alarm);
	if (config.code && parse_code(config.code, &o.code_data, &o.code_parity))
		errx(2, "%s", err_text());
	snprintf(address, sizeof address, "unix:%s", config.victim ? config.victim : "");
	if (config.victim)
		config.donor.item[config.donor.count++] = address;
	o.donors = config.donor.item;
	o.donors_count = config.donor.count;
	o.replicas = (unsigned)config.replicas;
	o.seal = config.seal;
	o.key_file = config.key;
	run(&o);
	if (config.once)
		return 0;
	/* What libraries keep is there now. */
	before = mapped;
	open_before = descriptors();
	for (fail_at = 1; fail_at <= config.most; fail_at++) {
		run(&o);
		if (descriptors() != open_before)
			errx(1, "mapping %llu refused: %u descriptors are open, %u were",
			     (unsigned long long)fail_at, descriptors(), open_before);
		if (!config.key && mapped != before)
			errx(1, "mapping %llu refused: %lld bytes are still mapped", (unsigned long long)fail_at,
			     (long long)(mapped - before));
		errors += refused;
		if (!refused)
			break;
	}
	if (errors < 10)
		errx(1, "only %u mappings were refused", errors);
	printf("%u mappings were refused, each in a run of its own\n", errors);
	return 0;
}
