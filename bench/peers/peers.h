/* SPDX-License-Identifier: MIT */
/*
 * What users have without Infuse, to be measured beside it: kernel swap under a memory limit, and
 * stores that are asked for a page at a time. A peer that can't run here says why with -ENOENT;
 * whatever one changes on the machine is undone when it is closed and when we die.
 */
#ifndef BENCH_PEERS_PEERS_H
#define BENCH_PEERS_PEERS_H

#include "bench/bench.h"

#include <sys/types.h>

/* Is the program in $PATH? */
bool peer_has_program(const char *name);

/* --- limit.c: a memory cgroup of our own, version 1 or 2 --- */

#define LIMIT_PATH 640

struct limit {
	char path[LIMIT_PATH]; /* the group's folder; "" when there is none */
	bool v2;
};
/* 0, or -ENOENT with the reason why no group can be made. */
int limit_available(void);
int limit_create(struct limit *l, const char *name, uint64_t bytes);
/* Puts the calling process in. */
int limit_enter(const char *path);
/* Kills what is in it and removes it; takes one that was never made. Waits up to 10 s. */
int limit_remove(struct limit *l);

/* --- swap_area.c: a swap area of our own --- */

/* SWAP_DEVICE: a block device that is there already; its contents are lost. */
enum swap_kind {
	SWAP_DISK, SWAP_ZRAM, SWAP_NBD, SWAP_RSWAP_TCP, SWAP_RSWAP_SHM, SWAP_DEVICE, SWAP_KINDS
};

struct swap_area {
	enum swap_kind kind;
	uint64_t bytes;
	char folder[200]; /* ours, for sockets, mounts and device nodes */
	char file[260];   /* the swap file on a disk, or nbdfuse's file; "" */
	char device[260]; /* what swapon is called on */
	int loop_fd;      /* -1: none */
	int zram;         /* its number; -1: none */
	pid_t nbdfuse;    /* 0: none */
	bool node_made, mounted, on;
	struct donors donors; /* what our plugin borrows from */
};
int swap_area_available(enum swap_kind kind);
/* In its own process only (swap.c): it may be interrupted nowhere. */
/* device is that of SWAP_DEVICE, whose own size counts. */
int swap_area_open(struct swap_area *a, enum swap_kind kind, const char *device, uint64_t bytes);
/* Everything, in the reverse order; tells the first thing that could not be undone. */
int swap_area_close(struct swap_area *a);

/* --- swap.c: both, kept by a process that undoes them when we close them or die --- */

struct swap {
	int fd;
	pid_t keeper;
	char group[LIMIT_PATH];
	char device[260];
};
const char *swap_name(enum swap_kind kind);
int swap_available(enum swap_kind kind);
/* An area of that many bytes, with the highest priority, and a group limited to so many. */
int swap_open(struct swap *s, enum swap_kind kind, const char *device, uint64_t area_bytes,
	      uint64_t limit_bytes);
/* Kills what is in the group, and undoes it all. Takes a zeroed one. */
int swap_close(struct swap *s);

/* Plain memory of a process under a limit; its statistics are the kernel's. */
extern const struct area_kind area_swap;
/* The workload on plain memory in a child process, as limited as our heap's cache. */
int peer_swap_run(const struct bench_options *o, const struct workload *w, enum swap_kind kind,
		  const char *device, struct bench_result *ret);

/* --- stores of 4 KiB values: one at a time, at random, as a fault asks for a page --- */

struct store {
	const char *name;
	int (*available)(void);
	/* Starts the server and connects; priv is the store's. */
	int (*open)(uint64_t pages, void **priv);
	/* Pages from to to-1, as page_fill() has them. */
	int (*fill)(void *priv, uint64_t from, uint64_t to);
	int (*get)(void *priv, uint64_t page, void *buf);
	void (*close)(void *priv); /* takes what a failed open left */
};
extern const struct store store_redis, store_memcached, store_nbd_tcp, store_nbd_unix;
int peer_store_run(const struct bench_options *o, const struct store *s, struct bench_result *ret);

/* --- wire.c: a client's socket to a server on this machine, with bounded waits --- */

int wire_connect_tcp(unsigned port, int *fd); /* waits up to 10 s for the server */
int wire_send(int fd, const void *buf, size_t len);
int wire_receive(int fd, void *buf, size_t len);
/* A port of the loopback that nobody has now. */
int wire_free_port(unsigned *port);

#endif
