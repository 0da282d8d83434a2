/* SPDX-License-Identifier: MIT */
/*
 * Donors that join a heap of an unmodified program. Such a program can't ask a registry: what that takes
 * would live in the memory that is injected. So `infuse run` leaves a keeper behind, which writes a file
 * of addresses, one a line, and replaces it whole; the heap's maintenance reads it from time to time. No
 * malloc, no errno: it is a raw thread.
 */
#include "libinject/heap.h"
#include "common/clock.h"
#include "common/sys.h"

#include <fcntl.h>
#include <string.h>

#define EACH_NS NSEC_PER_SEC

static size_t read_file(const char *path, char *to, size_t len)
{
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(path), O_RDONLY | O_CLOEXEC, 0);
	size_t n = 0;
	long r = fd;

	while (r >= 0 && n < len - 1 &&
	       (r = sys_call3(SYS_read, fd, SYS_PTR(to + n), (long)(len - 1 - n))) > 0)
		n += (size_t)r;
	if (fd >= 0)
		sys_call1(SYS_close, fd);
	to[n] = 0;
	return r < 0 ? 0 : n;
}

void donor_file_look(struct inject_heap *h)
{
	const char *address[PS_MAX_DONORS], *path = __atomic_load_n(&h->donor_file, __ATOMIC_ACQUIRE);
	uint64_t now = clock_ns();
	unsigned n = 0;

	if (!path || now < h->donor_file_ns)
		return;
	h->donor_file_ns = now + EACH_NS;
	if (!read_file(path, h->donor_now, sizeof h->donor_now) ||
	    !strcmp(h->donor_now, h->donor_before))
		return;
	strcpy(h->donor_before, h->donor_now);
	for (char *at = h->donor_now, *end; n < PS_MAX_DONORS && (end = strchr(at, '\n')); at = end + 1) {
		*end = 0;
		address[n++] = at;
	}
	/* What can't join now is tried again by the maintenance; what can't be an address is nobody. */
	ps_update_donors(h->volume, address, n);
}
