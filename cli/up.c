/* SPDX-License-Identifier: MIT */
/*
 * `infuse up`: what rswap.conf says of a device, made and swapped to. It may be called again: what is
 * up stays as it is, what is left of a broken attempt is removed first.
 */
#include "cli/rswap_device.h"
#include "cli/rswap_swap.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/options.h"
#include "common/parse.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct config {
	const char *file, *run;
	bool nbd, list;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt table[] = {
	{.name = "config",
	 .letter = 'c',
	 .type = OPT_STRING,
	 .offset = FIELD(file),
	 .arg = "FILE",
	 .help = "read it and what is in FILE.d [" RSWAP_CONF "]"},
	{.name = "nbd",
	 .type = OPT_FLAG,
	 .offset = FIELD(nbd),
	 .help = "over NBD, whatever the configuration says"},
	{.name = "list",
	 .type = OPT_FLAG,
	 .offset = FIELD(list),
	 .help = "only print the devices that are to come up at boot"},
	{.name = "run-dir",
	 .type = OPT_STRING,
	 .offset = FIELD(run),
	 .arg = "DIR",
	 .help = "where it is written down what is up [" RSWAP_RUN "]"},
};

static const struct opt_command command = {
	.name = "infuse up",
	.usage = "[OPTIONS] DEVICE",
	.summary = "Makes a device of rswap.conf and swaps to it.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static int list_all(const struct rswap_conf_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->item[i].automatic)
			printf("%s\n", l->item[i].name);
	return 0;
}

static bool goes_over_nbd(const struct rswap_conf *c, const struct config *o)
{
	if (o->nbd || c->via == RSWAP_VIA_NBD)
		return true;
	return c->via == RSWAP_VIA_AUTO && !rswap_has_module();
}

static int bring_up(struct rswap_device *d, const struct rswap_conf *c, const struct config *o)
{
	uint64_t bytes, used;
	char size[32], why[400];
	int r;

	if (d->path[0] && rswap_swapping(d->path, &used)) {
		printf("%s is up: swapping to %s\n", d->name, d->path);
		return 0;
	}
	r = rswap_conf_size(c, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
			    &bytes);
	if (!r)
		r = rswap_device_remove(d);
	if (!r)
		r = rswap_device_make(d, c, goes_over_nbd(c, o), bytes);
	if (r)
		return r;
	/* The module gives donors back what swap does not need. */
	r = rswap_swapon(d->path, d->name, c->priority, !d->nbd);
	if (!r) {
		printf("%s: swapping to %s, %s\n", d->name, d->path,
		       format_size(bytes, size, sizeof size));
		return 0;
	}
	snprintf(why, sizeof why, "%s", err_text());
	rswap_device_remove(d);
	return err_fail(r, "%s", why);
}

static int up(const struct rswap_conf_list *l, const char *name, const struct config *o)
{
	struct rswap_device d;
	struct rswap_conf c;
	int r = rswap_conf_find(l, name, &c);

	if (!r)
		r = rswap_device_open(&d, o->run, name);
	if (r)
		return r;
	r = bring_up(&d, &c, o);
	rswap_device_close(&d);
	return r;
}

int verb_up(int argc, char **argv)
{
	struct config o = {.file = RSWAP_CONF, .run = RSWAP_RUN};
	struct rswap_conf_list l;
	int first, r = opt_parse(&command, argc, argv, &o, &first);

	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (o.list ? first != argc : first != argc - 1)
		return err_fail(VERB_USAGE, "which device? as in: infuse up rswap0");
	r = rswap_conf_read(o.file, &l);
	if (r)
		return o.list && r == -ENOENT ? 0 : r;
	r = o.list ? list_all(&l) : up(&l, argv[first], &o);
	rswap_conf_free(&l);
	return r;
}
