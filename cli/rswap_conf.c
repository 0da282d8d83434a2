/* SPDX-License-Identifier: MIT */
/* See rswap_conf.h. */
#include "cli/rswap_conf.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/parse.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEVICES  64
#define MAX_REPLICAS 3
#define MEGABYTE     (1ull << 20)

struct reading {
	struct rswap_conf_list *list;
	const char *where;
	int err;
};

bool rswap_name_ok(const char *name)
{
	const char *digits = name + strlen("rswap");
	size_t n;

	if (strncmp(name, "rswap", strlen("rswap")))
		return false;
	n = strspn(digits, "0123456789");
	return n && n <= 3 && !digits[n] && (n == 1 || *digits != '0');
}

static struct rswap_conf *section(struct rswap_conf_list *l, const char *name)
{
	struct rswap_conf *more;

	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->item[i].name, name))
			return &l->item[i];
	if (!rswap_name_ok(name)) {
		err_fail(-EINVAL, "'%s' is not a device's name: rswap0, rswap1...", name);
		return NULL;
	}
	more = l->count < MAX_DEVICES ? realloc(l->item, (l->count + 1) * sizeof *more) : NULL;
	if (!more) {
		err_fail(-ENOMEM, "no memory for more than %zu devices", l->count);
		return NULL;
	}
	l->item = more;
	more += l->count++;
	*more = (struct rswap_conf){.replicas = 1, .priority = -1, .automatic = true};
	snprintf(more->name, sizeof more->name, "%s", name);
	return more;
}

/* --- settings --- */

static int set_text(char *to, size_t len, const char *value)
{
	if (strlen(value) >= len)
		return err_fail(-ENAMETOOLONG, "more than %zu bytes", len - 1);
	memcpy(to, value, strlen(value) + 1);
	return 0;
}

/* "8G", "50%", "ram", "ram/2" */
static int set_size(struct rswap_conf *c, const char *value)
{
	uint64_t bytes = 0, of = 1;
	unsigned percent = 0;
	int r = 0;

	if (!strcmp(value, "ram"))
		of = 1;
	else if (!strncmp(value, "ram/", 4))
		r = parse_u64(value + 4, 1, 1024, &of);
	else
		r = parse_share(value, &bytes, &percent);
	if (r)
		return err_fail(r, "'%s' is not a size: 8G, ram/2 or 50%%", value);
	c->bytes = bytes;
	c->ram_times = percent ? percent : 1;
	c->ram_of = percent ? 100 : of;
	return 0;
}

static int set_donor(struct rswap_conf *c, const char *value)
{
	if (!*value) {
		c->donors = 0;
		return 0;
	}
	if (c->donors == RSWAP_CONF_DONORS)
		return err_fail(-E2BIG, "more than %u donors", RSWAP_CONF_DONORS);
	return set_text(c->donor[c->donors++], sizeof c->donor[0], value);
}

static int set_via(struct rswap_conf *c, const char *value)
{
	static const char *const words[] = {
		[RSWAP_VIA_AUTO] = "auto", [RSWAP_VIA_MODULE] = "module", [RSWAP_VIA_NBD] = "nbd"};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
		if (strcmp(value, words[i]))
			continue;
		c->via = i;
		return 0;
	}
	return err_fail(-EINVAL, "'%s' is not auto, module or nbd", value);
}

static int set_bool(bool *to, const char *value)
{
	if (strcmp(value, "yes") && strcmp(value, "no"))
		return err_fail(-EINVAL, "'%s' is not yes or no", value);
	*to = *value == 'y';
	return 0;
}

static int set_priority(struct rswap_conf *c, const char *value)
{
	uint64_t v;
	int r = parse_u64(value, 0, 32767, &v);

	if (!r)
		c->priority = (int)v;
	return r;
}

