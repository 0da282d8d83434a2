/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing volumes. All memory and all connections are made here; what runs later only
 * uses them.
 */
#include "pagestore/maintain.h"
#include "pagestore/seal.h"
#include "pagestore/transport/file_store.h"
#include "secure/tls.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/memory.h"
#include "common/sys.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_DEPTH    64u
#define DEFAULT_DEADLINE (3 * NSEC_PER_SEC)
#define DEFAULT_SUSPECT  (500 * NSEC_PER_MSEC)
#define DEFAULT_REBUILD  (256ull << 20)
#define MAINTAIN_DEPTH   16u
#define MAX_DEPTH        4096u
#define MAX_PORTS        4096u
#define MAX_PAGES        (1ull << 40)
#define MAX_WAIT         (24 * 3600 * NSEC_PER_SEC)

void volume_new_borrower(unsigned char id[16])
{
	long r = sys_call3(SYS_getrandom, SYS_PTR(id), 16, 0);

	/* getrandom() has no way to fail for 16 bytes once the system is up. */
	assert(r == 16);
	id[0] |= 1; /* never all zero: that asks for a session without a borrower */
}

int volume_hello(struct ps_volume *v, struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns)
{
	uint64_t until = clock_ns() + timeout_ns;
	struct timespec nap = {0, 10 * NSEC_PER_MSEC};
	int r;

	memcpy(h->name, v->name, sizeof h->name);
	/* A snapshot's borrower has no other writers. */
	h->epoch = memcmp(h->borrower, v->borrower, sizeof h->borrower) ? 0 : v->epoch;
	h->transient = v->transient;
	h->tls = v->tls;
	h->file = v->file;
	/* Busy: takes over slabs that are being read. */
	while ((r = c->t->open(c, h, timeout_ns)) == -EBUSY && clock_ns() < until)
		sys_call5(SYS_ppoll, 0, 0, SYS_PTR(&nap), 0, 0);
	return r;
}

static int check_members(const struct ps_options *o)
{
	unsigned k = o->code_data, m = o->code_parity, copies = o->replicas ? o->replicas : 1;

	if (copies > PS_MAX_REPLICAS)
		return err_fail(-EINVAL, "%u replicas: 1 to %u can be", copies, PS_MAX_REPLICAS);
	if ((k || m) && ((k != 2 && k != 4 && k != 8) || !m || k + m > PS_MAX_MEMBERS))
		return err_fail(-EINVAL,
				"a code of %u+%u: use 2, 4 or 8 fragments and 1 or more parities, "
				"%u together at most",
				k, m, PS_MAX_MEMBERS);
	if (k && copies > 1)
		return err_fail(-EINVAL, "replicas or a code, not both");
	if (k + m > o->donors_count)
		return err_fail(-ENOSPC, "a code of %u+%u needs %u donors, there are %u", k, m,
				k + m, o->donors_count);
	if (copies > o->donors_count)
		return err_fail(-ENOSPC, "%u replicas need %u donors, there are %u", copies, copies,
				o->donors_count);
	return 0;
}

static int check_options(const struct ps_options *o)
{
	int r;

	if (!o->pages || o->pages > MAX_PAGES)
		return err_fail(-EINVAL, "a volume of %llu pages can't be",
				(unsigned long long)o->pages);
	if (!o->donors_count)
		return err_fail(-EINVAL, "a volume needs at least one donor");
	r = spill_check(o);
	if (r)
		return r;
	if (o->donors_count > PS_MAX_DONORS)
		return err_fail(-E2BIG, "%u donors are more than %u", o->donors_count,
				PS_MAX_DONORS);
	if (!o->ports || o->ports > MAX_PORTS || o->depth > MAX_DEPTH)
		return err_fail(-EINVAL, "%u ports of %u batches are out of range", o->ports,
				o->depth);
	if (o->deadline_ns > MAX_WAIT || o->connect_ns > MAX_WAIT)
		return err_fail(-EINVAL, "a deadline of more than a day is none");
	return check_members(o);
}

