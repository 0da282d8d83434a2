/* SPDX-License-Identifier: MIT */
/*
 * A volume's insides: its donors with one control connection each (granting, freeing, cloning;
 * under `lock`), its ports with data connections of their own, and the map that all share.
 */
#ifndef PAGESTORE_VOLUME_H
#define PAGESTORE_VOLUME_H

#include "pagestore/core.h"
#include "common/lock.h"
#include "pagestore/map.h"
#include "pagestore/placement.h"

#define OLD_CONTROLS 4u

struct donor {
	char address[128]; /* as it was given; others read it without the lock */
	struct tp_conn *control;
	struct tp_conn *old[OLD_CONTROLS]; /* of before it was lost, as long as ports use their slabs */
	uint64_t retry_ns, backoff_ns;     /* when to try again, having lost it */
	struct tp_conn *spare; /* to speak for a snapshot's borrower */
	struct tp_hello hello;
	struct wire_stat stat;
	unsigned domain; /* a number for its failure domain */
	_Atomic bool dead; /* its control connection is not to be used any more */
	int error;     /* the last one of any connection; written by all threads */
	_Atomic uint64_t held; /* slabs */
};

/* One operation on a donor's control connection. */
struct control_call {
	struct tp_op op;
	bool sent, done;
	int status;
	uint32_t wire;
};

/* A list of slab handles for each donor, one after the other in one array. */
struct slab_lists {
	uint64_t *slabs;
	uint64_t first[PS_MAX_DONORS], count[PS_MAX_DONORS];
	uint64_t done[PS_MAX_DONORS]; /* how many the donor has dealt with */
	int failed;                   /* a donor that refused, or -1 */
	uint32_t wire;                /* and how: by a word, */
	int status;                   /* or by an error */
};

struct ps_port {
	struct ps_volume *v;
	struct core core;
	struct tp_conn *conn[PS_MAX_DONORS];
	/*
	 * A lost donor's new connection, opened by the maintenance: the port exchanges its own for
	 * it when it looks (core.offered), and leaves the old one here to be freed. Atomic.
	 */
	struct tp_conn *offer[PS_MAX_DONORS], *retired[PS_MAX_DONORS];
	struct core_limits offer_limits[PS_MAX_DONORS];
	uint64_t live;      /* bit a donor: conn is open */
	uint64_t looked_ns; /* when idle connections were polled */
	uint64_t driven_ns; /* last poll, or end of a wait: deadlines run only while somebody looks
			     */
};

struct ps_volume {
	struct map map;
	_Atomic unsigned donors; /* entries of the table; grows under the lock */
	unsigned ports, depth; /* one more port is the maintenance's: v->port[v->ports] */
	uint64_t deadline_ns, connect_ns, suspect_ns, rebuild_bytes;
	char name[WIRE_NAME_BYTES];
	unsigned char borrower[16];
	uint64_t epoch;
	bool keep, publishes, lenient;
	uint64_t published; /* of map.changes: what the next writer would find; only grows */
	bool stale; /* a newer writer has the slabs; never unset */
	struct ps_port *port;

	uint32_t lock; /* of all below, and of changes to the slab map */
	struct donor donor[PS_MAX_DONORS];
	struct control_call call[PS_MAX_DONORS];
	struct wire_generation told[PS_MAX_DONORS];
	struct slab_lists lists;
	uint64_t rng;
	uint8_t *plan;    /* members a slab: room for a reservation's plan */
	uint64_t *handle; /* MAP_MEMBERS a slab: room for the lists */
	struct map_slab *clone; /* by slab: the snapshot's set and handles */
	uint64_t leaving; /* bit a donor: it gets nothing new */
	/* Bit an entry; changed under the lock, read without it. Both are `gone` and dead, too. */
	uint64_t joining;  /* never connected yet: the maintenance tries */
	uint64_t vacant;   /* stands for nobody */
	uint64_t unlisted; /* not in ps_update_donors()'s last list */
	unsigned spill;   /* index of the spill file among the donors, or PS_MAX_DONORS: none */
	struct file_store *file;
	struct maintain *maintain;
	struct tp_conn **fresh; /* a port: connections being opened */
	bool snapshot;
	bool fork_held;
	struct tls_config *tls; /* of connections to other machines; NULL: plain */
	bool transient;
	unsigned char snapshot_borrower[16];
};

/* [text] secure.c: makes v->tls of the options' keys. */
int volume_secure(struct ps_volume *v, const struct ps_options *o);
/* No handshake goes on in any thread while this one forks. Until volume_fork_end(). */
void volume_fork_begin(struct ps_volume *v);
void volume_fork_end(struct ps_volume *v, bool child);
static inline struct ps_port *volume_maintainer(struct ps_volume *v)
{
	return &v->port[v->ports];
}

