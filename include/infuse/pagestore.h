/* SPDX-License-Identifier: MIT */
/*
 * The page store's client: volumes of 4 KiB pages whose contents live in donors' memory.
 *
 * A volume is shared by threads; a port is one thread's way to the donors: its own connections and
 * requests in flight. Use a port from one thread at a time (the caller locks); different ports run
 * at once. The caller never has two requests on one page in flight at a time.
 *
 * Everything between ps_open() and ps_close() takes no malloc memory and no libc call that sets
 * errno, so ps_submit(), ps_poll() and ps_wait() may run in a signal handler or a raw thread.
 *
 * Errors are negative errno values; the calls marked [text] also set the words (common/error.h).
 */
#ifndef INFUSE_PAGESTORE_H
#define INFUSE_PAGESTORE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS_PAGE_SIZE  4096u
#define PS_MAX_DONORS 64u
#define PS_MAX_VECS   256u  /* vectors in one batch */
#define PS_MAX_REPLICAS 3u
#define PS_MAX_MEMBERS 10u  /* donors that hold one slab */
#define PS_BATCH_PAGES 512u /* pages in one batch */

struct ps_volume;
struct ps_port;

struct ps_options {
	const char *name;          /* for people: shown by donors; NULL: the program's name */
	uint64_t pages;            /* size of the page number space; costs 8 bytes a page when used */
	const char *const *donors; /* addresses: "tcp:HOST:PORT", "unix:PATH", "shm:PATH", and
				      filters before one: "delay,us=200:tcp:HOST:PORT" */
	unsigned donors_count;     /* 1..PS_MAX_DONORS */
	unsigned ports;            /* >= 1 */
	unsigned depth;            /* batches in flight on a port at most; 0: 64 */
	uint64_t deadline_ns;      /* for one batch; 0: 3 s */
	uint64_t connect_ns;       /* for opening a connection; 0: 3 s */
	unsigned replicas;         /* copies of each page on different donors, 1..3; 0: 1 */
	unsigned code_data;        /* erasure coding instead: k = 2, 4 or 8 fragments; 0: none */
	unsigned code_parity;      /* and m = 1.. parities; k + m <= PS_MAX_MEMBERS */
	uint64_t suspect_ns;       /* with members to spare, one that keeps a request waiting for so
				      long has failed; 0: 500 ms; never above deadline_ns */
	uint64_t rebuild_bytes;    /* a second, for rebuilding and moving; 0: 256 MiB */
	const char *spill;         /* a folder: a file is made there for slabs that no donor has room
				      for; NULL: none. Not with an epoch, or keep */
	uint64_t spill_bytes;      /* and its size at most; 0: as much as the volume may need */
	bool seal;                 /* pages leave this process encrypted (AES-256-GCM, a key that is
				      nowhere else); costs 24 bytes a page more, and memory for writes
				      in flight */
	const char *key_file;      /* NULL: talk plainly. Else, and with the next ones: to donors over
				      tcp by TLS only, which must prove that they have the key; */
	const char *tls_ca;        /* or certificates that this CA has signed, */
	const char *tls_cert;      /* and this is ours, */
	const char *tls_cert_key;  /* with its key (PEM files, all three or none) */
	const unsigned char *borrower; /* 16 secret bytes: who the volume is for donors, to come back to
					 what it holds there; NULL: somebody new */
	uint64_t epoch;            /* which of its writers this is: donors refuse those with a lower one
				      from now on, whose batches end with -ESTALE; 0: there is one only */
	bool keep;                 /* ps_close() leaves the slabs to the next writer, for as long as the
				      donors' grace */
	bool publishes;            /* ps_where() is written down for the next writer, and
				      ps_where_published() called: until then no slab is given back
				      that it may need */
	bool lenient;              /* donors that can't be reached now join later; one must be there */
	bool transient;            /* dies with this process: donors free its slabs at once then */
};

/* [text] Connects every port to every donor; blocks, bounded by connect_ns a donor. */
int ps_open(const struct ps_options *o, struct ps_volume **ret);

/* Gives the slabs back (GOODBYE) and frees everything. Takes NULL. Blocks shortly, bounded. */
void ps_close(struct ps_volume *v);

/* Pages in a slab: what ps_reserve() takes and ps_release() frees at once. Constant. */
uint32_t ps_slab_pages(const struct ps_volume *v);

