/* SPDX-License-Identifier: MIT */
/*
 * `infuse run`: an unmodified program whose large memory is the donors'. Everything that can be
 * wrong is found before the command starts; then it takes this process's place, with the preload
 * library and its settings in the environment.
 */
#include "cli/run.h"
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/options.h"
#include "common/parse.h"
#include "common/probe.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY    "libinject-preload.so"
#define MAX_DONORS 64
#define ALIGN_SIZE (4ull << 20)

#define LOCAL_MIN (64u << 10) /* what a heap needs at least */

struct config {
	struct opt_share local;
	struct opt_list donor;
	const char *registry;
	uint64_t refresh_ns;
	char follows[2 * PATH_MAX]; /* the registry that the donors are of */
	uint64_t heap_min, heap_size, donor_size;
	const char *prefetch;
	struct donor_keys keys;
	uint64_t replicas;
	const char *code, *spill;
	uint64_t spill_max;
	bool seal;
	bool stats;
	const char *stats_file;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt table[] = {
	{.name = "local",
	 .letter = 'l',
	 .type = OPT_SHARE,
	 .offset = FIELD(local),
	 .arg = "SIZE",
	 .help = "keep so much in local memory, or PERCENT% of what is allocated [256M]"},
	{.name = "donor",
	 .letter = 'd',
	 .type = OPT_LIST,
	 .offset = FIELD(donor),
	 .arg = "ADDR",
	 .help = "use this donor: tcp:HOST:PORT, unix:PATH, shm:PATH; may be repeated"},
	{.name = "registry",
	 .type = OPT_STRING,
	 .offset = FIELD(registry),
	 .arg = "FILE",
	 .help = "use the donors announced there"},
	{.name = "refresh",
	 .type = OPT_DURATION,
	 .offset = FIELD(refresh_ns),
	 .arg = "TIME",
	 .help = "look there so often for new donors, at least [1min]",
	 .min = 1000000},
	DONOR_KEY_OPTIONS(struct config, keys),
	{.name = "replicas",
	 .type = OPT_NUMBER,
	 .offset = FIELD(replicas),
	 .arg = "N",
	 .help = "keep every page on so many donors [1]",
	 .min = 1,
	 .max = 3},
	{.name = "code",
	 .type = OPT_STRING,
	 .offset = FIELD(code),
	 .arg = "K+M",
	 .help = "cut pages into K fragments and add M parities, on K+M donors"},
	{.name = "spill",
	 .type = OPT_STRING,
	 .offset = FIELD(spill),
	 .arg = "DIR",
	 .help = "what no donor has room for goes to a file in this folder"},
	{.name = "spill-max",
	 .type = OPT_SIZE,
	 .offset = FIELD(spill_max),
	 .arg = "SIZE",
	 .help = "at most so much of each process [all the heap]"},
	{.name = "seal",
	 .type = OPT_FLAG,
	 .offset = FIELD(seal),
	 .help = "encrypt pages before they leave this process"},
	{.name = "heap-min",
	 .type = OPT_SIZE,
	 .offset = FIELD(heap_min),
	 .arg = "SIZE",
	 .help = "leave smaller mappings to the kernel [128K]"},
	{.name = "heap-size",
	 .type = OPT_SIZE,
	 .offset = FIELD(heap_size),
	 .arg = "SIZE",
	 .help = "most that a process can allocate [64G]",
	 .min = 1 << 20},
	{.name = "prefetch",
	 .type = OPT_STRING,
	 .offset = FIELD(prefetch),
	 .arg = "NAME",
	 .help = "auto, none, sequential, stride, majority, replay:FILE [auto]"},
	{.name = "stats",
	 .letter = 's',
	 .type = OPT_FLAG,
	 .offset = FIELD(stats),
	 .help = "say what the heap did when a process ends"},
	{.name = "stats-file",
	 .type = OPT_STRING,
	 .offset = FIELD(stats_file),
	 .arg = "FILE",
	 .help = "append the same to FILE, a JSON object a line"},
	{.name = "donor-size",
	 .type = OPT_SIZE,
	 .offset = FIELD(donor_size),
	 .arg = "SIZE",
	 .help = "memory of the private server [75% of what is available]",
	 .min = ALIGN_SIZE},
};

#define REPLAY "replay:"

static const struct opt_command command = {
	.name = "infuse run",
	.usage = "[OPTIONS] [--] COMMAND [ARGS]...",
	.summary = "Runs a program whose large memory lives in the memory of donors.",
	.table = table,
	.count = sizeof table / sizeof *table,
	.stop_at_word = true,
};

static int fail(int status)
{
	fprintf(stderr, "infuse run: %s\n", err_text());
	return status;
}

/* In the build tree or an installation; LD_PRELOAD can't name every path. */
static int find_library(char *path, size_t len)
{
	static const char *const places[] = {"../lib", "../" INFUSE_LIBDIR};
	char folder[PATH_MAX], try[2 * PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
	char *slash;

	folder[n > 0 ? n : 0] = 0;
	slash = strrchr(folder, '/');
	if (slash)
		*slash = 0;
	for (size_t i = 0; slash && i < 2; i++) {
		char *real;

		snprintf(try, sizeof try, "%s/%s/" LIBRARY, folder, places[i]);
		real = realpath(try, NULL);
		if (!real)
			continue;
		snprintf(path, len, "%s", real);
		free(real);
		if (strpbrk(path, " :"))
			return err_fail(-EINVAL,
					"%s: LD_PRELOAD takes no path with a space or a colon; "
					"install infuse elsewhere",
					path);
		return 0;
	}
	return err_fail(-ENOENT, LIBRARY " is not in %s/../lib: this installation is not complete",
			folder);
}

/* The library would find out too, but only in the program. */
static int prefetch_check(const char *name)
{
	static const char *const known[] = {"auto", "none", "sequential", "stride", "majority"};

	if (!strncmp(name, REPLAY, strlen(REPLAY)) && name[strlen(REPLAY)])
		return 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(known[i], name))
			return 0;
	return err_fail(-EINVAL,
			"--prefetch '%s' is not one of auto|none|sequential|stride|majority|replay:FILE",
			name);
}

static int code_check(const struct config *c)
{
	unsigned k, m;

	if (c->replicas > 1)
		return err_fail(-EINVAL, "--replicas or --code, not both");
	return parse_code(c->code, &k, &m);
}

/* Children may have other working folders. */
static int prefetch_set(const char *name)
{
	char cwd[PATH_MAX], full[2 * PATH_MAX];

	if (strncmp(name, REPLAY, strlen(REPLAY)) || name[strlen(REPLAY)] == '/' ||
	    !getcwd(cwd, sizeof cwd))
		return setenv("INFUSE_PREFETCH", name, 1);
	snprintf(full, sizeof full, REPLAY "%s/%s", cwd, name + strlen(REPLAY));
	return setenv("INFUSE_PREFETCH", full, 1);
}

/* "delay,us=200:tcp:HOST:PORT" is reached at "tcp:HOST:PORT". */
static const char *behind_filters(const char *address)
{
	static const char *const known[] = {"tcp:", "unix:", "shm:"};
	const char *at = address;

	while (at) {
		for (size_t i = 0; i < 3; i++)
			if (!strncmp(at, known[i], strlen(known[i])))
				return at;
		at = strchr(at, ':');
		at = at ? at + 1 : NULL;
	}
	return address;
}

/* The device holds memory and descriptors of the program's own: a fork, or a close of all, ends that. */
static int refuse_rdma(const char *address)
{
	const char *at = strstr(address, "rdma:");

	if (!at || (at != address && at[-1] != ':' && at[-1] != ','))
		return 0;
	return err_fail(-EOPNOTSUPP,
			"'%s': a program that may fork can't have its pages over RDMA; name the "
			"donor's tcp: or unix: address",
			address);
}

/* Those that were named: all of them must answer. */
static int check_named(const struct opt_list *named, char *to, size_t len)
{
	struct opt_list plain = {.count = named->count};
	struct donor_list list;
	size_t at = 0;
	int r;

	for (unsigned i = 0; i < named->count; i++) {
		r = refuse_rdma(named->item[i]);
		if (r)
			return r;
		plain.item[i] = behind_filters(named->item[i]);
		at += (size_t)snprintf(to + (at < len ? at : len), at < len ? len - at : 0, "%s%s",
				       i ? " " : "", named->item[i]);
	}
	if (at >= len)
		return err_fail(-E2BIG, "the donors' addresses are longer than %zu bytes", len - 1);
	r = donor_find(&plain, NULL, &list);
	if (r)
		return r;
	donor_ask(&list, 0, 3 * DONOR_TIMEOUT);
	r = donor_verdict(&list);
	donor_list_free(&list);
	return r;
}

/* Those that announced themselves: whoever answers. A UNIX socket means shared memory. */
static int take_announced(const struct donor_list *l, char *to, size_t len)
{
	const char *why = NULL;
	unsigned taken = 0;
	size_t at = 0;

	for (size_t i = 0; i < l->count && taken < MAX_DONORS; i++) {
		const struct donor *d = &l->item[i];
		const char *address = d->address[d->answered].text;
		bool here = !strncmp(address, "unix:", 5);
		int n;

		if (d->status) {
			fprintf(stderr, "infuse run: going on without a donor: %s\n", d->why);
			why = d->why;
			continue;
		}
		n = snprintf(to + at, len - at, "%s%s%s", at ? " " : "", here ? "shm:" : "",
			     here ? address + 5 : address);
		if ((size_t)n >= len - at)
			break;
		at += (size_t)n;
		taken++;
	}
	to[at] = 0;
	if (!taken && why)
		return err_fail(-EHOSTUNREACH, "no donor can be reached: %s", why);
	return 0;
}

static int from_environment(struct opt_list *list, char *copy)
{
	char *save;

	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (list->count == OPT_LIST_MAX)
			return err_fail(-E2BIG, "INFUSE_DONOR names more than %d donors",
					OPT_LIST_MAX);
		list->item[list->count++] = w;
	}
	return 0;
}

