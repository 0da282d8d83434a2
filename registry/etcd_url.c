/* SPDX-License-Identifier: MIT */
/*
 * "https://h1:2379,h2:2379/prefix?ca=FILE&cert=FILE&key=FILE&token-file=FILE&user-file=FILE":
 * members of one cluster, where in it, and the files that say who we are. A url is seen by
 * everybody (it stands in argv and in messages), so it holds no secret, only the names of files
 * that do.
 */
#include "registry/etcd.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FORM                                                                                       \
	"use etcd:https://HOST:2379[,HOST:2379]...[/PREFIX][?ca=FILE&cert=FILE&key=FILE"           \
	"&token-file=FILE&user-file=FILE]"
#define SECRET_BYTES 4096

static int copy(char **to, const char *s, size_t n)
{
	*to = strndup(s, n);
	return *to ? 0 : err_fail(-ENOMEM, "out of memory");
}

static int read_member(struct etcd_url *u, const char *scheme, const char *s, size_t n)
{
	if (u->members == ETCD_MAX_MEMBERS)
		return err_fail(-E2BIG, "registry etcd: more than %d members", ETCD_MAX_MEMBERS);
	if (!n || memchr(s, '@', n))
		return err_fail(-EINVAL, "registry etcd: '%.*s' is not HOST:PORT%s; " FORM, (int)n,
				s, n ? ", and a password belongs in a file" : "");
	if (asprintf(&u->member[u->members], "%s://%.*s%s", scheme, (int)n, s,
		     memchr(s, ':', n) ? "" : ":2379") < 0) {
		u->member[u->members] = NULL;
		return err_fail(-ENOMEM, "out of memory");
	}
	u->members++;
	return 0;
}

static int read_option(struct etcd_url *u, const char *s, size_t n)
{
	const struct {
		const char *name;
		char **to;
	} known[] = {
		{"ca=", &u->ca},
		{"cert=", &u->cert},
		{"key=", &u->key},
		{"token-file=", &u->token_file},
		{"user-file=", &u->user_file},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t len = strlen(known[i].name);

		if (n <= len || strncmp(s, known[i].name, len))
			continue;
		free(*known[i].to);
		return copy(known[i].to, s + len, n - len);
	}
	return err_fail(-EINVAL, "registry etcd: '%.*s' is not an option; " FORM, (int)n, s);
}

static int check(const struct etcd_url *u, bool tls)
{
	if ((u->ca || u->cert || u->key) && !tls)
		return err_fail(-EINVAL, "registry etcd: certificates are for https://; " FORM);
	if (!u->cert != !u->key)
		return err_fail(-EINVAL, "registry etcd: cert= and key= go together");
	if (u->token_file && u->user_file)
		return err_fail(-EINVAL, "registry etcd: token-file= or user-file=, not both");
	if (strlen(u->prefix) > 255)
		return err_fail(-EINVAL, "registry etcd: the prefix has more than 254 bytes");
	for (const char *p = u->prefix; *p; p++)
		if (*p <= ' ' || *p >= '~')
			return err_fail(
				-EINVAL,
				"registry etcd: the prefix is printable ASCII without spaces");
	return 0;
}

/* The part between the slash and the question mark, with one slash at its end. */
static int read_prefix(struct etcd_url *u, const char *s, size_t n)
{
	while (n && s[n - 1] == '/')
		n--;
	if (!n)
		return copy(&u->prefix, "infuse/", 7);
	if (asprintf(&u->prefix, "%.*s/", (int)n, s) < 0) {
		u->prefix = NULL;
		return err_fail(-ENOMEM, "out of memory");
	}
	return 0;
}

static int read_all(const char *s, struct etcd_url *u)
{
	bool tls = !strncmp(s, "https://", 8);
	size_t n = strcspn(s, "?");
	const char *options = s + n + (s[n] == '?'), *path;
	int r = 0;

	if (tls || !strncmp(s, "http://", 7))
		s = strstr(s, "//") + 2;
	else if (strstr(s, "://"))
		return err_fail(-EINVAL, "registry etcd: http:// or https://; " FORM);
	for (;;) {
		n = strcspn(s, ",/?");
		r = read_member(u, tls ? "https" : "http", s, n);
		s += n;
		if (r || *s != ',')
			break;
		s++;
		/* each member may have the scheme again */
		if (!strncmp(s, tls ? "https://" : "http://", tls ? 8 : 7))
			s += tls ? 8 : 7;
	}
	if (r)
		return r;
	path = *s == '/' ? s + 1 : s;
	r = read_prefix(u, path, strcspn(path, "?"));
	for (; !r && *options; options += n + (options[n] == '&')) {
		n = strcspn(options, "&");
		r = read_option(u, options, n);
	}
	return r ? r : check(u, tls);
}

int etcd_url_read(const char *where, struct etcd_url *ret)
{
	struct etcd_url u = {0};
	int r = read_all(where, &u);

	if (r)
		etcd_url_free(&u);
	else
		*ret = u;
	return r;
}

void etcd_url_free(struct etcd_url *u)
{
	while (u->members)
		free(u->member[--u->members]);
	free(u->prefix);
	free(u->ca);
	free(u->cert);
	free(u->key);
	free(u->token_file);
	free(u->user_file);
	*u = (struct etcd_url){0};
}

int etcd_secret(const struct etcd *e, const char *path, char **ret)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;
	char *s;

	if (fd < 0 || fstat(fd, &st))
		return err_fail(-errno, "registry %s: can't read %s: %s", e->base.where, path,
				strerror(errno));
	if (st.st_mode & 077)
		return err_fail(-EACCES, "registry %s: others may read %s: chmod 600 it",
				e->base.where, path);
	s = calloc(1, SECRET_BYTES);
	if (!s)
		return err_fail(-ENOMEM, "out of memory");
	n = read(fd, s, SECRET_BYTES - 1);
	s[n > 0 ? strcspn(s, "\r\n") : 0] = 0;
	if (!*s) {
		etcd_secret_free(s);
		return err_fail(-EINVAL, "registry %s: %s is empty", e->base.where, path);
	}
	*ret = s;
	return 0;
}

void etcd_secret_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}
