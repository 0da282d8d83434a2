/* SPDX-License-Identifier: MIT */
/*
 * Plays a string of bytes as moves against the server's sessions: frames that are right, frames
 * that are nearly right, noise, partial sends, peers that do not read, and hang-ups. After each
 * string it checks that every answer was well formed, that a bystander's pages are untouched and
 * that no slab was lost.
 */
#include "play.h"
#include "server/reclaim.h"
#include "server/session.h"
#include "common/error.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAYERS    3u /* two connections of one borrower, one of another */
#define SLABS      12u
#define SLAB_PAGES 4u
#define PAGE       WIRE_PAGE_SIZE
#define HANDLES    4u

struct player {
	struct srv_session session;
	struct srv_out *out;
	uint8_t answer[WIRE_MAX_BODY + sizeof(struct wire_header)];
	size_t have;
	bool deaf; /* does not read for now */
	uint8_t id;
};

static struct srv_lender *lender;
static struct player player[PLAYERS], bystander;
/* What each borrower (by its number) was given last; clones count for both. */
static uint64_t handles[4][HANDLES];
static unsigned handle_next;
static uint64_t clock_now = 1;
static uint8_t message[sizeof(struct wire_header) + WIRE_MAX_BODY];

static void start(void)
{
	struct srv_lender_options o = {
		.arena = {.slab_bytes = SLAB_PAGES * PAGE, .slabs = SLABS, .lazy = true},
		.name = "fuzz",
		.domain = "",
		.threads = 1,
	};

	if (srv_lender_open(&o, &lender)) {
		fprintf(stderr, "%s\n", err_text());
		exit(77);
	}
	for (unsigned i = 0; i < PLAYERS; i++)
		player[i].out = srv_out_create();
	bystander.out = srv_out_create();
}

static bool known_error(uint32_t status)
{
	switch (status) {
#define X(name, number, text)                                                                      \
	case WIRE_##name:                                                                          \
		return true;
		WIRE_ERRORS(X)
#undef X
	}
	return false;
}

/* A whole answer is there: is it one that may be? */
static void check_answer(const uint8_t *p, uint8_t id)
{
	struct wire_header h;
	uint32_t count, status, bytes;

	memcpy(&h, p, sizeof h);
	count = le32toh(h.count);
	status = le32toh(h.status);
	bytes = le32toh(h.bytes);
	must(le16toh(h.flags) == WIRE_F_REPLY && !h.epoch);
	must(known_error(status));
	must(!status || (!bytes && !count));
	if (status)
		return;
	switch (le16toh(h.op)) {
	case WIRE_HELLO:
		must(bytes == sizeof(struct wire_welcome));
		break;
	case WIRE_READ:
		must(bytes && bytes % PAGE == 0 && bytes <= WIRE_MAX_PAGES * PAGE);
		break;
	case WIRE_READPART:
		must(bytes && bytes % WIRE_SECTOR == 0 && bytes <= WIRE_MAX_PAGES * PAGE);
		break;
	case WIRE_GENERATION:
		must(count && bytes == count * sizeof(struct wire_generation));
		break;
	case WIRE_GRANT:
	case WIRE_CLONE:
		must(count && bytes == count * sizeof(struct wire_slab));
		for (uint32_t i = 0; i < count; i++) {
			uint64_t slab;

			memcpy(&slab, p + sizeof h + i * sizeof slab, sizeof slab);
			handles[id & 3][handle_next++ % HANDLES] = le64toh(slab);
			if (h.op == htole16(WIRE_CLONE))
				handles[handle_next & 3][handle_next % HANDLES] = le64toh(slab);
		}
		break;
	case WIRE_TOKEN:
		must(bytes == sizeof(struct wire_token));
		break;
	case WIRE_WANTED:
		must(bytes == sizeof(struct wire_wanted) + count * sizeof(struct wire_slab));
		break;
	case WIRE_STAT:
		must(bytes == sizeof(struct wire_stat) + count * sizeof(struct wire_borrower));
		break;
	default:
		must(!bytes);
	}
}

