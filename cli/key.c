/* SPDX-License-Identifier: MIT */
/*
 * `infuse key`: makes key files, tells what is in them (never a secret), and changes keys. One word
 * says what to do; one table has those words.
 */
#include "cli/json.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/options.h"
#include "secure/key.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct config {
	uint64_t keep_ns;
	const char *role;
	bool json;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt options[] = {
	{.name = "role",
	 .type = OPT_CHOICE,
	 .offset = FIELD(role),
	 .arg = "ROLE",
	 .choices = "borrower|admin|metrics",
	 .help = "derive: whose key to write"},
	{.name = "keep",
	 .type = OPT_DURATION,
	 .offset = FIELD(keep_ns),
	 .arg = "TIME",
	 .help = "rotate: how long the old key is still good; default 24h"},
	{.name = "json", .type = OPT_FLAG, .offset = FIELD(json), .help = "show: as JSON"},
};

static const struct opt_command command = {
	.name = "infuse key",
	.usage = "gen FILE | show FILE [--json] | rotate FILE [--keep TIME] | derive --role ROLE FILE TO",
	.summary = "Makes, shows and changes the keys that borrowers and donors know each other by.",
	.table = options,
	.count = sizeof options / sizeof *options,
};

static uint64_t now(void)
{
	return (uint64_t)time(NULL);
}

static int must_not_be(const char *path)
{
	if (!access(path, F_OK))
		return err_fail(-EEXIST, "'%s' is there already; remove it, or rotate its key",
				path);
	return 0;
}

static int gen(const struct config *c, char **word)
{
	struct key_set *set;
	int r = must_not_be(word[0]);

	(void)c;
	if (r)
		return r;
	set = key_set_create();
	if (!set)
		return err_fail(-ENOMEM, "no memory for keys");
	key_generate(&set->key[0], now());
	set->count = 1;
	r = key_write(word[0], set);
	key_free(set);
	return r;
}

static void print_time(struct table *t, uint64_t s, const char *none)
{
	time_t at = (time_t)s;
	char text[32];

	if (!s || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime(&at)))
		table_cell(t, "%s", none);
	else
		table_cell(t, "%s", text);
}

static const char *state(const struct key_set *set, unsigned i)
{
	if (key_expired(&set->key[i], now()))
		return "expired";
	return i ? "accepted" : "in use";
}

static int show_table(const struct key_set *set)
{
	static const char *const head[] = {"ID", "ROLE", "CREATED", "EXPIRES", "STATE"};
	struct table t;

	table_open(&t, head, sizeof head / sizeof *head);
	for (unsigned i = 0; i < set->count; i++) {
		char id[KEY_ID_TEXT];

		key_id_text(&set->key[i], id);
		table_cell(&t, "%s", id);
		table_cell(&t, "%s", key_role_name(set->key[i].role));
		print_time(&t, set->key[i].created_s, "?");
		print_time(&t, set->key[i].expires_s, "never");
		table_cell(&t, "%s", state(set, i));
	}
	return table_print(&t, true);
}

static void show_json(const struct key_set *set)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	for (unsigned i = 0; i < set->count; i++) {
		struct json_object *k = json_object_new_object();
		char id[KEY_ID_TEXT];

		key_id_text(&set->key[i], id);
		doc_text(k, "id", id);
		doc_text(k, "role", key_role_name(set->key[i].role));
		doc_count(k, "created", set->key[i].created_s);
		doc_count(k, "expires", set->key[i].expires_s);
		doc_text(k, "state", state(set, i));
		json_object_array_add(list, k);
	}
	json_object_object_add(o, "keys", list);
	doc_print(o);
}

static int show(const struct config *c, char **word)
{
	struct key_set *set;
	int r = key_read(word[0], &set);

	if (r)
		return r;
	if (c->json)
		show_json(set);
	else
		r = show_table(set);
	key_free(set);
	return r;
}

/* A new one in front; those before are good for a while, those that have expired are gone. */
static int rotate(const struct config *c, char **word)
{
	uint64_t end = now() + c->keep_ns / NSEC_PER_SEC;
	struct key_set *old, *set;
	int r = key_read(word[0], &old);

	if (r)
		return r;
	set = key_set_create();
	if (!set || old->key[0].role != KEY_CLUSTER) {
		r = set ? err_fail(-EINVAL,
				   "'%s' has a role's key: rotate the cluster's, and derive from it",
				   word[0])
			: err_fail(-ENOMEM, "no memory for keys");
		goto out;
	}
	key_generate(&set->key[set->count++], now());
	for (unsigned i = 0; i < old->count && set->count < KEY_MAX; i++) {
		struct key *k = &old->key[i];

		if (!k->expires_s || k->expires_s > end)
			k->expires_s = end;
		if (!key_expired(k, now()))
			set->key[set->count++] = *k;
	}
	r = key_write(word[0], set);
out:
	key_free(set);
	key_free(old);
	return r;
}

static int derive(const struct config *c, char **word)
{
	struct key_set *from, *to;
	int r;

	if (!c->role)
		return err_fail(VERB_USAGE, "which --role? see infuse key --help");
	r = must_not_be(word[1]);
	if (!r)
		r = key_read(word[0], &from);
	if (r)
		return r;
	to = key_set_create();
	if (!to)
		r = err_fail(-ENOMEM, "no memory for keys");
	for (unsigned i = 0; i < from->count && !r; i++)
		if (!key_expired(&from->key[i], now()) &&
		    !key_derive(&from->key[i], (enum key_role)key_role_of(c->role),
				&to->key[to->count]))
			to->count++;
	if (!r && !to->count)
		r = err_fail(-EACCES, "'%s' has no key that a %s's can be made of", word[0],
			     c->role);
	if (!r)
		r = key_write(word[1], to);
	key_free(to);
	key_free(from);
	return r;
}

static const struct action {
	const char *name;
	int words;
	int (*run)(const struct config *c, char **word);
} actions[] = {
	{"gen", 1, gen},
	{"show", 1, show},
	{"rotate", 1, rotate},
	{"derive", 2, derive},
};

int verb_key(int argc, char **argv)
{
	struct config c = {.keep_ns = 24 * 3600 * NSEC_PER_SEC};
	int first, r = opt_parse(&command, argc, argv, &c, &first);

	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (first == argc)
		return err_fail(VERB_USAGE, "gen, show, rotate or derive? see infuse key --help");
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
		if (strcmp(actions[i].name, argv[first]))
			continue;
		if (argc - first - 1 != actions[i].words)
			return err_fail(VERB_USAGE, "%s takes %s; see infuse key --help",
					argv[first],
					actions[i].words == 1 ? "a file" : "two files");
		return actions[i].run(&c, argv + first + 1);
	}
	return err_fail(VERB_USAGE, "'%s' is not gen, show, rotate or derive; see infuse key --help",
			argv[first]);
}