static unsigned members_of(const struct ps_options *o)
{
	return o->code_data ? o->code_data + o->code_parity : o->replicas ? o->replicas : 1;
}

static int open_cores(struct ps_volume *v)
{
	struct core_limits limits[PS_MAX_DONORS];
	struct core_options o = {.map = &v->map,
				 .limits = limits,
				 .donors = v->donors,
				 .depth = v->depth,
				 .deadline_ns = v->deadline_ns,
				 .suspect_ns = v->suspect_ns};
	int r = 0;

	for (unsigned d = 0; d < v->donors; d++)
		limits[d] = volume_limits(&v->donor[d].hello, v->donor[d].control);
	for (unsigned i = 0; i <= v->ports && !r; i++) {
		v->port[i].v = v;
		if (i == v->ports)
			o.depth = MAINTAIN_DEPTH;
		r = core_open(&v->port[i].core, &o);
	}
	return r ? r : maintain_open(v);
}

static int open_map(struct ps_volume *v, const struct ps_options *o)
{
	uint32_t slab_pages = volume_first_pages(v);
	unsigned k = o->code_data;
	int r = map_open(&v->map, o->pages, slab_pages * (k ? k : 1), k ? k : 1, members_of(o), k);

	if (r)
		return r;
	v->map.durable = v->epoch != 0;
	v->map.gone = v->map.swept = v->joining;
	v->plan = mem_map(v->map.slabs * v->map.members);
	v->fresh = mem_map((v->ports + 1) * sizeof *v->fresh);
	v->handle = mem_map(v->map.slabs * MAP_MEMBERS * sizeof *v->handle);
	v->clone = mem_map(v->map.slabs * sizeof *v->clone);
	v->lists.slabs = v->handle;
	return v->fresh && v->plan && v->handle && v->clone ? 0 : err_fail(-ENOMEM, "no memory for a volume");
}

static int open_volume(struct ps_volume *v, const struct ps_options *o)
{
	int r;

	v->port = mem_map((o->ports + 1) * sizeof *v->port);
	if (!v->port)
		return err_fail(-ENOMEM, "no memory for a volume");
	v->donors = o->donors_count + (o->spill != NULL);
	v->spill = o->spill ? o->donors_count : PS_MAX_DONORS;
	v->ports = o->ports;
	v->depth = o->depth ? o->depth : DEFAULT_DEPTH;
	v->deadline_ns = o->deadline_ns ? o->deadline_ns : DEFAULT_DEADLINE;
	v->connect_ns = o->connect_ns ? o->connect_ns : DEFAULT_DEADLINE;
	v->suspect_ns = o->suspect_ns ? o->suspect_ns : DEFAULT_SUSPECT;
	if (v->suspect_ns > v->deadline_ns)
		v->suspect_ns = v->deadline_ns;
	v->rebuild_bytes = o->rebuild_bytes ? o->rebuild_bytes : DEFAULT_REBUILD;
	snprintf(v->name, sizeof v->name, "%s", o->name ? o->name : program_invocation_short_name);
	v->transient = o->transient;
	v->epoch = o->epoch;
	v->keep = o->keep;
	v->publishes = o->publishes;
	v->lenient = o->lenient;
	volume_new_borrower(v->borrower);
	memcpy(&v->rng, v->borrower, sizeof v->rng);
	if (o->borrower)
		memcpy(v->borrower, o->borrower, sizeof v->borrower);
	r = volume_secure(v, o);
	if (!r)
		r = volume_create_conns(v, o);
	if (!r)
		r = volume_connect_all(v, o);
	if (!r)
		r = open_map(v, o);
	if (!r && o->seal)
		r = seal_open(&v->map.seal, o->pages, v->borrower);
	volume_number_domains(v);
	return r ? r : open_cores(v);
}

