/* SPDX-License-Identifier: MIT */
/*
 * The entry lives on a lease that this thread renews, so that it goes when the server dies. It is
 * only written over an entry of this very start: two donors of one name would hide each other.
 */
#include "server/announce.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "registry/registry.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LEASE_MS 15000u
#define EVERY_S  5

struct srv_announcer {
	struct srv_announce_options o;
	char key[REG_MAX_KEY + 1];
	char boot[33];
	struct registry *reg;
	uint64_t lease, version; /* 0: not there */
	bool failed;             /* said so already */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
};

/* The document; the caller puts the object. */
static json_object *describe(struct srv_announcer *a)
{
	json_object *o = json_object_new_object(), *list = json_object_new_array();
	struct srv_arena *arena = srv_lender_arena(a->o.lender);
	uint64_t slab = srv_arena_slab_bytes(arena);

	for (unsigned i = 0; i < a->o.listeners_count; i++)
		json_object_array_add(list, json_object_new_string(a->o.listeners[i].actual));
	json_object_object_add(o, "name", json_object_new_string(a->o.name));
	json_object_object_add(o, "addresses", list);
	json_object_object_add(o, "domain", json_object_new_string(a->o.domain));
	json_object_object_add(o, "pid", json_object_new_int64(getpid()));
	json_object_object_add(o, "boot", json_object_new_string(a->boot));
	json_object_object_add(o, "size_bytes",
			       json_object_new_int64((int64_t)(slab * srv_arena_total(arena))));
	json_object_object_add(o, "slab_bytes", json_object_new_int64((int64_t)slab));
	json_object_object_add(o, "free_bytes",
			       json_object_new_int64((int64_t)(slab * srv_arena_room(arena))));
	return o;
}

/* Opens the registry and gets a lease when there is none. */
static int get_lease(struct srv_announcer *a)
{
	int r = a->reg ? 0 : reg_open(a->o.url, &a->reg);

	if (!r && a->lease) {
		r = reg_renew(a->reg, a->lease);
		if (r == -ENOENT) { /* too late: the entry went with it */
			a->lease = a->version = 0;
			r = 0;
		}
	}
	if (!r && !a->lease)
		r = reg_lease(a->reg, LEASE_MS, &a->lease);
	return r;
}

static int announce(struct srv_announcer *a)
{
	json_object *o;
	const char *text;
	int r = get_lease(a);

	if (r)
		return r;
	o = describe(a);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	r = reg_cas(a->reg, a->key, a->version, text, strlen(text), a->lease, &a->version);
	json_object_put(o);
	if (r == -EAGAIN) {
		a->version = 0;
		r = err_fail(r, "there is another donor called %s; use --name", a->o.name);
	}
	return r;
}

static void *announcer_main(void *arg)
{
	struct srv_announcer *a = arg;
	struct timespec t;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		int r;

		pthread_mutex_unlock(&a->lock);
		r = announce(a);
		if (r && !a->failed)
			log_warn("not in the registry for now: %s", err_text());
		else if (!r && a->failed)
			log_info("in the registry %s", reg_where(a->reg));
		a->failed = r;
		pthread_mutex_lock(&a->lock);
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_sec += EVERY_S;
		while (!a->stop && pthread_cond_timedwait(&a->wake, &a->lock, &t) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static void boot_text(struct srv_announcer *a)
{
	struct wire_welcome w;

	srv_lender_welcome(a->o.lender, &w);
	for (unsigned i = 0; i < sizeof w.boot; i++)
		snprintf(a->boot + 2 * i, 3, "%02x", w.boot[i]);
}

int srv_announce_start(const struct srv_announce_options *o, struct srv_announcer **ret)
{
	struct srv_announcer *a = calloc(1, sizeof *a);
	pthread_condattr_t attr;
	int r;

	if (!a)
		return err_fail(-ENOMEM, "no memory");
	a->o = *o;
	snprintf(a->key, sizeof a->key, "donor/%s", o->name);
	boot_text(a);
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&a->thread, NULL, announcer_main, a);
	if (r) {
		free(a);
		return err_fail(r, "can't start a thread: %s", strerror(-r));
	}
	*ret = a;
	return 0;
}

void srv_announce_stop(struct srv_announcer *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	if (a->lease)
		(void)reg_revoke(a->reg, a->lease); /* else it ends by itself */
	reg_close(a->reg);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
