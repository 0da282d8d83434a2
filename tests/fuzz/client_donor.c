/* SPDX-License-Identifier: MIT */
/* See client_donor.h. */
#include "client_donor.h"

#include <infuse/wire.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define SLAB_PAGES 4u
#define SLABS      64u
#define PAGE       WIRE_PAGE_SIZE
#define HEAD       sizeof(struct wire_header)
#define ROOM       (1u << 18) /* bytes in a socket */
#define PENDING    256u
#define FIRST_SLAB 1000u

struct buffer {
	uint8_t *p; /* ROOM */
	size_t at, end;
};

struct sock {
	bool open, over;
	unsigned port;
	struct buffer in, out; /* of the client: what it may receive, what it sent */
	size_t frame[PENDING]; /* where each request without an answer lies in `out` */
	unsigned frames;
	size_t parsed; /* bytes of out in frames */
	bool greeted;
};

static struct sock sock[DONOR_SOCKETS];
static struct moves *moves;
static uint8_t space[DONOR_SOCKETS][2][ROOM];
static uint8_t mem[SLABS][SLAB_PAGES * PAGE];
static uint64_t granted;
static unsigned sent_frames;
static bool behaving;

void donor_open(struct moves *m)
{
	moves = m;
	granted = 0;
	sent_frames = 0;
	behaving = false;
}

unsigned donor_end(void)
{
	for (unsigned i = 0; i < DONOR_SOCKETS; i++)
		must(!sock[i].open);
	return sent_frames;
}

void donor_behave(void)
{
	behaving = true;
}

unsigned donor_socket(void)
{
	unsigned i = 0;

	while (sock[i].open)
		must(++i < DONOR_SOCKETS);
	sock[i] = (struct sock){.open = true};
	sock[i].in.p = space[i][0];
	sock[i].out.p = space[i][1];
	return i;
}

long donor_connect(unsigned s, unsigned port)
{
	must(sock[s].open);
	sock[s].port = port;
	if (!behaving && take(moves) > 250)
		return -ECONNREFUSED;
	return -EINPROGRESS;
}

void donor_close(unsigned s)
{
	must(sock[s].open);
	sock[s].open = false;
}

/* --- what the client sends --- */

/* A client never breaks the protocol, whatever it was told. */
static void check_request(struct sock *s, const struct wire_header *h)
{
	must(le32toh(h->bytes) <= WIRE_MAX_BODY && h->tag);
	must(!h->flags && !h->status);
	must((le16toh(h->op) == WIRE_HELLO) == !s->greeted);
	must(le32toh(h->count) <= WIRE_MAX_SLABS);
	s->greeted = true;
	sent_frames++;
}

static void parse(struct sock *s)
{
	struct wire_header h;

	while (s->out.end - s->parsed >= HEAD) {
		memcpy(&h, s->out.p + s->parsed, HEAD);
		if (s->out.end - s->parsed < HEAD + le32toh(h.bytes))
			return;
		check_request(s, &h);
		must(s->frames < PENDING);
		s->frame[s->frames++] = s->parsed;
		s->parsed += HEAD + le32toh(h.bytes);
	}
}

long donor_send(unsigned i, const void *p, size_t n)
{
	struct sock *s = &sock[i];
	size_t room = ROOM - s->out.end;

	must(s->open);
	if (s->over)
		return -EPIPE;
	if (!behaving && n > 1 && take(moves) > 240)
		n = 1 + n / 3;
	if (!room)
		return -EAGAIN;
	if (n > room)
		n = room;
	memcpy(s->out.p + s->out.end, p, n);
	s->out.end += n;
	parse(s);
	return (long)n;
}

/* --- what it receives --- */

long donor_receive(unsigned i, void *p, size_t n)
{
	struct sock *s = &sock[i];
	size_t have = s->in.end - s->in.at;

	must(s->open);
	if (!have)
		return s->over ? 0 : -EAGAIN;
	if (n > have)
		n = have;
	if (!behaving && n > 1 && take(moves) > 200)
		n = 1 + (n - 1) / 2;
	memcpy(p, s->in.p + s->in.at, n);
	s->in.at += n;
	if (s->in.at == s->in.end)
		s->in.at = s->in.end = 0;
	return (long)n;
}

