/* SPDX-License-Identifier: MIT */
/*
 * Settings come through the environment, so that children inherit them: infuse-run(1) lists them.
 * They are read when something first asks, which may be long before main().
 */
#include "libinject/preload/preload.h"

#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_TEXT 4096

static struct settings settings = {
	.heap_min = 128 << 10,
	.plain_bytes = 8 << 20,
};
static char wrong[256];
/* Copies: programs write over their environment (process titles) or drop it. */
static char donors[MAX_TEXT], stats_file[MAX_TEXT], prefetch[MAX_TEXT];
static char donor_file[MAX_TEXT], key_file[MAX_TEXT], tls_ca[MAX_TEXT], tls_cert[MAX_TEXT], tls_cert_key[MAX_TEXT];
static char spill[MAX_TEXT];
static _Atomic int known;

static void note_wrong(const char *name)
{
	if (!wrong[0])
		snprintf(wrong, sizeof wrong, "%s: %s", name, err_text());
}

static void read_size(const char *name, uint64_t *to)
{
	const char *s = getenv(name);

	if (s && *s && parse_size(s, to))
		note_wrong(name);
}

static const char *read_text(const char *name, char *to, size_t len)
{
	const char *s = getenv(name);

	if (!s || !*s)
		return NULL;
	if (strlen(s) >= len) {
		err_fail(-E2BIG, "longer than %zu bytes", len - 1);
		note_wrong(name);
		return NULL;
	}
	return strcpy(to, s);
}

/* "ADDR ADDR ...": cut into words in place. */
static void split_donors(void)
{
	char *rest = donors;

	for (char *word; (word = strtok_r(NULL, " ", &rest));) {
		if (settings.donors_count == PRELOAD_MAX_DONORS) {
			err_fail(-E2BIG, "more than %d donors", PRELOAD_MAX_DONORS);
			note_wrong("INFUSE_DONOR");
			return;
		}
		settings.donors[settings.donors_count++] = word;
	}
}

/* How many copies, or which code. */
static void read_members(void)
{
	const char *s = getenv("INFUSE_REPLICAS");
	uint64_t n;

	if (s && *s && parse_u64(s, 1, 3, &n))
		note_wrong("INFUSE_REPLICAS");
	else if (s && *s)
		settings.replicas = (unsigned)n;
	s = getenv("INFUSE_CODE");
	if (s && *s && parse_code(s, &settings.code_data, &settings.code_parity))
		note_wrong("INFUSE_CODE");
}

static void read_all(void)
{
	const char *s;

	s = getenv("INFUSE_LOCAL");
	if (s && *s && parse_share(s, &settings.local_bytes, &settings.local_percent))
		note_wrong("INFUSE_LOCAL");
	read_size("INFUSE_HEAP_MIN", &settings.heap_min);
	read_size("INFUSE_HEAP_SIZE", &settings.heap_bytes);
	read_size("INFUSE_PLAIN", &settings.plain_bytes);
	settings.prefetch = read_text("INFUSE_PREFETCH", prefetch, sizeof prefetch);
	settings.stats_file = read_text("INFUSE_STATS_FILE", stats_file, sizeof stats_file);
	settings.donor_file = read_text("INFUSE_DONOR_FILE", donor_file, sizeof donor_file);
	settings.key_file = read_text("INFUSE_KEY_FILE", key_file, sizeof key_file);
	settings.tls_ca = read_text("INFUSE_TLS_CA", tls_ca, sizeof tls_ca);
	settings.tls_cert = read_text("INFUSE_TLS_CERT", tls_cert, sizeof tls_cert);
	settings.tls_cert_key = read_text("INFUSE_TLS_CERT_KEY", tls_cert_key, sizeof tls_cert_key);
	read_members();
	settings.spill = read_text("INFUSE_SPILL", spill, sizeof spill);
	read_size("INFUSE_SPILL_MAX", &settings.spill_bytes);
	s = getenv("INFUSE_SEAL");
	settings.seal = s && *s && strcmp(s, "0");
	s = getenv("INFUSE_STATS");
	settings.stats = s && *s && strcmp(s, "0");
	if (read_text("INFUSE_DONOR", donors, sizeof donors))
		split_donors();
}

const struct settings *settings_get(void)
{
	int unknown = 0;

	if (atomic_load_explicit(&known, memory_order_acquire) == 2)
		return &settings;
	/* Whoever comes while another thread reads stays plain for this once. */
	if (!environ || !atomic_compare_exchange_strong(&known, &unknown, 1))
		return NULL;
	read_all();
	atomic_store_explicit(&known, 2, memory_order_release);
	return &settings;
}

const char *settings_wrong(void)
{
	return wrong[0] ? wrong : NULL;
}