static int private_donor(const struct config *c, const struct probe *p, char *to, size_t len)
{
	uint64_t bytes = c->donor_size ? c->donor_size : p->available_bytes / 4 * 3;
	char size[32];
	int r;

	bytes &= ~(ALIGN_SIZE - 1);
	r = run_server_start(bytes, to, len);
	if (r)
		return r;
	fprintf(stderr,
		"infuse run: no donors are known; a private memory server lends up to %s of this "
		"machine's memory\n",
		format_size(bytes, size, sizeof size));
	return 0;
}

/* The keeper has another working folder. */
static void note_registry(struct config *c, const char *where)
{
	const char *url = c->registry ? c->registry : where;
	char cwd[PATH_MAX];
	bool whole = *url == '/' || strchr(url, ':') || !getcwd(cwd, sizeof cwd);

	snprintf(c->follows, sizeof c->follows, "%s%s%s", whole ? "" : cwd, whole ? "" : "/", url);
}

static int choose_donors(struct config *c, const struct probe *p, char *to, size_t len)
{
	struct opt_list named = c->donor;
	struct donor_list list;
	const char *env = getenv("INFUSE_DONOR");
	char copy[4096];
	int r;

	if (!named.count && !c->registry && env) {
		snprintf(copy, sizeof copy, "%s", env);
		r = from_environment(&named, copy);
		if (r)
			return r;
	}
	if (named.count)
		return check_named(&named, to, len);
	r = donor_find(&named, c->registry, &list);
	if (r && (r != -ENOENT || c->registry))
		return r;
	*to = 0;
	if (!r) {
		note_registry(c, list.where);
		donor_ask(&list, 0, DONOR_TIMEOUT);
		r = take_announced(&list, to, len);
		donor_list_free(&list);
		if (r)
			return r;
	}
	if (!*to && c->registry)
		return err_fail(-ENOENT, "no donors are announced in %s", c->registry);
	if (*to)
		return 0;
	c->follows[0] = 0;
	return private_donor(c, p, to, len);
}

