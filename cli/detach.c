/* SPDX-License-Identifier: MIT */
/*
 * `infuse detach`: the device goes, its slabs are given back. Something may have it open for a
 * moment just because it is new (udev looks at disks), so "busy" is believed after a while only.
 */
#include "cli/rswap.h"
#include "cli/verb.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct config {
	uint64_t timeout_ns;
};

static const struct opt table[] = {
	{.name = "timeout",
	 .type = OPT_DURATION,
	 .offset = offsetof(struct config, timeout_ns),
	 .arg = "TIME",
	 .help = "wait so long for others to close it [1s]"},
};

static const struct opt_command command = {
	.name = "infuse detach",
	.usage = "DEVICE [--timeout TIME]",
	.summary = "Removes a device of the kernel module and gives its memory back to the donors.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static bool is_swap(const char *name)
{
	char line[512], path[64];
	FILE *f = fopen("/proc/swaps", "re");
	bool found = false;

	if (!f)
		return false;
	snprintf(path, sizeof path, "/dev/%s ", name);
	while (!found && fgets(line, sizeof line, f))
		found = !strncmp(line, path, strlen(path));
	fclose(f);
	return found;
}

static int detach(struct rswap_socket *s, const char *name, uint64_t timeout_ns)
{
	uint64_t until = clock_ns() + timeout_ns;
	const struct timespec pause = {0, 50000000};
	char what[64];
	int r;

	snprintf(what, sizeof what, "%s", name);
	for (;;) {
		struct nlmsghdr *m = rswap_message(s, RSWAP_CMD_DETACH);

		mnl_attr_put_strz(m, RSWAP_A_NAME, name);
		r = rswap_call(s, m, what);
		if (r != -EBUSY || clock_ns() >= until || is_swap(name))
			break;
		nanosleep(&pause, NULL);
	}
	if (r == -EBUSY && is_swap(name))
		return err_fail(r, "%s is in use as swap: swapoff /dev/%s first", name, name);
	if (r == -EBUSY)
		return err_fail(r, "%s is in use: unmount it, or end what has it open (fuser /dev/%s)",
				name, name);
	return r;
}

int verb_detach(int argc, char **argv)
{
	struct config c = {.timeout_ns = NSEC_PER_SEC};
	struct rswap_socket *s;
	const char *name;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (first >= argc)
		return err_fail(VERB_USAGE, "which device? See infuse devices");
	r = verb_no_words(argc, argv, first + 1);
	if (r)
		return r;
	name = rswap_device_name(argv[first]);
	if (!name)
		return VERB_USAGE;
	r = rswap_open(&s);
	if (r)
		return r;
	r = detach(s, name, c.timeout_ns);
	rswap_close(s);
	return r;
}
