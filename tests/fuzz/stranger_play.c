/* SPDX-License-Identifier: MIT */
/*
 * Plays a string of bytes as what strangers send to a server that has a key: hellos, proofs made up
 * or taken from somebody who has the key, frames, noise. They never get a session, a slab, or any
 * byte but challenges and errors; and who has the key gets in, before and after.
 */
#include "play.h"
#include "secure/key.h"
#include "secure/secret.h"
#include "server/session.h"
#include "common/error.h"

#include <endian.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STRANGERS  3u
#define SLABS      4u
#define SLAB_PAGES 2u
#define HEAD       sizeof(struct wire_header)
#define ANSWER     (HEAD + WIRE_AUTH_BYTES)

struct conn {
	struct srv_session session;
	struct srv_out *out;
	uint8_t answer[4096];
	size_t have;
};

static struct srv_lender *lender;
static struct srv_gate *gate;
static struct key_set *keys;
static struct conn friend_conn, stranger[STRANGERS];
static uint8_t heard[WIRE_AUTH_BYTES]; /* a proof that was good once */
static char path[64];

static void start(void)
{
	struct srv_lender_options o = {
		.arena = {.slab_bytes = SLAB_PAGES * WIRE_PAGE_SIZE, .slabs = SLABS, .lazy = true},
		.name = "fuzz",
		.domain = "",
		.threads = 1,
	};

	snprintf(path, sizeof path, "/tmp/infuse-stranger.%d", getpid());
	keys = key_set_create();
	must(keys);
	key_generate(&keys->key[0], (uint64_t)time(NULL));
	keys->count = 1;
	must(!key_write(path, keys));
	must(!srv_gate_open(&(struct srv_gate_options){.key_file = path, .allow_plain = true}, &gate));
	unlink(path);
	must(!srv_lender_open(&o, &lender));
	srv_lender_set_gate(lender, gate);
	friend_conn.out = srv_out_create();
	for (unsigned i = 0; i < STRANGERS; i++)
		stranger[i].out = srv_out_create();
}

static void drain(struct conn *c)
{
	while (!srv_out_empty(c->out)) {
		unsigned count, fds;
		struct iovec *iov = srv_out_next(c->out, &count, &fds);

		must(count && iov->iov_len <= sizeof c->answer - c->have);
		memcpy(c->answer + c->have, iov->iov_base, iov->iov_len);
		c->have += iov->iov_len;
		srv_out_sent(c->out, iov->iov_len);
	}
}

static void feed(struct conn *c, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t used = 0;

	while (used < n && c->session.phase != SRV_CLOSED) {
		used += srv_session_input(&c->session, b + used, n - used, 1, c->out);
		drain(c);
	}
}

static void open_conn(struct conn *c)
{
	srv_session_open(&c->session, lender, srv_lender_counters(lender, 0), false);
	c->have = 0;
}

static void close_conn(struct conn *c)
{
	srv_session_close(&c->session, 1);
	srv_out_clear(c->out);
}

static void make_hello(uint8_t id, uint8_t *to)
{
	struct wire_header h = {.op = htole16(WIRE_HELLO),
				.bytes = htole32(sizeof(struct wire_hello)),
				.tag = htole64(1)};
	struct wire_hello m = {.magic = htole64(WIRE_MAGIC),
			       .major = htole16(WIRE_MAJOR),
			       .minor = htole16(WIRE_MINOR),
			       .minor_min = htole16(WIRE_MINOR),
			       .borrower = {id}};

	memcpy(to, &h, HEAD);
	memcpy(to + HEAD, &m, sizeof m);
}

static void make_proof(const uint8_t proof[WIRE_AUTH_BYTES], uint8_t *to)
{
	struct wire_header h = {.op = htole16(WIRE_AUTH),
				.bytes = htole32(sizeof(struct wire_auth)),
				.tag = htole64(1)};

	memcpy(to, &h, HEAD);
	memcpy(to + HEAD, proof, WIRE_AUTH_BYTES);
}

