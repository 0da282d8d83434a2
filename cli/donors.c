/* SPDX-License-Identifier: MIT */
/* `infuse donors`: who lends memory, how much of it is free, and who does not answer. */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "common/parse.h"

struct config {
	struct opt_list donor;
	struct donor_keys keys;
	const char *registry;
	uint64_t timeout_ns;
	bool json;
};

static const struct opt table[] = {DONOR_OPTIONS(struct config), DONOR_KEY_OPTIONS(struct config, keys)};

static const struct opt_command command = {
	.name = "infuse donors",
	.usage = "[--donor ADDR]... [--registry FILE] [--timeout TIME] [--json]",
	.summary = "Lists the donors of the registry and how they are. Exits with 1 when one does "
		   "not answer.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static const char *const head[] = {"NAME",       "ADDRESS",   "DOMAIN",     ">SIZE", ">FREE",
				   ">BORROWERS", ">PAGES IN", ">PAGES OUT", "STATE"};

static void print_donor(struct table *t, const struct donor *d)
{
	char size[24], free_size[24];

	table_cell(t, "%s", d->name);
	table_cell(t, "%s", d->address[d->status ? 0 : d->answered].text);
	table_cell(t, "%s", d->domain);
	if (d->status) {
		for (int i = 0; i < 5; i++)
			table_cell(t, "%s", "");
		table_cell(t, "unreachable");
		return;
	}
	table_cell(t, "%s",
		   format_size(d->stat.slabs_total * d->stat.slab_bytes, size, sizeof size));
	table_cell(
		t, "%s",
		format_size(d->stat.slabs_free * d->stat.slab_bytes, free_size, sizeof free_size));
	table_cell(t, "%u", d->stat.borrowers);
	table_cell(t, "%llu", (unsigned long long)d->stat.pages_written);
	table_cell(t, "%llu", (unsigned long long)d->stat.pages_read);
	table_cell(t, "%s", donor_state(d));
}

static int print_text(const struct donor_list *l)
{
	struct table t;

	if (!l->count) {
		printf("no donor has announced itself in %s; 'infuse serve' starts one\n",
		       l->where);
		return 0;
	}
	table_open(&t, head, sizeof head / sizeof *head);
	for (size_t i = 0; i < l->count; i++)
		print_donor(&t, &l->item[i]);
	return table_print(&t, true);
}

static struct json_object *donor_document(const struct donor *d)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	doc_text(o, "name", d->name);
	doc_text(o, "domain", d->domain);
	for (unsigned i = 0; i < d->addresses; i++)
		json_object_array_add(list, json_object_new_string(d->address[i].text));
	json_object_object_add(o, "addresses", list);
	doc_bool(o, "announced", d->announced);
	doc_text(o, "state", d->status ? "unreachable" : donor_state(d));
	if (d->status) {
		doc_text(o, "reason", d->why);
		return o;
	}
	doc_text(o, "address", d->address[d->answered].text);
	doc_count(o, "slab_bytes", d->stat.slab_bytes);
	doc_count(o, "size_bytes", d->stat.slabs_total * d->stat.slab_bytes);
	doc_count(o, "free_bytes", d->stat.slabs_free * d->stat.slab_bytes);
	doc_count(o, "lent_bytes", d->stat.slabs_lent * d->stat.slab_bytes);
	doc_count(o, "wanted_bytes", d->stat.slabs_wanted * d->stat.slab_bytes);
	doc_count(o, "away_bytes", d->stat.slabs_away * d->stat.slab_bytes);
	doc_count(o, "borrowers", d->stat.borrowers);
	doc_count(o, "sessions", d->stat.sessions);
	doc_count(o, "threads", d->stat.threads);
	doc_count(o, "pages_in", d->stat.pages_written);
	doc_count(o, "pages_out", d->stat.pages_read);
	doc_count(o, "requests", d->stat.requests);
	doc_count(o, "errors", d->stat.errors);
	doc_count(o, "refused", d->stat.refused);
	doc_count(o, "uptime_ms", d->stat.uptime_ms);
	return o;
}

static void print_json(const struct donor_list *l)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < l->count; i++)
		json_object_array_add(list, donor_document(&l->item[i]));
	if (l->where[0])
		doc_text(o, "registry", l->where);
	json_object_object_add(o, "donors", list);
	doc_print(o);
}

int verb_donors(int argc, char **argv)
{
	struct config c = {.timeout_ns = DONOR_TIMEOUT};
	struct donor_list l;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = verb_no_words(argc, argv, first);
	if (!r)
		r = donor_secure(&c.keys, KEY_METRICS);
	if (!r)
		r = donor_find(&c.donor, c.registry, &l);
	if (r)
		return r;
	donor_ask(&l, 0, c.timeout_ns);
	if (c.json)
		print_json(&l);
	else
		r = print_text(&l);
	if (!r)
		r = donor_verdict(&l);
	donor_list_free(&l);
	return r;
}
