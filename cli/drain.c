/* SPDX-License-Identifier: MIT */
/*
 * `infuse drain`: a donor grants nothing more and asks for all it has lent; its borrowers move
 * their slabs elsewhere while they go on. Then its machine can be shut down. The donor keeps to it
 * until it is undone or ends, whether this command waits or not.
 */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/verb.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define ROUND_NS  (500 * NSEC_PER_MSEC)
#define SILENT_NS (30 * NSEC_PER_SEC) /* a donor that answers no more while we wait */

struct config {
	struct opt_list donor;
	struct donor_keys keys;
	const char *registry;
	uint64_t timeout_ns, wait_ns;
	bool json, wait, undo;
};

static const struct opt table[] = {
	{.name = "wait",
	 .letter = 'w',
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, wait),
	 .help = "until it is empty; a line when something has changed"},
	{.name = "wait-at-most",
	 .type = OPT_DURATION,
	 .offset = offsetof(struct config, wait_ns),
	 .arg = "TIME",
	 .help = "end with an error when it is not empty by then [never]",
	 .min = NSEC_PER_MSEC},
	{.name = "undo",
	 .letter = 'u',
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, undo),
	 .help = "it lends again"},
	DONOR_OPTIONS(struct config), DONOR_KEY_OPTIONS(struct config, keys),
};

static const struct opt_command command = {
	.name = "infuse drain",
	.usage = "[--wait] [--undo] [OPTIONS] DONOR",
	.summary = "Empties a donor: it grants nothing more, and its borrowers move away.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

/* The one that is called so, or has this address; the others leave the list. */
static int pick(struct donor_list *l, const char *word)
{
	for (size_t i = 0; i < l->count; i++) {
		struct donor *d = &l->item[i], first = l->item[0];
		bool match = !strcmp(d->name, word);

		for (unsigned k = 0; k < d->addresses; k++)
			match |= !strcmp(d->address[k].text, word);
		if (!match)
			continue;
		l->item[0] = *d;
		l->item[i] = first;
		l->count = 1; /* what follows has nothing to free yet */
		return 0;
	}
	return err_fail(-ENOENT, "no donor is called '%s' in %s; infuse donors lists them", word,
			l->where[0] ? l->where : "what was given");
}

static int find(struct config *c, const char *word, struct donor_list *l)
{
	int r;

	/* An address needs no registry. */
	if (strchr(word, ':') && !c->donor.count)
		c->donor.item[c->donor.count++] = word;
	r = donor_secure(&c->keys, KEY_ADMIN);
	if (!r)
		r = donor_find(&c->donor, c->registry, l);
	if (r)
		return r;
	r = pick(l, word);
	if (r)
		donor_list_free(l);
	return r;
}

static void print_json(const struct donor *d)
{
	struct json_object *o = json_object_new_object();

	doc_text(o, "name", d->name);
	doc_text(o, "state", donor_state(d));
	doc_count(o, "lent_bytes", d->stat.slabs_lent * d->stat.slab_bytes);
	doc_count(o, "borrowers", d->stat.borrowers);
	doc_print(o);
}

static void print_text(const struct donor *d, bool undo)
{
	char size[24];

	if (undo)
		printf("%s lends again\n", d->name);
	else if (d->stat.slabs_lent)
		printf("%s: %s of %u borrowers are still there\n", d->name,
		       format_size(d->stat.slabs_lent * d->stat.slab_bytes, size, sizeof size),
		       d->stat.borrowers);
	else
		printf("%s is empty\n", d->name);
}

static void print(const struct config *c, const struct donor *d)
{
	if (c->json)
		print_json(d);
	else
		print_text(d, c->undo);
	fflush(stdout);
}

/* Asks again and again; a donor that was restarted meanwhile is told again. */
static int wait_empty(const struct config *c, struct donor_list *l)
{
	uint64_t until = c->wait_ns ? clock_ns() + c->wait_ns : UINT64_MAX, heard = clock_ns();
	struct donor *d = l->item;
	uint64_t told = d->stat.slabs_lent;
	struct timespec nap = {0, (long)ROUND_NS};

	while (d->status || d->stat.slabs_lent) {
		char size[24];

		if (clock_ns() >= until)
			return err_fail(-ETIMEDOUT, "%s is not empty yet: %s are lent", d->name,
					format_size(told * d->stat.slab_bytes, size, sizeof size));
		if (d->status && clock_ns() - heard >= SILENT_NS)
			return donor_verdict(l);
		nanosleep(&nap, NULL);
		donor_ask(l, 0, c->timeout_ns);
		if (d->status)
			continue;
		heard = clock_ns();
		if (d->stat.slabs_lent != told)
			print(c, d);
		told = d->stat.slabs_lent;
	}
	return 0;
}

static int run(const struct config *c, struct donor_list *l)
{
	int r;

	l->item->ordered = true;
	l->item->order.what = htole32(c->undo ? WIRE_DRAIN_UNDO : WIRE_DRAIN_ALL);
	donor_ask(l, 0, c->timeout_ns);
	r = donor_verdict(l);
	if (r)
		return r;
	print(c, l->item);
	return c->wait && !c->undo ? wait_empty(c, l) : 0;
}

int verb_drain(int argc, char **argv)
{
	struct config c = {.timeout_ns = DONOR_TIMEOUT};
	struct donor_list l;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (argc - first != 1)
		return err_fail(VERB_USAGE,
				"which donor? its name or address; see infuse drain --help");
	c.wait |= c.wait_ns > 0;
	r = find(&c, argv[first], &l);
	if (r)
		return r;
	r = run(&c, &l);
	donor_list_free(&l);
	return r;
}
