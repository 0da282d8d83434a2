/* SPDX-License-Identifier: MIT */
/*
 * Ours and what else there is, in one run on one machine: all-local memory, our heap over tcp and
 * shm, then the peers, each with how many times slower it is; last the floors. A peer that can't
 * run here is left out with the reason. Add a peer: a line in peers[].
 */
#include "bench/bench.h"
#include "bench/peers/peers.h"
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct peer {
	const char *name;
	const char *variant;
	int (*run)(const struct bench_options *o, const struct workload *w,
		   struct bench_result *ret);
	bool whole;     /* any workload; else what only needs pages: */
	bool seq;       /* seq and random; else random only */
	bool same_data; /* its result must be ours */
};

static int disk(const struct bench_options *o, const struct workload *w, struct bench_result *ret)
{
	return peer_swap_run(o, w, SWAP_DISK, NULL, ret);
}

static int zram(const struct bench_options *o, const struct workload *w, struct bench_result *ret)
{
	return peer_swap_run(o, w, SWAP_ZRAM, NULL, ret);
}

static int swap_nbd(const struct bench_options *o, const struct workload *w,
		    struct bench_result *ret)
{
	return peer_swap_run(o, w, SWAP_NBD, NULL, ret);
}

static int swap_rswap_tcp(const struct bench_options *o, const struct workload *w,
			  struct bench_result *ret)
{
	return peer_swap_run(o, w, SWAP_RSWAP_TCP, NULL, ret);
}

static int swap_rswap_shm(const struct bench_options *o, const struct workload *w,
			  struct bench_result *ret)
{
	return peer_swap_run(o, w, SWAP_RSWAP_SHM, NULL, ret);
}

static int nbdfuse(const struct bench_options *o, const struct workload *w,
		   struct bench_result *ret)
{
	const struct area_options ao = {
		.bytes = ret->size_bytes,
		.local_bytes = ret->local_bytes,
		.scattered = w == &workload_random,
	};
	int r = area_nbd_available();

	return r ? r : runner_measure(o, w, &area_nbd, &ao, ret);
}

static int redis(const struct bench_options *o, const struct workload *w, struct bench_result *ret)
{
	(void)w;
	return peer_store_run(o, &store_redis, ret);
}

static int memcached(const struct bench_options *o, const struct workload *w,
		     struct bench_result *ret)
{
	(void)w;
	return peer_store_run(o, &store_memcached, ret);
}

static int nbd_tcp(const struct bench_options *o, const struct workload *w,
		   struct bench_result *ret)
{
	(void)w;
	return peer_store_run(o, &store_nbd_tcp, ret);
}

static int nbd_unix(const struct bench_options *o, const struct workload *w,
		    struct bench_result *ret)
{
	(void)w;
	return peer_store_run(o, &store_nbd_unix, ret);
}

static const struct peer peers[] = {
	{"swap-disk", "swap to a file", disk, .whole = true, .same_data = true},
	{"swap-zram", "swap to zram", zram, .whole = true, .same_data = true},
	{"swap-nbd", "swap to loop, nbd", swap_nbd, .whole = true, .same_data = true},
	{"swap-rswap-tcp", "swap to loop, our nbd", swap_rswap_tcp, .whole = true, .same_data = true},
	{"swap-rswap-shm", "swap to loop, our nbd", swap_rswap_shm, .whole = true, .same_data = true},
	{"nbdfuse", "mmap, no eviction", nbdfuse, .seq = true, .same_data = true},
	{"redis", "get", redis, .whole = false},
	{"memcached", "get", memcached, .whole = false},
	{"libnbd-tcp", "read", nbd_tcp, .whole = false},
	{"libnbd-unix", "read", nbd_unix, .whole = false},
};
#define PEERS (sizeof peers / sizeof *peers)

static bool fits(const struct peer *p, const struct workload *w)
{
	return p->whole || w == &workload_random || (p->seq && w == &workload_seq);
}

static bool wanted(const struct bench_options *o, const struct peer *p)
{
	for (unsigned i = 0; i < o->peer.count; i++)
		if (!strcmp(o->peer.item[i], p->name))
			return true;
	return !o->peer.count;
}

static int ours(const struct bench_options *o, const struct workload *w, const char *transport,
		struct bench_result *ret)
{
	struct bench_options one = *o;
	int r;

	one.transport = transport;
	r = runner_run(&one, w, ret);
	if (!r)
		result_print(o, ret);
	return r;
}

static double factor(double peer_us, const struct bench_result *our)
{
	return our->us_per_page > 0 ? peer_us / our->us_per_page : 0;
}

/* Somebody else's program: its failure is not ours, a wrong result of the same workload is. */
static int beside(const struct bench_options *o, const struct workload *w, const struct peer *p,
		  const struct bench_result *tcp, const struct bench_result *shm)
{
	struct bench_result r = {
		.workload = w->name,
		.transport = p->name,
		.variant = p->variant,
		.size_bytes = tcp->size_bytes,
		.local_bytes = tcp->local_bytes,
		.threads = (unsigned)o->threads,
	};
	char why[300];

	if (p->run(o, w, &r)) {
		snprintf(why, sizeof why, "%.299s", err_text());
		r.skipped = why;
		r.us_per_page = 0;
	} else if (p->same_data && r.digest != tcp->digest) {
		return err_fail(-EILSEQ, "%s: %s has another result than our heap", w->name,
				p->name);
	}
	r.factor_tcp = factor(r.us_per_page, tcp);
	r.factor_shm = factor(r.us_per_page, shm);
	result_print(o, &r);
	return 0;
}

static int compare_one(const struct bench_options *o, const struct workload *w)
{
	struct bench_result local, tcp, shm;
	int r = ours(o, w, "local", &local);

	if (!r)
		r = ours(o, w, "tcp", &tcp);
	if (!r)
		r = ours(o, w, "shm", &shm);
	for (unsigned i = 0; i < PEERS && !r; i++)
		if (fits(&peers[i], w) && wanted(o, &peers[i]))
			r = beside(o, w, &peers[i], &tcp, &shm);
	return r;
}

static int check_peers(const struct bench_options *o)
{
	for (unsigned i = 0; i < o->peer.count; i++) {
		char words[200] = "";
		size_t n = 0, k = 0;

		for (; k < PEERS && strcmp(o->peer.item[i], peers[k].name); k++)
			n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", k ? ", " : "",
					      peers[k].name);
		if (k == PEERS)
			return err_fail(-EINVAL, "'%s' is no peer: %s", o->peer.item[i], words);
	}
	return 0;
}

int compare_run(const struct bench_options *o, const char *const *names, unsigned count)
{
	const struct workload *w;
	int r = check_peers(o);

	for (unsigned i = 0; i < count && !r; i++)
		if (!workload_find(names[i]))
			r = err_fail(-EINVAL, "'%s' is no workload", names[i]);
	for (unsigned i = 0; !count && !r && (w = workload_at(i)); i++)
		r = compare_one(o, w);
	for (unsigned i = 0; i < count && !r; i++)
		r = compare_one(o, workload_find(names[i]));
	return r || o->no_floor ? r : floor_all(o);
}