/* Somebody with the key comes in; what was said is heard. */
static void friend_enters(uint8_t id)
{
	uint8_t hello[HEAD + sizeof(struct wire_hello)], message[ANSWER], own[KDF_KEY_BYTES];
	struct key role;

	open_conn(&friend_conn);
	make_hello(id, hello);
	feed(&friend_conn, hello, sizeof hello);
	must(friend_conn.have == ANSWER);
	must(!key_derive(&keys->key[0], KEY_BORROWER, &role));
	key_borrower(role.secret, hello + HEAD + offsetof(struct wire_hello, borrower), own);
	kdf_hmac(own, sizeof own, friend_conn.answer + HEAD, WIRE_AUTH_BYTES, hello + HEAD,
		 sizeof(struct wire_hello), heard);
	make_proof(heard, message);
	feed(&friend_conn, message, sizeof message);
	must(friend_conn.session.borrower && friend_conn.session.greeted);
	close_conn(&friend_conn);
}

/* Answers of a challenge's or an error's size and kind only. */
static void check_answers(struct conn *c)
{
	size_t at = 0;

	while (at < c->have) {
		struct wire_header h;

		must(c->have - at >= HEAD);
		memcpy(&h, c->answer + at, HEAD);
		must(h.status ? !h.bytes
			      : h.op == htole16(WIRE_AUTH) && le32toh(h.bytes) == WIRE_AUTH_BYTES);
		at += HEAD + le32toh(h.bytes);
	}
	must(at == c->have && c->have <= 2 * ANSWER);
	must(!c->session.borrower && !c->session.greeted && !c->session.nruns);
}

static void step(struct moves *m, struct conn *c)
{
	uint8_t what = take(m), message[HEAD + sizeof(struct wire_hello)] = {0};
	size_t n = sizeof message;

	if (what < 90) {
		make_hello(what < 40 ? 1 : take(m), message);
	} else if (what < 160) {
		n = ANSWER;
		make_proof(heard, message);
		if (what < 120) /* as it was heard, or made up */
			message[HEAD + take(m) % WIRE_AUTH_BYTES] ^= take(m);
	} else {
		struct wire_header h = {.op = htole16(take(m) % 32),
					.bytes = htole32(take(m)),
					.tag = htole64(take(m)),
					.count = htole32(take(m) & 3)};

		memcpy(message, &h, HEAD);
		n = HEAD + le32toh(h.bytes) % (sizeof message - HEAD);
	}
	if (what & 1)
		message[take(m) % n] ^= (uint8_t)(1u << (what >> 1 & 7));
	if (take(m) > 230)
		n = 1 + n / 2;
	feed(c, message, n);
	check_answers(c);
	if (c->session.phase == SRV_CLOSED || take(m) > 240) {
		close_conn(c);
		open_conn(c);
	}
}

unsigned play(const uint8_t *bytes, size_t n)
{
	struct moves m = {bytes, n};
	unsigned frames = 0;

	if (!lender)
		start();
	friend_enters(1);
	for (unsigned i = 0; i < STRANGERS; i++)
		open_conn(&stranger[i]);
	while (m.n) {
		step(&m, &stranger[take(&m) % STRANGERS]);
		frames++;
	}
	for (unsigned i = 0; i < STRANGERS; i++)
		close_conn(&stranger[i]);
	friend_enters(2);
	srv_lend_reap(lender, 1, true);
	must(srv_arena_room(srv_lender_arena(lender)) == SLABS);
	return frames;
}

void play_end(void)
{
	for (unsigned i = 0; i < STRANGERS; i++)
		srv_out_free(stranger[i].out);
	srv_out_free(friend_conn.out);
	srv_lender_close(lender);
	srv_gate_close(gate);
	key_free(keys);
	lender = NULL;
}
