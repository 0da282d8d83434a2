/* SPDX-License-Identifier: MIT */
/*
 * Plays texts as etcd's answers: whatever they are, the registry gives what it promises (keys that
 * were asked for, values that end, errors with words), and who reads donors from it gets whole
 * addresses. Stands in for etcd_http.c; the rest of the backend is the real one.
 */
#include "text.h"
#include "common/error.h"
#include "registry/donors.h"
#include "registry/etcd.h"
#include "registry/registry.h"

#include <errno.h>

#define URL "etcd:http://127.0.0.1:2379"

/* "infuse/donor/a": {"addresses":["tcp:h:1"]}; "infuse/a": "b" */
#define KV_DONOR "{\"key\":\"aW5mdXNlL2Rvbm9yL2E=\",\"create_revision\":\"5\",\"mod_revision\":\"6\",\"version\":\"2\",\"value\":\"eyJhZGRyZXNzZXMiOlsidGNwOmg6MSJdfQ==\"}"
#define KV_OTHER "{\"key\":\"aW5mdXNlL2E=\",\"version\":\"1\",\"value\":\"Yg==\"}"
#define HEAD     "\"header\":{\"cluster_id\":\"1\",\"revision\":\"7\"}"

static const char *const templates[] = {
	"{" HEAD ",\"kvs\":[" KV_DONOR "],\"count\":\"1\"}",
	"{" HEAD ",\"kvs\":[" KV_DONOR "," KV_DONOR "],\"more\":true,\"count\":\"3\"}",
	"{" HEAD ",\"kvs\":[" KV_OTHER "],\"count\":\"1\"}",
	"{" HEAD ",\"succeeded\":true,\"responses\":[{\"response_put\":{" HEAD "}}]}",
	"{" HEAD ",\"responses\":[{\"response_range\":{\"kvs\":[" KV_DONOR "]}}]}",
	"{" HEAD ",\"deleted\":\"1\",\"prev_kv\":" KV_OTHER "}",
	"{\"result\":{" HEAD ",\"ID\":\"12\",\"TTL\":\"10\"}}",
	"{" HEAD "}",
};
static const char *const words[] = {"{", "}", "[", "]", ",", ":", "\"", "\\u0000", "null", "true", "-1",
				    "18446744073709551616", "\"kvs\":", "\"key\":", "\"value\":", "\"more\":true",
				    "\"version\":", "=", "====", "AAAA", KV_OTHER, KV_DONOR, "\"aW5mdXNl\"", "1e99"};

static struct moves *now;
static unsigned texts;

/* --- in place of etcd_http.c --- */

int etcd_http_open(struct etcd *e)
{
	(void)e;
	return 0;
}

void etcd_http_close(struct etcd *e)
{
	(void)e;
}

int etcd_http_login(struct etcd *e, uint64_t until_ns, bool again)
{
	(void)e;
	(void)until_ns;
	(void)again;
	return 0;
}

void etcd_http_prepare(struct etcd *e, CURL *curl, const char *path, unsigned member)
{
	(void)e;
	(void)curl;
	(void)path;
	(void)member;
}

int etcd_http_refusal(struct etcd *e, struct json_object *answer, long status)
{
	(void)e;
	(void)answer;
	(void)status;
	return err_fail(-EIO, "refused");
}

int etcd_http_call(struct etcd *e, struct etcd_call *c, struct json_object **ret)
{
	struct text t;

	(void)e;
	must(json_object_to_json_string(c->body)[0] == '{');
	json_object_put(c->body);
	c->ambiguous = take(now) & 1;
	if (!now->n || take(now) > 240)
		return err_fail(-EHOSTUNREACH, "nobody answers");
	text_next(&t, now, templates, sizeof templates / sizeof *templates, words,
		  sizeof words / sizeof *words);
	texts++;
	*ret = json_tokener_parse(t.s);
	return json_object_is_type(*ret, json_type_object)
		       ? 0
		       : (json_object_put(*ret), err_fail(-EPROTO, "that is no JSON"));
}

/* --- what the registry promises --- */

static void check_entry(const struct reg_entry *e, const char *prefix)
{
	must(e->key && e->value && !e->value[e->len]);
	must(!strncmp(e->key, prefix, strlen(prefix)));
	must(strlen(e->key) <= REG_MAX_KEY);
}

static void list(struct registry *r)
{
	struct reg_list l = {0};

	if (reg_list(r, "donor/", &l)) {
		must(!l.entry && err_text()[0]);
		return;
	}
	for (size_t i = 0; i < l.count; i++)
		check_entry(&l.entry[i], "donor/");
	reg_list_free(&l);
}

static void get(struct registry *r)
{
	struct reg_entry e;

	if (reg_get(r, "a", &e)) {
		must(err_text()[0]);
		return;
	}
	check_entry(&e, "a");
	must(e.key[1] == 0);
	reg_entry_free(&e);
}

static void donors(void)
{
	struct known_donors known;

	if (donors_known(URL, &known)) {
		must(err_text()[0]);
		return;
	}
	for (size_t i = 0; i < known.count; i++)
		must(memchr(known.donor[i].name, 0, sizeof known.donor[i].name) &&
		     memchr(known.donor[i].address, 0, sizeof known.donor[i].address));
	donors_free(&known);
}

static void step(struct registry *r, uint8_t what)
{
	uint64_t n = what;

	switch (what % 9) {
	case 0:
		get(r);
		break;
	case 1:
		reg_put(r, "a", "b", 1, 0, &n);
		break;
	case 2:
		reg_cas(r, "a", 1, "b", 1, 0, &n);
		break;
	case 3:
		reg_delete(r, "a");
		break;
	case 4:
		reg_lease(r, 1000, &n);
		break;
	case 5:
		reg_renew(r, n + 1);
		break;
	case 6:
		reg_revoke(r, n + 1);
		break;
	case 7:
		donors();
		break;
	default:
		list(r);
	}
}

unsigned play(const uint8_t *bytes, size_t n)
{
	struct moves m = {bytes, n};
	struct registry *r;

	now = &m;
	texts = 0;
	must(!reg_open(URL, &r));
	while (m.n)
		step(r, take(&m));
	reg_close(r);
	return texts ? texts : 1;
}

void play_end(void)
{
}
