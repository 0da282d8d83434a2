/* SPDX-License-Identifier: MIT */
/*
 * `infuse down`: stops swapping to a device that `infuse up` made, and removes it. It may be called
 * again, and for one that is not up. When memory can't take back what is in it nothing is changed.
 */
#include "cli/rswap_device.h"
#include "cli/rswap_swap.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/options.h"

#include <stdio.h>
#include <unistd.h>

struct config {
	const char *run;
	bool force;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt table[] = {
	{.name = "force",
	 .type = OPT_FLAG,
	 .offset = FIELD(force),
	 .help = "try also when memory seems too small for what is swapped out"},
	{.name = "run-dir",
	 .type = OPT_STRING,
	 .offset = FIELD(run),
	 .arg = "DIR",
	 .help = "where it is written down what is up [" RSWAP_RUN "]"},
};

static const struct opt_command command = {
	.name = "infuse down",
	.usage = "[OPTIONS] DEVICE",
	.summary = "Stops swapping to a device and removes it.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static int bring_down(struct rswap_device *d, const struct config *o)
{
	int r = d->path[0] ? rswap_swapoff(d->path, o->force) : 0;

	if (access(d->folder, F_OK)) {
		printf("%s is not up\n", d->name);
		return 0;
	}
	if (!r)
		r = rswap_device_remove(d);
	if (!r)
		printf("%s is down\n", d->name);
	return r;
}

int verb_down(int argc, char **argv)
{
	struct config o = {.run = RSWAP_RUN};
	struct rswap_device d;
	int first, r = opt_parse(&command, argc, argv, &o, &first);

	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (first != argc - 1)
		return err_fail(VERB_USAGE, "which device? as in: infuse down rswap0");
	r = rswap_device_open(&d, o.run, argv[first]);
	if (r)
		return r;
	r = bring_down(&d, &o);
	rswap_device_close(&d);
	return r;
}
