/* SPDX-License-Identifier: MIT */
/*
 * The preload library's own words between its files. Everything here may run inside malloc, before
 * main() and in a vfork child: no malloc, no stdio, no libc call that sets errno.
 */
#ifndef LIBINJECT_PRELOAD_H
#define LIBINJECT_PRELOAD_H

#include "libinject/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE               4096ul
#define PAGE_UP(n)         (((n) + PAGE - 1) & ~(PAGE - 1))
#define PRELOAD_MAX_DONORS 64
#define EXIT_NO_HEAP       125 /* the heap can't be opened: the program must not go on without it */

/* Put before a function of the C library that programs find here instead. */
#define EXPORT __attribute__((visibility("default")))

/* --- settings.c: what `infuse run` says through the environment --- */

struct settings {
	uint64_t local_bytes; /* one of the two, or none for the default */
	unsigned local_percent;
	uint64_t heap_min;    /* smaller mappings stay with the kernel */
	uint64_t heap_bytes;  /* address space; 0: libinject's default */
	uint64_t plain_bytes; /* so much stays plain before a heap is opened */
	const char *prefetch;
	const char *donors[PRELOAD_MAX_DONORS];
	unsigned donors_count;
	const char *stats_file;
	const char *donor_file; /* new donors stand there */
	const char *key_file, *tls_ca, *tls_cert, *tls_cert_key;
	unsigned replicas, code_data, code_parity;
	const char *spill;
	uint64_t spill_bytes;
	bool seal;
	bool stats;
};

/* NULL while the C library has not read the environment yet: everything is plain until then. */
const struct settings *settings_get(void);
/* Words about a setting that can't be understood, or NULL. */
const char *settings_wrong(void);

/* --- lazy.c: the process's one heap, opened by the first request that needs it --- */

/* The heap, or NULL when nobody has needed it yet. */
struct inject_heap *lazy_peek(void);
/* True if p is in the heap's address space. */
bool lazy_contains(const void *p);
/*
 * Pages of the heap, which this opens when need be. NULL: there is no room (donors are full, said
 * once on standard error) or this thread is just opening the heap. Ends the process with 125 when
 * the heap can't be opened. Blocks, bounded.
 */
void *lazy_alloc(size_t bytes, size_t align);
/* The same, but no word about a lack of room: the caller will be content with less. */
void *lazy_try(size_t bytes);
/* The pages behind [p, p + old_bytes) too, if they are free. */
bool lazy_grow(void *p, size_t old_bytes, size_t new_bytes);
/* [p, p + bytes) as lazy_alloc() gave it or any whole pages of it. */
int lazy_free(void *p, size_t bytes);
/* True if the request is small enough to stay plain, and counts it; lazy_plain_back() undoes it. */
bool lazy_plain(size_t bytes);
void lazy_plain_back(size_t bytes);
/* Highest number of bytes that were allocated at one time. */
uint64_t lazy_peak(void);
/* Around fork; see fork.c. */
void lazy_lock(void);
void lazy_unlock(void);
void lazy_child(void);
/* The process that the heap belongs to; in a vfork child it is not getpid(). */
int lazy_owner(void);

/* --- attributes.c: pages of the heap that are not plainly readable and writable --- */

/* All take whole pages inside the heap and return 0 or a negative errno. */
int attributes_protect(char *p, size_t bytes, int prot, bool blank);
int attributes_lock(char *p, size_t bytes);
int attributes_unlock(char *p, size_t bytes);
void attributes_unlock_all(void);
bool attributes_locked(const char *p, size_t bytes);
/* The protection that all pages of the range have, or -1 if they differ. */
int attributes_protection(const char *p, size_t bytes);
/* Back to readable, writable, not locked: the pages are about to be freed. */
int attributes_clear(char *p, size_t bytes);
/* A child has its parent's protections, but no locks. */
void attributes_child(void);

/* --- extents.c, fork.c, report.c --- */

void extents_install(void);
/* Around fork; taken before lazy_lock(). */
void extents_lock(void);
void extents_unlock(void);
void fork_register(void);
/* Called before main(): keeps what the report will be written to, if one was asked for. */
void report_prepare(void);
/* Prints what the heap did, once, if that was asked for. */
void report(void);
/* A child has its own report to give. */
void report_forget(void);
/* One line "infuse: ..." to standard error. */
void report_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
