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

static int set(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	char why[300];
	int err;

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
	else
		err = err_fail(-EINVAL,
			       "'%s' is not a setting (grace, spin, drain-timeout, "
			       "exit-idle, log)",
			       name);
	if (err && !r->err) {
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
