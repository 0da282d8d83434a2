/* SPDX-License-Identifier: MIT */
/*
 * `infuse stat`: pages moved. Once: totals and the mean rates since each donor's start. With
 * --watch: the rates of each interval, a line a donor, until it is stopped.
 *
 * "In" and "out" are seen from the donor: pages in were written to it, pages out read from it.
 */
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <stdlib.h>

#define HEAD_EVERY 20 /* rounds between two heads, as vmstat does */

struct config {
	struct opt_list donor;
	struct donor_keys keys;
	const char *registry;
	uint64_t timeout_ns, watch_ns, rounds;
	bool json;
};

static const struct opt table[] = {
	{.name = "watch",
	 .letter = 'w',
	 .type = OPT_DURATION,
	 .offset = offsetof(struct config, watch_ns),
	 .arg = "TIME",
	 .help = "show rates over and over, this far apart [1s]",
	 .min = 100 * NSEC_PER_MSEC,
	 .max = 24 * 3600 * NSEC_PER_SEC,
	 .implied = "1s"},
	{.name = "rounds",
	 .letter = 'n',
	 .type = OPT_NUMBER,
	 .offset = offsetof(struct config, rounds),
	 .arg = "N",
	 .help = "with --watch: end after N rounds [never]",
	 .min = 1},
	DONOR_OPTIONS(struct config), DONOR_KEY_OPTIONS(struct config, keys),
};

static const struct opt_command command = {
	.name = "infuse stat",
	.usage = "[--watch [TIME]] [--donor ADDR]... [--registry FILE] [--timeout TIME] [--json]",
	.summary = "Shows pages in and out of the donors' memory.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static const char *const head[] = {"NAME",         "ADDRESS",  ">PAGES IN/S",
				   ">PAGES OUT/S", ">BYTES/S", ">PAGES IN",
				   ">PAGES OUT",   ">USED",    "STATE"};

/* What a donor said in the round before. */
struct before {
	uint64_t pages_in, pages_out, at_ns, uptime_ms;
};

struct rates {
	double in, out;
};

static struct rates rates_of(const struct donor *d, const struct before *b)
{
	const struct donor_stat *s = &d->stat;
	double seconds = (double)s->uptime_ms / 1e3;

	/* No answer to compare with, or another server since then: its whole life. */
	if (b->at_ns && s->uptime_ms >= b->uptime_ms && s->pages_written >= b->pages_in &&
	    s->pages_read >= b->pages_out && d->at_ns > b->at_ns) {
		seconds = (double)(d->at_ns - b->at_ns) / 1e9;
		return (struct rates){(double)(s->pages_written - b->pages_in) / seconds,
				      (double)(s->pages_read - b->pages_out) / seconds};
	}
	if (seconds <= 0)
		return (struct rates){0, 0};
	return (struct rates){(double)s->pages_written / seconds, (double)s->pages_read / seconds};
}

static void remember(const struct donor_list *l, struct before *b)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];

		b[i] = (struct before){0};
		if (!d->status)
			b[i] = (struct before){d->stat.pages_written, d->stat.pages_read, d->at_ns,
					       d->stat.uptime_ms};
	}
}

static void print_donor(struct table *t, const struct donor *d, const struct before *b)
{
	struct rates r = rates_of(d, b);
	char size[24];

	table_cell(t, "%s", d->name);
	table_cell(t, "%s", d->address[d->status ? 0 : d->answered].text);
	if (d->status) {
		for (int i = 0; i < 6; i++)
			table_cell(t, "%s", "");
		table_cell(t, "unreachable");
		return;
	}
	table_cell(t, "%.0f", r.in);
	table_cell(t, "%.0f", r.out);
	table_cell(t, "%s",
		   format_size((uint64_t)((r.in + r.out) * WIRE_PAGE_SIZE), size, sizeof size));
	table_cell(t, "%llu", (unsigned long long)d->stat.pages_written);
	table_cell(t, "%llu", (unsigned long long)d->stat.pages_read);
	table_cell(t, "%s",
		   format_size(d->stat.slabs_lent * d->stat.slab_bytes,
			       size, sizeof size));
	table_cell(t, "%s", donor_state(d));
}

