/* SPDX-License-Identifier: MIT */
/* etcd's v3 API as JSON (grpc-gateway): bytes are base64, 64-bit numbers are strings, zeros are
 * absent. */
#include "registry/etcd.h"

#include <stdlib.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct json_object *etcd_bytes(const void *p, size_t n)
{
	const unsigned char *b = p;
	char *text = malloc((n + 2) / 3 * 4 + 1), *to = text;
	struct json_object *o;

	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i += 3) {
		unsigned long v = (unsigned long)b[i] << 16;

		v |= i + 1 < n ? (unsigned long)b[i + 1] << 8 : 0;
		v |= i + 2 < n ? b[i + 2] : 0;
		*to++ = letters[v >> 18];
		*to++ = letters[v >> 12 & 63];
		*to++ = i + 1 < n ? letters[v >> 6 & 63] : '=';
		*to++ = i + 2 < n ? letters[v & 63] : '=';
	}
	o = json_object_new_string_len(text, (int)(to - text));
	free(text);
	return o;
}

static int value_of(char c)
{
	const char *at = c ? strchr(letters, c) : NULL;

	return at ? (int)(at - letters) : -1;
}

bool etcd_get_bytes(struct json_object *o, const char *name, char **ret, size_t *len)
{
	struct json_object *s = etcd_get(o, name);
	const char *text = s ? json_object_get_string(s) : "";
	size_t n = strlen(text), out = 0;
	char *to = malloc(n / 4 * 3 + 1);

	if (!to || n % 4)
		goto fail;
	for (size_t i = 0; i < n; i += 4) {
		unsigned pad = i + 4 < n ? 0 : (text[i + 3] == '=') + (text[i + 2] == '=');
		unsigned long v = 0;

		for (unsigned k = 0; k < 4; k++) {
			int d = k < 4 - pad ? value_of(text[i + k]) : 0;

			if (d < 0)
				goto fail;
			v = v << 6 | (unsigned long)d;
		}
		for (unsigned k = 0; k < 3 - pad; k++)
			to[out++] = (char)(v >> (16 - 8 * k));
	}
	to[out] = 0;
	*ret = to;
	*len = out;
	return true;
fail:
	free(to);
	return false;
}

struct json_object *etcd_number(uint64_t n)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)n);
	return json_object_new_string(text);
}

struct json_object *etcd_get(struct json_object *o, const char *name)
{
	struct json_object *v;

	return json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, name, &v)
		       ? v
		       : NULL;
}

uint64_t etcd_get_number(struct json_object *o, const char *name)
{
	struct json_object *v = etcd_get(o, name);

	return v ? strtoull(json_object_get_string(v), NULL, 10) : 0;
}

uint64_t etcd_revision(struct json_object *answer)
{
	return etcd_get_number(etcd_get(answer, "header"), "revision");
}

struct json_object *etcd_key(const struct etcd *e, const char *key, bool all_below)
{
	struct json_object *o = json_object_new_object();
	char full[1024];
	int n = snprintf(full, sizeof full, "%s%s", e->url.prefix, key);

	json_object_object_add(o, "key", etcd_bytes(full, (size_t)n));
	if (all_below) {
		full[n - 1]++; /* keys and prefixes are ASCII */
		json_object_object_add(o, "range_end", etcd_bytes(full, (size_t)n));
	}
	return o;
}