/* i < options.ports. The volume owns it. */
struct ps_port *ps_port(struct ps_volume *v, unsigned i);

/* How much there is: totals of what the donors last said, in pages. Blocks: asks them. */
struct ps_space {
	uint64_t pages_total, pages_free;
};
int ps_space(struct ps_volume *v, struct ps_space *ret);

/*
 * [text] Makes pages [first, first + count) usable: grants slabs that are not there yet, over
 * several donors (those not yet used first, then best of two by free memory). -ENOSPC: nothing was
 * taken and the words say how much there is. Blocks, bounded. Uses control connections of its own,
 * so it may run beside any port; serialised inside.
 */
int ps_reserve(struct ps_volume *v, uint64_t first, uint64_t count);

/*
 * The pages read as zeros from now on; slabs that lie wholly in the range are freed at their
 * donors. No request on these pages may be in flight. Blocks, bounded. Serialised inside.
 */
int ps_release(struct ps_volume *v, uint64_t first, uint64_t count);

/*
 * The pages read as zeros from now on; slabs stay. No message, never blocks, any thread that owns
 * the pages.
 */
void ps_discard(struct ps_volume *v, uint64_t first, uint64_t count);

/* --- batches: the fault path --- */

enum ps_kind { PS_READ, PS_WRITE };

/* A run of pages and where their bytes are. */
struct ps_vec {
	uint64_t page;
	uint32_t count;
	uint32_t reserved;
	void *buf;              /* count * PS_PAGE_SIZE bytes, the caller's until the batch is done */
	const uint64_t *hashes; /* PS_WRITE: ps_hash() of each page if the caller has them, or NULL */
};

struct ps_batch {
	/* the caller's, unchanged until done */
	enum ps_kind kind;
	unsigned vecs;      /* 1..PS_MAX_VECS */
	struct ps_vec *vec; /* the caller's until done; PS_BATCH_PAGES pages in all at most */
	void *user;

	/* the answer */
	int status;      /* 0; -EIO: the donor is gone or refused; -EBADMSG: wrong bytes came back;
			    -ETIMEDOUT: no answer in time; -ESTALE: a newer writer has the volume; -ENXIO: pages not reserved */
	int donor;       /* index of the donor that failed, or -1 */
	uint64_t page;   /* first page that failed */

	/* the page store's */
	struct ps_batch *next;
	uint64_t deadline_ns;
	uint32_t pending; /* parts without an answer */
	uint32_t state;
	struct ps_port *port;
};

/*
 * Starts a batch; never blocks. The batch is done when ps_poll() returns it (perhaps with an error
 * in status, also for errors found at once). Pages that are zeros are filled in, not fetched;
 * pages that are all zeros when written become a flag. -EBUSY: depth batches are in flight; poll
 * first. -EINVAL: a malformed batch; it is not started.
 */
int ps_submit(struct ps_port *p, struct ps_batch *b, uint64_t now_ns);

/*
 * Takes answers in, ends overdue batches, and puts up to n done batches into done. Never blocks.
 * Returns how many.
 */
unsigned ps_poll(struct ps_port *p, uint64_t now_ns, struct ps_batch **done, unsigned n);

/* Batches without an answer on this port. */
unsigned ps_inflight(const struct ps_port *p);

/* Blocks until there is something to poll, or timeout_ns. */
void ps_wait(struct ps_port *p, uint64_t timeout_ns);

/*
 * The same in two steps, for a caller whose lock on the port must not be held while it sleeps: what
 * to wait for, with the lock; the sleep, without it. Another thread may take the answer in between
 * and leave nothing to wake up for, so keep timeout_ns short.
 */
struct ps_wait {
	struct pollfd fds[PS_MAX_DONORS];
	unsigned count;
	uint64_t until_ns;
};
void ps_wait_for(struct ps_port *p, uint64_t timeout_ns, struct ps_wait *ret);
void ps_wait_sleep(const struct ps_wait *w);

/* --- pages --- */

/* XXH3-64 of a page, never 0 (0 means: zeros). */
uint64_t ps_hash(const void *page);
/* The stored contents' hash; 0: reads as zeros. */
uint64_t ps_page_hash(const struct ps_volume *v, uint64_t page);
bool ps_page_is_zero(const void *page);

/* Why a donor can't be used: address and last error. Fits text of a message. */
const char *ps_donor_name(const struct ps_volume *v, int donor);

/* --- other writers: a volume that lives on when its writer does not --- */

