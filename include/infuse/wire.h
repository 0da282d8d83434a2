/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The bytes between a borrower and a memory server. All integers are little-endian. Every message
 * is a wire_header and `bytes` more. A reserved field is zero when sent; a receiver refuses
 * anything else, so that it can mean something later. docs/protocol.md tells the rules in prose.
 *
 * A kernel module shares this file: plain C, no libc beyond the fixed-width types.
 */
#ifndef INFUSE_WIRE_H
#define INFUSE_WIRE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#include <linux/types.h> /* __le16, __le32, __le64 */
#endif

#define WIRE_MAGIC 0x31455355464e4900ull /* "\0INFUSE1", so that no line of text begins with it */
#define WIRE_MAJOR 1
#define WIRE_MINOR 2 /* this end speaks WIRE_MINOR and WIRE_MINOR - 1 */

#define WIRE_PAGE_SIZE 4096u
#define WIRE_SECTOR    512u /* the unit of READPART and WRITEPART */

/* Limits. A server may announce smaller ones in its hello, never larger ones. */
#define WIRE_MAX_SEGS      512u         /* segments in one message */
#define WIRE_MAX_PAGES     1024u        /* pages in one message: 4 MiB of data */
#define WIRE_MAX_SLABS     1024u        /* slabs in one GRANT, FREE or CLONE */
#define WIRE_MAX_INFLIGHT  256u         /* requests without an answer on one connection */
#define WIRE_MAX_BODY      (WIRE_MAX_SEGS * 16u + WIRE_MAX_PAGES * WIRE_PAGE_SIZE)
#define WIRE_NAME_BYTES    64u

/* X(name, number, what it says to a person) */
#define WIRE_OPS(X)                                                                                \
	X(HELLO, 1, "open a session")                                                              \
	X(READ, 2, "read pages")                                                                   \
	X(WRITE, 3, "write pages")                                                                 \
	X(TRIM, 4, "forget pages: they read as zeros")                                             \
	X(GRANT, 5, "ask for slabs")                                                               \
	X(FREE, 6, "give slabs back")                                                              \
	X(CLONE, 7, "copy slabs for another borrower")                                             \
	X(MAP, 8, "hand over slabs' memory (UNIX sockets only)")                                   \
	X(STAT, 9, "counters of the server and its borrowers")                                     \
	X(PING, 10, "answer at once")                                                              \
	X(RECLAIM, 11, "notice: the server wants slabs back")                                      \
	X(GOODBYE, 12, "the borrower is done: free all it holds, without a grace")                 \
	X(RKEYS, 13, "keys for one-sided access to slabs (RDMA only)")                             \
	X(TOKEN, 15, "a one-time word that opens another connection")                              \
	X(AUTH, 16, "prove that the key is known")                                                 \
	X(DRAIN, 17, "empty the donor, or give some of its slabs back")                              \
	X(WANTED, 18, "which slabs does the server want back?")                                     \
	X(FENCE, 19, "hand over the word that tells of a newer writer (UNIX sockets only)")          \
	X(GENERATION, 21, "slabs' generations: raise them, or ask")                                \
	X(READPART, 22, "read parts of pages")                                                     \
	X(WRITEPART, 23, "write parts of pages")

enum wire_op {
#define X(name, number, text) WIRE_##name = number,
	WIRE_OPS(X)
#undef X
};

#define WIRE_ERRORS(X)                                                                             \
	X(OK, 0, "done")                                                                           \
	X(EPROTO, 1, "the message breaks the protocol")                                            \
	X(EVERSION, 2, "no common protocol version")                                               \
	X(EOP, 3, "unknown operation")                                                             \
	X(ELENGTH, 4, "the message's length does not fit its contents")                            \
	X(ESLAB, 5, "not a slab of this borrower")                                                 \
	X(ERANGE, 6, "pages beyond the slab's end")                                                \
	X(ENOSPC, 7, "no free slabs")                                                              \
	X(EQUOTA, 8, "the borrower's quota is used up")                                            \
	X(EDRAINING, 9, "the server is shutting down")                                             \
	X(EEPOCH, 10, "a newer writer has the volume")                                             \
	X(EDENIED, 11, "not allowed")                                                              \
	X(EBUSY, 12, "too many requests in flight")                                                \
	X(ELIMIT, 13, "over a limit of the server's hello")                                        \
	X(EINTERNAL, 14, "the server failed")                                                      \
	X(ENOTUNIX, 15, "only over a UNIX socket")                                                 \
	X(EAUTH, 16, "a key is needed, or it was the wrong one")                                   \
	X(EPLAIN, 17, "only over TLS")                                                             \
	X(ENOTRDMA, 20, "only over RDMA")                                                          \
	X(EREGISTER, 21, "the server can't register the memory for RDMA")

