/* SPDX-License-Identifier: MIT */
/* The table of options and the limits of the machine that they must fit in. */
#include "server/options.h"
#include "common/clock.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SPARE_FDS       256u /* beyond slabs: listeners, rings, and some connections */
#define SPARE_MAPS      1024u
#define MAX_CONNECTIONS 65536u

#define FIELD(f) offsetof(struct srv_config, f)

static const struct opt table[] = {
	{.name = "listen",
	 .letter = 'l',
	 .type = OPT_LIST,
	 .offset = FIELD(listen),
	 .arg = "ADDRESS",
	 .help = "tcp:HOST:PORT, rdma:HOST:PORT or unix:PATH, several; default "
		 "tcp:127.0.0.1:4770"},
	{.name = "size",
	 .letter = 's',
	 .type = OPT_SIZE,
	 .offset = FIELD(size_bytes),
	 .arg = "SIZE",
	 .help = "memory to lend; default half of what is available",
	 .min = 4096},
	{.name = "slab",
	 .type = OPT_SIZE,
	 .offset = FIELD(slab_bytes),
	 .arg = "SIZE",
	 .help = "unit of lending, a power of two; default 4M",
	 .min = 4096,
	 .max = 1ull << 40},
	{.name = "hugepages",
	 .type = OPT_FLAG,
	 .offset = FIELD(hugepages),
	 .help = "lend huge pages (no shm: transport then)"},
	{.name = "lazy",
	 .type = OPT_FLAG,
	 .offset = FIELD(lazy),
	 .help = "take memory when it is used, and do not lock it"},
	{.name = "name",
	 .letter = 'n',
	 .type = OPT_STRING,
	 .offset = FIELD(name),
	 .arg = "NAME",
	 .help = "how the donor is called; default the host's name"},
	{.name = "domain",
	 .type = OPT_STRING,
	 .offset = FIELD(domain),
	 .arg = "LABEL",
	 .help = "failure domain: replicas go to different ones"},
	{.name = "threads",
	 .type = OPT_NUMBER,
	 .offset = FIELD(threads),
	 .arg = "N",
	 .help = "threads that serve; default one a core",
	 .min = 1,
	 .max = 1024},
	{.name = "max-connections",
	 .type = OPT_NUMBER,
	 .offset = FIELD(max_connections),
	 .arg = "N",
	 .help = "connections at a time; default what the limit of open files allows",
	 .min = 1,
	 .max = 1000000},
	{.name = "spin",
	 .type = OPT_DURATION,
	 .offset = FIELD(spin_ns),
	 .arg = "TIME",
	 .help = "keep looking for so long before sleeping; default 50us"},
	{.name = "grace",
	 .type = OPT_DURATION,
	 .offset = FIELD(grace_ns),
	 .arg = "TIME",
	 .help = "keep the memory of a borrower that is gone; default 10s"},
	{.name = "hello-timeout",
	 .type = OPT_DURATION,
	 .offset = FIELD(hello_ns),
	 .arg = "TIME",
	 .help = "a stranger's time to say hello; default 5s"},
	{.name = "drain-timeout",
	 .type = OPT_DURATION,
	 .offset = FIELD(drain_ns),
	 .arg = "TIME",
	 .help = "wait for borrowers when told to end; default 10s"},
	{.name = "exit-idle",
	 .type = OPT_DURATION,
	 .offset = FIELD(exit_idle_ns),
	 .arg = "TIME",
	 .help = "end when all borrowers have been gone for so long; default never"},
	{.name = "reclaim-below",
	 .type = OPT_SHARE,
	 .offset = FIELD(reclaim_below),
	 .arg = "SIZE|PERCENT",
	 .help = "lend less when less memory than that is available; default 5%"},
	{.name = "reclaim-target",
	 .type = OPT_SHARE,
	 .offset = FIELD(reclaim_target),
	 .arg = "SIZE|PERCENT",
	 .help = "and so much less that this is available; default 10%"},
	{.name = "reclaim-pressure",
	 .type = OPT_NUMBER,
	 .offset = FIELD(reclaim_pressure),
	 .arg = "PERCENT",
	 .help = "lend less when somebody waits for memory so much of the time; default 20, 0: no",
	 .max = 100},
	{.name = "no-reclaim",
	 .type = OPT_FLAG,
	 .offset = FIELD(no_reclaim),
	 .help = "lend all of it whatever this machine's programs need"},
	{.name = "quota",
	 .type = OPT_SIZE,
	 .offset = FIELD(quota_bytes),
	 .arg = "SIZE",
	 .help = "most that one borrower gets; default no limit",
	 .min = 4096},
	{.name = "insecure",
	 .type = OPT_FLAG,
	 .offset = FIELD(insecure),
	 .help = "listen where other machines can connect, without keys"},
	{.name = "key",
	 .letter = 'k',
	 .type = OPT_STRING,
	 .offset = FIELD(key),
	 .arg = "FILE",
	 .help = "let in over TCP who knows a key of this file, by TLS"},
	{.name = "tls-ca",
	 .type = OPT_STRING,
	 .offset = FIELD(tls_ca),
	 .arg = "FILE",
	 .help = "let in over TCP who has a certificate by this CA (PEM)"},
	{.name = "tls-cert",
	 .type = OPT_STRING,
	 .offset = FIELD(tls_cert),
	 .arg = "FILE",
	 .help = "the server's own certificate (PEM)"},
	{.name = "tls-cert-key",
	 .type = OPT_STRING,
	 .offset = FIELD(tls_cert_key),
	 .arg = "FILE",
	 .help = "and its private key, mode 0600 (PEM)"},
	{.name = "allow-plain",
	 .type = OPT_FLAG,
	 .offset = FIELD(allow_plain),
	 .help = "also without TLS (kernel borrowers): the bytes are not encrypted"},
	{.name = "rdma-keys",
	 .type = OPT_CHOICE,
	 .offset = FIELD(rdma_keys),
	 .arg = "KIND",
	 .choices = "auto|regions|windows",
	 .help = "how RDMA devices are let at slabs; default auto: windows that hold"},
	{.name = "registry",
	 .type = OPT_STRING,
	 .offset = FIELD(registry),
	 .arg = "URL",
	 .help = "where to announce the donor; default the machine's registry"},
	{.name = "no-registry",
	 .type = OPT_FLAG,
	 .offset = FIELD(no_registry),
	 .help = "do not announce it"},
	{.name = "ready-file",
	 .type = OPT_STRING,
	 .offset = FIELD(ready_file),
	 .arg = "PATH",
	 .help = "written when ready: the actual addresses, one a line"},
	{.name = "config",
	 .letter = 'c',
	 .type = OPT_STRING,
	 .offset = FIELD(config_file),
	 .arg = "FILE",
	 .help = "settings that SIGHUP reads again"},
	{.name = "quiet",
	 .letter = 'q',
	 .type = OPT_FLAG,
	 .offset = FIELD(quiet),
	 .help = "warnings and errors only"},
	{.name = "verbose",
	 .letter = 'v',
	 .type = OPT_FLAG,
	 .offset = FIELD(verbose),
	 .help = "tell more"},
};

