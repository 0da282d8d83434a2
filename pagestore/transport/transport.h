/* SPDX-License-Identifier: MIT */
/*
 * A way to reach a donor: one table of operations, one file for each. To add one, write its file
 * and add a line to the list in transport.c. Filters are transports that wrap another and spoil it
 * (delay, fail, corrupt, reorder), so fault tests need no hooks in the code.
 *
 * One-sided: READ and WRITE name a slab handle and pages within it; whether the donor's CPU takes
 * part is the transport's business. No malloc, no errno, no blocking outside open().
 */
#ifndef PAGESTORE_TRANSPORT_H
#define PAGESTORE_TRANSPORT_H

#include <infuse/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tp_kind {
	TP_READ,
	TP_WRITE,
	TP_GRANT,
	TP_FREE,
	TP_CLONE,
	TP_MAP, /* makes granted slabs usable by one-sided transports; nothing to do for the others
		 */
	TP_STAT,
	TP_PING,
	TP_GOODBYE,
	TP_READ_PART, /* as READ and WRITE, in sectors */
	TP_WRITE_PART,
	TP_GENERATION,
	TP_WANTED, /* slabs: room for count + 1 words: the wire_wanted, and handles */
	TP_FENCE,  /* shm's own, when it opens: the word that tells of a newer writer */
};

static inline bool tp_reads(enum tp_kind k)
{
	return k == TP_READ || k == TP_READ_PART;
}

static inline bool tp_writes(enum tp_kind k)
{
	return k == TP_WRITE || k == TP_WRITE_PART;
}

/* Bytes of what a segment counts in: a page or a sector. */
static inline uint32_t tp_unit(enum tp_kind k)
{
	return k == TP_READ_PART || k == TP_WRITE_PART ? WIRE_SECTOR : WIRE_PAGE_SIZE;
}

/* A run of pages (or sectors: tp_unit()) within one slab and where their bytes are. */
struct tp_seg {
	uint64_t slab;
	uint32_t page;
	uint32_t pages;
	void *buf; /* the submitter's until done */
};

/* Owned by the submitter, unchanged until its tp_done came out of poll. */
struct tp_op {
	enum tp_kind kind;
	uint64_t tag;   /* the submitter's; not 0 */
	uint32_t count; /* segs, or slabs (GRANT: wanted; FREE, CLONE, MAP: given) */
	struct tp_seg *seg;
	uint64_t *slabs; /* FREE, CLONE, MAP: handles in; GRANT, CLONE: handles out */
	const struct wire_clone *clone; /* CLONE */
	struct wire_stat *stat;         /* STAT: filled */
	struct wire_generation *generation; /* GENERATION: count of them, as on the wire; in and out */
};

struct tp_done {
	uint64_t tag;
	int status;    /* 0 or a negative errno */
	uint32_t wire; /* enum wire_error when the donor refused */
};

struct tp_addr {
	char text[128]; /* as given, for messages */
	/* resolved by tp_resolve(): open() needs no resolver */
	uint32_t family; /* AF_INET, AF_INET6, AF_UNIX */
	uint32_t len;
	unsigned char sockaddr[128];
};

/* What is said in the hello, and what came back. */
struct tls_config;
struct file_store;
struct tp_hello {
	unsigned char borrower[16];
	char name[WIRE_NAME_BYTES];
	struct tls_config *tls;      /* tcp: speak TLS and nothing else; NULL: plainly */
	uint64_t epoch;              /* which writer this is; 0: the volume has no epochs */
	unsigned char token[32];     /* rdma: from TOKEN, for donors with keys; else zeros */
	bool transient;              /* the borrower can't come back: no grace when it hangs up */
	struct file_store *file;     /* file: the volume's spill file */
	struct wire_welcome welcome; /* filled by open */
};

struct tp_conn; /* a transport's struct begins with it */

struct tp_transport {
	const char *name;  /* "tcp" */
	size_t conn_bytes; /* of its connection struct; the caller provides zeroed memory */
	bool filter;
	/* Data moves in submit(), and its answer comes at the next poll: nobody is faster. */
	bool instant;
	/* Filters: [text] reads args, when the chain is built. */
	int (*check)(struct tp_conn *c);
	/* Blocks up to timeout_ns. [text] Async-signal-safe. */
	int (*open)(struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns);
	/* Takes all of the op or -EAGAIN (nothing taken: poll first) or another error (dead). */
	int (*submit)(struct tp_conn *c, struct tp_op *op, uint64_t now_ns);
	/* Moves bytes, returns answers. -EPIPE and the like: the connection is dead, every op in
	 * flight has failed and will never be touched again. */
	int (*poll)(struct tp_conn *c, uint64_t now_ns, struct tp_done *done, unsigned n);
	/*
	 * Forgets a read: its buffers are not touched any more and no tp_done comes; the op is the
	 * submitter's again. -EBUSY: not possible now, its tp_done comes as ever. NULL: never
	 * possible.
	 */
	int (*cancel)(struct tp_conn *c, struct tp_op *op);
	/* For ppoll(2): the descriptor (or -1) and the events wanted. */
	int (*fd)(struct tp_conn *c, short *events);
	/* When poll() will have something without any event on fd: a time, 0 at once, UINT64_MAX
	 * never. NULL: never. */
	uint64_t (*due)(struct tp_conn *c);
	/* Ops in flight are forgotten. May be opened again. Does nothing when it isn't open. */
	void (*close)(struct tp_conn *c);
	/* After a fork, in the child: like close, but mapped slabs didn't come along, and neither
	 * did the descriptors unless they were inherited: their numbers are somebody else's. */
	void (*forget)(struct tp_conn *c, bool inherited);
};

struct tp_conn {
	const struct tp_transport *t;
	struct tp_addr addr;
	char args[64];         /* filters: "us=200,jitter=50" */
	uint64_t seed;         /* filters: so that connections differ, repeatably */
	struct tp_conn *inner; /* filters */
	struct tp_conn *peer;  /* whose mapped slabs this connection uses; NULL: its own */
};

/*
 * [text] Reads "[FILTER[,ARGS]:]...NAME:ADDRESS", resolves names (may use malloc: not on the fault
 * path) and builds the chain of connection structs in mem_map() memory, unopened.
 */
int tp_create(const char *address, struct tp_conn **ret);
/* Another unopened chain to the same address. seed: tells filters apart. No malloc. */
int tp_clone(const struct tp_conn *from, uint64_t seed, struct tp_conn **ret);
/*
 * c will use the slabs that owner maps (TP_MAP). One volume's connections to a donor share the
 * mappings this way: each slab costs one of the process's limited mappings, not one a port.
 */
void tp_share(struct tp_conn *c, struct tp_conn *owner);
void tp_free(struct tp_conn *c); /* closes; takes NULL */

/* What a wire_error says, and the errno for it. */
const char *tp_wire_text(uint32_t error);
int tp_wire_errno(uint32_t error);

extern const struct tp_transport tp_tcp, tp_unix, tp_shm, tp_rdma, tp_file;
extern const struct tp_transport tp_delay, tp_fail, tp_corrupt, tp_reorder;

#endif