enum wire_error {
#define X(name, number, text) WIRE_##name = number,
	WIRE_ERRORS(X)
#undef X
};

/*
 * Before every message, both ways. An answer carries the request's op and tag and may come in any
 * order. The server sends notices (RECLAIM) with tag 0; a client's tags are not 0.
 */
struct wire_header {
	__le16 op;
	__le16 flags;  /* WIRE_F_* */
	__le32 bytes;  /* of body after this header */
	__le64 tag;
	__le32 status; /* enum wire_error; 0 in requests */
	__le32 count;  /* items in the body: segments, slabs, borrowers */
	__le64 epoch;  /* requests, from 1.2 on: the session's (the hello's) or 0; answers: 0 */
};

#define WIRE_F_REPLY 0x0001u
#define WIRE_F_ALL   (WIRE_F_REPLY)

/*
 * HELLO, first on every connection, both ways. borrower names who asks: 128 random bits that only
 * the borrower and the server know; several connections with one id share its slabs.
 *
 * From 1.2 on the header's epoch says which writer this is: the server keeps the highest of each
 * borrower id and refuses everything that sessions with a lower one ask for (EEPOCH).
 */
struct wire_hello {
	__le64 magic;
	__le16 major;
	__le16 minor;     /* client: the newest it speaks; server: the one both will speak */
	__le16 minor_min; /* client: the oldest it speaks; server: 0 */
	__le16 flags;     /* WIRE_HELLO_F_* */
	__u8 borrower[16]; /* all zero: a session that only asks (STAT, PING) */
	__u8 token[32];    /* reserved: proof of a key */
	__u8 name[WIRE_NAME_BYTES]; /* NUL-padded UTF-8: the volume or program, for people */
	__le32 pid;        /* of the borrower, for people */
	__le32 reserved;
};

/*
 * The borrower can't come back: once its last connection is closed by its own end, its slabs are
 * free, without the grace. (A connection that the network ended still has it.) From 1.1 on.
 */
#define WIRE_HELLO_F_TRANSIENT 0x0001u
/* RDMA, from 1.2 on: keys are to be good on all of the borrower's connections to the device. */
#define WIRE_HELLO_F_SHARED_KEYS 0x0002u
#define WIRE_HELLO_F_ALL         (WIRE_HELLO_F_TRANSIENT | WIRE_HELLO_F_SHARED_KEYS)

struct wire_welcome {
	__le64 magic;
	__le16 major;
	__le16 minor;
	__le32 slab_pages; /* a power of two */
	__u8 boot[16];     /* random at every start: slabs of another boot are gone */
	__le64 slabs_total;
	__le64 slabs_free;
	__le32 max_segs;
	__le32 max_pages;
	__le32 max_slabs;
	__le32 max_inflight;
	__u8 name[WIRE_NAME_BYTES];
	__u8 domain[WIRE_NAME_BYTES];
	__le32 page_extra; /* reserved: bytes kept beside each page, for sealed pages */
	__le32 reserved;
};

/*
 * READ, WRITE, TRIM: `count` segments; WRITE: then their pages, in order. READ's answer: the pages
 * in order, nothing else. One bad segment refuses the whole message before any page is touched.
 */
struct wire_seg {
	__le64 slab;  /* handle from GRANT or CLONE; unique for this boot */
	__le32 page;  /* first page within the slab */
	__le32 pages; /* >= 1 */
};

