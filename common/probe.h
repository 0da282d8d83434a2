/* SPDX-License-Identifier: MIT */
/*
 * What this machine lets this process do. Nothing is concluded from versions: descriptors are
 * opened, and a fault is taken inside a system call and served, as `infuse run` will.
 */
#ifndef COMMON_PROBE_H
#define COMMON_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* One way to a userfaultfd that sees faults of the kernel's own accesses. 0: it works; else a
 * negative errno. */
struct probe {
	int device;          /* opening /dev/userfaultfd and asking it */
	int syscall;         /* userfaultfd(2) */
	int user_mode;       /* userfaultfd(2), faults of user code only: no privileges needed */
	int sysctl;          /* vm.unprivileged_userfaultfd; -1: not there */
	bool cap_sys_ptrace; /* effective */
	bool cap_ipc_lock;
	uint64_t features;      /* UFFD_FEATURE_*: what the kernel knows */
	int kernel_fault;       /* a fault in a system call was served */
	uint64_t memlock_bytes; /* soft limit; UINT64_MAX: none */
	uint64_t memory_bytes;
	uint64_t available_bytes; /* MemAvailable */
	unsigned cores;           /* this process may run on */
	uint64_t page_bytes;
	/* RDMA: how many devices the kernel has, and whether this process may use them: 0, -ENODEV,
	 * or why /dev/infiniband/rdma_cm can't be opened. Not needed by `infuse run`. */
	unsigned rdma_devices;
	char rdma_device[64]; /* the first one's name */
	int rdma;
};

/* Kernels name a feature by a bit: bits that Debian 12's headers don't know have a name here. */
struct probe_feature {
	const char *name;
	uint64_t bit;
	const char *use; /* what Infuse does with it */
};

extern const struct probe_feature probe_features[];
extern const unsigned probe_features_count;

/*
 * Fills *ret in any case. 0: handler mode works, so `infuse run` can; else a negative errno, and
 * the words name what would help. Blocks for the trial, 2 s at most. [text]
 */
int probe_machine(struct probe *ret);

#endif
