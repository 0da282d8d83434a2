/* SPDX-License-Identifier: MIT */
/*
 * `infuse volumes`: who uses the donors' memory. A volume on several donors is a line for each:
 * the donors know each other's part as little as this command does.
 */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "cli/volumes_kept.h"
#include "common/parse.h"

struct config {
	struct opt_list donor;
	struct donor_keys keys;
	const char *registry;
	uint64_t timeout_ns;
	const char *forget;
	bool json, kept;
};

static const struct opt table[] = {
	{.name = "kept",
	 .letter = 'K',
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, kept),
	 .help = "list those that the registry keeps for their next writer"},
	{.name = "forget",
	 .type = OPT_STRING,
	 .offset = offsetof(struct config, forget),
	 .arg = "NAME",
	 .help = "take this one of them from its writer, and give its memory back"},
	DONOR_OPTIONS(struct config), DONOR_KEY_OPTIONS(struct config, keys)};

static const struct opt_command command = {
	.name = "infuse volumes",
	.usage = "[--kept | --forget NAME] [--donor ADDR]... [--registry FILE] [OPTIONS]",
	.summary = "Lists the borrowers that hold slabs, as the donors tell them.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static const char *const head[] = {"DONOR", "NAME",     ">PID",  ">SLABS", ">SIZE",
				   ">READ", ">WRITTEN", ">IDLE", "STATE"};

/* "up": connected. "leaving": its connections are gone and the donor's grace period runs. */
static const char *state(const struct donor_borrower *b)
{
	return b->sessions ? "up" : "leaving";
}

static const char *donor_name(const struct donor *d)
{
	return d->name[0] ? d->name : d->address[0].text;
}

static void print_borrower(struct table *t, const struct donor *d, const struct donor_borrower *b)
{
	char size[24];

	table_cell(t, "%s", donor_name(d));
	table_cell(t, "%s", b->name);
	table_cell(t, "%u", b->pid);
	table_cell(t, "%llu", (unsigned long long)b->slabs);
	table_cell(t, "%s", format_size(b->slabs * d->stat.slab_bytes, size, sizeof size));
	table_cell(t, "%s", format_size(b->pages_read * WIRE_PAGE_SIZE, size, sizeof size));
	table_cell(t, "%s", format_size(b->pages_written * WIRE_PAGE_SIZE, size, sizeof size));
	table_cell(t, "%.1f s", (double)b->idle_ms / 1e3);
	table_cell(t, "%s", state(b));
}

static int print_text(const struct donor_list *l)
{
	uint64_t told = 0, all = 0;
	struct table t;
	int r;

	table_open(&t, head, sizeof head / sizeof *head);
	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];

		for (unsigned j = 0; !d->status && j < d->borrowers; j++)
			print_borrower(&t, d, &d->borrower[j]);
		told += d->status ? 0 : d->borrowers;
		all += d->status ? 0 : d->stat.borrowers;
	}
	r = table_print(&t, true);
	if (all > told)
		printf("and %llu more that the donors did not list\n",
		       (unsigned long long)(all - told));
	return r;
}

static struct json_object *borrower_document(const struct donor *d, const struct donor_borrower *b)
{
	struct json_object *o = json_object_new_object();

	doc_text(o, "donor", donor_name(d));
	doc_text(o, "address", d->address[d->answered].text);
	doc_text(o, "name", b->name);
	doc_count(o, "pid", b->pid);
	doc_count(o, "sessions", b->sessions);
	doc_count(o, "slabs", b->slabs);
	doc_count(o, "bytes", b->slabs * d->stat.slab_bytes);
	doc_count(o, "read_bytes", b->pages_read * WIRE_PAGE_SIZE);
	doc_count(o, "written_bytes", b->pages_written * WIRE_PAGE_SIZE);
	doc_count(o, "idle_ms", b->idle_ms);
	doc_text(o, "state", state(b));
	return o;
}

static void print_json(const struct donor_list *l)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct json_object *silent = json_object_new_array();

	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];

		if (d->status)
			json_object_array_add(silent, json_object_new_string(d->why));
		for (unsigned j = 0; !d->status && j < d->borrowers; j++)
			json_object_array_add(list, borrower_document(d, &d->borrower[j]));
	}
	json_object_object_add(o, "volumes", list);
	json_object_object_add(o, "unreachable", silent);
	doc_print(o);
}

int verb_volumes(int argc, char **argv)
{
	struct config c = {.timeout_ns = DONOR_TIMEOUT};
	struct donor_list l;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = verb_no_words(argc, argv, first);
	if (!r && c.kept)
		return volumes_kept(c.registry, c.json);
	if (!r && c.forget)
		return volumes_forget(c.registry, c.forget, &c.keys);
	if (!r)
		r = donor_secure(&c.keys, KEY_METRICS);
	if (!r)
		r = donor_find(&c.donor, c.registry, &l);
	if (r)
		return r;
	donor_ask(&l, DONOR_BORROWERS, c.timeout_ns);
	if (c.json)
		print_json(&l);
	else
		r = print_text(&l);
	if (!r)
		r = donor_verdict(&l);
	donor_list_free(&l);
	return r;
}