/*
 * READPART, WRITEPART: as READ and WRITE, in sectors instead of pages: one page of an erasure-coded
 * volume is a few sectors on each of its donors. All segments together: WIRE_MAX_PAGES pages.
 */
struct wire_part {
	__le64 slab;
	__le32 sector;  /* first sector within the slab */
	__le32 sectors; /* >= 1 */
};

/*
 * GENERATION: `count` of these. A donor keeps a number for each slab, 0 when it is granted, and
 * raises it to the one it is told, never lowers it. Answer: `count` of these, as they are now.
 */
struct wire_generation {
	__le64 slab;
	__le64 generation; /* 0: only asks */
};

/* GRANT: header.count = 1; asks for all of `slabs` or none. Answer: `count` wire_slab, zeroed. */
struct wire_grant {
	__le32 slabs;
	__le32 flags;      /* reserved */
	__le64 volume;     /* reserved: for epochs */
	__u8 reserved[16]; /* reserved: placement hints */
};

/* GRANT's and CLONE's answer, FREE's and MAP's request: an array of these. */
struct wire_slab {
	__le64 slab;
};

/*
 * CLONE: this, then `count` wire_slab. The answer's slabs hold the contents at this moment and
 * belong to `owner`, who need not be connected yet (the grace period runs). All or none.
 */
struct wire_clone {
	__u8 owner[16];
	__u8 name[WIRE_NAME_BYTES]; /* of the new borrower, for people */
};

/*
 * MAP: `count` (<= WIRE_MAX_FDS) wire_slab. Answer: an empty body, and the slabs' memfds in order
 * as one SCM_RIGHTS message with the header's first byte. A slab handed over is never granted to
 * another borrower with the same memory.
 */
#define WIRE_MAX_FDS 128u

/*
 * RKEYS, from 1.2 on: `count` (<= WIRE_MAX_KEYS) wire_slab. Answer: a wire_rkey for each, in order.
 * It holds on the connection that asked, until the slab is freed: then whoever still uses it loses
 * the connection.
 */
#define WIRE_MAX_KEYS 128u

struct wire_rkey {
	__le64 addr;  /* of the slab's first byte, as RDMA READ and WRITE want it */
	__le64 bytes; /* the slab's */
	__le32 rkey;
	__le32 reserved;
};

/*
 * RDMA connections (rdma_cm, RC). The request's private data says who comes, all there is room for;
 * a refusal's says why. Then each message is one SEND, the HELLO first; pages are not sent but read
 * and written by the borrower: READ and WRITE are unknown operations there.
 */
struct wire_rdma_hello {
	__le64 magic;      /* WIRE_RDMA_MAGIC */
	__u8 borrower[16]; /* as in the HELLO that follows */
	__u8 token[32];    /* from TOKEN, for servers with keys; else zeros */
};

struct wire_rdma_refusal {
	__le64 magic;
	__le32 status; /* enum wire_error */
	__le32 reserved;
};

#define WIRE_RDMA_MAGIC    0x32414d4452464e49ull /* "INFRDMA2" */
#define WIRE_RDMA_BYTES    16384u                /* the longest message */
#define WIRE_RDMA_CONTROLS 8u                    /* requests without an answer */

/* STAT: header.count = how many borrowers to tell at most. Answer: wire_stat, `count` wire_borrower. */
struct wire_stat {
	__le64 slabs_total;
	__le64 slabs_free;
	__le32 slab_pages;
	__le32 borrowers;  /* all there are */
	__le32 sessions;
	__le32 threads;
	__le64 uptime_ms;
	__le64 requests;
	__le64 errors;
	__le64 pages_read;
	__le64 pages_written;
	__le64 refused;    /* connections closed for bad hellos or broken messages */
	__u8 name[WIRE_NAME_BYTES];
	__u8 domain[WIRE_NAME_BYTES];
	__u8 boot[16];
	__le64 denied; /* of those refused: for want of the right key */
	/* from 1.2 on, 0 before */
	__le32 slabs_lent;
	__le32 slabs_wanted; /* of those: asked back and not here yet */
	__le32 slabs_away;   /* not lent now, because this machine needs its memory; not in the total */
	__le32 flags;        /* WIRE_STAT_F_* */
	__le64 reserved;
};

