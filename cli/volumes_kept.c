/* SPDX-License-Identifier: MIT */
/*
 * `infuse volumes --kept` and `--forget`: volumes that a registry keeps by their names, for the next
 * writer to go on with. Forgetting one is being its next writer, and giving everything back.
 */
#include "cli/donor_key.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/volumes_kept.h"
#include "common/error.h"
#include "common/parse.h"
#include "registry/volumes.h"
#include "secure/key.h"

#include <errno.h>
#include <infuse/pagestore.h>
#include <stdlib.h>
#include <string.h>

static const char *const head[] = {"NAME", ">SIZE", ">COPIES", ">DONORS", ">EPOCH", "WRITER", "STATE"};

static const char *state(const struct volume *v)
{
	return v->closed ? "closed" : "open";
}

/* HOST:PID:NUMBER without the number. */
static void writer_of(const struct volume *v, char *to, size_t len)
{
	const char *end = strrchr(v->writer, ':');

	snprintf(to, len, "%.*s", end ? (int)(end - v->writer) : 0, v->writer);
}

static void add_line(struct table *t, const struct volume *v)
{
	char size[24], writer[97];

	writer_of(v, writer, sizeof writer);
	table_cell(t, "%s", v->name);
	table_cell(t, "%s", format_size(v->pages * PS_PAGE_SIZE, size, sizeof size));
	table_cell(t, "%u", v->replicas);
	table_cell(t, "%u", v->donors);
	table_cell(t, "%llu", (unsigned long long)v->epoch);
	table_cell(t, "%s", writer);
	table_cell(t, "%s", state(v));
}

static void add_document(struct json_object *list, const struct volume *v)
{
	struct json_object *o = json_object_new_object();
	char writer[97];

	writer_of(v, writer, sizeof writer);
	doc_text(o, "name", v->name);
	doc_count(o, "bytes", v->pages * PS_PAGE_SIZE);
	doc_count(o, "copies", v->replicas);
	doc_count(o, "donors", v->donors);
	doc_count(o, "epoch", v->epoch);
	doc_text(o, "writer", writer);
	doc_text(o, "state", state(v));
	json_object_array_add(list, o);
}

/* "volume/NAME", and not one of its map's. */
static const char *name_of(const char *key)
{
	const char *name = key + strlen("volume/");

	return strchr(name, '/') ? NULL : name;
}

int volumes_kept(const char *registry, bool json)
{
	struct json_object *list = json ? json_object_new_array() : NULL;
	struct reg_list keys = {0};
	struct registry *reg;
	struct table t;
	int r = reg_open(registry, &reg);

	if (r)
		return r;
	r = reg_list(reg, "volume/", &keys);
	if (!json)
		table_open(&t, head, sizeof head / sizeof *head);
	for (size_t i = 0; i < keys.count && !r; i++) {
		const char *name = name_of(keys.entry[i].key);
		struct volume v;

		if (!name)
			continue;
		r = volume_read(reg, name, &v);
		if (r == -ENOENT) { /* gone since */
			r = 0;
			continue;
		}
		if (!r && json)
			add_document(list, &v);
		else if (!r)
			add_line(&t, &v);
		explicit_bzero(v.borrower, sizeof v.borrower);
	}
	reg_list_free(&keys);
	reg_close(reg);
	if (json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "kept", list);
		if (!r)
			doc_print(o);
		else
			json_object_put(o);
		return r;
	}
	return r ? r : table_print(&t, true);
}

/* Its slabs are freed now, where its donors can be reached; elsewhere after their grace. */
static int give_back(const struct volume *v, const struct donor_keys *keys)
{
	const char *address[VOLUME_DONORS];
	struct ps_volume *volume;
	struct ps_options o = {.name = v->name,
			       .pages = v->pages,
			       .donors = address,
			       .donors_count = v->donors,
			       .ports = 1,
			       .depth = 1,
			       .replicas = v->replicas,
			       .key_file = keys->key ? keys->key : getenv(KEY_FILE_VARIABLE),
			       .tls_ca = keys->ca,
			       .tls_cert = keys->cert,
			       .tls_cert_key = keys->cert_key,
			       .borrower = v->borrower,
			       .epoch = v->epoch,
			       .lenient = true};
	int r;

	for (unsigned i = 0; i < v->donors; i++)
		address[i] = v->donor[i].address;
	r = ps_open(&o, &volume);
	if (!r)
		ps_close(volume);
	return r;
}

int volumes_forget(const char *registry, const char *name, const struct donor_keys *keys)
{
	struct registry *reg;
	struct volume v = {0};
	int r = reg_open(registry, &reg);

	if (r)
		return r;
	r = volume_read(reg, name, &v);
	if (r == -ENOENT)
		r = err_fail(-ENOENT, "registry %s: there is no volume '%s'", reg_where(reg), name);
	if (!r)
		r = volume_claim(reg, &v);
	if (!r && give_back(&v, keys))
		fprintf(stderr, "infuse volumes: its donors free it after their grace: %s\n", err_text());
	if (!r)
		r = volume_delete(reg, &v);
	explicit_bzero(v.borrower, sizeof v.borrower);
	reg_close(reg);
	return r;
}