static void take_answers(struct player *pl)
{
	size_t at = 0;

	while (pl->have - at >= sizeof(struct wire_header)) {
		struct wire_header h;

		memcpy(&h, pl->answer + at, sizeof h);
		must(le32toh(h.bytes) <= WIRE_MAX_BODY);
		if (pl->have - at < sizeof h + le32toh(h.bytes))
			break;
		check_answer(pl->answer + at, pl->id);
		at += sizeof h + le32toh(h.bytes);
	}
	memmove(pl->answer, pl->answer + at, pl->have - at);
	pl->have -= at;
}

/* "Sends" what is in out, at most `most` bytes at a time as a slow socket would. */
static void drain(struct player *pl, size_t most)
{
	while (!srv_out_empty(pl->out)) {
		unsigned count, fds;
		struct iovec *iov = srv_out_next(pl->out, &count, &fds);
		size_t sent = 0;

		must(count);
		for (unsigned i = 0; i < count && sent < most; i++) {
			size_t k = iov[i].iov_len < most - sent ? iov[i].iov_len : most - sent;

			if (pl->have + k > sizeof pl->answer)
				k = sizeof pl->answer - pl->have;
			memcpy(pl->answer + pl->have, iov[i].iov_base, k);
			pl->have += k;
			sent += k;
			if (k < iov[i].iov_len)
				break;
		}
		take_answers(pl);
		must(sent);
		srv_out_sent(pl->out, sent);
	}
}

static void hang_up(struct player *pl)
{
	srv_session_close(&pl->session, clock_now);
	srv_out_clear(pl->out);
	pl->have = 0;
	pl->deaf = false;
}

/* Feeds as the event loop does: in place where the session says so. */
static void feed(struct player *pl, const uint8_t *p, size_t n, size_t piece)
{
	while (n && pl->session.phase != SRV_CLOSED) {
		size_t k = piece && piece < n ? piece : n, used = 0;
		struct iovec iov[8];
		unsigned parts = srv_session_direct(&pl->session, iov, 8);

		for (unsigned i = 0; i < parts && used < k; i++) {
			size_t some = iov[i].iov_len < k - used ? iov[i].iov_len : k - used;

			memcpy(iov[i].iov_base, p + used, some);
			used += some;
		}
		if (used)
			srv_session_direct_done(&pl->session, used, clock_now, pl->out);
		else
			used = srv_session_input(&pl->session, p, k, clock_now, pl->out);
		must(used || !srv_out_has_room(pl->out) || pl->session.phase == SRV_CLOSED);
		if (!pl->deaf || !used)
			drain(pl, piece ? piece * 7 : SIZE_MAX);
		p += used;
		n -= used;
	}
}

static size_t header(uint16_t op, uint32_t count, size_t bytes)
{
	struct wire_header h = {.op = htole16(op),
				.count = htole32(count),
				.bytes = htole32((uint32_t)bytes),
				.tag = htole64(clock_now)};

	memcpy(message, &h, sizeof h);
	return sizeof h;
}

/* twist: 0, or which bit of it is wrong. */
static void greet(struct player *pl, uint8_t id, unsigned twist, uint64_t epoch)
{
	struct wire_hello h = {.magic = htole64(WIRE_MAGIC),
			       .major = htole16(WIRE_MAJOR),
			       .minor = htole16(WIRE_MINOR),
			       .minor_min = htole16(WIRE_MINOR - 1),
			       .borrower = {id}};
	size_t at = header(WIRE_HELLO, 0, sizeof h);

	srv_session_open(&pl->session, lender, srv_lender_counters(lender, 0), true);
	((struct wire_header *)(void *)message)->epoch = htole64(epoch);
	memcpy(message + at, &h, sizeof h);
	at += sizeof h;
	message[twist / 8 % at] ^= twist ? (uint8_t)(1u << (twist & 7)) : 0;
	pl->id = id;
	feed(pl, message, at, 0);
}

static uint8_t id_of(unsigned i)
{
	return i < 2 ? 1 : 2;
}

/* Mostly one that is its own. */
static uint64_t pick_handle(struct moves *m, uint8_t id)
{
	uint8_t b = take(m);

	if (b > 245)
		id = b & 3;
	return handles[id & 3][b % HANDLES] ^ (b == 245 ? 1ull << 33 : 0);
}

