/* SPDX-License-Identifier: MIT */
/* What the operator asked for. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include "common/options.h"

#define SRV_COMMAND "infuse-memory-server"
#define SRV_QUOTAS  256 /* names with a quota of their own */

struct srv_config {
	struct opt_list listen;
	uint64_t size_bytes, slab_bytes, threads, max_connections;
	uint64_t grace_ns, drain_ns, exit_idle_ns, spin_ns, hello_ns;
	struct opt_share reclaim_below, reclaim_target; /* of this machine's memory */
	uint64_t reclaim_pressure;                      /* percent of time */
	uint64_t quota_bytes;                           /* 0: none */
	struct srv_name_quota {
		char name[64];
		uint64_t bytes;
	} quota[SRV_QUOTAS];
	unsigned quotas;
	const char *key, *tls_ca, *tls_cert, *tls_cert_key;
	const char *name, *domain, *ready_file, *registry, *config_file, *rdma_keys;
	bool no_reclaim, hugepages, insecure, allow_plain, lazy, no_registry, quiet, verbose;
};

/*
 * Defaults, then --config's file, then the command line. 0; 1 when help was printed; or a negative
 * errno with the words set. May be called again: argv is only permuted.
 */
int srv_config_read(int argc, char **argv, struct srv_config *ret);

/*
 * [text] Fills in what depends on the machine (size, slab, threads, connections) and checks that
 * they go together; raises the limit of descriptors.
 */
int srv_config_fit(struct srv_config *c, uint32_t *slabs);

/* options_file.c: only what may change while the server runs. */
int srv_config_file(const char *path, struct srv_config *c);

#endif
