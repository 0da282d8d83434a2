/* SPDX-License-Identifier: MIT */
/*
 * A linear array of bytes on a volume's pages, for any number of threads at once. Any offset and
 * length; part of a page is read, changed and written with nobody in between. What is read or
 * written is acknowledged in the page store's sense: all live replicas have it. Knows nothing of
 * nbdkit. Errors are negative errno values with words (common/error.h).
 */
#ifndef NBDKIT_RSWAP_DEVICE_H
#define NBDKIT_RSWAP_DEVICE_H

#include <infuse/pagestore.h>
#include <stdbool.h>
#include <stdint.h>

#define DEVICE_MAX_PORTS 64u

struct device;

struct device_options {
	const char *name; /* for people */
	const char *const *donors;
	unsigned donors_count;
	uint64_t bytes; /* any number above 0 */
	unsigned ports; /* 1..DEVICE_MAX_PORTS */
	/* as in ps_options */
	unsigned replicas, code_data, code_parity;
	uint64_t deadline_ns, suspect_ns;
	const char *spill;
	uint64_t spill_bytes;
	const char *key_file;
	bool seal;
	uint64_t spin_ns;
	/* A volume that other writers go on with (kept.h): who it is, as in ps_options; NULL: nobody. */
	const unsigned char *borrower;
	uint64_t epoch;
	/* Before all of its pages are reserved; 0 or an error that ends device_open(). May be NULL. */
	int (*opened)(struct ps_volume *v, void *arg);
	void *arg;
};

/* Connects, and takes all of the donors' memory that it will ever need. Blocks, bounded. */
int device_open(const struct device_options *o, struct device **ret);
/*
 * Starts the thread that rebuilds what is lost; before the first request, and not before a fork. Once.
 * changed (may be NULL) is called in it when the slabs' members have changed.
 */
int device_start(struct device *d, void (*changed)(const struct ps_health *h));
/* Gives it back. No request may be under way. Takes NULL. */
void device_close(struct device *d);

/* [at, at + len) must be within the device. These block, bounded by the deadline. */
int device_read(struct device *d, void *buf, uint64_t len, uint64_t at);
int device_write(struct device *d, const void *buf, uint64_t len, uint64_t at);
/* Reads as zeros from now on: a message for the bytes in parts of pages only, but where others go on. */
int device_zero(struct device *d, uint64_t len, uint64_t at);
/* The whole pages in there read as zeros from now on. */
void device_trim(struct device *d, uint64_t len, uint64_t at);

/*
 * How many bytes from `at` on, up to len, are all in pages that hold data, or all in pages known to
 * be zeros. Never blocks.
 */
uint64_t device_run(const struct device *d, uint64_t len, uint64_t at, bool *zeros);

/* These are the donors that there are now: see ps_update_donors(). Any thread, one at a time. */
int device_update_donors(struct device *d, const char *const *addresses, unsigned count);

/* For who keeps it. */
struct ps_volume *device_volume(struct device *d);

void device_counters(const struct device *d, struct ps_counters *ret);

#endif
