/* SPDX-License-Identifier: MIT */
/* See kept.h. docs/replication.md, "Other writers", has the order in which things are written down. */
#include "nbdkit-rswap/kept.h"
#include "common/clock.h"
#include "common/error.h"
#include "registry/volumes.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_NS  (20 * NSEC_PER_MSEC)
#define AGAIN_NS NSEC_PER_SEC /* when the registry was away */

struct kept {
	struct kept_options o;
	struct volume doc;
	struct ps_volume *volume;
	struct volume_slab *known; /* by slab: what is in the registry */
	uint64_t slabs, changes;   /* what `known` is of */
	struct registry *reg;      /* the thread's, once it runs */
	bool is_new, overtaken, failing;
	pthread_t thread;
	bool started, stop;
};

/* --- where slabs lie --- */

static void take_where(const struct ps_volume *v, uint64_t slab, struct volume_slab *to)
{
	struct ps_where w;

	ps_where(v, slab, &w);
	memset(to, 0, sizeof *to);
	to->generation = w.generation;
	to->members = w.members;
	for (unsigned i = 0; i < w.members; i++) {
		to->donor[i] = w.donor[i];
		to->handle[i] = w.handle[i];
	}
}

static void donor_entry(struct kept *k, unsigned d, struct volume_donor *to)
{
	unsigned char boot[16];

	memset(to, 0, sizeof *to);
	ps_donor_address(k->volume, d, to->address);
	ps_donor_boot(k->volume, d, boot);
	for (unsigned i = 0; i < sizeof boot; i++)
		snprintf(to->boot + 2 * i, 3, "%02x", boot[i]);
}

/* Entries [from, to) of the table of donors as they are now; true: some differ. */
static bool take_donors(struct kept *k, unsigned from, unsigned to)
{
	bool differs = false;

	for (unsigned d = from; d < to; d++) {
		struct volume_donor now;

		donor_entry(k, d, &now);
		differs = differs || memcmp(&now, &k->doc.donor[d], sizeof now);
		k->doc.donor[d] = now;
	}
	if (to > k->doc.donors)
		k->doc.donors = to;
	return differs;
}

/* All chunks of the map that have changed. */
static int publish_map(struct kept *k)
{
	struct volume_slab now[VOLUME_CHUNK];
	int r = 0;

	for (uint64_t first = 0; first < k->slabs && !r; first += VOLUME_CHUNK) {
		uint64_t n = k->slabs - first < VOLUME_CHUNK ? k->slabs - first : VOLUME_CHUNK;

		for (uint64_t i = 0; i < n; i++)
			take_where(k->volume, first + i, &now[i]);
		if (!memcmp(now, &k->known[first], n * sizeof *now))
			continue;
		r = volume_publish(k->reg, &k->doc, first, n, now);
		if (!r)
			memcpy(&k->known[first], now, n * sizeof *now);
	}
	return r;
}

/*
 * New donors before the slabs on them; donors that have another boot id after the slabs that they lost:
 * who reads what is half written finds slabs that can't be asked, never others in their place.
 */
static int publish(struct kept *k)
{
	uint64_t changes = ps_where_changes(k->volume);
	unsigned before = k->doc.donors, donors = ps_donors(k->volume);
	int r = 0;

	if (donors > before && take_donors(k, before, donors))
		r = volume_update(k->reg, &k->doc);
	if (!r)
		r = publish_map(k);
	if (!r && take_donors(k, 0, donors))
		r = volume_update(k->reg, &k->doc);
	if (r)
		return r;
	k->changes = changes;
	ps_where_published(k->volume, changes);
	return 0;
}

/* --- opening --- */

/* What was written down, as the page store takes it; slabs of other boots are nobody's. */
static struct ps_where *places_of(struct kept *k, const struct volume_slab *map)
{
	struct ps_where *all = calloc(k->slabs + 1, sizeof *all);
	bool there[VOLUME_DONORS];

	for (unsigned d = 0; d < k->doc.donors; d++) {
		struct volume_donor now;

		donor_entry(k, d, &now);
		there[d] = !strcmp(now.boot, k->doc.donor[d].boot);
	}
	for (uint64_t i = 0; all && i < k->slabs; i++) {
		struct ps_where *w = &all[i];

		w->generation = map[i].generation;
		for (unsigned m = 0; m < map[i].members && m < PS_MAX_MEMBERS; m++) {
			unsigned d = map[i].donor[m];

			w->donor[w->members] = there[d] ? (uint8_t)d : UINT8_MAX;
			w->handle[w->members++] = map[i].handle[m];
		}
	}
	return all;
}

static int take_over(struct kept *k)
{
	struct volume_slab *map = NULL;
	struct ps_where *where = NULL;
	struct ps_taken taken;
	int r = volume_map(k->reg, &k->doc, k->slabs, &map);

	if (!r && !(where = places_of(k, map)))
		r = err_fail(-ENOMEM, "out of memory");
	if (!r)
		r = ps_take_over(k->volume, where, k->slabs, k->o.force, &taken);
	free(where);
	free(map);
	return r;
}

