/* SPDX-License-Identifier: MIT */
/*
 * What the preload library needs beyond the public API: ranges of pages instead of allocations,
 * handlers that no program can disturb, and the fork hooks. Nothing here calls malloc or sets
 * errno; all signals are blocked while a lock is held.
 */
#ifndef LIBINJECT_RUNTIME_H
#define LIBINJECT_RUNTIME_H

#include <infuse/inject.h>
#include <stdbool.h>

enum heap_flags {
	/*
	 * Handlers are bare clone()s with a descriptor table of their own, so that a program that
	 * closes what it does not know goes on working. Calls on the heap are handed over to them.
	 */
	HEAP_RAW_HANDLERS = 1,
	/* The caller has registered the fork hooks itself. */
	HEAP_OWN_FORK_HOOKS = 2,
};

/* inject_open() with flags. */
int heap_open(const struct inject_options *o, unsigned flags, struct inject_heap **ret);
/* Donors named in this file, one a line, by numbers, join when they are new; path must live as long. */
void heap_donor_file(struct inject_heap *h, const char *path);
/* unfollow(follow) is called first when the heap is closed; not in a forked child. */
void heap_follow(struct inject_heap *h, void (*unfollow)(void *follow), void *follow);
int heap_update_donors(struct inject_heap *h, const char *const *address, unsigned count);

/* The heap's address space; constant from open to close. */
bool heap_contains(const struct inject_heap *h, const void *p);

/* Page ranges. bytes are rounded up to pages; align is a power of two >= a page, or 0. */
int range_alloc(struct inject_heap *h, size_t bytes, size_t align, void **ret);
/* Any whole pages within what range_alloc() gave. */
int range_free(struct inject_heap *h, void *p, size_t bytes);
/* Takes the pages behind [p, p + old_bytes) if they are free; -ENOMEM when not. */
int range_grow(struct inject_heap *h, void *p, size_t old_bytes, size_t new_bytes);
/* True if every page of the range is allocated. */
bool range_allocated(const struct inject_heap *h, const void *p, size_t bytes);

/*
 * Around fork, for all open heaps. prepare must run after every other prepare hook and child before
 * every other child hook (register them first). After fork_child the child has heaps of its own:
 * the snapshot of the moment of the fork; or, when donors had no room, no heap: it dies by SIGSEGV
 * at the first touch, and a line on standard error has said so.
 */
void fork_prepare(void);
void fork_parent(void);
void fork_child(void);

#endif