static int set_size(const char *name, uint64_t bytes)
{
	char text[32];

	if (!bytes)
		return 0;
	snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
	return setenv(name, text, 1);
}

/* Children may have other working folders. */
static int set_path(const char *name, const char *path)
{
	char cwd[PATH_MAX], full[2 * PATH_MAX];
	bool whole = *path == '/' || !getcwd(cwd, sizeof cwd);

	snprintf(full, sizeof full, "%s%s%s", whole ? "" : cwd, whole ? "" : "/", path);
	return setenv(name, full, 1);
}

static int set_environment(const struct config *c, const char *library, const char *donors,
			   const char *file)
{
	const char *others = getenv("LD_PRELOAD");
	char preload[2 * PATH_MAX], percent[16];
	int r = 0;

	snprintf(preload, sizeof preload, "%s%s%s", library, others && *others ? " " : "",
		 others ? others : "");
	r |= setenv("LD_PRELOAD", preload, 1);
	r |= setenv("INFUSE_DONOR", donors, 1);
	r |= file ? setenv("INFUSE_DONOR_FILE", file, 1) : unsetenv("INFUSE_DONOR_FILE");
	if (c->local.percent) {
		snprintf(percent, sizeof percent, "%u%%", c->local.percent);
		r |= setenv("INFUSE_LOCAL", percent, 1);
	} else {
		r |= set_size("INFUSE_LOCAL", c->local.bytes);
	}
	r |= set_size("INFUSE_HEAP_MIN", c->heap_min);
	r |= set_size("INFUSE_HEAP_SIZE", c->heap_size);
	if (c->prefetch)
		r |= prefetch_set(c->prefetch);
	r |= donor_keys_export(&c->keys);
	r |= set_size("INFUSE_REPLICAS", c->replicas);
	if (c->code)
		r |= setenv("INFUSE_CODE", c->code, 1);
	if (c->spill)
		r |= set_path("INFUSE_SPILL", c->spill);
	r |= set_size("INFUSE_SPILL_MAX", c->spill_max);
	if (c->seal)
		r |= setenv("INFUSE_SEAL", "1", 1);
	if (c->stats)
		r |= setenv("INFUSE_STATS", "1", 1);
	if (c->stats_file)
		r |= set_path("INFUSE_STATS_FILE", c->stats_file);
	return r ? err_fail(-errno, "environment: %s", strerror(errno)) : 0;
}