#define WIRE_STAT_F_EMPTYING 0x0001u /* DRAIN: grants nothing, wants all back */
#define WIRE_STAT_F_ENDING   0x0002u /* the server was told to end */

struct wire_borrower {
	__u8 name[WIRE_NAME_BYTES];
	__le32 pid;
	__le32 sessions; /* open connections; 0: the grace period runs */
	__le64 slabs;
	__le64 pages_read;
	__le64 pages_written;
	__le64 idle_ms;  /* since its last request */
};

/*
 * TOKEN, from 1.2 on: no body. Answer: this. Who shows the token within valid_ms, once, is let in
 * as this session's borrower: RDMA connections carry it in their private data.
 */
#define WIRE_TOKEN_BYTES 32u
struct wire_token {
	__u8 token[WIRE_TOKEN_BYTES];
	__le32 valid_ms;
	__le32 reserved;
};

/*
 * AUTH, from 1.2 on: how a connection without TLS shows that it knows a key. The server answers its
 * hello with this (op AUTH, the hello's tag), the client sends its proof (op AUTH, the same tag),
 * the server answers the hello. proof = HMAC-SHA256(K, challenge || the wire_hello as it was sent);
 * K is the borrower's own key, made of the cluster's (docs/protocol.md).
 */
#define WIRE_AUTH_BYTES 32u
struct wire_auth {
	__u8 word[WIRE_AUTH_BYTES]; /* server: the challenge; client: the proof */
};

/* RECLAIM notice: `count` wire_slab that the server would like back; GOODBYE, PING: no body. */

/*
 * FENCE: no body. The answer's body is empty, its count 1; one descriptor comes with it as with MAP's, of
 * WIRE_PAGE_SIZE bytes, to be mapped for reading. It begins with an __le64: the epoch of the borrower's
 * newest writer. It changes before a takeover copies the slabs that were handed over: so who writes into
 * mapped memory, then (behind a full barrier) reads this word, and finds its own epoch, has written.
 */

/* DRAIN: header.count = 1; an administrator's. Answer: no body. */
struct wire_drain {
	__le32 what;  /* WIRE_DRAIN_* */
	__le32 slabs; /* WIRE_DRAIN_SOME: how many */
	__u8 reserved[8];
};

#define WIRE_DRAIN_UNDO 0u /* grants again, wants nothing back */
#define WIRE_DRAIN_ALL  1u /* grants nothing more and wants all back */
#define WIRE_DRAIN_SOME 2u /* wants so many back, and goes on granting */

/*
 * WANTED: header.count = how many slabs to list at most. Answer: this, then `count` wire_slab, of which
 * the first `listed` name slabs, the least active first; the others are 0. Any `slabs` of them would do.
 * The borrower moves them elsewhere and FREEs them.
 */
struct wire_wanted {
	__le32 slabs;
	__le32 listed;
};

#ifdef __KERNEL__
#define WIRE_SIZE(type, size) static_assert(sizeof(type) == (size))
#else
#define WIRE_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " is on the wire")
#endif
WIRE_SIZE(struct wire_header, 32);
WIRE_SIZE(struct wire_hello, 136);
WIRE_SIZE(struct wire_welcome, 200);
WIRE_SIZE(struct wire_seg, 16);
WIRE_SIZE(struct wire_part, 16);
WIRE_SIZE(struct wire_generation, 16);
WIRE_SIZE(struct wire_grant, 32);
WIRE_SIZE(struct wire_slab, 8);
WIRE_SIZE(struct wire_clone, 80);
WIRE_SIZE(struct wire_rkey, 24);
WIRE_SIZE(struct wire_rdma_hello, 56); /* all that InfiniBand's rdma_cm leaves us */
WIRE_SIZE(struct wire_rdma_refusal, 16);
WIRE_SIZE(struct wire_stat, 256);
WIRE_SIZE(struct wire_borrower, 104);
WIRE_SIZE(struct wire_drain, 16);
WIRE_SIZE(struct wire_wanted, 8);
WIRE_SIZE(struct wire_token, 40);
WIRE_SIZE(struct wire_auth, 32);

#endif