static int set(struct rswap_conf *c, const char *name, const char *value)
{
	if (!strcmp(name, "size"))
		return set_size(c, value);
	if (!strcmp(name, "donor"))
		return set_donor(c, value);
	if (!strcmp(name, "replicas"))
		return parse_u64(value, 1, MAX_REPLICAS, &c->replicas);
	if (!strcmp(name, "priority"))
		return set_priority(c, value);
	if (!strcmp(name, "via"))
		return set_via(c, value);
	if (!strcmp(name, "deadline"))
		return parse_duration(value, &c->deadline_ns);
	if (!strcmp(name, "registry"))
		return set_text(c->registry, sizeof c->registry, value);
	if (!strcmp(name, "key"))
		return set_text(c->key, sizeof c->key, value);
	if (!strcmp(name, "auto"))
		return set_bool(&c->automatic, value);
	return err_fail(-EINVAL,
			"there is no such setting (size, donor, replicas, priority, via, deadline, "
			"registry, key, auto)");
}

static int take(void *user, const char *in, const char *name, const char *value)
{
	struct reading *r = user;
	struct rswap_conf *c;
	char why[320];
	int err = -EINVAL;

	if (r->err)
		return 0;
	c = *in ? section(r->list, in) : NULL;
	if (!*in)
		err_fail(-EINVAL, "before the first [rswapN]");
	if (c)
		err = set(c, name, value);
	if (!err)
		return 1;
	snprintf(why, sizeof why, "%s", err_text());
	r->err = err_fail(err, "%.200s: [%.40s] %.40s: %.200s", r->where, in, name, why);
	return 0;
}

/* --- files --- */

int rswap_conf_parse(FILE *f, const char *where, struct rswap_conf_list *list)
{
	struct reading r = {.list = list, .where = where};
	int line = ini_parse_file(f, take, &r);

	if (r.err)
		return r.err;
	if (line)
		return err_fail(-EINVAL, "%s:%d: not '[rswapN]' or 'name = value'", where, line);
	return 0;
}

static int read_file(const char *path, struct rswap_conf_list *list)
{
	CLEANUP_FILE FILE *f = fopen(path, "re");

	if (!f)
		return err_fail(-errno, "can't read %s: %s", path, strerror(errno));
	return rswap_conf_parse(f, path, list);
}

static int is_conf(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 5, ".conf");
}

static int read_files(const char *path, struct rswap_conf_list *list)
{
	char folder[400], file[700];
	struct dirent **e = NULL;
	int r = read_file(path, list), n;

	if (r && r != -ENOENT)
		return r;
	snprintf(folder, sizeof folder, "%.390s.d", path);
	n = scandir(folder, &e, is_conf, alphasort);
	if (n > 0)
		r = 0; /* drop-ins alone will do */
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof file, "%s/%s", folder, e[i]->d_name);
		if (!r)
			r = read_file(file, list);
		free(e[i]);
	}
	free(e);
	return r;
}

int rswap_conf_read(const char *path, struct rswap_conf_list *ret)
{
	int r;

	*ret = (struct rswap_conf_list){0};
	r = read_files(path, ret);
	for (size_t i = 0; i < ret->count && !r; i++)
		if (!ret->item[i].bytes && !ret->item[i].ram_of)
			r = err_fail(-EINVAL, "%s: [%s] has no size", path, ret->item[i].name);
	if (r)
		rswap_conf_free(ret);
	return r;
}

void rswap_conf_free(struct rswap_conf_list *list)
{
	free(list->item);
	*list = (struct rswap_conf_list){0};
}

int rswap_conf_find(const struct rswap_conf_list *list, const char *name, struct rswap_conf *ret)
{
	char names[200] = "none";
	size_t n = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (!strcmp(list->item[i].name, name)) {
			*ret = list->item[i];
			return 0;
		}
		if (n < sizeof names - RSWAP_NAME_BYTES)
			n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
					      list->item[i].name);
	}
	return err_fail(-ENOENT, "there is no [%.40s] in the configuration (%s)", name, names);
}

int rswap_conf_size(const struct rswap_conf *c, uint64_t ram_bytes, uint64_t *bytes)
{
	uint64_t size = c->bytes;

	if (!size) /* in two parts: nothing overflows, nothing is lost */
		size = ram_bytes / c->ram_of * c->ram_times +
		       ram_bytes % c->ram_of * c->ram_times / c->ram_of;
	size = size / MEGABYTE * MEGABYTE;
	if (!size)
		return err_fail(-EINVAL, "[%s] is smaller than a megabyte", c->name);
	*bytes = size;
	return 0;
}
