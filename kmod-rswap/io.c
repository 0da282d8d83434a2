// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A request's way: take its range, look at its pages, then rounds of messages until nothing is left
 * to do. A read asks one replica a round, and the next one when that fails; a write goes to the
 * whole set at once and is done when every replica still in the set has it. Rounds start in
 * process context; a round in which nothing went wrong ends where its last answer came in, which
 * may be a softirq, so a request that needs one message wakes nobody but its owner.
 */
#include <linux/jiffies.h>
#include "device.h"
#include "trace.h"

static void round_start(struct rswap_io *io);
static bool settle(struct rswap_io *io);

/* A request is given up after so long, whatever donors promise. */
static unsigned long limit(const struct rswap_io *io)
{
	return io->since + io->dev->deadline * (io->dev->replicas + 1);
}

static void io_work(struct work_struct *work)
{
	struct rswap_io *io = container_of(work, struct rswap_io, work);

	if (!io->started) {
		io->started = true;
		if (io->kind == RSWAP_READ)
			rswap_data_look(io);
		else if (io->kind == RSWAP_WRITE)
			rswap_data_hash(io);
	}
	round_start(io);
}

void rswap_io_init(struct rswap_io *io, struct rswap_device *dev)
{
	memset(io, 0, sizeof *io);
	io->dev = dev;
	io->only = RSWAP_ALL;
	INIT_WORK(&io->work, io_work);
	INIT_LIST_HEAD(&io->link);
}

void rswap_io_start(struct rswap_io *io)
{
	io->since = jiffies;
	io->began_ns = ktime_get_ns();
	trace_rswap_submit(io);
	if (io->held || rswap_range_take(io))
		io_work(&io->work);
}

static void complain(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	const struct rswap_slab *s = &dev->slab[io->page >> dev->slab_shift];
	const struct rswap_donor *d = dev->donor[s->r[0].donor];
	u32 n = bitmap_weight(io->todo, io->pages);

	for (u32 i = 0; i < dev->replicas; i++)
		if (READ_ONCE(s->r[i].state) == RSWAP_LIVE)
			d = dev->donor[s->r[i].donor];
	if (io->kind == RSWAP_READ && bitmap_intersects(io->todo, io->lost, io->pages))
		rswap_log(dev, err, "%u of %u pages from page %llu on were lost with donor '%s'\n",
			  n, io->pages, io->page, d->address);
	else if (io->status == -EBADMSG)
		rswap_log(dev, err, "%u of %u pages from page %llu on come back wrong from donor '%s'\n",
			  n, io->pages, io->page, d->address);
	else
		rswap_log(dev, err, "%u pages from page %llu on can't be %s: donor '%s' %s (%d)\n",
			  n ? n : io->pages, io->page, io->kind == RSWAP_READ ? "read" : "written",
			  d->address, rswap_donor_up(d) ? "does not serve them" : "is gone",
			  rswap_donor_up(d) ? io->status : READ_ONCE(d->error));
}

static void repair_wrong(struct rswap_io *io)
{
	u32 i;

	for (u32 r = 0; r < io->dev->replicas; r++) {
		if (!(io->wrong_from & 1u << r))
			continue;
		for_each_set_bit(i, io->wrong, io->pages)
			if (!test_bit(i, io->todo))
				rswap_resync_repair(io->dev, io->page + i, r);
	}
}

static void finish(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;

	if (io->kind == RSWAP_READ) {
		bitmap_or(io->todo, io->todo, io->lost, io->pages);
		io->status = bitmap_empty(io->todo, io->pages) ? 0 : io->status ?: -EIO;
		if (io->wrong_from)
			repair_wrong(io);
	} else if (io->kind == RSWAP_WRITE && io->status && !io->held) {
		rswap_data_lose(io);
	}
	if (io->status && !io->held) {
		rswap_count(dev, errors, 1);
		complain(io);
	}
	trace_rswap_complete(io, ktime_get_ns() - io->began_ns);
	if (!io->held)
		rswap_range_give(io);
	io->end(io);
}

/* --- rounds --- */

/* Runs of pages that must move become segments. Returns false when there are none. */
static bool fill(struct rswap_io *io, struct rswap_msg *m, const struct rswap_replica *r)
{
	u32 base = io->page & (io->dev->slab_pages - 1), i = 0;

	m->segs = 0;
	m->pages = 0;
	m->first = base;
	while (m->segs < RSWAP_MAX_SEGS && (i = find_next_bit(io->todo, io->pages, i)) < io->pages) {
		u32 end = find_next_zero_bit(io->todo, io->pages, i);

		/* A write has all it must send in one message: what lies between are zeros. */
		if (m->segs == RSWAP_MAX_SEGS - 1 && io->kind == RSWAP_WRITE)
			end = find_last_bit(io->todo, io->pages) + 1;
		m->out.seg[m->segs++] = (struct wire_seg){
			.slab = cpu_to_le64(r->handle),
			.page = cpu_to_le32(base + i),
			.pages = cpu_to_le32(end - i),
		};
		m->pages += end - i;
		i = end;
	}
	return m->segs;
}