static const struct opt_command command = {
	.name = SRV_COMMAND,
	.usage = "[OPTIONS]",
	.summary = "Lends this machine's memory to processes that need more than they have.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static void defaults(struct srv_config *c)
{
	*c = (struct srv_config){
		.grace_ns = 10 * NSEC_PER_SEC,
		.drain_ns = 10 * NSEC_PER_SEC,
		.hello_ns = 5 * NSEC_PER_SEC,
		.spin_ns = 50 * NSEC_PER_USEC,
		.domain = "",
		.reclaim_below = {.percent = 5},
		.reclaim_target = {.percent = 10},
		.reclaim_pressure = 20,
		.rdma_keys = "auto",
	};
}

static int read_words(int argc, char **argv, struct srv_config *c)
{
	int first, r = opt_parse(&command, argc, argv, c, &first);

	if (!r && first < argc)
		r = err_fail(-EINVAL, "'%s' is not an option; see %s --help", argv[first],
			     SRV_COMMAND);
	return r;
}

int srv_config_read(int argc, char **argv, struct srv_config *ret)
{
	const char *file;
	int r;

	/* Once to find the file, once to have the command line win over it. */
	defaults(ret);
	r = read_words(argc, argv, ret);
	file = ret->config_file;
	if (r || !file)
		return r;
	defaults(ret);
	r = srv_config_file(file, ret);
	return r ? r : read_words(argc, argv, ret);
}

/* The number in the line of a /proc file that begins with key. */
static uint64_t read_number(const char *path, const char *key, uint64_t otherwise)
{
	CLEANUP_FILE FILE *f = fopen(path, "re");
	char line[128];

	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			return strtoull(line + strlen(key), NULL, 10);
	return otherwise;
}

static uint64_t raise_nofile(void)
{
	struct rlimit lim = {1024, 1024};

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	getrlimit(RLIMIT_NOFILE, &lim);
	return lim.rlim_cur;
}

static int fit_size(struct srv_config *c, uint64_t max_slabs)
{
	uint64_t available = 1024 * read_number("/proc/meminfo", "MemAvailable:", 0);
	bool chosen = c->slab_bytes;
	char a[32], b[32];

	if (!c->slab_bytes)
		c->slab_bytes = 4u << 20;
	if (c->slab_bytes & (c->slab_bytes - 1))
		return err_fail(-EINVAL, "--slab: %s is not a power of two",
				format_size(c->slab_bytes, a, sizeof a));
	if (c->hugepages && c->slab_bytes < 2u << 20)
		return err_fail(-EINVAL, "--slab: with --hugepages it is 2 MiB at least");
	if (!c->size_bytes)
		c->size_bytes = available / 2;
	else if (!c->lazy && !c->hugepages && available && c->size_bytes > available)
		return err_fail(-ENOMEM, "--size: there are only %s available of %s",
				format_size(available, a, sizeof a),
				format_size(c->size_bytes, b, sizeof b));
	/* Each slab costs a descriptor and a mapping. */
	while (!chosen && c->size_bytes / c->slab_bytes > max_slabs)
		c->slab_bytes *= 2;
	if (c->size_bytes / c->slab_bytes > max_slabs)
		return err_fail(-EINVAL,
				"%llu slabs are more than this process may have (%llu): use a "
				"larger --slab, or raise the limit of open files "
				"(LimitNOFILE=) and vm.max_map_count",
				(unsigned long long)(c->size_bytes / c->slab_bytes),
				(unsigned long long)max_slabs);
	if (c->size_bytes < c->slab_bytes)
		return err_fail(-EINVAL, "--size: %s is less than one slab of %s",
				format_size(c->size_bytes, a, sizeof a),
				format_size(c->slab_bytes, b, sizeof b));
	return 0;
}

static unsigned cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) ? 1 : (unsigned)CPU_COUNT(&set);
}

