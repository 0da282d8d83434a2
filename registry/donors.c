/* SPDX-License-Identifier: MIT */
#include "registry/donors.h"
#include "common/error.h"
#include "registry/registry.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A socket on this very machine is the shortest way, if we may use it. */
static int address_rank(const char *address)
{
	if (!strncmp(address, "unix:", 5))
		return access(address + 5, W_OK) ? 0 : 2;
	return !strncmp(address, "tcp:", 4);
}

static void donor_read(struct known_donor *d, struct json_object *doc)
{
	struct json_object *list;
	int best = 0;

	if (!json_object_object_get_ex(doc, "addresses", &list) ||
	    !json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(list, i));
		int rank = s && strlen(s) < sizeof d->address ? address_rank(s) : 0;

		if (rank <= best)
			continue;
		best = rank;
		snprintf(d->address, sizeof d->address, "%s", s);
	}
}

int donors_known(const char *url, struct known_donors *ret)
{
	struct reg_list entries = {0};
	struct registry *reg;
	char path[REG_MAX_URL];
	int r;

	*ret = (struct known_donors){0};
	if (!url)
		url = reg_default(path, sizeof path);
	if (!url)
		return 0;
	r = reg_open(url, &reg);
	if (r)
		return r;
	r = reg_list(reg, "donor/", &entries);
	reg_close(reg);
	if (r)
		return r;
	ret->donor = calloc(entries.count + 1, sizeof *ret->donor);
	for (size_t i = 0; ret->donor && i < entries.count; i++) {
		struct json_object *doc = json_tokener_parse(entries.entry[i].value);
		struct known_donor *d = &ret->donor[ret->count];

		snprintf(d->name, sizeof d->name, "%s", entries.entry[i].key + strlen("donor/"));
		donor_read(d, doc);
		ret->count += d->address[0] != 0;
		json_object_put(doc);
	}
	reg_list_free(&entries);
	return ret->donor ? 0 : err_fail(-ENOMEM, "out of memory");
}

void donors_free(struct known_donors *l)
{
	free(l->donor);
	*l = (struct known_donors){0};
}