int ps_open(const struct ps_options *o, struct ps_volume **ret)
{
	struct ps_volume *v;
	int r = check_options(o);

	if (r)
		return r;
	v = mem_map(sizeof *v);
	if (!v)
		return err_fail(-ENOMEM, "no memory for a volume");
	r = open_volume(v, o);
	if (r) {
		ps_close(v);
		return r;
	}
	*ret = v;
	return 0;
}

static void say_goodbye(struct ps_volume *v)
{
	uint64_t live = 0;

	for (unsigned d = 0; d < v->donors; d++) {
		if (v->donor[d].dead || !v->donor[d].hello.welcome.slab_pages)
			continue;
		v->call[d].op = (struct tp_op){.kind = TP_GOODBYE};
		live |= 1ull << d;
	}
	control_run(v, live, v->deadline_ns < NSEC_PER_SEC ? v->deadline_ns : NSEC_PER_SEC);
}

void ps_close(struct ps_volume *v)
{
	if (!v)
		return;
	for (unsigned i = 0; v->port && i <= v->ports; i++) {
		for (unsigned d = 0; d < v->donors; d++) {
			tp_free(v->port[i].conn[d]);
			tp_free(v->port[i].offer[d]);
			tp_free(v->port[i].retired[d]);
		}
		if (v->port[i].core.depth)
			core_close(&v->port[i].core);
	}
	if (!v->keep && !__atomic_load_n(&v->stale, __ATOMIC_RELAXED))
		say_goodbye(v);
	ps_snapshot_drop(v, false);
	maintain_close(v);
	for (unsigned d = 0; d < v->donors; d++) {
		tp_free(v->donor[d].control);
		tp_free(v->donor[d].spare);
		for (unsigned i = 0; i < OLD_CONTROLS; i++)
			tp_free(v->donor[d].old[i]);
	}
	mem_unmap(v->fresh, (v->ports + 1) * sizeof *v->fresh);
	mem_unmap(v->plan, v->map.slabs * v->map.members);
	mem_unmap(v->handle, v->map.slabs * MAP_MEMBERS * sizeof *v->handle);
	mem_unmap(v->clone, v->map.slabs * sizeof *v->clone);
	tls_config_close(v->tls);
	seal_close(v->map.seal);
	file_store_close(v->file);
	map_close(&v->map);
	mem_unmap(v->port, (v->ports + 1) * sizeof *v->port);
	mem_unmap(v, sizeof *v);
}

struct ps_port *ps_port(struct ps_volume *v, unsigned i)
{
	assert(i < v->ports);
	return &v->port[i];
}

uint64_t ps_page_hash(const struct ps_volume *v, uint64_t page)
{
	return map_hash(&v->map, page);
}

void ps_counters(const struct ps_volume *v, struct ps_counters *ret)
{
	uint64_t *to = (uint64_t *)ret;

	_Static_assert(sizeof *ret % sizeof *to == 0, "counters are 64-bit words");
	*ret = (struct ps_counters){0};
	for (unsigned i = 0; i <= v->ports; i++) {
		const uint64_t *from = (const uint64_t *)&v->port[i].core.count;

		for (size_t k = 0; k < sizeof *ret / sizeof *to; k++)
			to[k] += __atomic_load_n(&from[k], __ATOMIC_RELAXED);
	}
	if (v->file) {
		ret->spill_in = atomic_load(&v->file->bytes_in);
		ret->spill_out = atomic_load(&v->file->bytes_out);
	}
	ret->dropped = __atomic_load_n(&v->map.dropped, __ATOMIC_RELAXED);
	if (!v->maintain)
		return;
	ret->rebuilt_pages = v->maintain->rebuilt_pages;
	ret->rebuilt_slabs = v->maintain->rebuilt_slabs;
	ret->moved_slabs = v->maintain->moved_slabs;
}

uint32_t ps_slab_pages(const struct ps_volume *v)
{
	return 1u << v->map.slab_shift;
}
