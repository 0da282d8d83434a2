/* SPDX-License-Identifier: MIT */
/*
 * `infuse rebalance`: donors that lend a larger share of their memory than the others ask some of
 * it back; their borrowers move those slabs to where there is room, that is to the new donor or the
 * emptied one. Who gives how much is a pure function of what the donors say; --dry-run shows it.
 */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/parse.h"

#include <endian.h>
#include <errno.h>

struct config {
	struct opt_list donor;
	struct donor_keys keys;
	const char *registry;
	uint64_t timeout_ns, margin;
	bool json, dry_run;
};

static const struct opt table[] = {
	{.name = "margin",
	 .type = OPT_NUMBER,
	 .offset = offsetof(struct config, margin),
	 .arg = "PERCENT",
	 .help = "leave donors alone that are no more above the mean than that [5]",
	 .max = 100},
	{.name = "dry-run",
	 .letter = 'n',
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, dry_run),
	 .help = "only show what would be asked back"},
	DONOR_OPTIONS(struct config), DONOR_KEY_OPTIONS(struct config, keys),
};

static const struct opt_command command = {
	.name = "infuse rebalance",
	.usage = "[--dry-run] [OPTIONS]",
	.summary = "Asks the fuller donors' borrowers to move to the others.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static bool takes_part(const struct donor *d)
{
	return !d->status && !d->stat.flags && d->stat.slabs_total;
}

/* Slabs that the donor is to ask back, so that all lend the same share of their memory. */
static void make_plan(const struct config *c, struct donor_list *l)
{
	double lent = 0, all = 0, mean;

	for (size_t i = 0; i < l->count; i++) {
		const struct donor_stat *s = &l->item[i].stat;

		if (!takes_part(&l->item[i]))
			continue;
		lent += (double)(s->slabs_lent * s->slab_bytes);
		all += (double)(s->slabs_total * s->slab_bytes);
	}
	mean = all > 0 ? lent / all : 0;
	for (size_t i = 0; i < l->count; i++) {
		struct donor *d = &l->item[i];
		double total = (double)d->stat.slabs_total, above;

		above = (double)d->stat.slabs_lent - mean * total;
		d->ordered = takes_part(d) && above >= 1 && above > total * (double)c->margin / 100;
		d->order = (struct wire_drain){.what = htole32(WIRE_DRAIN_SOME)};
		if (d->ordered)
			d->order.slabs = htole32((uint32_t)above);
	}
}

static uint64_t asked(const struct donor *d)
{
	return d->ordered ? le32toh(d->order.slabs) * d->stat.slab_bytes : 0;
}

static const char *const head[] = {"NAME", ">SIZE", ">LENT", ">ASKED BACK", "STATE"};

static int print_text(const struct donor_list *l)
{
	struct table t;
	char size[24];

	table_open(&t, head, sizeof head / sizeof *head);
	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];

		table_cell(&t, "%s", d->name[0] ? d->name : d->address[0].text);
		if (d->status) {
			for (int k = 0; k < 3; k++)
				table_cell(&t, "%s", "");
			table_cell(&t, "unreachable");
			continue;
		}
		table_cell(
			&t, "%s",
			format_size(d->stat.slabs_total * d->stat.slab_bytes, size, sizeof size));
		table_cell(&t, "%s",
			   format_size(d->stat.slabs_lent * d->stat.slab_bytes, size, sizeof size));
		table_cell(&t, "%s", d->ordered ? format_size(asked(d), size, sizeof size) : "");
		table_cell(&t, "%s", donor_state(d));
	}
	return table_print(&t, true);
}

static void print_json(const struct donor_list *l)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];
		struct json_object *e = json_object_new_object();

		json_object_array_add(list, e);
		doc_text(e, "name", d->name);
		doc_text(e, "state", d->status ? "unreachable" : donor_state(d));
		if (d->status)
			continue;
		doc_count(e, "size_bytes", d->stat.slabs_total * d->stat.slab_bytes);
		doc_count(e, "lent_bytes", d->stat.slabs_lent * d->stat.slab_bytes);
		doc_count(e, "asked_bytes", asked(d));
	}
	json_object_object_add(o, "donors", list);
	doc_print(o);
}

int verb_rebalance(int argc, char **argv)
{
	struct config c = {.timeout_ns = DONOR_TIMEOUT, .margin = 5};
	struct donor_list l;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = verb_no_words(argc, argv, first);
	if (!r)
		r = donor_secure(&c.keys, KEY_ADMIN);
	if (!r)
		r = donor_find(&c.donor, c.registry, &l);
	if (r)
		return r;
	donor_ask(&l, 0, c.timeout_ns);
	make_plan(&c, &l);
	if (!c.dry_run)
		donor_ask(&l, 0, c.timeout_ns); /* now with the orders */
	if (c.json)
		print_json(&l);
	else
		r = print_text(&l);
	if (!r)
		r = donor_verdict(&l);
	donor_list_free(&l);
	return r;
}
