/* SPDX-License-Identifier: MIT */
/*
 * One request, some member that answers it. The member that answered last is asked first; one that
 * is down, has no leader or does not answer in its share of the time is passed over for the next.
 * Round and round, until the request's time is up: an election takes a second or two. So a request
 * may be done by a member that we gave up: etcd.c knows what that means for each operation.
 */
#include "registry/etcd.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TRY_NS      (1500 * NSEC_PER_MSEC) /* for one member, if there are others */
#define PAUSE_NS    (100 * NSEC_PER_MSEC)  /* between two rounds */
#define MAX_ANSWER  (64u << 20)
#define SECRET_LINE 4200u

struct answer {
	char *text;
	size_t len;
};

static size_t take(char *p, size_t size, size_t n, void *user)
{
	struct answer *a = user;
	char *more;

	n *= size;
	if (a->len + n > MAX_ANSWER)
		return 0;
	more = realloc(a->text, a->len + n + 1);
	if (!more)
		return 0;
	memcpy(more + a->len, p, n);
	a->text = more;
	a->len += n;
	a->text[a->len] = 0;
	return n;
}

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int etcd_http_open(struct etcd *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_curl);
	e->curl = curl_easy_init();
	if (e->curl)
		e->headers = curl_slist_append(NULL, "Content-Type: application/json");
	return e->headers ? 0 : err_fail(-ENOMEM, "out of memory");
}

/* The list holds the token. */
static void drop_headers(struct etcd *e)
{
	for (struct curl_slist *h = e->headers; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(e->headers);
	e->headers = NULL;
}

void etcd_http_close(struct etcd *e)
{
	if (e->curl)
		curl_easy_cleanup(e->curl);
	drop_headers(e);
}

static void set(CURL *curl, CURLoption option, const char *value)
{
	if (value)
		curl_easy_setopt(curl, option, value);
}

void etcd_http_prepare(struct etcd *e, CURL *curl, const char *path, unsigned member)
{
	char url[512];

	snprintf(url, sizeof url, "%s%s", e->url.member[member], path);
	/* Options go, connections stay. */
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, e->headers);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	set(curl, CURLOPT_CAINFO, e->url.ca);
	set(curl, CURLOPT_SSLCERT, e->url.cert);
	set(curl, CURLOPT_SSLKEY, e->url.key);
}

/* Its message: etcd 3.4 says {"error": "..."} or, in streams, {"error": {"message": "..."}}. */
static const char *message_of(struct json_object *answer)
{
	struct json_object *error = etcd_get(answer, "error");
	struct json_object *text = etcd_get(answer, "message");

	if (!text)
		text = etcd_get(error, "message");
	if (!text && json_object_is_type(error, json_type_string))
		text = error;
	return text ? json_object_get_string(text) : "no reason";
}

static int code_of(struct json_object *answer)
{
	struct json_object *code = etcd_get(answer, "code");

	if (!code)
		code = etcd_get(etcd_get(answer, "error"), "grpc_code");
	return code ? json_object_get_int(code) : 0;
}

/* gRPC's codes. */
enum {
	CODE_INVALID = 3,
	CODE_DEADLINE = 4,
	CODE_NOT_FOUND = 5,
	CODE_EXISTS = 6,
	CODE_DENIED = 7,
	CODE_EXHAUSTED = 8,
	CODE_PRECONDITION = 9,
	CODE_UNAVAILABLE = 14,
	CODE_UNAUTHENTICATED = 16
};

