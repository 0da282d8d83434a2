/* SPDX-License-Identifier: MIT */
/*
 * The documents of volumes. A document of the map names the epoch of who wrote it: a reader takes
 * the newest there is, and a writer that was overtaken can only write where it has looked
 * (compare-and-swap), so it never replaces what a newer one has written.
 */
#include "registry/volumes.h"
#include "common/error.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void to_hex(char *to, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snprintf(to + 2 * i, 3, "%02x", p[i]);
}

static bool from_hex(unsigned char *to, size_t n, const char *s)
{
	if (strlen(s) != 2 * n || strspn(s, "0123456789abcdef") != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned byte;

		sscanf(s + 2 * i, "%2x", &byte);
		to[i] = (unsigned char)byte;
	}
	return true;
}

static int key_of(const char *name, char key[REG_MAX_KEY + 1])
{
	size_t n = strlen(name);

	if (!n || n > VOLUME_NAME || strchr(name, '/'))
		return err_fail(-EINVAL, "'%s' is not a volume's name: 1 to %d bytes without '/'",
				name, VOLUME_NAME);
	snprintf(key, REG_MAX_KEY + 1, "volume/%s", name);
	return 0;
}

static void key_of_map(const struct volume *v, uint64_t chunk, char key[REG_MAX_KEY + 1])
{
	snprintf(key, REG_MAX_KEY + 1, "volume/%s/map/%06llu", v->name, (unsigned long long)chunk);
}

/* Nobody else ever has the same, so a swap that may have been done is known again. */
static int sign(struct volume *v)
{
	char host[65] = "";
	uint64_t number;

	if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
		return err_fail(-EIO, "the kernel has no random bytes");
	gethostname(host, sizeof host - 1);
	snprintf(v->writer, sizeof v->writer, "%.60s:%d:%016llx", host, (int)getpid(),
		 (unsigned long long)number);
	return 0;
}

static void add(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static struct json_object *describe(const struct volume *v)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	char id[33];

	to_hex(id, v->borrower, sizeof v->borrower);
	json_object_object_add(o, "borrower", json_object_new_string(id));
	explicit_bzero(id, sizeof id);
	add(o, "epoch", v->epoch);
	json_object_object_add(o, "writer", json_object_new_string(v->writer));
	json_object_object_add(o, "closed", json_object_new_boolean(v->closed));
	add(o, "pages", v->pages);
	add(o, "replicas", v->replicas);
	add(o, "slab_pages", v->slab_pages);
	for (unsigned i = 0; i < v->donors; i++) {
		struct json_object *d = json_object_new_object();

		json_object_object_add(d, "address", json_object_new_string(v->donor[i].address));
		json_object_object_add(d, "boot", json_object_new_string(v->donor[i].boot));
		json_object_array_add(list, d);
	}
	json_object_object_add(o, "donors", list);
	return o;
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *s;

	return json_object_object_get_ex(o, key, &s) && json_object_is_type(s, json_type_string)
		       ? json_object_get_string(s)
		       : "";
}

static uint64_t number_of(struct json_object *o, const char *key)
{
	struct json_object *n;

	return json_object_object_get_ex(o, key, &n) && json_object_is_type(n, json_type_int)
		       ? json_object_get_uint64(n)
		       : 0;
}

static bool take_donors(struct volume *v, struct json_object *list)
{
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n && i < VOLUME_DONORS; i++) {
		struct json_object *d = json_object_array_get_idx(list, i);
		const char *address, *boot;

		if (!json_object_is_type(d, json_type_object))
			return false;
		address = text_of(d, "address");
		boot = text_of(d, "boot");
		if (!*address || strlen(address) >= sizeof v->donor[i].address ||
		    strlen(boot) >= sizeof v->donor[i].boot)
			return false;
		strcpy(v->donor[i].address, address);
		strcpy(v->donor[i].boot, boot);
		v->donors++;
	}
	return n && n <= VOLUME_DONORS;
}

static bool take_document(struct volume *v, struct json_object *o)
{
	struct json_object *list = NULL, *closed = NULL;

	if (!json_object_is_type(o, json_type_object) ||
	    !from_hex(v->borrower, sizeof v->borrower, text_of(o, "borrower")))
		return false;
	v->epoch = number_of(o, "epoch");
	snprintf(v->writer, sizeof v->writer, "%s", text_of(o, "writer"));
	json_object_object_get_ex(o, "closed", &closed);
	v->closed = closed && json_object_get_boolean(closed);
	v->pages = number_of(o, "pages");
	v->replicas = (uint32_t)number_of(o, "replicas");
	v->slab_pages = (uint32_t)number_of(o, "slab_pages");
	json_object_object_get_ex(o, "donors", &list);
	return v->epoch && v->pages && v->replicas && v->replicas <= VOLUME_MEMBERS &&
	       v->slab_pages && !(v->slab_pages & (v->slab_pages - 1)) && take_donors(v, list);
}

