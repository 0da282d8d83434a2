/* SPDX-License-Identifier: MIT */
/*
 * A server with a key and plain connections: AUTH. Who has no key, the wrong one, an old proof or another
 * borrower's gets an error or nothing, never a session.
 */
#include "common/error.h"
#include "secure/key.h"
#include "secure/secret.h"
#include "server_client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct key_set *keys;
static char path[64];
static uint64_t tag; /* of the last hello */

/* A file with a key; the server reads it. */
static void make_key(void)
{
	snprintf(path, sizeof path, "/tmp/infuse-auth.%d", getpid());
	keys = key_set_create();
	key_generate(&keys->key[0], (uint64_t)time(NULL));
	keys->count = 1;
	cr_assert_eq(key_write(path, keys), 0, "%s", err_text());
}

static void start(struct donor *d, bool plain)
{
	const char *const more[] = {"--key", path, plain ? "--allow-plain" : NULL, NULL};

	make_key();
	donor_start(d, more);
}

static void stop(struct donor *d)
{
	donor_stop(d);
	unlink(path);
	key_free(keys);
}

static void prove(const struct key *k, const struct wire_hello *h, const struct wire_auth *challenge,
		  struct wire_auth *proof)
{
	uint8_t own[KDF_KEY_BYTES];
	struct key role;

	cr_assert_eq(key_derive(k, KEY_BORROWER, &role), 0);
	key_borrower(role.secret, h->borrower, own);
	kdf_hmac(own, sizeof own, challenge->word, sizeof challenge->word, h, sizeof *h,
		 proof->word);
}

/* Says hello and takes the challenge. Returns the status that came instead of one. */
static uint32_t say_hello(int fd, const struct wire_hello *h, struct wire_auth *challenge)
{
	struct wire_header m = client_header(WIRE_HELLO, 0, sizeof *h), a;

	client_send(fd, &m, sizeof m);
	client_send(fd, h, sizeof *h);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.tag, m.tag);
	tag = m.tag;
	if (a.status) {
		cr_assert_eq(le16toh(a.op), WIRE_HELLO);
		cr_assert(client_closed(fd));
		return le32toh(a.status);
	}
	cr_assert_eq(le16toh(a.op), WIRE_AUTH);
	cr_assert_eq(le32toh(a.bytes), sizeof *challenge);
	cr_assert(client_receive(fd, challenge, sizeof *challenge));
	return WIRE_OK;
}

static uint32_t show(int fd, uint64_t with, const struct wire_auth *proof)
{
	struct wire_header m = client_header(WIRE_AUTH, 0, sizeof *proof), a;
	struct wire_welcome w;

	m.tag = with;
	client_send(fd, &m, sizeof m);
	client_send(fd, proof, sizeof *proof);
	if (!client_receive(fd, &a, sizeof a))
		return UINT32_MAX;
	cr_assert_eq(le16toh(a.op), WIRE_HELLO);
	cr_assert_eq(a.tag, with);
	if (a.status) {
		cr_assert(client_closed(fd));
		return le32toh(a.status);
	}
	cr_assert(client_receive(fd, &w, sizeof w));
	cr_assert_eq(le64toh(w.magic), WIRE_MAGIC);
	return WIRE_OK;
}

static uint32_t come(struct donor *d, unsigned id, const struct key *k, int *ret)
{
	struct wire_hello h = client_hello(id);
	struct wire_auth challenge, proof;
	uint32_t status;

	*ret = client_connect(d, false);
	status = say_hello(*ret, &h, &challenge);
	if (status)
		return status;
	prove(k, &h, &challenge, &proof);
	return show(*ret, tag, &proof);
}

Test(server_auth, lets_in_who_has_the_key)
{
	struct key borrower, stranger;
	struct donor d;
	uint64_t slab;
	int fd, other;

	start(&d, true);
	cr_assert_eq(come(&d, 7, &keys->key[0], &fd), WIRE_OK);
	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	cr_assert_eq(client_ask(fd, WIRE_AUTH, 0, "0123456789abcdef0123456789abcdef", 32, NULL, NULL),
		     WIRE_EOP);
	cr_assert_eq(client_ask(fd, WIRE_PING, 0, NULL, 0, NULL, NULL), WIRE_OK);
	/* The role's key is enough. */
	cr_assert_eq(key_derive(&keys->key[0], KEY_BORROWER, &borrower), 0);
	cr_assert_eq(come(&d, 7, &borrower, &other), WIRE_OK);
	cr_assert_eq(client_free(other, &slab, 1), WIRE_OK);
	close(other);
	key_generate(&stranger, 1);
	cr_assert_eq(come(&d, 7, &stranger, &other), WIRE_EAUTH);
	cr_assert_eq(client_ask(fd, WIRE_PING, 0, NULL, 0, NULL, NULL), WIRE_OK);
	stop(&d);
}