int etcd_http_refusal(struct etcd *e, struct json_object *answer, long status)
{
	const char *where = e->base.where, *text = message_of(answer);

	switch (code_of(answer)) {
	case CODE_NOT_FOUND:
		return err_fail(-ENOENT, "registry %s: %s", where, text);
	case CODE_EXISTS:
	case CODE_PRECONDITION:
		return err_fail(-EEXIST, "registry %s: %s", where, text);
	case CODE_EXHAUSTED:
		return err_fail(-ENOSPC, "registry %s: no space left in etcd: %s", where, text);
	case CODE_UNAUTHENTICATED:
	case CODE_DENIED:
		return err_fail(-EACCES, "registry %s: refused: %s", where, text);
	case CODE_DEADLINE:
	case CODE_UNAVAILABLE:
		return err_fail(-EAGAIN, "registry %s: %s: %s", where, e->url.member[e->at], text);
	case CODE_INVALID:
		/* A user's mistake, or a token that has ended: etcd 3.4 has one code for both. */
		if (strstr(text, "user name is empty") || strstr(text, "authentication failed"))
			return err_fail(-EACCES, "registry %s: refused: %s", where, text);
		__attribute__((fallthrough));
	default:
		if (status == 401 || status == 403)
			return err_fail(-EACCES, "registry %s: refused: %s", where, text);
		return err_fail(-EPROTO, "registry %s: %s answered %ld: %s", where,
				e->url.member[e->at], status, text);
	}
}

/* Something else answers there, or etcd has words before it speaks JSON. */
static int no_json(const struct etcd *e, const char *text, long status)
{
	char line[128] = "";

	for (size_t i = 0; text && i < sizeof line - 1 && text[i] >= ' ' && text[i] <= '~'; i++) {
		line[i] = text[i];
		line[i + 1] = 0;
	}
	return err_fail(-EPROTO, "registry %s: %s answers %ld, not as etcd does: %s", e->base.where,
			e->url.member[e->at], status, line);
}

/* What a certificate, a key or their files lack stays so, however often one asks. */
static bool stays_so(CURLcode code)
{
	return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
	       code == CURLE_SSL_CERTPROBLEM;
}

/*
 * 0; -EAGAIN: another member may do, or this one later; -EBADE: another one may, this one won't;
 * *maybe: the request may have been done all the same.
 */
static int try_member(struct etcd *e, const char *path, const char *body, uint64_t time_ns,
		      struct json_object **ret, bool *maybe)
{
	long ms = (long)(time_ns / NSEC_PER_MSEC) + 1, status = 0;
	struct answer a = {0};
	CURLcode code;
	int r = 0;

