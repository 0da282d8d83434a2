/* SPDX-License-Identifier: MIT */
/*
 * Several results from one call: each workload named with each local share, one after the other on
 * one machine, so that a plot's points come from the same quarter of an hour. All words are checked
 * before the first is measured.
 */
#include "bench/bench.h"
#include "common/error.h"
#include "common/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SHARES_MAX 16

int sweep_local(const struct bench_options *o, unsigned i, struct opt_share *ret)
{
	const char *at = o->locals;
	char one[40];
	size_t len;

	for (; i; i--) {
		at = strchr(at, ',');
		if (!at)
			return 1;
		at++;
	}
	len = strcspn(at, ",");
	snprintf(one, sizeof one, "%.*s", (int)len, at);
	if (len >= sizeof one)
		return err_fail(-EINVAL, "'%s' is not a share", at);
	return parse_share(one, &ret->bytes, &ret->percent);
}

static int list_words(const char *given)
{
	char words[200] = "";
	size_t n = 0;

	for (unsigned i = 0; workload_at(i); i++)
		n += (size_t)snprintf(words + n, sizeof words - n, "%s, ", workload_at(i)->name);
	if (!given)
		return err_fail(-EINVAL, "no workload given: %sall, floors or compare", words);
	return err_fail(-EINVAL, "'%s' is no workload: %sall, floors or compare", given, words);
}

static int check(const struct bench_options *o, const char *const *word, unsigned words)
{
	struct area_options ao = {0};
	struct opt_share share;
	unsigned donors;
	int r;

	if (!words)
		return list_words(NULL);
	if (!strcmp(o->transport, "local") && (o->code || o->replicas > 1))
		return err_fail(-EINVAL, "%s is for donors: --transport local has none",
				o->code ? "--code" : "--replicas");
	r = runner_donors(o, &ao, &donors);
	if (r)
		return r;
	for (unsigned i = 0; i < words; i++) {
		if (!strcmp(word[i], "compare"))
			return err_fail(-EINVAL, "compare goes alone, not with '%s'", word[0]);
		if (strcmp(word[i], "all") && strcmp(word[i], "floors") && !workload_find(word[i]))
			return list_words(word[i]);
	}
	for (unsigned i = 0; !(r = sweep_local(o, i, &share)); i++)
		if (i == SHARES_MAX)
			return err_fail(-E2BIG, "--local names more than %d shares", SHARES_MAX);
	return r < 0 ? r : 0;
}

#define ROUNDS_MAX 64

/* Without and with sealing in turns, so that a machine that gets slower is so for both. */
static int sweep_both(const struct bench_options *o, const struct workload *w)
{
	static const char *const seal[2] = {"off", "on"};
	struct bench_options one = *o;
	struct bench_result result[2];
	double us[2][ROUNDS_MAX];
	unsigned rounds = o->runs < ROUNDS_MAX ? (unsigned)o->runs : ROUNDS_MAX;
	int r;

	one.runs = 1;
	one.no_floor = true;
	for (unsigned i = 0; i < rounds; i++)
		for (unsigned k = 0; k < 2; k++) {
			one.seal = seal[k];
			r = runner_run(&one, w, &result[k]);
			if (r)
				return r;
			us[k][i] = result[k].us_per_page;
		}
	for (unsigned k = 0; k < 2; k++) {
		result[k].us_per_page = sample_median(us[k], rounds);
		result[k].us_min = us[k][0];
		result[k].us_max = us[k][rounds - 1];
		result[k].runs = rounds;
		result_print(o, &result[k]);
	}
	if (!o->json)
		printf("sealing adds %.3f us a page (median of %u runs)\n",
		       result[1].us_per_page - result[0].us_per_page, rounds);
	return 0;
}

/* Known, or NULL: the floors. */
static int sweep_one(const struct bench_options *o, const struct workload *w)
{
	struct bench_options one = *o;
	struct bench_result result;
	int r;

	for (unsigned i = 0; !(r = sweep_local(o, i, &one.local)); i++) {
		bool both = w && !strcmp(o->seal, "both");

		r = both ? sweep_both(&one, w) : w ? runner_run(&one, w, &result) : floor_all(&one);
		if (r)
			return r;
		if (w && !both)
			result_print(&one, &result);
	}
	return r < 0 ? r : 0;
}

int sweep_run(const struct bench_options *o, const char *const *word, unsigned words)
{
	int r = check(o, word, words);

	for (unsigned i = 0; i < words && !r; i++) {
		if (strcmp(word[i], "all"))
			r = sweep_one(o, workload_find(word[i]));
		else
			for (unsigned k = 0; workload_at(k) && !r; k++)
				r = sweep_one(o, workload_at(k));
	}
	return r;
}