short donor_ready(unsigned i, short events)
{
	const struct sock *s = &sock[i];
	short r = 0;

	must(s->open);
	if (s->over || s->in.end > s->in.at)
		r |= POLLIN;
	if (s->over || s->out.end < ROOM)
		r |= POLLOUT;
	return (short)(r & events);
}

static void put(struct sock *s, const void *p, size_t n)
{
	if (s->in.end + n > ROOM) {
		s->over = true; /* a client that does not read for so long is hung up on */
		return;
	}
	memcpy(s->in.p + s->in.end, p, n);
	s->in.end += n;
}

/* --- answers --- */

static uint8_t *memory(uint64_t slab, uint64_t at, uint64_t bytes)
{
	slab -= FIRST_SLAB;
	return slab < SLABS && at + bytes <= sizeof mem[0] ? mem[slab] + at : NULL;
}

/* READ, WRITE and their parts. Returns the answer's bytes; 0 and *status when it is refused. */
static size_t move_data(const struct wire_header *h, const uint8_t *body, uint8_t *to, uint32_t *status)
{
	uint16_t op = le16toh(h->op);
	size_t unit = op == WIRE_READPART || op == WIRE_WRITEPART ? WIRE_SECTOR : PAGE, bytes = 0;
	bool write = op == WIRE_WRITE || op == WIRE_WRITEPART;
	const uint8_t *data = body + le32toh(h->count) * sizeof(struct wire_seg);

	for (uint32_t i = 0; i < le32toh(h->count); i++) {
		struct wire_seg seg;
		size_t n;
		uint8_t *p;

		memcpy(&seg, body + i * sizeof seg, sizeof seg);
		n = le32toh(seg.pages) * unit;
		p = memory(le64toh(seg.slab), le32toh(seg.page) * unit, n);
		if (!p) {
			*status = WIRE_ESLAB;
			return 0;
		}
		memcpy(write ? p : to + bytes, write ? data + bytes : p, n);
		bytes += n;
	}
	return write ? 0 : bytes;
}

static size_t grant(uint32_t n, uint8_t *to, uint32_t *count, uint32_t *status)
{
	if (granted + n > SLABS) {
		*status = WIRE_ENOSPC;
		return 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint64_t slab = htole64(FIRST_SLAB + granted);

		memset(mem[granted++], 0, sizeof mem[0]);
		memcpy(to + i * 8, &slab, 8);
	}
	*count = n;
	return n * 8;
}

static size_t welcome(const struct sock *s, uint8_t *to)
{
	struct wire_welcome w = {
		.magic = htole64(WIRE_MAGIC),
		.major = htole16(WIRE_MAJOR),
		.minor = htole16(WIRE_MINOR),
		.slab_pages = htole32(SLAB_PAGES),
		.boot = {(uint8_t)s->port},
		.slabs_total = htole64(SLABS),
		.slabs_free = htole64(SLABS - granted),
		.max_segs = htole32(WIRE_MAX_SEGS),
		.max_pages = htole32(64),
		.max_slabs = htole32(WIRE_MAX_SLABS),
		.max_inflight = htole32(32),
	};

	memcpy(to, &w, sizeof w);
	return sizeof w;
}