static int put(struct registry *r, struct volume *v, uint64_t expect)
{
	struct json_object *o = describe(v);
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	char key[REG_MAX_KEY + 1];
	int e = key_of(v->name, key);

	if (!e)
		e = reg_cas(r, key, expect, text, strlen(text), 0, &v->version);
	json_object_put(o);
	return e;
}

int volume_create(struct registry *r, struct volume *v)
{
	int e = sign(v);

	if (e)
		return e;
	if (getrandom(v->borrower, sizeof v->borrower, 0) != (ssize_t)sizeof v->borrower)
		return err_fail(-EIO, "the kernel has no random bytes");
	v->borrower[0] |= 1;
	v->epoch = 1;
	v->closed = false;
	e = put(r, v, 0);
	if (e == -EAGAIN)
		e = err_fail(-EEXIST, "registry %s: there is a volume '%s' already", reg_where(r),
			     v->name);
	return e;
}

int volume_read(struct registry *r, const char *name, struct volume *ret)
{
	struct volume v = {0};
	struct json_object *o;
	char key[REG_MAX_KEY + 1];
	struct reg_entry e;
	int err = key_of(name, key);

	if (!err)
		err = reg_get(r, key, &e);
	if (err)
		return err;
	o = json_tokener_parse(e.value);
	snprintf(v.name, sizeof v.name, "%s", name);
	v.version = e.version;
	if (!take_document(&v, o))
		err = err_fail(-EBADMSG, "registry %s: %s: the document is not a volume's",
			       reg_where(r), key);
	json_object_put(o);
	explicit_bzero(e.value, e.len);
	reg_entry_free(&e);
	if (!err)
		*ret = v;
	return err;
}

int volume_claim(struct registry *r, struct volume *v)
{
	struct volume next = *v;
	int e = sign(&next);

	next.epoch++;
	next.closed = false;
	if (!e)
		e = put(r, &next, v->version);
	if (e == -EAGAIN)
		return err_fail(-EAGAIN, "volume '%s': another writer was faster", v->name);
	if (!e)
		*v = next;
	return e;
}

static int overtaken(const struct volume *v)
{
	return err_fail(-ESTALE, "volume '%s': a newer writer has it", v->name);
}

int volume_update(struct registry *r, struct volume *v)
{
	int e = put(r, v, v->version);

	return e == -EAGAIN ? overtaken(v) : e;
}

static struct json_object *describe_slab(const struct volume_slab *s)
{
	struct json_object *l = json_object_new_array();
	char handle[20];

	if (!s->generation)
		return l;
	json_object_array_add(l, json_object_new_uint64(s->generation));
	for (uint32_t i = 0; i < s->members; i++) {
		json_object_array_add(l, json_object_new_int(s->donor[i]));
		snprintf(handle, sizeof handle, "%llx", (unsigned long long)s->handle[i]);
		json_object_array_add(l, json_object_new_string(handle));
	}
	return l;
}

/* [generation, donor, handle, donor, handle...]; [] is not granted. */
static bool take_slab(struct volume_slab *s, struct json_object *l, unsigned donors)
{
	size_t n = json_object_is_type(l, json_type_array) ? json_object_array_length(l) : 0;

	memset(s, 0, sizeof *s);
	if (!n)
		return json_object_is_type(l, json_type_array);
	if (n % 2 == 0 || n / 2 > VOLUME_MEMBERS)
		return false;
	s->generation = (uint32_t)json_object_get_uint64(json_object_array_get_idx(l, 0));
	for (size_t i = 0; i < n / 2; i++) {
		uint64_t donor = json_object_get_uint64(json_object_array_get_idx(l, 1 + 2 * i));
		const char *handle =
			json_object_get_string(json_object_array_get_idx(l, 2 + 2 * i));

		if (donor >= donors || !handle)
			return false;
		s->donor[i] = (uint8_t)donor;
		s->handle[i] = strtoull(handle, NULL, 16);
	}
	s->members = (uint32_t)(n / 2);
	return s->generation;
}

