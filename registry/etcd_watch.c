/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a change: etcd streams one JSON document a line for as long as we listen. The stream
 * begins right behind what the caller has seen, so nothing between two calls is missed; what etcd
 * has forgotten since (compaction) counts as a change. A member that goes away, or is silent
 * because it has lost the others, is passed over for the next: some answer must come at the
 * beginning, and from time to time thereafter.
 */
#include "registry/etcd.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SILENCE_NS (15 * NSEC_PER_SEC) /* then another member is asked */
#define OPEN_NS    (2 * NSEC_PER_SEC)  /* for the first word */
/* etcd looks for what happened before a stream began every 100 ms. */
#define HISTORY_NS (500 * NSEC_PER_MSEC)
#define MAX_LINE   (16u << 20)

struct stream {
	struct etcd *e;
	char *line;
	size_t len;
	uint64_t since;
	uint64_t until_ns; /* when there is no more to wait for */
	bool created;
	bool changed;
	uint64_t revision; /* of the change */
	int error;         /* etcd said so, with words */
};

static void take_created(struct stream *s, struct json_object *result)
{
	uint64_t history = clock_ns() + HISTORY_NS;

	s->created = true;
	/* Something has changed since, perhaps here, or this member is behind: that comes a moment later. */
	if (etcd_revision(result) != s->since && s->until_ns < history)
		s->until_ns = history;
}

static void take_line(struct stream *s)
{
	struct json_object *o = json_tokener_parse(s->line), *result = etcd_get(o, "result");
	struct json_object *events = etcd_get(result, "events");

	if (!result) {
		s->error = etcd_http_refusal(s->e, o, 0);
	} else if (etcd_get(result, "canceled") || etcd_get(result, "compact_revision") ||
		   (events && json_object_array_length(events))) {
		s->changed = true;
		s->revision = etcd_revision(result);
	} else if (!s->created) {
		take_created(s, result);
	}
	json_object_put(o);
}

static size_t take(char *p, size_t size, size_t n, void *user)
{
	struct stream *s = user;
	char *more, *end;

	n *= size;
	if (s->len + n > MAX_LINE)
		return 0;
	more = realloc(s->line, s->len + n + 1);
	if (!more)
		return 0;
	memcpy(more + s->len, p, n);
	s->line = more;
	s->len += n;
	s->line[s->len] = 0;
	while (!s->changed && !s->error && (end = memchr(s->line, '\n', s->len))) {
		size_t used = (size_t)(end - s->line) + 1;

		*end = 0;
		take_line(s);
		s->len -= used;
		memmove(s->line, s->line + used, s->len + 1);
	}
	return n;
}

static struct json_object *request(const struct etcd *e, const char *prefix, uint64_t since)
{
	struct json_object *o = json_object_new_object(), *create = etcd_key(e, prefix, true);

	json_object_object_add(create, "start_revision", etcd_number(since + 1));
	json_object_object_add(o, "create_request", create);
	return o;
}

/* Drives the stream until something has come, its time is over, or it has ended. */
static CURLcode listen_on(CURLM *multi, struct stream *s)
{
	uint64_t open = clock_ns() + OPEN_NS, now;
	int running = 1, left;
	CURLMsg *m;

	for (;;) {
		if (curl_multi_perform(multi, &running) || s->changed || s->error)
			return CURLE_OK;
		now = clock_ns();
		if (!running || now >= (s->created ? s->until_ns : open))
			break;
		now = (s->created ? s->until_ns : open) - now;
		curl_multi_poll(multi, NULL, 0, (int)(now / NSEC_PER_MSEC) + 1, NULL);
	}
	m = running ? NULL : curl_multi_info_read(multi, &left);
	return m ? m->data.result : CURLE_OPERATION_TIMEDOUT;
}

/* Listens to one member. 0: a change; -EAGAIN: none, or ask another one. */
static int listen_to(struct etcd *e, const char *body, uint64_t until_ns, uint64_t *since,
		     bool *answered)
{
	uint64_t silence = clock_ns() + SILENCE_NS;
	struct stream s = {.e = e, .since = *since, .until_ns = until_ns};
	CURLM *multi = curl_multi_init();
	CURLcode code = CURLE_OUT_OF_MEMORY;

	if (e->url.members > 1 && silence < until_ns)
		s.until_ns = silence;
	etcd_http_prepare(e, e->curl, "/v3/watch", e->at);
	curl_easy_setopt(e->curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(e->curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(e->curl, CURLOPT_WRITEDATA, &s);
	if (multi && !curl_multi_add_handle(multi, e->curl)) {
		code = listen_on(multi, &s);
		curl_multi_remove_handle(multi, e->curl);
	}
	curl_multi_cleanup(multi);
	free(s.line);
	*answered = s.created && !s.error;
	if (s.changed) {
		*since = s.revision > *since ? s.revision : *since + 1;
		return 0;
	}
	if (s.error)
		return s.error;
	return err_fail(-EAGAIN, "%s: %s", e->url.member[e->at], curl_easy_strerror(code));
}

static int first_time(struct etcd *e, uint64_t *since)
{
	struct etcd_call c = {.path = "/v3/kv/range", .body = etcd_key(e, "", false)};
	struct json_object *answer;
	int r = etcd_http_call(e, &c, &answer);

	if (!r)
		*since = etcd_revision(answer);
	if (!r)
		json_object_put(answer);
	return r;
}

static int no_change(const struct etcd *e, const char *prefix, uint64_t timeout_ms)
{
	return err_fail(-ETIMEDOUT, "registry %s: no change under '%s' in %llu ms", e->base.where,
			prefix, (unsigned long long)timeout_ms);
}

int etcd_watch(struct registry *r, const char *prefix, uint64_t *since, uint64_t timeout_ms)
{
	struct etcd *e = (struct etcd *)r;
	uint64_t until = clock_ns() + timeout_ms * NSEC_PER_MSEC;
	struct json_object *o;
	const char *body;
	unsigned failed = 0;
	bool answered;
	int err;

	if (!*since)
		return first_time(e, since);
	err = etcd_http_login(e, until + ETCD_TIME_NS, false);
	if (err)
		return err;
	o = request(e, prefix, *since);
	body = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	do {
		struct timespec nap = {0, 200 * NSEC_PER_MSEC};

		err = listen_to(e, body, until, since, &answered);
		failed = answered ? 0 : failed + 1;
		if (err == -EAGAIN)
			e->at = (e->at + 1) % e->url.members;
		if (failed && failed % e->url.members == 0 && clock_ns() < until)
			nanosleep(&nap, NULL);
		/* Each member once, however short the time. */
	} while (err == -EAGAIN && (clock_ns() < until || (failed && failed < e->url.members)));
	json_object_put(o);
	if (err == -EACCES)
		e->authenticated = false; /* the next call gets a fresh token */
	if (err != -EAGAIN)
		return err;
	if (!failed)
		return no_change(e, prefix, timeout_ms);
	return err_fail(-EHOSTUNREACH, "registry %s: no member to listen to", e->base.where);
}