/* Where a slab lies: what the next writer needs to know. */
struct ps_where {
	uint32_t generation; /* of its set, as its members know it; 0: the slab is not granted */
	uint32_t members;    /* those that have every acknowledged write */
	uint8_t donor[PS_MAX_MEMBERS];
	uint64_t handle[PS_MAX_MEMBERS];
};

/* Slabs of the volume. */
uint64_t ps_slabs(const struct ps_volume *v);
/* Any thread, any time; never blocks. */
void ps_where(const struct ps_volume *v, uint64_t slab, struct ps_where *ret);
/* Grows whenever some slab's ps_where() may have changed; any thread. */
uint64_t ps_where_changes(const struct ps_volume *v);
/*
 * With `publishes`: what ps_where() said of all slabs when ps_where_changes() was `changes` (ask first,
 * then read), and who the donors are, is where the next writer finds it. Any thread.
 */
void ps_where_published(struct ps_volume *v, uint64_t changes);
/* The donor's boot id, zeros before it was ever reached: slabs of another boot are gone. */
void ps_donor_boot(struct ps_volume *v, unsigned donor, unsigned char boot[16]);
/* And its address. */
void ps_donor_address(const struct ps_volume *v, unsigned donor, char address[128]);
/* A newer writer has the slabs: nothing that is asked of this volume is done any more. */
bool ps_is_stale(const struct ps_volume *v);

struct ps_taken {
	uint64_t slabs, pages; /* taken over; read */
	uint64_t differed;     /* pages that an unfinished write had left different at the members */
	uint64_t behind;       /* members that had left a set: freed */
};

/*
 * [text] On a volume that was just opened with its borrower and a new epoch: makes slabs [0, slabs) what
 * `where` says of each (donors by their index in this volume's options). The hashes died with the old
 * writer: all pages of all members are read, which takes a while (bounded by the deadline for each
 * message); where members differ, because a write was under way when the old writer ended, the first
 * one's bytes are written to the others. Of a slab whose members can't all be asked nobody knows who
 * was right last: -EUCLEAN, unless `force` says to believe the highest generation that is there.
 * Copies only: -ENOTSUP for codes, and sealed pages. Blocks; nothing else may use the volume.
 */
int ps_take_over(struct ps_volume *v, const struct ps_where *where, uint64_t slabs, bool force,
		 struct ps_taken *ret);

/* --- snapshots, for fork --- */

/*
 * [text] Clones every granted slab to a new borrower at the donors. No batch may be in flight.
 * Blocks, bounded. The volume keeps the snapshot until ps_adopt() in a child or
 * ps_snapshot_drop(). -ENOSPC when donors have no room for the copy.
 */
int ps_snapshot(struct ps_volume *v);

/*
 * [text] Between ps_snapshot() and the fork, in the thread that forks: it may have another descriptor
 * table than the one that took the snapshot. The child inherits what it needs to adopt spilled slabs.
 */
int ps_snapshot_carry(struct ps_volume *v);
/* The descriptor that this is, to be there in the child for the thread that calls ps_adopt(); or -1. */
int ps_snapshot_carried(const struct ps_volume *v);

/*
 * In a forked child: the volume's slabs are now the snapshot's; opens connections of its own.
 * The parent's descriptors are closed first when they were inherited (false: the parent kept them
 * in a descriptor table of another thread; the numbers are somebody else's here).
 * Async-signal-safe. Without a snapshot: -ENOENT. [text]
 */
int ps_adopt(struct ps_volume *v, bool inherited);

/* In the parent after fork, in the thread that forked: forgets the snapshot (it is the child's); with fork failed: frees it. */
void ps_snapshot_drop(struct ps_volume *v, bool taken);

/*
 * --- maintenance: rebuilding, moving, donors that come back ---
 *
 * docs/replication.md has the rules. Nothing of it happens by itself: one thread that the embedding
 * program gives calls ps_maintain() again and again, from ps_open() until before ps_close(). Without
 * it a volume works, but what it lost stays lost. A snapshot or ps_adopt() needs it stopped no more
 * than ps_reserve() does; a forked child starts a thread of its own.
 */

/*
 * Does what is to be done now and returns how long it may be left alone, in ns (0: call again at
 * once). Blocks shortly: on the volume's lock, on control connections (bounded by deadline_ns), on
 * connecting to a lost donor (bounded by connect_ns, without the lock). No malloc, no errno.
 */
