/* SPDX-License-Identifier: MIT */
/*
 * The donors a verb is about, and what each of them says of itself. donor_find.c knows where to
 * look for them (--donor, $INFUSE_DONOR, the registry); donor_client.c asks all at once over the
 * wire, so that one that is down costs the others nothing.
 */
#ifndef CLI_DONOR_H
#define CLI_DONOR_H

#include "common/options.h"

#include <infuse/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DONOR_ADDRESSES 8    /* of one donor: what it listens on */
#define DONOR_BORROWERS 4096 /* told of one donor, at most */
#define DONOR_TIMEOUT   1000000000ull

struct gaicb;

struct donor_address {
	char text[128]; /* "tcp:HOST:PORT", "unix:PATH", "shm:PATH" */
	struct sockaddr_storage addr;
	socklen_t len;        /* 0: not resolved yet */
	struct gaicb *lookup; /* the resolver works on it; lives until the process ends */
	int error;            /* a lookup that failed, or a word that is no address */
};

/* The wire's struct in this machine's byte order, texts ended and fit for a terminal. */
struct donor_borrower {
	char name[WIRE_NAME_BYTES + 1];
	uint32_t pid, sessions;
	uint64_t slabs, pages_read, pages_written, idle_ms;
};

struct donor_stat {
	uint64_t slabs_total, slabs_free, slab_bytes, uptime_ms, requests, errors;
	uint64_t pages_read, pages_written, refused;
	uint64_t slabs_lent, slabs_wanted, slabs_away;
	uint32_t borrowers, sessions, threads, flags; /* WIRE_STAT_F_* */
};

struct donor {
	char name[WIRE_NAME_BYTES + 1]; /* its own word for it, or what the registry says */
	char domain[WIRE_NAME_BYTES + 1];
	bool announced; /* the registry has it */
	struct donor_address address[DONOR_ADDRESSES];
	unsigned addresses;
	struct wire_drain order; /* with `ordered`: told before its numbers are asked */
	bool ordered;

	/* the last answer */
	int status;        /* 0: it answered; else a negative errno, and why */
	char why[320];     /* "ADDRESS: no answer within 1 s" */
	unsigned answered; /* index of the address that did */
	uint64_t at_ns;    /* when */
	struct donor_stat stat;
	struct donor_borrower *borrower;
	unsigned borrowers; /* in the array; stat.borrowers are there in all */
};

struct donor_list {
	struct donor *item;
	size_t count;
	char where[300]; /* the registry they are from, or "" */
};

/*
 * The donors of --donor; else those of the registry named; else $INFUSE_DONOR's; else those of the
 * default registry. -ENOENT: nothing to look in; the words say how to start a donor. [text]
 */
int donor_find(const struct opt_list *given, const char *registry, struct donor_list *ret);

/* Asks all, with so many borrowers each. Blocks up to timeout_ns; never fails as a whole. */
void donor_ask(struct donor_list *l, unsigned borrowers, uint64_t timeout_ns);

/*
 * After donor_ask(): 0, or -EHOSTUNREACH with words when a donor did not answer: what a verb that
 * has printed the rest returns. [text]
 */
int donor_verdict(const struct donor_list *l);

void donor_list_free(struct donor_list *l);

/* "up", "emptying" (it is drained) or "ending": how a donor that answered is. */
const char *donor_state(const struct donor *d);

/* Copies at most n bytes of UTF-8; what a terminal or JSON can't take becomes '?'. */
void donor_clean_text(char *to, const void *from, size_t n);

/* Two options that all verbs about donors have. */
#define DONOR_OPTIONS(config)                                                                      \
	{.name = "donor",                                                                          \
	 .type = OPT_LIST,                                                                         \
	 .offset = offsetof(config, donor),                                                        \
	 .arg = "ADDR",                                                                            \
	 .help = "ask this one: tcp:HOST:PORT, unix:PATH; may be repeated"},                       \
		{.name = "registry",                                                               \
		 .type = OPT_STRING,                                                               \
		 .offset = offsetof(config, registry),                                             \
		 .arg = "FILE",                                                                    \
		 .help = "ask the donors announced there"},                                        \
		{.name = "timeout",                                                                \
		 .type = OPT_DURATION,                                                             \
		 .offset = offsetof(config, timeout_ns),                                           \
		 .arg = "TIME",                                                                    \
		 .help = "wait so long for answers [1s]"},                                         \
	{                                                                                          \
		.name = "json", .type = OPT_FLAG, .offset = offsetof(config, json),                \
		.help = "print JSON"                                                               \
	}

#endif
