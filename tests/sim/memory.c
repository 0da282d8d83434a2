/* SPDX-License-Identifier: MIT */
/*
 * The memory of the client (mappings) and of the donors (malloc and kin, slabs' files and mappings),
 * counted, so that what is not given back is noticed; and one allocation of a play can be refused.
 * Whoever asked for it must go on, or say so, and the model still knows every byte.
 */
#define SIM_OWN_MEMORY
#include "sim.h"
#include "server_env.h"

#include <errno.h>

static uint64_t asked, fails_at;
static int64_t living;
static bool at_client, paused;
static struct sim_donor *failed;

void sim_memory_open(uint64_t fail_at)
{
	asked = 0;
	living = 0;
	failed = NULL;
	at_client = paused = false;
	fails_at = fail_at;
}

uint64_t sim_memory_asked(void)
{
	return asked;
}

bool sim_memory_client_failed(void)
{
	return at_client;
}

bool sim_memory_donor_failed(const struct sim_donor *d)
{
	return failed == d;
}

int64_t sim_memory_living(void)
{
	return living;
}

void sim_memory_pause(bool yes)
{
	paused = yes;
}

/* One more, unless it is the one to be refused. */
static bool take(bool client)
{
	if (paused)
		return true;
	if (++asked == fails_at) {
		at_client = client;
		failed = client ? NULL : sim_donor_busy();
		if (failed)
			sim_donor_hurts(failed, SIM_HURT_MEMORY);
		sim_say("allocation %llu fails, %s", (unsigned long long)asked,
			client ? "at the client" : "at a donor");
		errno = ENOMEM;
		return false;
	}
	living++;
	return true;
}

static void give(bool any)
{
	living -= any && !paused;
}

bool sim_memory_map(void)
{
	return take(true);
}

void sim_memory_unmap(void)
{
	give(true);
}

/* A file is one too, but it ends by close(2), which is not counted. */
static bool take_file(void)
{
	bool ok = take(false);

	give(ok);
	return ok;
}

/* --- the server's --- */

void *sim_malloc(size_t n)
{
	return take(false) ? malloc(n) : NULL;
}

void *sim_calloc(size_t n, size_t size)
{
	return take(false) ? calloc(n, size) : NULL;
}

void *sim_aligned_alloc(size_t alignment, size_t n)
{
	return take(false) ? aligned_alloc(alignment, n) : NULL;
}

void sim_free(void *p)
{
	give(p);
	free(p);
}

int sim_memfd(const char *name, unsigned flags)
{
	return take_file() ? memfd_create(name, flags) : -1;
}

void *sim_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	void *p = take(false) ? mmap(at, n, prot, flags, fd, offset) : MAP_FAILED;

	return p;
}

int sim_munmap(void *p, size_t n)
{
	give(p);
	return munmap(p, n);
}
