/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the etcd backend share. etcd_url.c reads the url; etcd_http.c brings a request
 * to some member that answers, within the time there is; etcd_json.c reads and writes what etcd's
 * v3 API says as JSON; etcd.c is the operations, etcd_watch.c the stream of changes.
 */
#ifndef REGISTRY_ETCD_H
#define REGISTRY_ETCD_H

#include "registry/backend.h"

#include <curl/curl.h>
#include <json-c/json.h>
#include <stdbool.h>

#define ETCD_MAX_MEMBERS 9
#define ETCD_TIME_NS     (5ull * 1000000000) /* for a request, over all members */

/* What the url says. Secrets are in files that it names. */
struct etcd_url {
	char *member[ETCD_MAX_MEMBERS]; /* "https://h1:2379" */
	unsigned members;
	char *prefix; /* of all keys, ends with a slash */
	char *ca, *cert, *key;
	char *token_file; /* a bearer token */
	char *user_file;  /* "NAME:PASSWORD" for etcd's own authentication */
};

struct etcd {
	struct registry base;
	struct etcd_url url;
	CURL *curl;
	struct curl_slist *headers;
	unsigned at;        /* the member that answered last */
	bool authenticated; /* headers hold a token */
};

/* A request under way. */
struct etcd_call {
	const char *path; /* "/v3/kv/txn" */
	struct json_object *body;
	uint64_t until_ns;
	bool ambiguous; /* out: an earlier try may have been done */
};

/* [text] */
int etcd_url_read(const char *where, struct etcd_url *ret);
void etcd_url_free(struct etcd_url *u);
/* [text] The first line of a file that nobody else may read. Wipe it with etcd_secret_free(). */
int etcd_secret(const struct etcd *e, const char *path, char **ret);
void etcd_secret_free(char *s);

/* [text] */
int etcd_http_open(struct etcd *e);
void etcd_http_close(struct etcd *e);
/*
 * [text] Sends the body to the members in turn until one answers; *ret is the answer's document,
 * the caller's. Takes c->body over. -ETIMEDOUT or -EHOSTUNREACH: nobody did; -ENOENT and others:
 * what etcd answered, in its words.
 */
int etcd_http_call(struct etcd *e, struct etcd_call *c, struct json_object **ret);
/* [text] Gets a token if the url names a secret and there is none yet, or `again`. */
int etcd_http_login(struct etcd *e, uint64_t until_ns, bool again);
/* The options that all requests have: where to, certificates, what is forbidden. */
void etcd_http_prepare(struct etcd *e, CURL *curl, const char *path, unsigned member);
/* [text] The errno for an answer that is an error, with its words. */
int etcd_http_refusal(struct etcd *e, struct json_object *answer, long status);

/* Base64 of bytes as a JSON string. */
struct json_object *etcd_bytes(const void *p, size_t n);
/* Numbers of 64 bits are strings in etcd's JSON. */
struct json_object *etcd_number(uint64_t n);
/* The bytes of a base64 member, NUL-terminated; a missing one is empty. False: no base64, no
 * memory. */
bool etcd_get_bytes(struct json_object *o, const char *name, char **ret, size_t *len);
/* A missing one is 0. */
uint64_t etcd_get_number(struct json_object *o, const char *name);
struct json_object *etcd_get(struct json_object *o, const char *name); /* NULL: there is none */
uint64_t etcd_revision(struct json_object *answer);
/* {"key": prefix and key} and, with an end, all that begin with it. */
struct json_object *etcd_key(const struct etcd *e, const char *key, bool all_below);

int etcd_watch(struct registry *r, const char *prefix, uint64_t *since, uint64_t timeout_ms);

#endif
