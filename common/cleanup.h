/* SPDX-License-Identifier: MIT */
/* User space cleans up by scope: the variable's destructor runs on every way out. */
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd_(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_file_(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* unused: clang does not take the clean-up for a use. */
#define CLEANUP_FD   __attribute__((cleanup(cleanup_fd_), unused))
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_), unused))
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file_), unused))

/* Hands a scoped descriptor or pointer over to the caller. */
static inline int steal_fd(int *fd)
{
	int out = *fd;

	*fd = -1;
	return out;
}

#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__auto_type out_ = *(p);                                                           \
		*(p) = NULL;                                                                       \
		out_;                                                                              \
	})

#endif