/* A body that fits the operation, from the moves' bytes. Returns its length. */
static size_t body_of(struct moves *m, uint8_t id, uint16_t op, uint32_t *count)
{
	uint8_t *to = message + sizeof(struct wire_header);
	uint32_t pages = 0;
	size_t at = 0;

	*count = 1 + take(m) % 9 / 3;
	if (op == WIRE_CLONE) {
		struct wire_clone c = {.owner = {(uint8_t)(take(m) % 4)}};

		memcpy(to, &c, sizeof c);
		at = sizeof c;
	}
	if (op == WIRE_GRANT) {
		struct wire_grant g = {.slabs = htole32(take(m) % 16 / 4)};

		*count = 1;
		memcpy(to, &g, sizeof g);
		return sizeof g;
	}
	if (op == WIRE_DRAIN) {
		struct wire_drain drain = {.what = htole32(take(m) % 4)};

		if (drain.what == htole32(WIRE_DRAIN_SOME))
			drain.slabs = htole32(take(m) % 8);
		*count = 1;
		memcpy(to, &drain, sizeof drain);
		return sizeof drain;
	}
	if (op == WIRE_READ || op == WIRE_WRITE || op == WIRE_TRIM) {
		for (uint32_t i = 0; i < *count; i++) {
			uint8_t b = take(m);
			struct wire_seg s = {htole64(pick_handle(m, id)), htole32(b % SLAB_PAGES),
					     htole32(1 + (b >> 4) % SLAB_PAGES)};

			pages += le32toh(s.pages);
			memcpy(to + at, &s, sizeof s);
			at += sizeof s;
		}
		if (op == WIRE_WRITE) {
			memset(to + at, take(m), pages * PAGE);
			at += pages * PAGE;
		}
		return at;
	}
	if (op == WIRE_READPART || op == WIRE_WRITEPART) {
		for (uint32_t i = 0; i < *count; i++) {
			uint8_t b = take(m);
			struct wire_part s = {htole64(pick_handle(m, id)),
					      htole32(b % (SLAB_PAGES * 8 + 1)),
					      htole32(1 + (b >> 5))};

			pages += le32toh(s.sectors);
			memcpy(to + at, &s, sizeof s);
			at += sizeof s;
		}
		if (op == WIRE_WRITEPART) {
			memset(to + at, take(m), pages * WIRE_SECTOR);
			at += pages * WIRE_SECTOR;
		}
		return at;
	}
	if (op == WIRE_GENERATION) {
		for (uint32_t i = 0; i < *count; i++) {
			struct wire_generation g = {htole64(pick_handle(m, id)), htole64(take(m))};

			memcpy(to + at, &g, sizeof g);
			at += sizeof g;
		}
		return at;
	}
	if (op == WIRE_FREE || op == WIRE_CLONE || op == WIRE_MAP) {
		for (uint32_t i = 0; i < *count; i++) {
			uint64_t slab = htole64(pick_handle(m, id));

			memcpy(to + at, &slab, sizeof slab);
			at += sizeof slab;
		}
		return at;
	}
	*count = op == WIRE_STAT || op == WIRE_WANTED ? take(m) : 0;
	return 0;
}

static void send_frame(struct moves *m, struct player *pl)
{
	static const uint8_t ops[] = {WIRE_READ,     WIRE_READ,      WIRE_WRITE, WIRE_WRITE,
				      WIRE_TRIM,     WIRE_GRANT,     WIRE_GRANT, WIRE_FREE,
				      WIRE_CLONE,    WIRE_MAP,       WIRE_STAT,  WIRE_PING,
				      WIRE_READPART, WIRE_WRITEPART, WIRE_TOKEN, WIRE_GENERATION,
				      WIRE_WANTED,   WIRE_DRAIN};
	uint8_t which = take(m), twist = take(m), piece = take(m);
	uint16_t op = which < 240 ? ops[which % sizeof ops]
				  : (uint16_t)(8 + (which & 15) + (take(m) & 16)); /* also goodbye, and what is none */
	uint32_t count;
	size_t bytes = body_of(m, pl->id, op, &count), n;

	n = header(op, count, bytes) + bytes;
	if (twist > 220) /* spoil a byte of the header or of the body's beginning */
		message[take(m) % (n < 200 ? n : 200)] ^= (uint8_t)(1u << (twist & 7));
	if (twist > 200 && twist < 210)
		n -= n > 40 ? 8 : 1; /* the next frame will be out of step */
	feed(pl, message, n, piece < 128 ? 0 : piece);
}

