/* SPDX-License-Identifier: MIT */
/*
 * --config: an INI file without sections, "grace = 5s" a line, with those options that can change
 * under way. The command line wins over it.
 */
#include "server/options.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <ini.h>
#include <string.h>

struct reading {
	struct srv_config *c;
	const char *path;
	int err;
};

static int set_log(struct srv_config *c, const char *value)
{
	c->quiet = !strcmp(value, "quiet");
	c->verbose = !strcmp(value, "verbose");
	if (!c->quiet && !c->verbose && strcmp(value, "normal"))
		return err_fail(-EINVAL, "'%s' is not one of quiet, normal, verbose", value);
	return 0;
}

/* "quota NAME = SIZE" */
static int set_quota(struct srv_config *c, const char *name, const char *value)
{
	struct srv_name_quota *q = &c->quota[c->quotas];

	name += strspn(name, " \t");
	if (c->quotas == SRV_QUOTAS)
		return err_fail(-E2BIG, "more than %d quotas", SRV_QUOTAS);
	if (!*name || strlen(name) >= sizeof q->name)
		return err_fail(-EINVAL, "'%s' is not a borrower's name", name);
	if (parse_size(value, &q->bytes))
		return -EINVAL;
	strcpy(q->name, name);
	c->quotas++;
	return 0;
}

static int set_pressure(struct srv_config *c, const char *value)
{
	return parse_u64(value, 0, 100, &c->reclaim_pressure);
}

static int set_share(struct opt_share *s, const char *value)
{
	return parse_share(value, &s->bytes, &s->percent);
}

static int set(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	char why[300];
	int err;

	if (r->err) /* inih reads on; the first mistake is the one to tell */
		return 0;
	if (*section)
		err = err_fail(-EINVAL, "there are no sections ('[%s]')", section);
	else if (!strcmp(name, "grace"))
		err = parse_duration(value, &r->c->grace_ns);
	else if (!strcmp(name, "spin"))
		err = parse_duration(value, &r->c->spin_ns);
	else if (!strcmp(name, "drain-timeout"))
		err = parse_duration(value, &r->c->drain_ns);
	else if (!strcmp(name, "exit-idle"))
		err = parse_duration(value, &r->c->exit_idle_ns);
	else if (!strcmp(name, "log"))
		err = set_log(r->c, value);
	else if (!strcmp(name, "quota"))
		err = parse_size(value, &r->c->quota_bytes);
	else if (!strncmp(name, "quota ", 6) || !strncmp(name, "quota\t", 6))
		err = set_quota(r->c, name + 6, value);
	else if (!strcmp(name, "reclaim-below"))
		err = set_share(&r->c->reclaim_below, value);
	else if (!strcmp(name, "reclaim-target"))
		err = set_share(&r->c->reclaim_target, value);
	else if (!strcmp(name, "reclaim-pressure"))
		err = set_pressure(r->c, value);
	else
		err = err_fail(-EINVAL,
			       "'%s' is not a setting (grace, spin, drain-timeout, "
			       "exit-idle, quota, reclaim-below, reclaim-target, "
			       "reclaim-pressure, log)",
			       name);
	if (err) {
		snprintf(why, sizeof why, "%s", err_text());
		r->err = err_fail(err, "%s: %s", r->path, why);
	}
	return !err;
}

int srv_config_file(const char *path, struct srv_config *c)
{
	struct reading r = {.c = c, .path = path};
	int line = ini_parse(path, set, &r);

	if (r.err)
		return r.err;
	if (line < 0)
		return err_fail(-ENOENT, "can't read %s: %s", path, strerror(errno));
	if (line > 0)
		return err_fail(-EINVAL, "%s:%d: not 'name = value'", path, line);
	return 0;
}