Test(server_auth, keeps_those_without_a_key_out)
{
	struct wire_hello h = client_hello(3);
	struct wire_auth challenge;
	struct wire_welcome w;
	struct donor d;
	size_t n = sizeof w;
	int fd;

	start(&d, true);
	/* No borrower; an old protocol. */
	h = client_hello(0);
	cr_assert_eq(say_hello(client_connect(&d, false), &h, &challenge), WIRE_EAUTH);
	h = client_hello(3);
	h.minor = h.minor_min = htole16(1);
	cr_assert_eq(say_hello(client_connect(&d, false), &h, &challenge), WIRE_EAUTH);
	/* Anything but the proof ends it. */
	h = client_hello(3);
	fd = client_connect(&d, false);
	cr_assert_eq(say_hello(fd, &h, &challenge), WIRE_OK);
	client_send(fd, &(struct wire_header){.op = htole16(WIRE_STAT), .tag = htole64(9)},
		    sizeof(struct wire_header));
	cr_assert(client_closed(fd));
	fd = client_connect(&d, false);
	cr_assert_eq(say_hello(fd, &h, &challenge), WIRE_OK);
	cr_assert_eq(show(fd, htole64(4711), &challenge), UINT32_MAX, "another tag");
	/* The UNIX socket's folder says who may come there. */
	fd = client_connect(&d, true);
	cr_assert_eq(client_ask(fd, WIRE_HELLO, 0, &h, sizeof h, &w, &n), WIRE_OK);
	stop(&d);
}

Test(server_auth, takes_no_proof_twice_and_for_no_other)
{
	struct wire_hello h = client_hello(3), other = client_hello(4);
	struct wire_auth challenge, again, proof;
	struct donor d;
	uint64_t first;
	int a, b;

	start(&d, true);
	a = client_connect(&d, false);
	b = client_connect(&d, false);
	cr_assert_eq(say_hello(a, &h, &challenge), WIRE_OK);
	first = tag;
	cr_assert_eq(say_hello(b, &h, &again), WIRE_OK);
	cr_assert(memcmp(&challenge, &again, sizeof again));
	prove(&keys->key[0], &h, &challenge, &proof);
	cr_assert_eq(show(b, tag, &proof), WIRE_EAUTH, "the answer to another challenge");
	cr_assert_eq(show(a, first, &proof), WIRE_OK);
	a = client_connect(&d, false);
	cr_assert_eq(say_hello(a, &h, &challenge), WIRE_OK);
	prove(&keys->key[0], &other, &challenge, &proof);
	cr_assert_eq(show(a, tag, &proof), WIRE_EAUTH, "another borrower's");
	a = client_connect(&d, false);
	cr_assert_eq(say_hello(a, &h, &challenge), WIRE_OK);
	prove(&keys->key[0], &h, &challenge, &proof);
	proof.word[31] ^= 1;
	cr_assert_eq(show(a, tag, &proof), WIRE_EAUTH);
	stop(&d);
}

Test(server_auth, is_off_unless_plain_connections_are_allowed)
{
	struct wire_hello h = client_hello(3);
	struct wire_auth challenge;
	struct donor d;

	start(&d, false);
	cr_assert_eq(say_hello(client_connect(&d, false), &h, &challenge), WIRE_EPLAIN);
	stop(&d);
}

/* The old key is good until it expires; a file that can't be read changes nothing. */
Test(server_auth, rotates_keys_while_it_runs)
{
	struct key old, fresh;
	struct donor d;
	int fd;

	start(&d, true);
	old = keys->key[0];
	key_generate(&fresh, 1);
	cr_assert_eq(come(&d, 5, &fresh, &fd), WIRE_EAUTH);
	keys->key[1] = old;
	keys->key[1].expires_s = (uint64_t)time(NULL) + 3600;
	keys->key[0] = fresh;
	keys->count = 2;
	cr_assert_eq(key_write(path, keys), 0);
	kill(d.pid, SIGHUP);
	until(donor_said(&d, "settings read again"));
	cr_assert_eq(come(&d, 5, &fresh, &fd), WIRE_OK);
	cr_assert_eq(come(&d, 5, &old, &fd), WIRE_OK);
	truncate(d.log, 0);
	unlink(path);
	kill(d.pid, SIGHUP);
	until(donor_said(&d, "settings read again"));
	cr_assert(donor_said(&d, "keys stay as they were"));
	cr_assert_eq(come(&d, 5, &fresh, &fd), WIRE_OK);
	truncate(d.log, 0);
	keys->key[1].expires_s = 1;
	cr_assert_eq(key_write(path, keys), 0);
	kill(d.pid, SIGHUP);
	until(donor_said(&d, "settings read again"));
	cr_assert_eq(come(&d, 5, &old, &fd), WIRE_EAUTH);
	cr_assert_eq(come(&d, 5, &fresh, &fd), WIRE_OK);
	stop(&d);
}