static int opened(struct ps_volume *v, void *arg)
{
	struct kept *k = arg;
	uint32_t pages = ps_slab_pages(v);

	k->volume = v;
	k->slabs = ps_slabs(v);
	k->known = calloc(k->slabs + 1, sizeof *k->known);
	if (!k->known)
		return err_fail(-ENOMEM, "out of memory");
	if (!k->is_new && k->doc.slab_pages != pages)
		return err_fail(-EINVAL, "volume '%s' has slabs of %u pages, the donors of %u", k->doc.name,
				k->doc.slab_pages, pages);
	k->doc.slab_pages = pages;
	return k->is_new ? 0 : take_over(k);
}

static int create(struct kept *k, const struct device_options *o)
{
	struct volume *v = &k->doc;

	if (strlen(k->o.name) > VOLUME_NAME)
		return err_fail(-EINVAL, "'%s' is longer than %d bytes", k->o.name, VOLUME_NAME);
	strcpy(v->name, k->o.name);
	v->pages = (o->bytes - 1) / PS_PAGE_SIZE + 1;
	v->replicas = o->replicas ? o->replicas : 1;
	v->slab_pages = 1; /* until a donor has said it */
	for (unsigned i = 0; i < o->donors_count; i++) {
		if (strlen(o->donors[i]) >= sizeof v->donor[i].address)
			return err_fail(-ENAMETOOLONG, "donor '%s': too long", o->donors[i]);
		strcpy(v->donor[i].address, o->donors[i]);
	}
	v->donors = o->donors_count;
	return volume_create(k->reg, v);
}

static int claim(struct kept *k, const struct device_options *o)
{
	uint64_t pages = (o->bytes - 1) / PS_PAGE_SIZE + 1;
	unsigned replicas = o->replicas ? o->replicas : 1;

	if (k->doc.pages != pages || k->doc.replicas != replicas)
		return err_fail(-EINVAL, "volume '%s' is there already, with %llu pages and replicas=%u",
				k->doc.name, (unsigned long long)k->doc.pages, k->doc.replicas);
	/* Its writer had not come as far as to a slab. */
	k->is_new = k->doc.slab_pages == 1;
	return volume_claim(k->reg, &k->doc);
}

int kept_open(const struct kept_options *ko, struct device_options *o, struct device **device,
	      struct kept **ret)
{
	struct kept *k = calloc(1, sizeof *k);
	const char *address[VOLUME_DONORS];
	struct device *d = NULL;
	int r = k ? reg_open(ko->registry, &k->reg) : err_fail(-ENOMEM, "out of memory");

	if (r) {
		free(k);
		return r;
	}
	k->o = *ko;
	r = volume_read(k->reg, ko->name, &k->doc);
	if (r == -ENOENT) {
		k->is_new = true;
		r = create(k, o);
	} else if (!r) {
		r = claim(k, o);
	}
	for (unsigned i = 0; i < k->doc.donors; i++)
		address[i] = k->doc.donor[i].address;
	o->donors = address;
	o->donors_count = k->doc.donors;
	o->borrower = k->doc.borrower;
	o->epoch = k->doc.epoch;
	o->opened = opened;
	o->arg = k;
	if (!r)
		r = device_open(o, &d);
	/* Nothing is served before it is known where it lies. */
	if (!r)
		r = publish(k);
	if (!r) {
		k->doc.closed = false;
		r = volume_update(k->reg, &k->doc);
	}
	o->donors = NULL;
	o->donors_count = 0;
	if (r) {
		device_close(d);
		kept_close(k);
		return r;
	}
	*device = d;
	*ret = k;
	return 0;
}

/* --- the thread --- */

static void tell(struct kept *k)
{
	if (!k->failing && k->o.failed)
		k->o.failed(err_text());
	k->failing = true;
}

static void nap(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC)};

	nanosleep(&t, NULL);
}

static void *run(void *arg)
{
	struct kept *k = arg;
	uint64_t next = 0;

	while (!__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE) && !k->overtaken) {
		uint64_t now = clock_ns();
		int r;

		nap(LOOK_NS);
		if (now < next || ps_where_changes(k->volume) == k->changes)
			continue;
		if (!k->reg && reg_open(k->o.registry, &k->reg)) {
			k->reg = NULL;
			tell(k);
			next = now + AGAIN_NS;
			continue;
		}
		r = publish(k);
		if (!r) {
			k->failing = false;
			continue;
		}
		tell(k);
		next = now + AGAIN_NS;
		k->overtaken = r == -ESTALE;
		reg_close(k->reg);
		k->reg = NULL;
	}
	return NULL;
}

int kept_start(struct kept *k)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&k->thread, NULL, run, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	k->started = !r;
	return r ? err_fail(-r, "can't start a thread: %s", strerror(r)) : 0;
}

void kept_stop(struct kept *k)
{
	if (!k || !k->started)
		return;
	__atomic_store_n(&k->stop, true, __ATOMIC_RELEASE);
	pthread_join(k->thread, NULL);
	k->started = false;
}

void kept_close(struct kept *k)
{
	if (!k)
		return;
	if (k->reg && k->volume && !k->overtaken && !k->failing) {
		k->doc.closed = true;
		(void)volume_update(k->reg, &k->doc); /* for people only */
	}
	reg_close(k->reg);
	explicit_bzero(k->doc.borrower, sizeof k->doc.borrower);
	free(k->known);
	free(k);
}
