/* SPDX-License-Identifier: MIT */
/* `infuse devices`: the kernel module's devices, their donors and counters. */
#include "cli/json.h"
#include "cli/rswap.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/options.h"
#include "common/parse.h"

#include <string.h>

struct config {
	bool json;
};

static const struct opt table[] = {
	{.name = "json",
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, json),
	 .help = "print JSON"},
};

static const struct opt_command command = {
	.name = "infuse devices",
	.usage = "[--json]",
	.summary = "Lists the kernel module's devices.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static const char *const head[] = {"DEVICE",  ">SIZE",    ">REPLICAS", "STATE", ">DEGRADED",
				   ">LOST", ">READ", ">WRITTEN",  "DONORS"};

static const char *const counter_name[] = {
#define X(name, text) #name,
	RSWAP_COUNTER_LIST(X)
#undef X
};

static uint64_t bytes(const struct rswap_device *d)
{
	return d->slabs * d->slab_pages * 4096;
}

static void print_row(const struct rswap_device *d, void *arg)
{
	struct table *t = arg;
	char size[24];
	unsigned up = 0;

	for (unsigned i = 0; i < d->donors; i++)
		up += !strcmp(d->donor[i].state, "up");
	table_cell(t, "%s", d->name);
	table_cell(t, "%s", format_size(bytes(d), size, sizeof size));
	table_cell(t, "%u", d->replicas);
	table_cell(t, "%s", d->state);
	table_cell(t, "%llu", (unsigned long long)d->degraded);
	table_cell(t, "%llu", (unsigned long long)d->lost);
	table_cell(t, "%s", format_size(d->counter[RSWAP_COUNT_pages_read] * 4096, size,
					sizeof size));
	table_cell(t, "%s", format_size(d->counter[RSWAP_COUNT_pages_written] * 4096, size,
					sizeof size));
	table_cell(t, "%u of %u up", up, d->donors);
}

static void add_document(const struct rswap_device *d, void *arg)
{
	struct json_object *o = json_object_new_object(), *donors = json_object_new_array();
	struct json_object *counters = json_object_new_object();

	doc_text(o, "name", d->name);
	doc_text(o, "state", d->state);
	doc_count(o, "bytes", bytes(d));
	doc_count(o, "slab_bytes", d->slab_pages * 4096ull);
	doc_count(o, "slabs", d->slabs);
	doc_count(o, "replicas", d->replicas);
	doc_count(o, "degraded_slabs", d->degraded);
	doc_count(o, "lost_slabs", d->lost);
	doc_count(o, "deadline_ms", d->deadline_ms);
	doc_count(o, "openers", d->openers);
	for (unsigned i = 0; i < RSWAP_COUNTERS; i++)
		doc_count(counters, counter_name[i], d->counter[i]);
	json_object_object_add(o, "counters", counters);
	for (unsigned i = 0; i < d->donors; i++) {
		struct json_object *donor = json_object_new_object();

		doc_text(donor, "address", d->donor[i].address);
		doc_text(donor, "name", d->donor[i].name);
		doc_text(donor, "transport", d->donor[i].transport);
		doc_text(donor, "state", d->donor[i].state);
		doc_text(donor, "error", d->donor[i].error ? strerror(-d->donor[i].error) : "");
		json_object_array_add(donors, donor);
	}
	json_object_object_add(o, "donors", donors);
	json_object_array_add(arg, o);
}

static int print_json(struct rswap_socket *s)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	int r = rswap_dump(s, add_document, list);

	json_object_object_add(o, "devices", list);
	if (r)
		json_object_put(o);
	else
		doc_print(o);
	return r;
}

static int print_text(struct rswap_socket *s)
{
	struct table t;
	int r, p;

	table_open(&t, head, sizeof head / sizeof *head);
	r = rswap_dump(s, print_row, &t);
	p = table_print(&t, true);
	return r ? r : p;
}

int verb_devices(int argc, char **argv)
{
	struct config c = {0};
	struct rswap_socket *s;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = verb_no_words(argc, argv, first);
	if (!r)
		r = rswap_open(&s);
	if (r)
		return r;
	r = c.json ? print_json(s) : print_text(s);
	rswap_close(s);
	return r;
}
