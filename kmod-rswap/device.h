/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the parts of the module share: a device, its slabs and their replicas, its donors, and a
 * request on its way. The files, top down: blk.c (block layer), io.c (a request's way), replica.c
 * and resync.c (who has what), session.c and control.c (donors), transport.h (moving pages).
 *
 * Locks, outer to inner: rswap_devices_lock (mutex: the list, attach, detach), donor->control_lock
 * (mutex), dev->range_lock, dev->map_lock, conn->lock (spinlocks, interrupts off).
 */
#ifndef RSWAP_DEVICE_H
#define RSWAP_DEVICE_H

#include <crypto/hash.h>
#include <infuse/rswap.h>
#include <linux/blk-mq.h>
#include <linux/interval_tree.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched/mm.h>
#include <linux/workqueue.h>
#include "transport.h"

#define RSWAP_PAGE_SHIFT 12
#define RSWAP_PAGE_SIZE  (1u << RSWAP_PAGE_SHIFT)
#define RSWAP_IO_PAGES   256u /* 1 MiB: the largest request */
#define RSWAP_MAX_QUEUES 8u

/* --- pages (data.c): eight bytes each; contents hash to anything but these --- */
#define RSWAP_HASH_ZERO  0ull /* zeros; donors hold nothing of interest */
#define RSWAP_HASH_STALE 1ull /* zeros; donors hold old bytes */
#define RSWAP_HASH_LOST  2ull /* nobody knows: an error until it is written */

/* --- slabs (replica.c) --- */
enum rswap_replica_state {
	RSWAP_NONE,     /* nothing there */
	RSWAP_DROPPED,  /* missed a write: never read again; the slab waits to be freed */
	RSWAP_BUILDING, /* gets writes, is not complete */
	RSWAP_LIVE,     /* has every acknowledged write */
};

struct rswap_replica {
	u64 handle;
	u64 remote_addr; /* the transport's */
	u32 rkey;
	u8 donor;
	u8 state;
};

struct rswap_slab {
	struct rswap_replica r[RSWAP_MAX_REPLICAS];
};

/* --- a request --- */
enum rswap_kind {
	RSWAP_READ,
	RSWAP_WRITE,
	RSWAP_TRIM,   /* discard: zeros, and the donors' memory is given back */
	RSWAP_ZEROES, /* zeros, the memory stays */
};

struct rswap_io {
	struct rswap_device *dev;
	struct bio *bio; /* the data; NULL: none */
	void (*end)(struct rswap_io *io);
	void *owner; /* end()'s */
	u64 page;    /* all that is asked for, and locked */
	u32 pages;
	u8 kind;
	u8 queue;
	bool shared;       /* range lock: reads share */
	bool held;         /* the caller has the range already */
	bool more;         /* another request follows at once */
	bool give_up;      /* waited long enough */
	bool started;      /* pages were looked at */
	u8 tried;          /* READ: bit a replica that was asked in vain */
	u8 messages;       /* under way or done in this round */
	s8 only;           /* resync: the one replica to write to; or RSWAP_ALL */
	s8 from;           /* READ: the replica that is asked */
	int status;        /* 0 or the last error; READ: todo says which pages */
	u64 at;            /* TRIM: where the piece under way begins */
	u32 piece;         /* and its length */
	unsigned long since; /* jiffies: when it came */
	u64 began_ns;      /* for the tracepoints */
	atomic_t pending;  /* messages without an answer, and one for who sends them */
	unsigned long todo[BITS_TO_LONGS(RSWAP_IO_PAGES)]; /* pages that must still move */
	unsigned long wrong[BITS_TO_LONGS(RSWAP_IO_PAGES)]; /* came back wrong from some replica */
	unsigned long lost[BITS_TO_LONGS(RSWAP_IO_PAGES)];  /* READ: there is nothing to ask for */
	u8 wrong_from;     /* bit a replica */

	struct interval_tree_node range; /* range.c */
	bool granted;
	struct list_head link; /* waits for its range, or for a donor */
	unsigned long expires; /* in dev->stalled */
	struct work_struct work;
	u8 msgs[] __aligned(8); /* RSWAP_MAX_REPLICAS messages of dev->msg_bytes */
};

/* --- donors (session.c) --- */
enum rswap_donor_state {
	RSWAP_DONOR_DOWN, /* to be connected */
	RSWAP_DONOR_UP,
	RSWAP_DONOR_FAILING, /* its connections are being closed */
	RSWAP_DONOR_STOPPED,
};

struct rswap_donor {
	struct rswap_device *dev;
	unsigned int index;
	const struct rswap_transport *t;
	char address[RSWAP_TEXT_BYTES];
	char name[RSWAP_TEXT_BYTES];
	char domain[RSWAP_TEXT_BYTES];
	struct sockaddr_storage sockaddr, data_sockaddr;
	int sockaddr_len, data_sockaddr_len;
	u8 boot[16];                 /* of the slabs in the map */
	struct wire_welcome welcome; /* the last one */
	bool has_welcome;

	int state; /* enum; changed under dev->map_lock */
	int error; /* why it is down, a negative errno */
	unsigned long down_since; /* jiffies */
	unsigned int backoff_ms;
	struct delayed_work work; /* connects; pings */
	struct work_struct fail_work;
	struct rswap_conn *conn[RSWAP_MAX_QUEUES];

	struct mutex control_lock;
	struct socket *control;
	u64 control_tag;
	u64 epoch; /* of the connections there are: each time all of them are new */
};

/* --- a device --- */
struct rswap_device {
	struct list_head link; /* rswap_devices */
	char name[RSWAP_NAME_BYTES];
	char volume[WIRE_NAME_BYTES];
	unsigned int number;
	u32 portid; /* of who makes it; 0 once it is started */
	u8 borrower[16];
	struct crypto_shash *hmac; /* with the borrower's key in it; NULL: no key */
	u64 epoch;
	unsigned long deadline; /* jiffies */
	u32 slab_pages, slab_shift, replicas;
	u64 slabs, pages;
	struct rswap_slab *slab;
	u64 *hash;
	u64 mapped; /* slabs that MAP_ADD told */
	atomic_t told; /* counts what transports were told of */

	spinlock_t map_lock; /* slabs, states, stalled */
	struct list_head stalled; /* requests none of whose donors is there */
	u32 wakes;                /* counts rswap_io_wake() */
	u64 degraded, lost;
	bool told_degraded;

	spinlock_t range_lock; /* range.c */
	struct rb_root_cached ranges;
	struct list_head range_waiters;

	struct rswap_donor *donor[RSWAP_MAX_DONORS];
	unsigned int donors, queues;
	unsigned long batched; /* bit a queue: messages wait for a kick */
	size_t msg_bytes; /* of one message with the transports' part */
	wait_queue_head_t changed; /* a donor's state */

	struct gendisk *disk;
	struct blk_mq_tag_set tags;
	bool started, stopping;
	unsigned int openers; /* open_lock */
	struct mutex open_lock;

	struct delayed_work tick; /* deadlines */
	struct delayed_work resync_work;
	struct rswap_resync *resync;
	u64 __percpu *count;
};

#define rswap_count(dev, name, n) this_cpu_add((dev)->count[RSWAP_COUNT_##name], (n))
u64 rswap_counter(const struct rswap_device *dev, unsigned int i);

/* --- main.c --- */
extern bool rswap_careless;
extern struct workqueue_struct *rswap_io_wq, *rswap_control_wq, *rswap_connect_wq, *rswap_sync_wq;

/*
 * Around everything that may take memory on the way of a page: nothing in between writes other
 * pages out to get some, and the kernel's reserves may be used.
 */
static inline unsigned int rswap_reclaim_enter(void)
{
	return rswap_careless ? 0 : memalloc_noreclaim_save();
}

static inline void rswap_reclaim_leave(unsigned int flags)
{
	if (!rswap_careless)
		memalloc_noreclaim_restore(flags);
}

/* --- device.c --- */
extern struct mutex rswap_devices_lock;
extern struct list_head rswap_devices;
struct rswap_device *rswap_device_find(const char *name); /* under the lock */
struct rswap_device *rswap_device_create(const char *name, u64 slabs, u32 slab_pages,
					 u32 replicas);
/* Both under the lock; block, bounded. */
int rswap_device_start(struct rswap_device *dev);
int rswap_device_detach(struct rswap_device *dev, bool force);
void rswap_device_event(struct rswap_device *dev, const char *event,
			const struct rswap_donor *d, u64 first, u64 slabs);
const char *rswap_device_state(const struct rswap_device *dev);

/* --- blk.c --- */
int rswap_blk_init(void);
void rswap_blk_exit(void);
int rswap_disk_create(struct rswap_device *dev);
int rswap_disk_add(struct rswap_device *dev);
void rswap_disk_remove(struct rswap_device *dev);

/* --- io.c --- */
/* Takes the request's range and starts it; process context. io->end() is called once. */
void rswap_io_start(struct rswap_io *io);
void rswap_io_init(struct rswap_io *io, struct rswap_device *dev);
/* Requests that waited for a donor go on. */
void rswap_io_wake(struct rswap_device *dev);
/* Ends requests that have waited too long. */
void rswap_io_expire(struct rswap_device *dev, bool all);

static inline struct rswap_msg *rswap_io_msg(struct rswap_io *io, unsigned int i)
{
	return (struct rswap_msg *)(io->msgs + i * io->dev->msg_bytes);
}

static inline size_t rswap_io_bytes(const struct rswap_device *dev)
{
	return sizeof(struct rswap_io) + RSWAP_MAX_REPLICAS * dev->msg_bytes;
}

/* --- data.c --- */
/* WRITE: hashes the pages into the table; todo gets those that are not zeros. */
void rswap_data_hash(struct rswap_io *io);
/* READ: fills pages of zeros; todo gets those that must come, lost those that can't. */
void rswap_data_look(struct rswap_io *io);
/* Compares what a READ brought; good pages leave todo. Returns how many were wrong. */
u32 rswap_data_check(struct rswap_io *io, struct rswap_msg *m);
/* After a write that nobody has: the pages of todo are lost. */
void rswap_data_lose(struct rswap_io *io);
/* Marks pages as zeros. True if some had bytes at the donors. */
bool rswap_data_forget(struct rswap_device *dev, u64 page, u32 pages, bool stale);

/* --- range.c --- */
/* True: the range is held. False: granted later, and io->work is queued then. */
bool rswap_range_take(struct rswap_io *io);
void rswap_range_give(struct rswap_io *io);

/* --- replica.c --- */
struct rswap_choice {
	struct rswap_replica r[RSWAP_MAX_REPLICAS];
	u8 index[RSWAP_MAX_REPLICAS];
	struct rswap_donor *donor[RSWAP_MAX_REPLICAS];
	unsigned int count;
	bool wait;             /* nobody is there, but may come back until */
	unsigned long until;   /* then */
};

/* The one to read from, not among `tried`. */
void rswap_replica_for_read(struct rswap_device *dev, u64 slab, u8 tried, struct rswap_choice *ret);
/*
 * All that must have a write: replicas whose donors are not there leave the set, unless nobody
 * would be left. only: a replica, or one of
 */
#define RSWAP_ALL   -1
#define RSWAP_THERE -2 /* those that are there; the others stay in the set */
void rswap_replica_for_write(struct rswap_device *dev, u64 slab, int only,
			     struct rswap_choice *ret);
/*
 * The messages of a write came back. True: at least one complete replica has it, and those that
 * have not are out of the set. False: nobody has it; what is left of the set stays as it is, but
 * for replicas that their donor does not know any more.
 */
bool rswap_replica_settle(struct rswap_io *io);
/* A donor refused to read: it does not have the slab, so the replica is gone. */
void rswap_replica_refused(struct rswap_device *dev, u64 slab, const struct rswap_msg *m);
/* A donor that was started anew has nothing of what it held. */
void rswap_replica_forget_donor(struct rswap_donor *d);
void rswap_replica_count(struct rswap_device *dev);

/* --- resync.c --- */
int rswap_resync_open(struct rswap_device *dev);
void rswap_resync_close(struct rswap_device *dev);
void rswap_resync_kick(struct rswap_device *dev);
/* Pages came back wrong from replica r, and right from another. Any context. */
void rswap_resync_repair(struct rswap_device *dev, u64 page, unsigned int r);

/* --- session.c --- */
const struct rswap_transport *rswap_transport_find(const char *name);
int rswap_donor_create(struct rswap_device *dev, unsigned int index,
		       const struct rswap_transport *t, struct rswap_donor **ret);
int rswap_donor_alloc_conns(struct rswap_donor *d);
void rswap_donor_start(struct rswap_donor *d);
/* Says goodbye, or just hangs up; closes; blocks, bounded. */
void rswap_donor_stop(struct rswap_donor *d, bool goodbye);
void rswap_donor_free(struct rswap_donor *d);
void rswap_donor_fail(struct rswap_donor *d, int error);
/* Ends connections whose oldest message is too old. */
void rswap_donor_tick(struct rswap_donor *d);
void rswap_conn_submit(struct rswap_donor *d, struct rswap_msg *m, unsigned int queue, bool more);
const char *rswap_donor_state(const struct rswap_donor *d);
static inline bool rswap_donor_up(const struct rswap_donor *d)
{
	return READ_ONCE(d->state) == RSWAP_DONOR_UP;
}

/* --- control.c --- */
int rswap_control_open(struct rswap_donor *d);
void rswap_control_close(struct rswap_donor *d);
int rswap_control_grant(struct rswap_donor *d, u64 *handle);
int rswap_control_free(struct rswap_donor *d, u64 handle);
void rswap_socket_close(struct socket *s);
/* A connected socket to the donor, bounded by the device's deadline. */
int rswap_socket_open(struct rswap_donor *d, struct socket **ret);
/* HELLO and what follows on a blocking socket; fills *w. */
int rswap_socket_hello(struct rswap_donor *d, struct socket *s, struct wire_welcome *w);
const char *rswap_wire_text(u32 error);

/* --- auth.c --- */
int rswap_auth_open(const u8 key[32], struct crypto_shash **ret);
void rswap_auth_close(struct crypto_shash *hmac); /* takes NULL */
int rswap_auth_proof(struct crypto_shash *hmac, const struct wire_auth *challenge,
		     const struct wire_hello *hello, struct wire_auth *proof);

/* --- netlink.c, sysfs.c --- */
int rswap_netlink_init(void);
void rswap_netlink_exit(void);
void rswap_netlink_event(struct rswap_device *dev, const char *event,
			 const struct rswap_donor *d, u64 first, u64 slabs);
extern const struct attribute_group *rswap_disk_groups[];

#define rswap_log(dev, level, fmt, ...)                                                            \
	pr_##level##_ratelimited("%s: " fmt, (dev)->name, ##__VA_ARGS__)

#endif
