/* SPDX-License-Identifier: MIT */
/* inject_open(): finds donors when the caller names none. Apart, because it needs the registry. */
#include "libinject/runtime.h"
#include "common/error.h"
#include "registry/donors.h"
#include "registry/follow.h"
#include "registry/registry.h"

#include <errno.h>
#include <infuse/pagestore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words of $INFUSE_DONOR, in copy. */
static unsigned donors_from_environment(char *copy, size_t len, const char **donor)
{
	const char *env = getenv("INFUSE_DONOR");
	unsigned n = 0;
	char *save;

	snprintf(copy, len, "%s", env ? env : "");
	for (char *w = strtok_r(copy, " ", &save); w && n < PS_MAX_DONORS; w = strtok_r(NULL, " ", &save))
		donor[n++] = w;
	return n;
}

static const char *or_variable(const char *given, const char *name)
{
	const char *s = given ? NULL : getenv(name);

	return s && *s ? s : given;
}

/* In the follower's thread. */
static void found(const struct known_donors *l, void *arg)
{
	const char *address[PS_MAX_DONORS];
	unsigned n = 0;

	for (size_t i = 0; i < l->count && n < PS_MAX_DONORS; i++)
		address[n++] = l->donor[i].address;
	heap_update_donors(arg, address, n);
}

struct following {
	struct follow *follow;
	char url[REG_MAX_URL];
};

static void unfollow(void *arg)
{
	struct following *f = arg;

	follow_stop(f->follow);
	free(f);
}

/* Donors that come later join. A heap that can't follow works as it is. */
static void follow(struct inject_heap *h)
{
	struct following *f = calloc(1, sizeof *f);
	struct follow_options o = {.found = found, .arg = h};

	if (!f || !reg_default(f->url, sizeof f->url)) {
		free(f);
		return;
	}
	o.url = f->url;
	if (follow_start(&o, &f->follow))
		free(f);
	else
		heap_follow(h, unfollow, f);
}

int inject_open(const struct inject_options *o, struct inject_heap **ret)
{
	struct inject_options full;
	const char *donor[PS_MAX_DONORS];
	char copy[4096];
	struct known_donors list = {0};
	int r;

	if (o->size != sizeof *o)
		return heap_open(o, 0, ret);
	full = *o;
	full.key_file = or_variable(o->key_file, "INFUSE_KEY_FILE");
	full.tls_ca = or_variable(o->tls_ca, "INFUSE_TLS_CA");
	full.tls_cert = or_variable(o->tls_cert, "INFUSE_TLS_CERT");
	full.tls_cert_key = or_variable(o->tls_cert_key, "INFUSE_TLS_CERT_KEY");
	if (o->donors)
		return heap_open(&full, 0, ret);
	full.donors = donor;
	full.donors_count = donors_from_environment(copy, sizeof copy, donor);
	if (!full.donors_count) {
		r = donors_known(NULL, &list);
		if (r)
			return r;
		for (unsigned i = 0; i < list.count && i < PS_MAX_DONORS; i++)
			donor[full.donors_count++] = list.donor[i].address;
	}
	if (full.donors_count)
		r = heap_open(&full, 0, ret);
	else
		r = err_fail(-ENOENT, "no donors: name some, or set INFUSE_DONOR, or start "
				      "infuse-memory-server so that one is in the registry");
	if (!r && list.count)
		follow(*ret);
	donors_free(&list);
	return r;
}
