/* SPDX-License-Identifier: MIT */
/*
 * Traces: which pages a program touches, one after the other. Made by a formula, the same each
 * time, or read from a file. Only what a page cache decides by: no writes, no times.
 */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stdbool.h>
#include <stdint.h>

struct trace {
	uint32_t *page;
	uint64_t touches;
	uint64_t warm;  /* touches before those that count */
	uint32_t pages; /* all are below */
	bool ahead;     /* its scans are prefetched: a miss brings a window */
};

/* A touch that is part of a scan, in trace.page while `ahead`. */
#define TRACE_SCAN 0x80000000u

struct trace_kind {
	const char *name;
	unsigned percent[5]; /* local shares to show it at; 0: the end */
	bool ahead;
	/* Touch number i; state is zeroed before the first. */
	uint32_t (*touch)(uint64_t i, uint32_t pages, uint32_t local, uint64_t *state);
};

/* NULL: no more. */
const struct trace_kind *trace_kind(unsigned i);
/* local: pages that fit, which some kinds are made for. trace_free() after success. [text] */
int trace_make(struct trace *t, const struct trace_kind *k, uint32_t pages, uint32_t local);
/* Page numbers as text, one a line, or little-endian 32-bit ones if the file's name ends in ".bin".
 */
int trace_read(struct trace *t, const char *file);
void trace_free(struct trace *t); /* takes a zeroed one */

#endif