static int print_text(const struct donor_list *l, const struct before *b, uint64_t round)
{
	struct table t;

	table_open(&t, head, sizeof head / sizeof *head);
	for (size_t i = 0; i < l->count; i++)
		print_donor(&t, &l->item[i], &b[i]);
	return table_print(&t, round % HEAD_EVERY == 0);
}

static void print_json(const struct donor_list *l, const struct before *b)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	doc_count(o, "time_ms", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	for (size_t i = 0; i < l->count; i++) {
		const struct donor *d = &l->item[i];
		struct json_object *e = json_object_new_object();
		struct rates r = rates_of(d, &b[i]);

		json_object_array_add(list, e);
		doc_text(e, "name", d->name);
		doc_text(e, "address", d->address[d->status ? 0 : d->answered].text);
		doc_text(e, "state", d->status ? "unreachable" : donor_state(d));
		if (d->status) {
			doc_text(e, "reason", d->why);
			continue;
		}
		doc_real(e, "pages_in_per_s", r.in);
		doc_real(e, "pages_out_per_s", r.out);
		doc_count(e, "pages_in", d->stat.pages_written);
		doc_count(e, "pages_out", d->stat.pages_read);
		doc_count(e, "used_bytes",
			  d->stat.slabs_lent * d->stat.slab_bytes);
		doc_count(e, "requests", d->stat.requests);
		doc_count(e, "errors", d->stat.errors);
		doc_count(e, "uptime_ms", d->stat.uptime_ms);
	}
	json_object_object_add(o, "donors", list);
	doc_print(o);
}

static int show(const struct config *c, struct donor_list *l, const struct before *b,
		uint64_t round)
{
	int r = 0;

	donor_ask(l, 0, c->timeout_ns);
	if (c->json)
		print_json(l, b);
	else
		r = print_text(l, b, round);
	if (!r && fflush(stdout))
		r = err_fail(-errno, "standard output: %m");
	return r;
}

/* Rounds begin on the beat, however long the answers took. */
static int watch(const struct config *c, struct donor_list *l, struct before *b)
{
	uint64_t beat = clock_ns();
	int r = 0;

	donor_ask(l, 0, c->timeout_ns);
	for (uint64_t round = 0; !r && (!c->rounds || round < c->rounds); round++) {
		struct timespec until;

		remember(l, b);
		beat += c->watch_ns;
		until = (struct timespec){(time_t)(beat / NSEC_PER_SEC),
					  (long)(beat % NSEC_PER_SEC)};
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		r = show(c, l, b, round);
	}
	return r;
}

/* "--watch 2": getopt leaves an implied argument's word to us. */
static int take_interval(struct config *c, int argc, char **argv, int first)
{
	if (!c->watch_ns && c->rounds)
		return err_fail(VERB_USAGE, "--rounds is for --watch; see infuse stat --help");
	if (!c->watch_ns || argc - first != 1)
		return verb_no_words(argc, argv, first);
	if (parse_duration(argv[first], &c->watch_ns))
		return VERB_USAGE;
	if (c->watch_ns < table[0].min || c->watch_ns > table[0].max)
		return err_fail(VERB_USAGE, "--watch: %s is not between 0.1 s and a day",
				argv[first]);
	return 0;
}

int verb_stat(int argc, char **argv)
{
	struct config c = {.timeout_ns = DONOR_TIMEOUT};
	struct before *before;
	struct donor_list l;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = take_interval(&c, argc, argv, first);
	if (!r)
		r = donor_secure(&c.keys, KEY_METRICS);
	if (!r)
		r = donor_find(&c.donor, c.registry, &l);
	if (r)
		return r;
	before = calloc(l.count + 1, sizeof *before);
	if (!before)
		r = err_fail(-ENOMEM, "out of memory");
	else if (c.watch_ns)
		r = watch(&c, &l, before);
	else
		r = show(&c, &l, before, 0);
	if (!r)
		r = donor_verdict(&l);
	free(before);
	donor_list_free(&l);
	return r;
}
