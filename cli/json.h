/* SPDX-License-Identifier: MIT */
/* Short names for the few ways the verbs build their JSON. Counts are unsigned, times in ms. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static inline void doc_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static inline void doc_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static inline void doc_number(struct json_object *o, const char *key, int64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

static inline void doc_count(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static inline void doc_real(struct json_object *o, const char *key, double value)
{
	char text[48];

	/* One digit after the point: rates are not known better. */
	snprintf(text, sizeof text, "%.1f", value);
	json_object_object_add(o, key, json_object_new_double_s(value, text));
}

/* Prints it on one line and frees it. */
static inline void doc_print(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

#endif
