/* SPDX-License-Identifier: MIT */
/* A line for each fault as soon as it is over, and one for the run: for people, or as JSON. */
#include "bench/chaos.h"
#include "common/clock.h"

#include <json-c/json.h>
#include <stdio.h>

static void number(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void text(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, v ? json_object_new_string(v) : NULL);
}

static void print(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	fflush(stdout);
	json_object_put(o);
}

static struct json_object *fault(unsigned n, const struct chaos_fault *f)
{
	struct json_object *o = json_object_new_object();

	number(o, "fault", n);
	text(o, "kind", chaos_kind_name(f->kind));
	number(o, "donor", f->donor);
	number(o, "times", f->times);
	number(o, "pause_ms", f->pause_ns / NSEC_PER_MSEC);
	number(o, "length_ms", f->length_ns / NSEC_PER_MSEC);
	number(o, "amount", f->amount);
	return o;
}

void chaos_report_plan(bool json, unsigned n, const struct chaos_fault *f)
{
	char words[120];

	if (json) {
		print(fault(n, f));
		return;
	}
	chaos_plan_text(f, words, sizeof words);
	printf("%4u  after %.1f s: %s\n", n, (double)f->pause_ns / 1e9, words);
}

void chaos_report_fault(bool json, const struct chaos_outcome *r)
{
	struct json_object *o;
	char words[120];

	if (json) {
		o = fault(r->number, &r->fault);
		text(o, "skipped", r->skipped);
		number(o, "at_ms", r->at_ns / NSEC_PER_MSEC);
		number(o, "whole_after_ms", r->whole_ns / NSEC_PER_MSEC);
		number(o, "heap_checks", r->heap_checks);
		number(o, "nbd_checks", r->nbd_checks);
		number(o, "mismatches", r->mismatches);
		number(o, "errors", r->errors);
		number(o, "heap_stall_us", r->heap_stall_ns / NSEC_PER_USEC);
		number(o, "nbd_stall_us", r->nbd_stall_ns / NSEC_PER_USEC);
		print(o);
		return;
	}
	chaos_plan_text(&r->fault, words, sizeof words);
	if (r->skipped)
		printf("%7.1f s  %u: %s: passed over: %s\n", (double)r->at_ns / 1e9, r->number, words,
		       r->skipped);
	else
		printf("%7.1f s  %u: %s: whole %.1f s after it; pages checked %llu heap, %llu nbd; longest "
		       "wait %.0f ms heap, %.0f ms nbd; %llu errors, %llu mismatches\n",
		       (double)r->at_ns / 1e9, r->number, words, (double)r->whole_ns / 1e9,
		       (unsigned long long)r->heap_checks, (unsigned long long)r->nbd_checks,
		       (double)r->heap_stall_ns / 1e6, (double)r->nbd_stall_ns / 1e6,
		       (unsigned long long)r->errors, (unsigned long long)r->mismatches);
	fflush(stdout);
}

void chaos_report_sum(bool json, const struct chaos_sum *s)
{
	struct json_object *o, *kinds;

	if (!json) {
		printf("seed %llu: %u faults in %.0f s, %u passed over; %llu pages checked by the heap, %llu "
		       "over NBD; longest wait %.0f ms and %.0f ms; %llu errors, %llu mismatches%s%s\n",
		       (unsigned long long)s->seed, s->played, (double)s->ns / 1e9, s->skipped,
		       (unsigned long long)s->heap_checks, (unsigned long long)s->nbd_checks,
		       (double)s->heap_stall_ns / 1e6, (double)s->nbd_stall_ns / 1e6,
		       (unsigned long long)s->errors, (unsigned long long)s->mismatches,
		       s->stopped ? "; ended early: " : "", s->stopped ? s->stopped : "");
		return;
	}
	o = json_object_new_object();
	kinds = json_object_new_object();
	for (unsigned i = 0; i < CHAOS_KINDS; i++)
		number(kinds, chaos_kind_name(i), s->kinds[i]);
	number(o, "seed", s->seed);
	number(o, "faults", s->played);
	number(o, "passed_over", s->skipped);
	json_object_object_add(o, "kinds", kinds);
	number(o, "ms", s->ns / NSEC_PER_MSEC);
	number(o, "heap_checks", s->heap_checks);
	number(o, "nbd_checks", s->nbd_checks);
	number(o, "mismatches", s->mismatches);
	number(o, "errors", s->errors);
	number(o, "heap_stall_us", s->heap_stall_ns / NSEC_PER_USEC);
	number(o, "nbd_stall_us", s->nbd_stall_ns / NSEC_PER_USEC);
	text(o, "stopped", s->stopped);
	print(o);
}