/* The chunk as it is: its version and the epoch of who wrote it (0, 0: there is none). */
static int read_chunk(struct registry *r, const char *key, struct json_object **ret,
		      uint64_t *version)
{
	struct reg_entry e;
	int err = reg_get(r, key, &e);

	*ret = NULL;
	*version = 0;
	if (err)
		return err == -ENOENT ? 0 : err;
	*ret = json_tokener_parse(e.value);
	*version = e.version;
	reg_entry_free(&e);
	return 0;
}

static struct json_object *slabs_of(struct json_object *chunk)
{
	struct json_object *l;

	return json_object_is_type(chunk, json_type_object) &&
			       json_object_object_get_ex(chunk, "slabs", &l) &&
			       json_object_is_type(l, json_type_array)
		       ? l
		       : NULL;
}

/* Replaces [from, to) of the chunk; the others stay as they are. */
static int publish_chunk(struct registry *r, const struct volume *v, uint64_t chunk, uint64_t from,
			 uint64_t to, const struct volume_slab *slab)
{
	struct json_object *before, *old, *o = json_object_new_object();
	struct json_object *list = json_object_new_array();
	char key[REG_MAX_KEY + 1];
	const char *text;
	uint64_t version;
	int e;

	key_of_map(v, chunk, key);
	e = read_chunk(r, key, &before, &version);
	old = slabs_of(before);
	if (!e && before && number_of(before, "epoch") > v->epoch)
		e = overtaken(v);
	for (uint64_t i = 0; i < VOLUME_CHUNK && !e; i++) {
		struct json_object *s = old && i < json_object_array_length(old)
						? json_object_array_get_idx(old, i)
						: NULL;

		if (i >= from && i < to)
			json_object_array_add(list, describe_slab(&slab[i - from]));
		else
			json_object_array_add(list,
					      s ? json_object_get(s) : json_object_new_array());
	}
	json_object_object_add(o, "epoch", json_object_new_uint64(v->epoch));
	json_object_object_add(o, "slabs", list);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	if (!e)
		e = reg_cas(r, key, version, text, strlen(text), 0, NULL);
	json_object_put(o);
	json_object_put(before);
	return e == -EAGAIN ? overtaken(v) : e;
}

int volume_publish(struct registry *r, const struct volume *v, uint64_t first, uint64_t count,
		   const struct volume_slab *slab)
{
	int e = 0;

	for (uint64_t at = first; at < first + count && !e;) {
		uint64_t chunk = at / VOLUME_CHUNK, from = at % VOLUME_CHUNK;
		uint64_t n = VOLUME_CHUNK - from, left = first + count - at;

		n = n < left ? n : left;
		e = publish_chunk(r, v, chunk, from, from + n, slab + (at - first));
		at += n;
	}
	return e;
}

int volume_map(struct registry *r, const struct volume *v, uint64_t slabs, struct volume_slab **ret)
{
	struct volume_slab *all = calloc(slabs + 1, sizeof *all);
	int e = all ? 0 : err_fail(-ENOMEM, "out of memory");

	for (uint64_t chunk = 0; chunk * VOLUME_CHUNK < slabs && !e; chunk++) {
		struct json_object *o, *list;
		char key[REG_MAX_KEY + 1];
		uint64_t version;

		key_of_map(v, chunk, key);
		e = read_chunk(r, key, &o, &version);
		list = slabs_of(o);
		if (!e && version && !list)
			e = err_fail(-EBADMSG, "registry %s: %s: the document is not a map's",
				     reg_where(r), key);
		for (size_t i = 0; list && !e && i < json_object_array_length(list); i++) {
			uint64_t at = chunk * VOLUME_CHUNK + i;

			if (at < slabs &&
			    !take_slab(&all[at], json_object_array_get_idx(list, i), v->donors))
				e = err_fail(-EBADMSG, "registry %s: %s: slab %llu makes no sense",
					     reg_where(r), key, (unsigned long long)at);
		}
		json_object_put(o);
	}
	if (e)
		free(all);
	else
		*ret = all;
	return e;
}

/* First the volume's own document: without it the map is nobody's. */
int volume_delete(struct registry *r, const struct volume *v)
{
	struct volume now;
	struct reg_list l;
	char key[REG_MAX_KEY + 1];
	int e = volume_read(r, v->name, &now);

	if (e)
		return e;
	if (now.epoch != v->epoch || strcmp(now.writer, v->writer))
		return overtaken(v);
	e = key_of(v->name, key);
	if (!e)
		e = reg_delete(r, key);
	strcat(key, "/map/");
	if (!e)
		e = reg_list(r, key, &l);
	if (e)
		return e;
	for (size_t i = 0; i < l.count; i++)
		(void)reg_delete(r, l.entry[i].key);
	reg_list_free(&l);
	return 0;
}