/* donors.c */
int volume_create_conns(struct ps_volume *v, const struct ps_options *o);
/* What the donors' slabs have, as the first one that was reached said; 0: none was. */
uint32_t volume_first_pages(const struct ps_volume *v);
/* Pages of a donor's slab. */
uint32_t volume_donor_pages(const struct ps_volume *v);
/* Entries that are no donors now: never reached, or given up for good. */
static inline uint64_t volume_absent(const struct ps_volume *v)
{
	return __atomic_load_n(&v->joining, __ATOMIC_ACQUIRE) |
	       __atomic_load_n(&v->vacant, __ATOMIC_ACQUIRE);
}
/* Donors that were there and are not; with the lock. */
uint64_t volume_lost(const struct ps_volume *v);
/* With the lock: entries of donors that nobody lists any more, that are gone and hold nothing, become vacant. */
void donors_vacate(struct ps_volume *v);
/* The same server is in the table under another address. */
bool donor_is_known(const struct ps_volume *v, unsigned d, const struct tp_hello *h);
/* Where a donor's control connection is put away until no port uses its slabs; NULL: nowhere. */
struct tp_conn **donor_old_place(struct donor *donor);

/* Would the next writer find the map as it was then, or newer? */
static inline bool volume_is_published(const struct ps_volume *v, uint64_t changes)
{
	return !v->publishes || __atomic_load_n(&v->published, __ATOMIC_ACQUIRE) >= changes;
}

/* maintain.c */
int maintain_open(struct ps_volume *v);
void maintain_close(struct ps_volume *v);
/* In a forked child: what was under way is the parent's. */
void maintain_reset(struct ps_volume *v);
/* volume.c: [text] says hello, whatever the donor was before. */
int volume_hello(struct ps_volume *v, struct tp_conn *c, struct tp_hello *h, uint64_t timeout_ns);
void volume_number_domains(struct ps_volume *v);
void volume_donor_error(struct ps_volume *v, unsigned donor, int error);
void volume_new_borrower(unsigned char id[16]);
/* [text] Opens one connection; checks that the donor is the one known from before. */
int volume_connect(struct ps_volume *v, unsigned donor, struct tp_conn *c, struct tp_hello *h);
/* [text] Opens every control connection and every port's; o: and makes the spill file. */
int volume_connect_all(struct ps_volume *v, const struct ps_options *o);

/* control.c: runs v->call[d] for every bit d of mask, side by side; each gets its status. */
void control_run(struct ps_volume *v, uint64_t mask, uint64_t timeout_ns);
/* The same until the deadline, or less for one that is late where there are members to spare. */
void control_ask(struct ps_volume *v, uint64_t mask);
/* Bits of the donors whose control connection works. */
uint64_t control_live(const struct ps_volume *v);
/* Asks every live donor for its numbers, into donor.stat. 0 or an error; [text] */
int control_stat(struct ps_volume *v);
/*
 * Deals with v->lists in messages of what a donor takes at once. 0; or of the first donor that
 * failed -ENOSPC, -ETIMEDOUT or -EIO. The other donors' lists are dealt with all the same. clone:
 * for TP_CLONE.
 */
int control_lists(struct ps_volume *v, enum tp_kind kind, const struct wire_clone *clone);
/* [text] "donor 'NAME' WHAT: WHY", after control_lists() failed with r. Returns r. */
int control_told(const struct ps_volume *v, int r, const char *what);
/* spill.c: [text] can the options' spill file be? */
int spill_check(const struct ps_options *o);
/* The address of the donor that it is. */
void spill_address(const char *spill, char ret[128]);
/* [text] Makes v->file; donors have said how long a slab is. */
int spill_open(struct ps_volume *v, const struct ps_options *o);
/* "; the spill file ...": how much is left there and why, or "". After control_stat(). */
const char *spill_room(const struct ps_volume *v, char *buf, size_t len);
/* What is known of the donors, for placement; donors that can't be used have no room. */
void volume_place_donors(const struct ps_volume *v, struct place_donor *ret);
struct core_limits volume_limits(const struct tp_hello *h, const struct tp_conn *c);
/* Fills lists.first from lists.count, and zeroes done. */
void lists_lay_out(struct slab_lists *l, unsigned donors);

/* For the maintenance: see core.h. */
int port_read_raw(struct ps_port *p, struct ps_batch *b, uint64_t now_ns);
int port_fill(struct ps_port *p, struct ps_batch *b, unsigned place, uint64_t now_ns);
/* Hands a connection over, to be used from now on; an older offer comes back (or NULL). */
struct tp_conn *port_offer(struct ps_port *p, unsigned donor, struct tp_conn *c,
			   const struct core_limits *limits);

#endif