static void prepare(struct rswap_io *io, unsigned int i, u8 op, const struct rswap_choice *c)
{
	struct rswap_msg *m = rswap_io_msg(io, i);
	u32 bytes;

	m->io = io;
	m->donor = c->donor[i];
	m->op = op;
	m->replica = c->index[i];
	m->building = c->r[i].state == RSWAP_BUILDING;
	m->handle = c->r[i].handle;
	m->remote_addr = c->r[i].remote_addr;
	m->rkey = c->r[i].rkey;
	m->status = 0;
	m->wire = 0;
	if (op == WIRE_TRIM) {
		m->segs = 1;
		m->pages = io->piece;
		m->first = io->at & (io->dev->slab_pages - 1);
		m->out.seg[0] = (struct wire_seg){
			.slab = cpu_to_le64(m->handle),
			.page = cpu_to_le32(m->first),
			.pages = cpu_to_le32(io->piece),
		};
	} else {
		fill(io, m, &c->r[i]);
	}
	bytes = m->segs * sizeof(struct wire_seg);
	if (op == WIRE_WRITE)
		bytes += m->pages << RSWAP_PAGE_SHIFT;
	m->out.head = (struct wire_header){
		.op = cpu_to_le16(op),
		.bytes = cpu_to_le32(bytes),
		.count = cpu_to_le32(m->segs),
	};
	if (op == WIRE_WRITE)
		rswap_count(io->dev, pages_written, m->pages);
}

static void send(struct rswap_io *io, u8 op, const struct rswap_choice *c)
{
	unsigned int n = c->count;
	bool more = io->more;

	io->more = false;
	io->messages = n;
	for (unsigned int i = 0; i < n; i++)
		prepare(io, i, op, c);
	rswap_count(io->dev, messages, n);
	atomic_set(&io->pending, n + 1);
	for (unsigned int i = 0; i < n; i++) {
		struct rswap_msg *m = rswap_io_msg(io, i);

		rswap_conn_submit(m->donor, m, io->queue, more);
	}
	/* Its answers may all be in; then the end of the round is ours. */
	if (atomic_dec_and_test(&io->pending) && !settle(io))
		queue_work(rswap_io_wq, &io->work);
}

static void fail(struct rswap_io *io, int status)
{
	if (!io->status)
		io->status = status;
	finish(io);
}