int verb_run(int argc, char **argv)
{
	struct config c = {0};
	char library[PATH_MAX], donors[4096], file[128];
	struct probe probe;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (c.code && code_check(&c))
		return VERB_USAGE;
	if (c.prefetch && prefetch_check(c.prefetch))
		return VERB_USAGE;
	if (first >= argc)
		return err_fail(VERB_USAGE, "which command? see infuse run --help");
	if (c.local.bytes && c.local.bytes < LOCAL_MIN)
		return err_fail(VERB_USAGE, "--local: less than 64K of local memory makes no sense");
	argv += first;
	r = run_check_program(argv[0]);
	if (r)
		return fail(r);
	if (donor_secure(&c.keys, KEY_BORROWER) || probe_machine(&probe) || find_library(library, sizeof library) ||
	    choose_donors(&c, &probe, donors, sizeof donors) ||
	    (c.follows[0] && run_follow_start(c.follows, c.refresh_ns, file, sizeof file)) ||
	    set_environment(&c, library, donors, c.follows[0] ? file : NULL))
		return fail(RUN_FAILED);
	execvp(argv[0], argv);
	r = errno;
	err_fail(-r, "%s: %s", argv[0], strerror(r));
	return fail(r == ENOENT ? RUN_NOT_FOUND : RUN_CANT);
}