uint64_t ps_maintain(struct ps_volume *v, uint64_t now_ns);
/* Sleeps until the maintenance has something to take in, or timeout_ns. Wakes nobody up. */
void ps_maintain_wait(struct ps_volume *v, uint64_t timeout_ns);
/* Does it wait for donors' answers? Else sleeping as ps_maintain() said will do, anyhow. */
bool ps_maintain_busy(const struct ps_volume *v);

/*
 * Asks for the member of slab (page / ps_slab_pages()) on donor to be moved to another donor; while
 * it goes on, reads and writes do too. to: a donor, or -1: where placement would put it. Returns at
 * once; the maintenance does it, most endangered slabs first. The old member is freed at its donor
 * when it's done. Asked again it is the same request. -ENOENT: the donor has no member of it; -ENXIO:
 * no such slab or donor; -EBUSY: the slab is being rebuilt or moved now (ask again later).
 */
int ps_move(struct ps_volume *v, uint64_t slab, int donor, int to);
/*
 * No new members on the donor from now on; with move, all it has are moved away, with false that is
 * taken back. ps_donor_health.members says when it is empty. -ENXIO: no such donor.
 */
int ps_evacuate(struct ps_volume *v, int donor, bool move);
/* The slab that the donor knows as handle (RECLAIM names slabs so), or -ENOENT. */
int64_t ps_slab_of(struct ps_volume *v, int donor, uint64_t handle);

/*
 * [text] These are the donors that there are now (not NULL, when count is not 0). New ones join while
 * the volume is used: the maintenance connects to them, again and again until it works, then slabs are
 * placed, rebuilt and moved there. One that is not listed stays as long as it is there or holds
 * anything; after that it is given up, and its number may become another's. What can't be an address
 * is passed over, and the first error returned: -E2BIG with more than PS_MAX_DONORS in use. Any thread,
 * one at a time. Takes malloc memory for addresses that are names only (the resolver's).
 */
int ps_update_donors(struct ps_volume *v, const char *const *addresses, unsigned count);
/* Donors that the volume has numbers for. Grows. */
unsigned ps_donors(const struct ps_volume *v);

/* How well a volume is. Counted at this moment; takes the volume's lock. */
struct ps_health {
	uint64_t slabs;      /* granted */
	uint64_t degraded;   /* of them with too few live members */
	uint64_t endangered; /* of them with no member to spare */
	uint64_t lost;       /* of them with too few to read */
	uint64_t filling;    /* being rebuilt or moved now */
	uint64_t waiting;    /* moves asked for and not done */
	uint64_t spilled;    /* of them with a member in the spill file */
	uint64_t pages_left; /* to copy for the rebuild under way */
};
void ps_health(struct ps_volume *v, struct ps_health *ret);

enum ps_donor_state { PS_DONOR_UP, PS_DONOR_SUSPECT, PS_DONOR_GONE, PS_DONOR_LEAVING };
struct ps_donor_health {
	enum ps_donor_state state;
	uint64_t members; /* slabs of this volume on it */
	const char *domain;
	uint64_t latency_ns, p99_ns; /* of recent reads, of the port that knows most; 0: none */
};
/* The spill file, if there is one, is the last of the donors the volume was opened with. -ENXIO: no such donor
 * (0 .. ps_donors() - 1), or one that was given up for good. */
int ps_donor_health(struct ps_volume *v, int donor, struct ps_donor_health *ret);

/* --- counters, updated without locks; for people --- */
struct ps_counters {
	uint64_t batches, messages;
	uint64_t pages_read, pages_written; /* moved over the transports */
	uint64_t zero_reads, zero_writes;   /* answered by the flag */
	uint64_t bytes_in, bytes_out;
	uint64_t errors, timeouts, bad_hashes;
	uint64_t failovers;     /* reads that another member had to answer */
	uint64_t hedges;        /* reads sent to a second member because the first was slow */
	uint64_t hedges_won;    /* of them, answered by the second */
	uint64_t repairs;       /* pages rewritten because a member had wrong bytes */
	uint64_t dropped;       /* members that left a set by failing */
	uint64_t rebuilt_pages; /* copied by rebuilding and moving */
	uint64_t rebuilt_slabs, moved_slabs;
	uint64_t spill_in, spill_out; /* of the bytes: read from the spill file, written to it */
};
void ps_counters(const struct ps_volume *v, struct ps_counters *ret);

#endif