/* Nobody can be asked: waits until a donor comes back, or `until`. */
static void park(struct rswap_io *io, const struct rswap_choice *c, u32 wakes)
{
	struct rswap_device *dev = io->dev;
	unsigned long flags, last = limit(io);
	bool parked = false;

	io->more = false; /* those that come behind it are not waited with */
	if (!c->wait || io->give_up || dev->stopping || time_after_eq(jiffies, last)) {
		fail(io, -EIO);
		return;
	}
	spin_lock_irqsave(&dev->map_lock, flags);
	if (dev->wakes == wakes) {
		io->expires = time_before(c->until, last) ? c->until : last;
		list_add_tail(&io->link, &dev->stalled);
		parked = true;
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
	if (!parked)
		queue_work(rswap_io_wq, &io->work);
}

static void round_read(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	u32 wakes = READ_ONCE(dev->wakes);
	struct rswap_choice c;

	if (bitmap_empty(io->todo, io->pages)) {
		finish(io);
		return;
	}
	rswap_replica_for_read(dev, io->page >> dev->slab_shift, io->tried, &c);
	if (!c.count) {
		park(io, &c, wakes);
		return;
	}
	io->from = c.index[0];
	send(io, WIRE_READ, &c);
}

static void round_write(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	u32 wakes = READ_ONCE(dev->wakes);
	struct rswap_choice c;

	if (bitmap_empty(io->todo, io->pages)) {
		finish(io);
		return;
	}
	rswap_replica_for_write(dev, io->page >> dev->slab_shift, io->only, &c);
	if (!c.count)
		park(io, &c, wakes);
	else
		send(io, WIRE_WRITE, &c);
}

/*
 * Slab by slab. The pages are zeros from here on, whatever becomes of the messages, so nobody is
 * waited for: a donor that is not there keeps bytes that nobody will ask for.
 */
static void round_trim(struct rswap_io *io)
{
	struct rswap_device *dev = io->dev;
	u64 end = io->page + io->pages;
	struct rswap_choice c;

	for (io->at = io->piece ? io->at + io->piece : io->page; io->at < end;
	     io->at += io->piece) {
		u64 slab_end = (io->at | (dev->slab_pages - 1)) + 1;

		io->piece = min3(end - io->at, slab_end - io->at, (u64)WIRE_MAX_PAGES);
		if (!rswap_data_forget(dev, io->at, io->piece, io->kind == RSWAP_ZEROES) ||
		    io->kind == RSWAP_ZEROES)
			continue;
		rswap_replica_for_write(dev, io->at >> dev->slab_shift, RSWAP_THERE, &c);
		if (!c.count)
			continue;
		send(io, WIRE_TRIM, &c);
		return;
	}
	finish(io);
}

static void round_start(struct rswap_io *io)
{
	switch (io->kind) {
	case RSWAP_READ:
		round_read(io);
		break;
	case RSWAP_WRITE:
		round_write(io);
		break;
	default:
		round_trim(io);
	}
}

/* --- the end of a round --- */

static void note_failure(struct rswap_io *io, const struct rswap_msg *m)
{
	struct rswap_device *dev = io->dev;

	rswap_count(dev, failovers, 1);
	trace_rswap_failover(io, m);
	if (m->status != -EREMOTEIO)
		return;
	rswap_count(dev, refused, 1);
	rswap_log(dev, err, "donor '%s' refuses slab %llu: %s\n", m->donor->address,
		  io->page >> dev->slab_shift, rswap_wire_text(m->wire));
}

/* Each returns true when the request is finished. */
static bool settle_read(struct rswap_io *io)
{
	struct rswap_msg *m = rswap_io_msg(io, 0);

	if (!m->status && !rswap_data_check(io, m)) {
		io->messages = 0;
		if (!bitmap_empty(io->todo, io->pages))
			return false;
		finish(io);
		return true;
	}
	io->messages = 0;
	if (!m->status) {
		io->status = -EBADMSG;
		io->tried |= 1u << io->from;
		io->wrong_from |= 1u << io->from;
		rswap_log(io->dev, warn, "donor '%s' gave wrong bytes for slab %llu\n",
			  m->donor->address, io->page >> io->dev->slab_shift);
	} else {
		io->status = m->status;
	}
	note_failure(io, m);
	if (m->status == -EREMOTEIO) {
		io->tried |= 1u << io->from;
		rswap_replica_refused(io->dev, io->page >> io->dev->slab_shift, m);
	}
	return false;
}

static bool settle_write(struct rswap_io *io)
{
	bool failed = false, had;

	for (unsigned int i = 0; i < io->messages; i++) {
		const struct rswap_msg *m = rswap_io_msg(io, i);

		if (!m->status)
			continue;
		failed = true;
		note_failure(io, m);
		if (!io->status)
			io->status = m->status;
	}
	had = !failed || rswap_replica_settle(io);
	io->messages = 0;
	if (io->kind == RSWAP_TRIM)
		io->status = 0;
	if (io->kind == RSWAP_TRIM || !had)
		return false;
	io->status = 0;
	finish(io);
	return true;
}

/* False: another round must follow. Any context. */
static bool settle(struct rswap_io *io)
{
	return io->kind == RSWAP_READ ? settle_read(io) : settle_write(io);
}

void rswap_msg_done(struct rswap_msg *m, int status, u32 wire)
{
	struct rswap_conn *c = m->conn;
	struct rswap_io *io = m->io;
	unsigned long flags;

	if (c) {
		spin_lock_irqsave(&c->lock, flags);
		list_del(&m->pending);
		if (!status || status == -EREMOTEIO)
			c->answered = jiffies;
		spin_unlock_irqrestore(&c->lock, flags);
	}
	m->status = status;
	m->wire = wire;
	if (!atomic_dec_and_test(&io->pending))
		return;
	if (!settle(io))
		queue_work(rswap_io_wq, &io->work);
}

/* --- requests that wait for a donor --- */

void rswap_io_wake(struct rswap_device *dev)
{
	struct rswap_io *io, *next;
	unsigned long flags;

	spin_lock_irqsave(&dev->map_lock, flags);
	WRITE_ONCE(dev->wakes, dev->wakes + 1);
	list_for_each_entry_safe(io, next, &dev->stalled, link) {
		list_del_init(&io->link);
		queue_work(rswap_io_wq, &io->work);
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
}

void rswap_io_expire(struct rswap_device *dev, bool all)
{
	struct rswap_io *io, *next;
	unsigned long flags;

	spin_lock_irqsave(&dev->map_lock, flags);
	list_for_each_entry_safe(io, next, &dev->stalled, link) {
		if (!all && time_before(jiffies, io->expires))
			continue;
		list_del_init(&io->link);
		io->give_up = true;
		queue_work(rswap_io_wq, &io->work);
	}
	spin_unlock_irqrestore(&dev->map_lock, flags);
}