	etcd_http_prepare(e, e->curl, path, e->at);
	curl_easy_setopt(e->curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(e->curl, CURLOPT_TIMEOUT_MS, ms);
	curl_easy_setopt(e->curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(e->curl, CURLOPT_WRITEDATA, &a);
	code = curl_easy_perform(e->curl);
	curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK) {
		/* These ended before a byte of the request went out. */
		*maybe |= code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
			  code != CURLE_SSL_CONNECT_ERROR && !stays_so(code);
		r = err_fail(stays_so(code) ? -EBADE : -EAGAIN, "%s: %s", e->url.member[e->at],
			     curl_easy_strerror(code));
	} else {
		*ret = a.text ? json_tokener_parse(a.text) : NULL;
		if (!*ret)
			r = no_json(e, a.text, status);
		else if (status != 200 || etcd_get(*ret, "error"))
			r = etcd_http_refusal(e, *ret, status);
		/* etcd timed out: it may have been done */
		*maybe |= r == -EAGAIN;
	}
	free(a.text);
	if (r) {
		json_object_put(*ret);
		*ret = NULL;
	}
	return r;
}

static int nobody(struct etcd *e, uint64_t began_ns)
{
	char last[256];

	snprintf(last, sizeof last, "%s", err_text());
	return err_fail(-EHOSTUNREACH,
			"registry %s: no member answered within %.1f s (the last one: %s)",
			e->base.where, (double)(clock_ns() - began_ns) / 1e9, last);
}

static int unfit(struct etcd *e)
{
	char last[256];

	snprintf(last, sizeof last, "%s", err_text());
	return err_fail(-EPROTO, "registry %s: %s", e->base.where, last);
}

static int run(struct etcd *e, struct etcd_call *c, const char *body, struct json_object **ret)
{
	uint64_t began = clock_ns();
	unsigned tries = 0, hopeless = 0;
	int r;

	for (;;) {
		uint64_t now = clock_ns(), left = c->until_ns > now ? c->until_ns - now : 0;
		uint64_t share = e->url.members > 1 && left > TRY_NS ? TRY_NS : left;

		if (!left)
			return tries ? nobody(e, began)
				     : err_fail(-ETIMEDOUT, "registry %s: no time left",
						e->base.where);
		r = try_member(e, c->path, body, share, ret, &c->ambiguous);
		hopeless = r == -EBADE ? hopeless + 1 : 0;
		if (hopeless == e->url.members)
			return unfit(e);
		if (r != -EAGAIN && r != -EBADE)
			return r;
		e->at = (e->at + 1) % e->url.members;
		if (++tries % e->url.members == 0) {
			struct timespec nap = {0, PAUSE_NS};

			nanosleep(&nap, NULL);
		}
	}
}

static int set_token(struct etcd *e, const char *token)
{
	char line[SECRET_LINE];
	struct curl_slist *more;

	drop_headers(e);
	e->headers = curl_slist_append(NULL, "Content-Type: application/json");
	snprintf(line, sizeof line, "Authorization: %s", token);
	more = e->headers ? curl_slist_append(e->headers, line) : NULL;
	explicit_bzero(line, sizeof line);
	if (!more)
		return err_fail(-ENOMEM, "out of memory");
	e->headers = more;
	e->authenticated = true;
	return 0;
}

/* A name and a password are exchanged for a token that etcd forgets after some minutes. */
static int login_user(struct etcd *e, uint64_t until_ns)
{
	struct etcd_call c = {.path = "/v3/auth/authenticate", .until_ns = until_ns};
	struct json_object *o, *answer = NULL, *token;
	char *user = NULL, *colon;
	int r = etcd_secret(e, e->url.user_file, &user);

	if (r)
		return r;
	colon = strchr(user, ':');
	if (!colon) {
		etcd_secret_free(user);
		return err_fail(-EINVAL, "registry %s: %s does not hold NAME:PASSWORD",
				e->base.where, e->url.user_file);
	}
	*colon = 0;
	o = json_object_new_object();
	json_object_object_add(o, "name", json_object_new_string(user));
	json_object_object_add(o, "password", json_object_new_string(colon + 1));
	*colon = ':';
	etcd_secret_free(user);
	r = run(e, &c, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), &answer);
	json_object_put(o);
	if (r)
		return r;
	token = etcd_get(answer, "token");
	r = token ? set_token(e, json_object_get_string(token))
		  : err_fail(-EPROTO, "registry %s: no token came", e->base.where);
	json_object_put(answer);
	return r;
}

int etcd_http_login(struct etcd *e, uint64_t until_ns, bool again)
{
	char *token = NULL;
	int r;

	if ((!e->url.token_file && !e->url.user_file) || (e->authenticated && !again))
		return 0;
	if (e->url.user_file)
		return login_user(e, until_ns);
	r = etcd_secret(e, e->url.token_file, &token);
	if (!r)
		r = set_token(e, token);
	etcd_secret_free(token);
	return r;
}

int etcd_http_call(struct etcd *e, struct etcd_call *c, struct json_object **ret)
{
	const char *body = json_object_to_json_string_ext(c->body, JSON_C_TO_STRING_PLAIN);
	int r;

	*ret = NULL;
	if (!c->until_ns)
		c->until_ns = clock_ns() + ETCD_TIME_NS;
	r = body ? etcd_http_login(e, c->until_ns, false) : err_fail(-ENOMEM, "out of memory");
	if (!r)
		r = run(e, c, body, ret);
	/* Tokens end. One more try, with a fresh one. */
	if (r == -EACCES && e->authenticated) {
		e->authenticated = false;
		r = etcd_http_login(e, c->until_ns, true);
		if (!r)
			r = run(e, c, body, ret);
	}
	json_object_put(c->body);
	c->body = NULL;
	return r;
}