int srv_config_fit(struct srv_config *c, uint32_t *slabs)
{
	uint64_t files = raise_nofile();
	uint64_t maps = read_number("/proc/sys/vm/max_map_count", "", 65530);
	uint64_t max_slabs = files > SPARE_FDS ? files - SPARE_FDS : 1, room;
	static char host[256];
	int r;

	if (maps > SPARE_MAPS && maps - SPARE_MAPS < max_slabs)
		max_slabs = maps - SPARE_MAPS;
	r = fit_size(c, max_slabs);
	if (r)
		return r;
	*slabs = (uint32_t)(c->size_bytes / c->slab_bytes);
	if (!c->threads)
		c->threads = cores();
	if (!c->name) {
		if (gethostname(host, sizeof host - 1))
			strcpy(host, "localhost");
		c->name = host;
	}
	if (!*c->name || strchr(c->name, '/') || strlen(c->name) > 63 || strlen(c->domain) > 63)
		return err_fail(-EINVAL, "--name and --domain are 1 to 63 bytes without '/'");
	if (!c->listen.count)
		c->listen.item[c->listen.count++] = "tcp:127.0.0.1:4770";
	/* A thread needs two for itself. */
	room = files - *slabs;
	room = room > 2 * c->threads + 64 ? room - 2 * c->threads - 64 : 1;
	if (c->max_connections > room)
		return err_fail(-EINVAL,
				"--max-connections: %llu are more than the limit of open files "
				"leaves beside the slabs (%llu); raise it (LimitNOFILE=)",
				(unsigned long long)c->max_connections, (unsigned long long)room);
	if (!c->max_connections)
		c->max_connections = room < MAX_CONNECTIONS ? room : MAX_CONNECTIONS;
	return 0;
}
