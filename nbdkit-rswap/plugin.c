/* SPDX-License-Identifier: MIT */
/*
 * nbdkit-rswap-plugin: a volume in donors' memory as a network block device. This file only speaks
 * nbdkit's language: parameters in, answers out; device.c does the work in nbdkit's own threads.
 *
 * The volume is opened before nbdkit goes into the background, so that what is wrong is told where
 * nbdkit was called; and once more behind a fork, which memory mapped from donors does not survive.
 */
#define NBDKIT_API_VERSION 2

#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"
#include "nbdkit-rswap/device.h"
#include "nbdkit-rswap/kept.h"
#include "registry/donors.h"
#include "registry/follow.h"
#include "registry/registry.h"
#include "secure/key.h"

#include <nbdkit-plugin.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define PORTS_MOST    4u /* by default, as many as there are cores, up to this */
#define SPIN_NS       (50 * NSEC_PER_USEC) /* what waking another core costs; as heaps do */
#define MAX_REQUEST   (32u << 20)
#define DESCRIPTION   "a volume of Infuse, in the memory of other nodes"

static struct {
	const char *volume;
	const char *registry;
	uint64_t bytes;
	const char *donor[PS_MAX_DONORS];
	unsigned donors;
	uint64_t ports, replicas, deadline_ns, suspect_ns, spin_ns;
	uint64_t code_data, code_parity, refresh_ns;
	const char *key_file, *spill;
	bool follows; /* the donors are the registry's */
	bool keep, force;
	uint64_t spill_bytes;
	bool seal;
} config = {.volume = "rswap", .spin_ns = SPIN_NS};

static struct device *device;
static struct follow *follow;
static struct kept *kept;
static pid_t opened_by;

/* nbdkit gives the client the number, and people the words. */
static int fail(void)
{
	nbdkit_error("%s", err_text());
	nbdkit_set_error(EIO); /* few others mean anything to a client */
	return -1;
}

/* --- parameters --- */

static int add_donor(const char *address)
{
	if (config.donors == PS_MAX_DONORS)
		return err_fail(-E2BIG, "more than %u donors", PS_MAX_DONORS);
	config.donor[config.donors++] = address;
	return 0;
}

/* "4+2" */
static int set_code(const char *value)
{
	char data[8] = "";
	size_t n = strcspn(value, "+");

	if (n < sizeof data)
		memcpy(data, value, n);
	if (!value[n] || parse_u64(data, 1, PS_MAX_MEMBERS, &config.code_data) ||
	    parse_u64(value + n + 1, 1, PS_MAX_MEMBERS, &config.code_parity))
		return err_fail(-EINVAL, "'%s' is not K+M, as in 4+2", value);
	return 0;
}

static int set_bool(const char *value, bool *to)
{
	if (strcmp(value, "yes") && strcmp(value, "no"))
		return err_fail(-EINVAL, "'%s' is not yes or no", value);
	*to = *value == 'y';
	return 0;
}

/* nbdkit's strings live as long as it does. */
static int set(const char *key, const char *value)
{
	if (!strcmp(key, "size"))
		return parse_size(value, &config.bytes);
	if (!strcmp(key, "donor"))
		return add_donor(value);
	if (!strcmp(key, "replicas"))
		return parse_u64(value, 1, PS_MAX_REPLICAS, &config.replicas);
	if (!strcmp(key, "code"))
		return set_code(value);
	if (!strcmp(key, "seal"))
		return set_bool(value, &config.seal);
	if (!strcmp(key, "keep"))
		return set_bool(value, &config.keep);
	if (!strcmp(key, "force"))
		return set_bool(value, &config.force);
	if (!strcmp(key, "spill-max"))
		return parse_size(value, &config.spill_bytes);
	if (!strcmp(key, "suspect"))
		return parse_duration(value, &config.suspect_ns);
	if (!strcmp(key, "ports"))
		return parse_u64(value, 1, DEVICE_MAX_PORTS, &config.ports);
	if (!strcmp(key, "deadline"))
		return parse_duration(value, &config.deadline_ns);
	if (!strcmp(key, "spin"))
		return parse_duration(value, &config.spin_ns);
	if (!strcmp(key, "refresh"))
		return parse_duration(value, &config.refresh_ns);
	if (!strcmp(key, "volume"))
		config.volume = value;
	else if (!strcmp(key, "registry")) /* nbdkit goes to another folder */
		config.registry = strchr(value, ':') ? value : nbdkit_absolute_path(value);
	else if (!strcmp(key, "spill"))
		return (config.spill = nbdkit_absolute_path(value)) ? 0 : err_fail(-ENOMEM, "not a path");
	else if (!strcmp(key, "key"))
		config.key_file = value;
	else
		return err_fail(-EINVAL, "unknown parameter");
	return 0;
}

