/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How user space tells the kernel module what a device is: the generic netlink family "rswap".
 * A device is made in steps: DEVICE_NEW, DONOR_ADD for each donor, MAP_ADD until every slab has
 * its replicas, START, which connects to the donors and makes /dev/NAME appear. From then on the
 * module needs nobody. A device that was not started goes with the socket that made it.
 *
 * Every command but GET needs CAP_SYS_ADMIN and CAP_NET_ADMIN. Numbers are in this machine's byte
 * order. An attribute that a command doesn't know is ignored.
 */
#ifndef INFUSE_RSWAP_H
#define INFUSE_RSWAP_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <linux/types.h>
#include <stdint.h>
#endif

#define RSWAP_FAMILY         "rswap"
#define RSWAP_FAMILY_VERSION 1
#define RSWAP_GROUP_EVENTS   "events"

#define RSWAP_MAX_DEVICES  32u
#define RSWAP_MAX_DONORS   64u
#define RSWAP_MAX_REPLICAS 3u
#define RSWAP_NAME_BYTES   32u  /* of a device, with the NUL */
#define RSWAP_TEXT_BYTES   128u /* of an address or a donor's name, with the NUL */
#define RSWAP_MAP_SLABS    512u /* slabs in one MAP_ADD at most */

enum rswap_command {
	RSWAP_CMD_UNSPEC,
	RSWAP_CMD_DEVICE_NEW, /* NAME, SLABS, SLAB_PAGES, REPLICAS, BORROWER; DEADLINE_MS, EPOCH,
				 KEY, VOLUME */
	RSWAP_CMD_DONOR_ADD,  /* NAME, DONOR, ADDRESS, TRANSPORT, SOCKADDR, BOOT; DATA_SOCKADDR,
				 DONOR_NAME, DOMAIN. Of a device that was started, NAME, ADDRESS,
				 TRANSPORT and SOCKADDR are enough: it gets what is missing. */
	RSWAP_CMD_MAP_ADD,    /* NAME, FIRST, MAP */
	RSWAP_CMD_START,      /* NAME; blocks until all donors are connected, or for a deadline */
	RSWAP_CMD_DETACH,     /* NAME; -EBUSY while it is in use */
	RSWAP_CMD_GET,        /* dump: one message a device, with its DONORS */
	RSWAP_CMD_SET,        /* NAME; DEADLINE_MS */
	RSWAP_CMD_EVENT,      /* multicast: NAME, EVENT; DONOR_NAME, FIRST, SLABS */
	RSWAP_CMD_COUNT,
};

enum rswap_attribute {
	RSWAP_A_UNSPEC,
	RSWAP_A_PAD,
	RSWAP_A_NAME,          /* string */
	RSWAP_A_SLABS,         /* u64 */
	RSWAP_A_SLAB_PAGES,    /* u32, a power of two */
	RSWAP_A_REPLICAS,      /* u32, 1..RSWAP_MAX_REPLICAS */
	RSWAP_A_BORROWER,      /* 16 bytes, never told again */
	RSWAP_A_KEY,           /* 32 bytes: the borrower's key for keyed donors, never told again */
	RSWAP_A_EPOCH,         /* u64 */
	RSWAP_A_DEADLINE_MS,   /* u32 */
	RSWAP_A_VOLUME,        /* string: what donors show people */
	RSWAP_A_DONOR,         /* u32: its number in MAP */
	RSWAP_A_ADDRESS,       /* string: for people and logs */
	RSWAP_A_TRANSPORT,     /* string: "tcp", "rdma" */
	RSWAP_A_SOCKADDR,      /* struct sockaddr_in or sockaddr_in6: the control connection */
	RSWAP_A_DATA_SOCKADDR, /* the same for data where it differs (RDMA) */
	RSWAP_A_BOOT,          /* 16 bytes: the boot of the donor that granted the slabs */
	RSWAP_A_DONOR_NAME,    /* string */
	RSWAP_A_DOMAIN,        /* string: failure domain */
	RSWAP_A_FIRST,         /* u64: a slab's number */
	RSWAP_A_MAP,           /* struct rswap_place, REPLICAS for each slab */
	RSWAP_A_DONORS,        /* nested list of nested donors */
	RSWAP_A_STATE,         /* string, of a device or donor; see below */
	RSWAP_A_EVENT,         /* string: "degraded", "rebuilt", "donor-lost", "donor-back",
				  "slab-lost" */
	RSWAP_A_DEGRADED,      /* u64: slabs with fewer replicas than asked for */
	RSWAP_A_LOST,          /* u64: slabs whose last replica went */
	RSWAP_A_OPENERS,       /* u32 */
	RSWAP_A_COUNTERS,      /* u64[RSWAP_COUNTERS] */
	RSWAP_A_ERROR,         /* s32: why a donor is not there: an errno, or 0 */
	RSWAP_A_COUNT,
};

/* Where a replica of a slab lies. */
struct rswap_place {
	__u64 slab; /* the donor's handle */
	__u32 donor;
	__u32 reserved;
};

/* X(name, what it counts): sysfs files of /sys/block/NAME/rswap, and RSWAP_A_COUNTERS in order. */
#define RSWAP_COUNTER_LIST(X)                                                                      \
	X(reads, "read requests")                                                                  \
	X(writes, "write requests")                                                                \
	X(discards, "discard and write-zeroes requests")                                           \
	X(pages_read, "pages that came from donors")                                               \
	X(pages_written, "pages that went to donors, once a replica")                              \
	X(zero_reads, "pages read as zeros without a message")                                     \
	X(zero_writes, "pages of zeros that became a flag")                                        \
	X(pages_trimmed, "pages whose memory donors got back")                                     \
	X(messages, "messages to donors")                                                          \
	X(bad_hashes, "pages that came back wrong")                                                \
	X(repaired, "pages written again where they were wrong")                                   \
	X(failovers, "requests that went to another replica")                                      \
	X(timeouts, "connections ended because an answer was late")                                \
	X(refused, "requests that a donor refused")                                                \
	X(reconnects, "connections to donors made again")                                          \
	X(replicas_dropped, "replicas that left their slab's set")                                 \
	X(slabs_rebuilt, "replicas made anew")                                                     \
	X(errors, "requests that ended with an error")

enum rswap_counter {
#define X(name, text) RSWAP_COUNT_##name,
	RSWAP_COUNTER_LIST(X)
#undef X
	RSWAP_COUNTERS,
};

#endif
