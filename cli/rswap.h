/* SPDX-License-Identifier: MIT */
/*
 * Talking to the kernel module: include/infuse/rswap.h over a netlink socket. All calls but
 * rswap_dump() wait for the kernel's answer; START may take a deadline long. Errors have words,
 * which are the kernel's own where it has some. [text]
 */
#ifndef CLI_RSWAP_H
#define CLI_RSWAP_H

#include <infuse/rswap.h>
#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

struct rswap_socket {
	struct mnl_socket *nl;
	uint16_t family;
	uint32_t seq, portid;
	bool events; /* the group's number is known */
	uint32_t group;
	char buf[64 * 1024];
};

/* -ENOENT: the module is not loaded; the words say how to. */
int rswap_open(struct rswap_socket **ret);
void rswap_close(struct rswap_socket *s); /* takes NULL */

/* A message of an enum rswap_command, to fill with mnl_attr_put...(); in s->buf. */
struct nlmsghdr *rswap_message(struct rswap_socket *s, unsigned command);
/* Sends it; 0 or the kernel's negative errno. what: "attach rswap0", begins the words. */
int rswap_call(struct rswap_socket *s, const struct nlmsghdr *m, const char *what);

/* "rswap0" is a name, "/dev/rswap0" another spelling of it. NULL: neither. [text] */
const char *rswap_device_name(const char *word);

struct rswap_donor {
	char address[RSWAP_TEXT_BYTES], name[RSWAP_TEXT_BYTES], transport[16], state[16];
	int32_t error;
};

struct rswap_device {
	char name[RSWAP_NAME_BYTES], state[16];
	uint64_t slabs, degraded, lost;
	uint32_t slab_pages, replicas, deadline_ms, openers;
	uint64_t counter[RSWAP_COUNTERS];
	struct rswap_donor donor[RSWAP_MAX_DONORS];
	unsigned donors;
};

/* Calls each(device, arg) for every device. */
int rswap_dump(struct rswap_socket *s, void (*each)(const struct rswap_device *d, void *arg),
	       void *arg);

#endif