static int rswap_config(const char *key, const char *value)
{
	if (!set(key, value))
		return 0;
	nbdkit_error("%s=%s: %s", key, value, err_text());
	return -1;
}

static int rswap_config_complete(void)
{
	if (!config.bytes || config.bytes > INT64_MAX) {
		nbdkit_error("say the device's size: size=SIZE");
		return -1;
	}
	if (config.keep && (config.seal || config.code_data)) {
		nbdkit_error("keep=yes is for copies: not with seal= or code=");
		return -1;
	}
	if (config.force && !config.keep) {
		nbdkit_error("force=yes is for keep=yes only");
		return -1;
	}
	return 0;
}

/* $INFUSE_DONOR: addresses separated by spaces. */
static int donors_of_environment(const char *list)
{
	char *copy = strdup(list), *rest = copy, *word;
	int r = copy ? 0 : err_fail(-ENOMEM, "out of memory");

	while (!r && (word = strsep(&rest, " ")))
		if (*word)
			r = add_donor(word);
	return r; /* the copy is kept: the addresses are in it */
}

static int donors_of_registry(void)
{
	static char path[REG_MAX_URL];
	struct known_donors known;
	int r;

	if (!config.registry)
		config.registry = reg_default(path, sizeof path);
	if (!config.registry)
		return 0;
	r = donors_known(config.registry, &known);
	for (size_t i = 0; i < known.count && !r; i++)
		r = add_donor(known.donor[i].address);
	config.follows = true;
	return r; /* as above */
}

static int find_donors(void)
{
	const char *env = getenv("INFUSE_DONOR");
	int r = 0;

	if (config.donors)
		return 0;
	if (env && *env && !config.registry)
		r = donors_of_environment(env);
	else
		r = donors_of_registry();
	if (r || config.donors)
		return r;
	return err_fail(-ENOENT, "no donors are known here: name some (donor=tcp:HOST:PORT)");
}

static void writer_failed(const char *why)
{
	nbdkit_error("%s: where its slabs lie can't be written down: %s", config.volume, why);
}

static int open_kept(struct device_options *o)
{
	static char path[REG_MAX_URL];
	struct kept_options k = {.name = config.volume, .force = config.force, .failed = writer_failed};

	if (!config.registry)
		config.registry = reg_default(path, sizeof path);
	if (!config.registry)
		return err_fail(-ENOENT, "no registry is there to keep the volume in: registry=FILE");
	k.registry = config.registry;
	return kept_open(&k, o, &device, &kept);
}

static int open_device(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct device_options o = {
		.name = config.volume,
		.donors = config.donor,
		.bytes = config.bytes,
		.ports = (unsigned)config.ports,
		.replicas = (unsigned)config.replicas,
		.code_data = (unsigned)config.code_data,
		.code_parity = (unsigned)config.code_parity,
		.spill = config.spill,
		.spill_bytes = config.spill_bytes,
		.key_file = config.key_file ? config.key_file : getenv(KEY_FILE_VARIABLE),
		.seal = config.seal,
		.deadline_ns = config.deadline_ns,
		.suspect_ns = config.suspect_ns,
		.spin_ns = config.spin_ns,
	};
	int r = find_donors();

	o.donors_count = config.donors;
	if (!o.ports)
		o.ports = cores > 0 && cores < PORTS_MOST ? (unsigned)cores : PORTS_MOST;
	opened_by = getpid();
	if (r)
		return r;
	return config.keep ? open_kept(&o) : device_open(&o, &device);
}

