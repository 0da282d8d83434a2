/* SPDX-License-Identifier: MIT */
/*
 * /etc/infuse/rswap.conf: what `infuse up` makes, an INI section a device. Files in rswap.conf.d
 * beside it that end in .conf come after it, in the order of their names, and change single
 * settings; `donor` adds one, and an empty `donor` forgets those before.
 */
#ifndef CLI_RSWAP_CONF_H
#define CLI_RSWAP_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RSWAP_CONF        "/etc/infuse/rswap.conf"
#define RSWAP_CONF_DONORS 64u
#define RSWAP_NAME_BYTES  32u

enum rswap_via {
	RSWAP_VIA_AUTO,   /* the module where it is loaded or can be, else nbd */
	RSWAP_VIA_MODULE, /* the kernel's rswap */
	RSWAP_VIA_NBD,    /* nbdkit, nbdfuse and a loop device */
};

struct rswap_conf {
	char name[RSWAP_NAME_BYTES]; /* "rswap0" */
	uint64_t bytes;              /* 0 when a share of the machine's memory is said: */
	uint64_t ram_times, ram_of;  /* ram * times / of */
	uint64_t replicas;
	int priority; /* 0..32767; -1: the kernel's choice */
	enum rswap_via via;
	uint64_t deadline_ns; /* 0: the default */
	bool automatic;       /* at boot */
	char registry[256], key[256];
	char donor[RSWAP_CONF_DONORS][160];
	unsigned donors;
};

struct rswap_conf_list {
	struct rswap_conf *item;
	size_t count;
};

/* Reads path and what is in path.d. No file at all: -ENOENT. Every section is checked. [text] */
int rswap_conf_read(const char *path, struct rswap_conf_list *ret);
/* One file's contents on top of what is in the list; where: its name, for messages. [text] */
int rswap_conf_parse(FILE *f, const char *where, struct rswap_conf_list *list);
void rswap_conf_free(struct rswap_conf_list *list);

/* -ENOENT: there is no such section; the words say which there are. [text] */
int rswap_conf_find(const struct rswap_conf_list *list, const char *name, struct rswap_conf *ret);
/* Is it a name that the kernel's devices have: "rswap" and a number? */
bool rswap_name_ok(const char *name);
/* The size on a machine with so much memory, in whole megabytes. -EINVAL: less than one. [text] */
int rswap_conf_size(const struct rswap_conf *c, uint64_t ram_bytes, uint64_t *bytes);

#endif
