/* SPDX-License-Identifier: MIT */
#include "cli/donor.h"
#include "common/error.h"
#include "registry/registry.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DONORS 4096

static struct donor *add(struct donor_list *l)
{
	struct donor *more;

	if (l->count == MAX_DONORS) {
		err_fail(-E2BIG, "more than %d donors", MAX_DONORS);
		return NULL;
	}
	more = realloc(l->item, (l->count + 1) * sizeof *more);
	if (!more) {
		err_fail(-ENOMEM, "out of memory");
		return NULL;
	}
	l->item = more;
	more[l->count] = (struct donor){.status = -ENOTCONN};
	return &more[l->count++];
}

static int add_address(struct donor *d, const char *text, size_t n)
{
	if (d->addresses == DONOR_ADDRESSES)
		return 0; /* enough to reach it by */
	if (!n || n >= sizeof d->address[0].text)
		return err_fail(-EINVAL,
				"'%.*s' is not a donor's address: use tcp:HOST:PORT or "
				"unix:PATH",
				(int)(n < 80 ? n : 80), text);
	donor_clean_text(d->address[d->addresses++].text, text, n);
	return 0;
}

static int add_given(struct donor_list *l, const char *text, size_t n)
{
	struct donor *d;

	for (size_t i = 0; i < l->count; i++)
		if (!strncmp(l->item[i].address[0].text, text, n) && !l->item[i].address[0].text[n])
			return 0; /* named twice */
	d = add(l);
	return d ? add_address(d, text, n) : -ENOMEM;
}

/* Words separated by spaces, as libinject takes them. */
static int from_environment(struct donor_list *l, const char *s)
{
	int r = 0;

	for (size_t n; !r && *(s += strspn(s, " ")); s += n) {
		n = strcspn(s, " ");
		r = add_given(l, s, n);
	}
	return r;
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* A donor's document: an object with "addresses", perhaps "name" and "domain". */
static int from_document(struct donor *d, const char *name, struct json_object *o)
{
	struct json_object *list, *v;
	const char *domain = text_of(o, "domain");
	int r = 0;

	donor_clean_text(d->name, name, strnlen(name, WIRE_NAME_BYTES));
	donor_clean_text(d->domain, domain, strnlen(domain, WIRE_NAME_BYTES));
	d->announced = true;
	if (!json_object_object_get_ex(o, "addresses", &list) ||
	    !json_object_is_type(list, json_type_array))
		return -EINVAL;
	for (size_t i = 0; !r && i < json_object_array_length(list); i++) {
		v = json_object_array_get_idx(list, i);
		if (!json_object_is_type(v, json_type_string))
			return -EINVAL;
		r = add_address(d, json_object_get_string(v),
				(size_t)json_object_get_string_len(v));
	}
	return d->addresses ? r : -EINVAL;
}

/* A broken document is one donor that can't be reached, not the end of the listing. */
static int add_announced(struct donor_list *l, const struct reg_entry *e)
{
	struct json_object *o = json_tokener_parse(e->value);
	struct donor *d = add(l);

	if (d && (!json_object_is_type(o, json_type_object) ||
		  from_document(d, e->key + strlen("donor/"), o))) {
		d->addresses = 1;
		snprintf(d->address[0].text, sizeof d->address[0].text, "%.*s", 127, e->key);
		d->address[0].error = -EBADMSG;
	}
	json_object_put(o);
	return d ? 0 : -ENOMEM;
}

static int from_registry(struct donor_list *l, const char *url)
{
	struct registry *reg;
	struct reg_list entries;
	int r = reg_open(url, &reg);

	if (r)
		return r;
	snprintf(l->where, sizeof l->where, "%s", reg_where(reg));
	r = reg_list(reg, "donor/", &entries);
	reg_close(reg);
	if (r)
		return r;
	for (size_t i = 0; !r && i < entries.count; i++)
		r = add_announced(l, &entries.entry[i]);
	reg_list_free(&entries);
	return r;
}

static int find(const struct opt_list *given, const char *registry, struct donor_list *l)
{
	const char *env = getenv("INFUSE_DONOR");
	char path[REG_MAX_URL];
	int r = 0;

	for (unsigned i = 0; !r && i < given->count; i++)
		r = add_given(l, given->item[i], strlen(given->item[i]));
	if (given->count)
		return r;
	if (registry)
		return from_registry(l, registry);
	if (env && env[strspn(env, " ")])
		return from_environment(l, env);
	/* Only an existing one: looking must not make a file. */
	if (reg_default(path, sizeof path))
		return from_registry(l, path);
	return err_fail(-ENOENT, "no donors are known here: 'infuse serve' starts one that "
				 "announces itself; --donor ADDR or --registry FILE names others");
}

int donor_find(const struct opt_list *given, const char *registry, struct donor_list *ret)
{
	int r;

	*ret = (struct donor_list){0};
	r = find(given, registry, ret);
	if (r)
		donor_list_free(ret);
	return r;
}

void donor_list_free(struct donor_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->item[i].borrower);
	free(l->item);
	*l = (struct donor_list){0};
}

int donor_verdict(const struct donor_list *l)
{
	const struct donor *failed = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (!l->item[i].status)
			continue;
		failed = failed ? failed : &l->item[i];
		n++;
	}
	if (!n)
		return 0;
	if (n == 1)
		return err_fail(-EHOSTUNREACH, "%s", failed->why);
	return err_fail(-EHOSTUNREACH, "%s (and %u more can't be reached)", failed->why, n - 1);
}

const char *donor_state(const struct donor *d)
{
	if (d->stat.flags & WIRE_STAT_F_ENDING)
		return "ending";
	return d->stat.flags & WIRE_STAT_F_EMPTYING ? "emptying" : "up";
}

/* Bytes of the well-formed character at s, or 0. Control characters are not well-formed here. */
static size_t character(const unsigned char *s, size_t n)
{
	size_t len = *s < 0x80                 ? 1
		     : *s >= 0xc2 && *s < 0xe0 ? 2
		     : *s >= 0xe0 && *s < 0xf0 ? 3
		     : *s >= 0xf0 && *s < 0xf5 ? 4
					       : 0;

	if (!len || len > n || *s < ' ' || *s == 0x7f)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* C1 controls; overlong forms; surrogates; beyond Unicode's end. */
	if ((*s == 0xc2 && s[1] < 0xa0) || (*s == 0xe0 && s[1] < 0xa0) ||
	    (*s == 0xed && s[1] >= 0xa0) || (*s == 0xf0 && s[1] < 0x90) ||
	    (*s == 0xf4 && s[1] >= 0x90))
		return 0;
	return len;
}

void donor_clean_text(char *to, const void *from, size_t n)
{
	const unsigned char *s = from;
	size_t len;

	for (; n && *s; s += len, n -= len) {
		len = character(s, n);
		if (len) {
			memcpy(to, s, len);
			to += len;
		} else {
			*to++ = '?';
			len = 1;
		}
	}
	*to = 0;
}