/* The right answer's body. */
static size_t body_of(struct sock *s, const struct wire_header *h, const uint8_t *body, uint8_t *to,
		      uint32_t *count, uint32_t *status)
{
	struct wire_stat st = {.slabs_total = htole64(SLABS),
			       .slabs_free = htole64(SLABS - granted),
			       .slab_pages = htole32(SLAB_PAGES)};
	struct wire_grant g;

	switch (le16toh(h->op)) {
	case WIRE_HELLO:
		return welcome(s, to);
	case WIRE_READ:
	case WIRE_WRITE:
	case WIRE_READPART:
	case WIRE_WRITEPART:
		return move_data(h, body, to, status);
	case WIRE_GRANT:
		memcpy(&g, body, sizeof g);
		return grant(le32toh(g.slabs), to, count, status);
	case WIRE_CLONE:
		return grant(le32toh(h->count), to, count, status);
	case WIRE_STAT:
		memcpy(to, &st, sizeof st);
		return sizeof st;
	case WIRE_GENERATION:
		*count = le32toh(h->count);
		memcpy(to, body, *count * sizeof(struct wire_generation));
		return *count * sizeof(struct wire_generation);
	default:
		return 0;
	}
}

/* Answers the k-th request. spoil: 0, or how. */
static void answer(struct sock *s, unsigned k, uint8_t spoil)
{
	static uint8_t out[HEAD + WIRE_MAX_BODY];
	const uint8_t *frame = s->out.p + s->frame[k];
	uint32_t count = 0, status = 0;
	struct wire_header h, a;
	size_t n;

	memcpy(&h, frame, HEAD);
	n = body_of(s, &h, frame + HEAD, out + HEAD, &count, &status);
	if (spoil == 1) {
		status = take(moves);
		n = status ? n * (status & 1) : n;
	}
	a = (struct wire_header){.op = h.op,
				 .flags = htole16(WIRE_F_REPLY),
				 .bytes = htole32((uint32_t)n),
				 .tag = h.tag,
				 .status = htole32(status),
				 .count = htole32(count)};
	memcpy(out, &a, HEAD);
	if (spoil == 2) /* a bit near the beginning */
		out[take(moves) % (HEAD + n)] ^= (uint8_t)(1u << (take(moves) & 7));
	if (spoil == 3 && n) /* anywhere */
		out[HEAD + (take(moves) * 257u + take(moves)) % n] ^= (uint8_t)(1u << (take(moves) & 7));
	if (spoil == 4)
		n -= n > 8 ? 8 : n;
	put(s, out, HEAD + n);
	if (spoil == 5)
		return; /* and once more, later */
	s->frames--;
	memmove(&s->frame[k], &s->frame[k + 1], (s->frames - k) * sizeof *s->frame);
	if (!s->frames && s->parsed == s->out.end)
		s->parsed = s->out.end = 0;
}

static void notice(struct sock *s)
{
	uint32_t n = take(moves) % 4;
	struct wire_header h = {.op = htole16(WIRE_RECLAIM),
				.count = htole32(n),
				.bytes = htole32(n * 8)};
	uint64_t slab[4] = {htole64(FIRST_SLAB), htole64(FIRST_SLAB + take(moves)), 0, 1};

	put(s, &h, sizeof h);
	put(s, slab, n * 8);
}

static void noise(struct sock *s)
{
	size_t n = take(moves);

	if (n > moves->n)
		n = moves->n;
	put(s, moves->p, n);
	moves->p += n;
	moves->n -= n;
}

static struct sock *pick(uint8_t from)
{
	for (unsigned i = 0; i < DONOR_SOCKETS; i++) {
		struct sock *s = &sock[(from + i) % DONOR_SOCKETS];

		if (s->open && !s->over && s->frames)
			return s;
	}
	return NULL;
}

bool donor_move(void)
{
	struct sock *s = pick(behaving ? 0 : take(moves));
	uint8_t what;

	if (!s)
		return false;
	if (behaving || !moves->n) {
		answer(s, 0, 0);
		return true;
	}
	what = take(moves);
	if (what < 130)
		answer(s, 0, 0);
	else if (what < 190)
		answer(s, take(moves) % s->frames, 0);
	else if (what < 200)
		notice(s);
	else if (what < 206)
		noise(s);
	else if (what < 212)
		s->over = true;
	else if (what < 220)
		return false;
	else
		answer(s, take(moves) % s->frames, (uint8_t)(1 + what % 5));
	return true;
}
