/* SPDX-License-Identifier: MIT */
/* One result, as a row of a table or as a JSON object on a line. What was not measured is "-" or
 * null, never 0. */
#include "bench/bench.h"

#include <json-c/json.h>
#include <stdio.h>

static void print_head(void)
{
	printf("%-10s %-9s %-20s %3s %-8s %-10s %9s %8s %8s %8s %6s %9s %9s %9s %9s %5s %5s %6s "
	       "%6s "
	       "%6s\n",
	       "workload", "transport", "variant", "thr", "mode", "prefetch", "us/page", "p50",
	       "p99", "floor", "ratio", "faults", "in", "out", "hits", "hit%", "lru%", "over%",
	       "x tcp", "x shm");
}

static const char *cell(double v, char *buf, size_t len)
{
	if (v > 0)
		snprintf(buf, len, v < 10 ? "%.3f" : "%.1f", v);
	else
		snprintf(buf, len, "-");
	return buf;
}

/* "-": it means nothing, or was not measured. */
static const char *percent(bool is_known, double part, uint64_t of, char *buf, size_t len)
{
	if (is_known && of)
		snprintf(buf, len, "%.4g", part * 100 / (double)of);
	else
		snprintf(buf, len, "-");
	return buf;
}

static const char *word(const char *s)
{
	return s && *s ? s : "-";
}

static void print_row(const struct bench_result *r)
{
	char us[24], p50[24], p99[24], floor[24], ratio[24], hit[24], lru[24], over[24], tcp[24];
	char shm[24], transport[64], copies[16] = "";

	if (r->skipped) {
		printf("%-10s %-9s skipped: %s\n", r->workload, r->transport, r->skipped);
		return;
	}
	if (r->replicas > 1)
		snprintf(copies, sizeof copies, " x%u", r->replicas);
	snprintf(transport, sizeof transport, "%s%s%s%s%s", word(r->transport), copies,
		 r->code ? " " : "", r->code ? r->code : "", r->sealed ? "+seal" : "");
	printf("%-10s %-9s %-20s %3u %-8s %-10s %9s %8s %8s %8s %6s %9llu %9llu %9llu %9llu %5s "
	       "%5s "
	       "%6s %6s "
	       "%6s\n",
	       r->workload, transport, word(r->variant), r->threads, word(r->mode),
	       word(r->prefetch), cell(r->us_per_page, us, sizeof us),
	       cell(r->p50_us, p50, sizeof p50), cell(r->p99_us, p99, sizeof p99),
	       cell(r->floor_us, floor, sizeof floor), cell(r->ratio, ratio, sizeof ratio),
	       (unsigned long long)r->stats.faults, (unsigned long long)r->stats.pages_in,
	       (unsigned long long)r->stats.pages_out, (unsigned long long)r->stats.prefetch_hits,
	       percent(r->hits_known, r->hit_ratio, 1, hit, sizeof hit),
	       percent(r->hits_known, r->lru_hit_ratio, 1, lru, sizeof lru),
	       percent(r->overhead_known, r->overhead_bytes, r->size_bytes, over, sizeof over),
	       cell(r->factor_tcp, tcp, sizeof tcp), cell(r->factor_shm, shm, sizeof shm));
}

static void add(struct json_object *o, const char *key, struct json_object *v)
{
	json_object_object_add(o, key, v);
}

static struct json_object *text(const char *s)
{
	return s ? json_object_new_string(s) : NULL;
}

static struct json_object *positive(double v)
{
	char digits[32];

	if (!(v > 0))
		return NULL;
	snprintf(digits, sizeof digits, "%.6g", v);
	return json_object_new_double_s(v, digits);
}

/* null: it means nothing, or was not measured. */
static struct json_object *known(bool is_known, double v, double of)
{
	char digits[32];

	if (!is_known || !(of > 0))
		return NULL;
	snprintf(digits, sizeof digits, "%.6g", v / of);
	return json_object_new_double_s(v / of, digits);
}

static struct json_object *count(uint64_t v)
{
	return json_object_new_int64((int64_t)v);
}

static void print_json(const struct bench_result *r)
{
	struct json_object *o = json_object_new_object(), *h = json_object_new_array();

	add(o, "workload", text(r->workload));
	add(o, "variant", text(r->variant));
	add(o, "transport", text(r->transport));
	add(o, "sealed", json_object_new_boolean(r->sealed));
	add(o, "mode", text(r->mode));
	add(o, "replicas", r->replicas ? count(r->replicas) : NULL);
	add(o, "code", text(r->code));
	add(o, "hashed", json_object_new_boolean(bench_hashes));
	add(o, "prefetch", text(r->prefetch));
	add(o, "size_bytes", count(r->size_bytes));
	add(o, "local_bytes", count(r->local_bytes));
	add(o, "threads", count(r->threads));
	add(o, "donors", count(r->donors));
	add(o, "runs", count(r->runs));
	add(o, "seconds", positive(r->seconds));
	add(o, "us_per_page", positive(r->us_per_page));
	add(o, "us_per_page_min", positive(r->us_min));
	add(o, "us_per_page_max", positive(r->us_max));
	add(o, "p50_us", positive(r->p50_us));
	add(o, "p99_us", positive(r->p99_us));
	add(o, "cpu_us_per_page", positive(r->cpu_us_per_page));
	add(o, "floor_us", positive(r->floor_us));
	add(o, "floor", text(r->floor_kind));
	add(o, "ratio", positive(r->ratio));
	add(o, "factor_tcp", positive(r->factor_tcp));
	add(o, "factor_shm", positive(r->factor_shm));
	add(o, "skipped", text(r->skipped));
	add(o, "write_percent", count(r->write_percent));
	add(o, "hit_ratio", known(r->hits_known, r->hit_ratio, 1));
	add(o, "lru_hit_ratio", known(r->hits_known, r->lru_hit_ratio, 1));
	add(o, "overhead_bytes", known(r->overhead_known, r->overhead_bytes, 1));
	add(o, "overhead_percent",
	    known(r->overhead_known, r->overhead_bytes * 100, (double)r->size_bytes));
	add(o, "page_table_bytes", known(r->overhead_known, r->page_table_bytes, 1));
	add(o, "faults", count(r->stats.faults));
	add(o, "faults_zero", count(r->stats.faults_zero));
	add(o, "faults_staged", count(r->stats.faults_staged));
	add(o, "pages_in", count(r->stats.pages_in));
	add(o, "pages_out", count(r->stats.pages_out));
	add(o, "pages_clean", count(r->stats.pages_clean));
	add(o, "prefetched", count(r->stats.prefetched));
	add(o, "prefetch_hits", count(r->stats.prefetch_hits));
	add(o, "bytes_in", count(r->stats.bytes_in));
	add(o, "bytes_out", count(r->stats.bytes_out));
	for (unsigned i = 0; i < 32; i++)
		json_object_array_add(h, count(r->stats.latency_ns[i]));
	add(o, "latency_ns", h);
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

void result_print(const struct bench_options *o, const struct bench_result *r)
{
	static bool headed;

	if (o->json) {
		print_json(r);
	} else {
		if (!headed)
			print_head();
		headed = true;
		print_row(r);
	}
	fflush(stdout);
}