/* --- life --- */

/* One line when it gets worse, one when all is well again. */
static void health_changed(const struct ps_health *h)
{
	static enum { WHOLE, DEGRADED, LOST } state;
	const int before = (int)state;

	state = h->lost ? LOST : h->degraded ? DEGRADED : WHOLE;
	if ((int)state == before)
		return;
	if (state == LOST)
		nbdkit_error("%s: all copies of %" PRIu64 " of %" PRIu64 " slabs are lost",
			     config.volume, h->lost, h->slabs);
	else if (state == DEGRADED)
		nbdkit_error("%s: %" PRIu64 " of %" PRIu64
			     " slabs have lost a copy, which is made anew where there is room",
			     config.volume, h->degraded, h->slabs);
	else
		nbdkit_error("%s: the volume is whole again", config.volume);
}

/* The registry was read again: who is new joins. */
static void donors_found(const struct known_donors *l, void *arg)
{
	const char *address[PS_MAX_DONORS];
	unsigned n = 0;

	(void)arg;
	for (size_t i = 0; i < l->count && n < PS_MAX_DONORS; i++)
		address[n++] = l->donor[i].address;
	if (device_update_donors(device, address, n))
		nbdkit_error("%s: %s", config.volume, err_text());
}

static void registry_failed(const char *why, void *arg)
{
	(void)arg;
	nbdkit_error("%s: no news of donors: %s", config.volume, why);
}

static int follow_donors(void)
{
	const struct follow_options o = {.url = config.registry,
					 .interval_ms = config.refresh_ns / NSEC_PER_MSEC,
					 .found = donors_found,
					 .failed = registry_failed};

	return config.follows ? follow_start(&o, &follow) : 0;
}

static int rswap_get_ready(void)
{
	/* A kept one is taken over once only: by who will serve it. */
	return !config.keep && open_device() ? fail() : 0;
}

/*
 * Memory that is reclaimed for this process must not be written to the swap that waits for it. Its
 * threads inherit the flag. Not allowed to everybody, and only needed by those who swap.
 */
static int rswap_after_fork(void)
{
	if (config.keep) {
		if (open_device() || kept_start(kept))
			return fail();
	} else if (getpid() != opened_by) {
		device_close(device);
		device = NULL;
		if (open_device())
			return fail();
	}
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		nbdkit_debug("not marked as an I/O flusher: %s", strerror(errno));
	return device_start(device, health_changed) || follow_donors() ? fail() : 0;
}

static void rswap_unload(void)
{
	struct ps_counters c;

	follow_stop(follow);
	follow = NULL;
	kept_stop(kept);
	if (device && config.spill) {
		device_counters(device, &c);
		nbdkit_debug("of the bytes from the spill file %" PRIu64 ", to it %" PRIu64, c.spill_in,
			     c.spill_out);
	}
	if (device) {
		device_counters(device, &c);
		nbdkit_debug("batches %" PRIu64 ", messages %" PRIu64 ", pages read %" PRIu64
			     ", written %" PRIu64 "; zeros read %" PRIu64 ", written %" PRIu64,
			     c.batches, c.messages, c.pages_read, c.pages_written, c.zero_reads,
			     c.zero_writes);
	}
	device_close(device);
	device = NULL;
	kept_close(kept);
	kept = NULL;
}

static void *rswap_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

/* --- what it is --- */

static int64_t rswap_get_size(void *handle)
{
	(void)handle;
	return (int64_t)config.bytes;
}

