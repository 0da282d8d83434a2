/* SPDX-License-Identifier: MIT */
/*
 * Memory straight from the kernel. pagestore/ and libinject/ take all their memory here, never
 * from malloc: malloc's own memory may be injected, and a fault that needs injected memory to be
 * served would wait for itself.
 */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

#include <stddef.h>

/* Zeroed, page aligned, committed on touch, bytes rounded up to a page. NULL if there is none. */
void *mem_map(size_t bytes);
/* Takes NULL. bytes as given to mem_map(). */
void mem_unmap(void *p, size_t bytes);

#endif