static void send_noise(struct moves *m, struct player *pl)
{
	size_t n = take(m);

	if (n > m->n)
		n = m->n;
	feed(pl, m->p, n, 0);
	m->p += n;
	m->n -= n;
}

/* The bystander has a slab, whose number the others may come to know. */
static uint64_t bystander_start(void)
{
	struct wire_seg s;
	struct wire_grant g = {.slabs = htole32(1)};
	uint64_t slab;
	size_t at;

	greet(&bystander, 9, 0, 0);
	memset(handles, 0, sizeof handles);
	handle_next = 0;
	at = header(WIRE_GRANT, 1, sizeof g);
	memcpy(message + at, &g, sizeof g);
	feed(&bystander, message, at + sizeof g, 0);
	slab = handles[bystander.id & 3][0];
	must(handle_next == 1 && slab);
	s = (struct wire_seg){htole64(slab), 0, htole32(SLAB_PAGES)};
	at = header(WIRE_WRITE, 1, sizeof s + SLAB_PAGES * PAGE);
	memcpy(message + at, &s, sizeof s);
	memset(message + at + sizeof s, 0xb5, SLAB_PAGES * PAGE);
	feed(&bystander, message, at + sizeof s + SLAB_PAGES * PAGE, 0);
	return slab;
}

static void bystander_check(uint64_t slab)
{
	struct wire_seg s = {htole64(slab), 0, htole32(SLAB_PAGES)};
	uint8_t runs[sizeof s];
	struct srv_run run;

	memcpy(runs, &s, sizeof s);
	must(bystander.session.borrower);
	must(!srv_lend_runs(lender, bystander.session.borrower, runs, 1, WIRE_PAGE_SIZE, false, &run));
	for (size_t i = 0; i < run.bytes; i++)
		must(run.mem[i] == 0xb5);
	srv_lend_runs_end(&run, 1);
}

unsigned play(const uint8_t *moves, size_t n)
{
	struct moves m = {moves, n};
	unsigned frames = 0;
	uint64_t slab;

	if (!lender)
		start();
	slab = bystander_start();
	for (unsigned i = 0; i < PLAYERS; i++)
		greet(&player[i], id_of(i), 0, take(&m) & 1);
	while (m.n) {
		unsigned who = take(&m) % PLAYERS;
		uint8_t what = take(&m);
		struct player *pl = &player[who];

		clock_now++;
		srv_reclaim_tick(lender, clock_now);
		if (what == 209)
			srv_reclaim_change(lender, take(&m) % 16 - 8);
		if (what < 210) {
			send_frame(&m, pl);
			frames++;
		} else if (what < 225) {
			send_noise(&m, pl);
			frames++;
		} else if (what < 245) {
			pl->deaf = what & 1;
		} else {
			hang_up(pl);
		}
		if (!pl->session.lender || pl->session.phase == SRV_CLOSED) {
			if (pl->session.lender)
				hang_up(pl);
			greet(pl, id_of(who), what > 250 ? 8u * take(&m) + (what & 7) : 0, take(&m) & 3);
		}
	}
	bystander_check(slab);
	for (unsigned i = 0; i < PLAYERS; i++)
		hang_up(&player[i]);
	hang_up(&bystander);
	srv_lend_reap(lender, clock_now, true);
	srv_reclaim_drain(lender, false);
	srv_reclaim_change(lender, -(int64_t)SLABS);
	must(srv_arena_room(srv_lender_arena(lender)) == SLABS);
	return frames;
}

void play_end(void)
{
	for (unsigned i = 0; i < PLAYERS; i++)
		srv_out_free(player[i].out);
	srv_out_free(bystander.out);
	srv_lender_close(lender);
	lender = NULL;
}