static int rswap_block_size(void *handle, uint32_t *min, uint32_t *preferred, uint32_t *max)
{
	(void)handle;
	*min = 1;
	*preferred = PS_PAGE_SIZE;
	*max = MAX_REQUEST;
	return 0;
}

static const char *rswap_export_description(void *handle)
{
	(void)handle;
	return DESCRIPTION;
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int no(void *handle)
{
	(void)handle;
	return 0;
}

/* What is acknowledged is where it will stay: nothing is left to flush. */
static int rswap_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int rswap_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return 0;
}

/* Nothing is kept on this side: there is nowhere to read ahead to. */
static int rswap_can_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_NONE;
}

/* --- data --- */

static int rswap_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return device_read(device, buf, count, offset) ? fail() : 0;
}

static int rswap_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			uint32_t flags)
{
	(void)handle;
	(void)flags;
	return device_write(device, buf, count, offset) ? fail() : 0;
}

static int rswap_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags; /* it is fast, and no donor's memory is given up by it, whatever they say */
	return device_zero(device, count, offset) ? fail() : 0;
}

static int rswap_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	device_trim(device, count, offset);
	return 0;
}

static int rswap_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			 struct nbdkit_extents *extents)
{
	uint64_t at = offset, end = offset + count;
	bool zeros;

	(void)handle;
	while (at < end) {
		uint64_t n = device_run(device, end - at, at, &zeros);

		if (nbdkit_add_extent(extents, at, n,
				      zeros ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0))
			return -1;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
		at += n;
	}
	return 0;
}

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct nbdkit_plugin plugin = {
	.name = "rswap",
	.longname = "Infuse rswap plugin",
	.version = INFUSE_VERSION,
	.description = DESCRIPTION,
	.unload = rswap_unload,
	.config = rswap_config,
	.config_complete = rswap_config_complete,
	.config_help = "size=SIZE         (required) size of the device\n"
		       "donor=ADDRESS     tcp:HOST:PORT, rdma:HOST:PORT, unix:PATH, shm:PATH; may be\n"
		       "                  repeated\n"
		       "registry=FILE     use the donors announced there\n"
		       "refresh=TIME      look there so often for new ones, at least [1min]\n"
		       "volume=NAME       what donors show of it [rswap]\n"
		       "keep=yes          the registry keeps the volume under its name: goes on with it,\n"
		       "                  and locks out who has it now\n"
		       "force=yes         even if a donor that may know more can't be asked\n"
		       "replicas=N        copies of each page, on different donors [1]\n"
		       "code=K+M          erasure coding instead of copies, as in 4+2\n"
		       "spill=DIR         a file there takes what no donor has room for\n"
		       "spill-max=SIZE    at most so much of it [size]\n"
		       "key=FILE          the cluster's key; donors must have it, too\n"
		       "seal=yes          donors and the network never see what is in the pages\n"
		       "deadline=TIME     a donor that is silent for so long has failed [3s]\n"
		       "suspect=TIME      the same with copies to spare [500ms]\n"
		       "ports=N           connections to each donor [one a core, 4 at most]\n"
		       "spin=TIME         look so long for an answer before sleeping [50us]",
	.magic_config_key = "size",
	.get_ready = rswap_get_ready,
	.after_fork = rswap_after_fork,
	.open = rswap_open,
	.get_size = rswap_get_size,
	.block_size = rswap_block_size,
	.export_description = rswap_export_description,
	.is_rotational = no,
	.can_multi_conn = yes,
	.can_fast_zero = yes,
	.can_fua = rswap_can_fua,
	.can_cache = rswap_can_cache,
	.pread = rswap_pread,
	.pwrite = rswap_pwrite,
	.flush = rswap_flush,
	.trim = rswap_trim,
	.zero = rswap_zero,
	.extents = rswap_extents,
};

/* The macro declares nothing. */
extern struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
