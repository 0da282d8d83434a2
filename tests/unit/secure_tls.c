/* SPDX-License-Identifier: MIT */
/*
 * Handshakes and records, both ends in this process: who has no key, another one, or another CA's
 * certificate gets nowhere; what was changed, repeated or left out on the way is seen.
 */
#include "common/error.h"
#include "secure/secret.h"
#include "secure/tls.h"

#include "certificates.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct key cluster, borrower;

static int find(void *arg, const char *identity, size_t bytes, struct key *ret)
{
	struct key_set *set = key_set_create();
	int r;

	(void)arg;
	set->key[0] = cluster;
	set->count = 1;
	r = key_by_identity(set, identity, bytes, 1000, ret);
	key_free(set);
	return r;
}

static void new_keys(void)
{
	secret_openssl();
	key_generate(&cluster, 5);
	cr_assert_eq(key_derive(&cluster, KEY_BORROWER, &borrower), 0);
}

struct pair {
	struct tls_config *client_config, *server_config;
	struct tls *client, *server;
	int client_r, server_r;
};

static void open_pair(struct pair *p, const struct tls_options *client,
		      const struct tls_options *server, const char *name)
{
	*p = (struct pair){.client_r = -EAGAIN, .server_r = -EAGAIN};
	cr_assert_eq(tls_config_open(client, &p->client_config), 0, "%s", err_text());
	cr_assert_eq(tls_config_open(server, &p->server_config), 0, "%s", err_text());
	cr_assert_eq(tls_open(p->client_config, name, &p->client), 0);
	cr_assert_eq(tls_open(p->server_config, NULL, &p->server), 0);
}

static void close_pair(struct pair *p)
{
	tls_close(p->client);
	tls_close(p->server);
	tls_config_close(p->client_config);
	tls_config_close(p->server_config);
}

/* Moves what there is, in pieces of `piece` bytes. */
static void move(struct tls *from, struct tls *to, int *r, size_t piece)
{
	char buf[4096];
	size_t n;

	while ((n = tls_output(from, buf, piece < sizeof buf ? piece : sizeof buf)))
		if (*r == -EAGAIN)
			*r = tls_input(to, buf, n);
}

/* True: both are over and good. */
static bool shake(struct pair *p, size_t piece)
{
	p->client_r = tls_input(p->client, NULL, 0);
	for (unsigned i = 0; i < 4; i++) {
		move(p->client, p->server, &p->server_r, piece);
		move(p->server, p->client, &p->client_r, piece);
	}
	return !p->client_r && !p->server_r;
}

static bool agree(const struct tls_options *client, const struct tls_options *server,
		  const char *name)
{
	struct pair p;
	bool good;

	open_pair(&p, client, server, name);
	good = shake(&p, 4096);
	close_pair(&p);
	return good;
}

Test(secure_tls, ends_that_share_a_key_agree)
{
	struct tls_options c = {.key = &borrower}, s = {.server = true, .find = find};
	static const size_t pieces[] = {1, 7, 4096};
	struct pair p;

	new_keys();
	for (unsigned i = 0; i < 3; i++) {
		open_pair(&p, &c, &s, "donor.example");
		cr_assert(shake(&p, pieces[i]), "%s", err_text());
		cr_assert_eq(tls_roles(p.server), 1u << KEY_BORROWER);
		cr_assert(strstr(tls_peer(p.server), ":borrower"));
		close_pair(&p);
	}
}

Test(secure_tls, other_keys_and_roles_get_nowhere)
{
	struct tls_options s = {.server = true, .find = find};
	struct key stranger, role, liar;
	struct tls_options c = {.key = &role};

	new_keys();
	key_generate(&stranger, 5);
	cr_assert_eq(key_derive(&stranger, KEY_BORROWER, &role), 0);
	cr_assert(!agree(&c, &s, NULL), "an unknown key");
	memcpy(role.id, cluster.id, sizeof role.id);
	cr_assert(!agree(&c, &s, NULL), "a known id with another key");
	/* A metrics reader that says it is an admin. */
	cr_assert_eq(key_derive(&cluster, KEY_METRICS, &liar), 0);
	liar.role = KEY_ADMIN;
	c.key = &liar;
	cr_assert(!agree(&c, &s, NULL), "another role");
	/* The cluster's own key is no role's. */
	c.key = &cluster;
	cr_assert(!agree(&c, &s, NULL));
	/* A client without a key; a server without one. */
	c.key = NULL;
	cr_assert(!agree(&c, &s, NULL));
	c.key = &borrower;
	s.find = NULL;
	cr_assert(!agree(&c, &s, NULL));
}

Test(secure_tls, certificates_are_believed_by_their_ca_and_name)
{
	char dir[] = "/tmp/infuse-tls.XXXXXX", file[9][256];
	struct authority ours, theirs;
	struct tls_options s = {.server = true}, c = {0};
	static const char *const names[] = {"ours", "donor", "borrower", "admin", "old", "theirs",
					    "stranger"};
	struct pair p;

	secret_openssl();
	cr_assert(mkdtemp(dir));
	authority_open(&ours, dir, "ours");
	authority_issue(&ours, "donor", NULL, "DNS:donor.example,IP:10.1.2.3", 3600);
	authority_issue(&ours, "borrower", NULL, NULL, 3600);
	authority_issue(&ours, "admin", "admin", NULL, 3600);
	authority_issue(&ours, "old", NULL, NULL, -3600);
	authority_open(&theirs, dir, "theirs");
	authority_issue(&theirs, "stranger", NULL, "DNS:donor.example", 3600);
#define F(i, name) (snprintf(file[i], sizeof file[i], "%s/%s", dir, name), file[i])
	s.ca = c.ca = F(0, "ours.pem");
	s.cert = F(1, "donor.pem");
	s.cert_key = F(2, "donor.key");
	c.cert = F(3, "borrower.pem");
	c.cert_key = F(4, "borrower.key");
	open_pair(&p, &c, &s, "donor.example");
	cr_assert(shake(&p, 4096), "%s", err_text());
	cr_assert_eq(tls_roles(p.server), 1u << KEY_BORROWER);
	cr_assert_str_eq(tls_peer(p.server), "borrower");
	close_pair(&p);
	cr_assert(agree(&c, &s, "10.1.2.3"));
	cr_assert(!agree(&c, &s, "10.1.2.4"), "another address");
	cr_assert(!agree(&c, &s, "other.example"), "another name");
	c.cert = F(3, "admin.pem");
	c.cert_key = F(4, "admin.key");
	open_pair(&p, &c, &s, "donor.example");
	cr_assert(shake(&p, 4096));
	cr_assert_eq(tls_roles(p.server), 1u << KEY_ADMIN);
	close_pair(&p);
	c.cert = F(3, "old.pem");
	c.cert_key = F(4, "old.key");
	cr_assert(!agree(&c, &s, "donor.example"), "one that has expired");
	c.cert = F(3, "stranger.pem");
	c.cert_key = F(4, "stranger.key");
	cr_assert(!agree(&c, &s, "donor.example"), "a borrower of another CA");
	/* A donor of another CA. */
	c.cert = F(3, "borrower.pem");
	c.cert_key = F(4, "borrower.key");
	s.cert = F(1, "stranger.pem");
	s.cert_key = F(2, "stranger.key");
	cr_assert(!agree(&c, &s, "donor.example"));
	/* A borrower with a key meets a donor with certificates only: it must not be content. */
	new_keys();
	s.cert = F(1, "donor.pem");
	s.cert_key = F(2, "donor.key");
	cr_assert(!agree(&(struct tls_options){.key = &borrower}, &s, "donor.example"));
	/* A donor that has both takes both. */
	s.find = find;
	cr_assert(agree(&(struct tls_options){.key = &borrower}, &s, NULL));
	cr_assert(agree(&c, &s, "donor.example"));
	/* The private key's file must be one's own. */
	chmod(F(5, "donor.key"), 0644);
	cr_assert_eq(tls_config_open(&s, &p.server_config), -EPERM);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(file[5], sizeof file[5], "%s/%s.pem", dir, names[i]);
		unlink(file[5]);
		snprintf(file[5], sizeof file[5], "%s/%s.key", dir, names[i]);
		unlink(file[5]);
	}
	rmdir(dir);
	authority_close(&ours);
	authority_close(&theirs);
}

Test(secure_tls, noise_is_no_handshake)
{
	struct tls_options s = {.server = true, .find = find};
	struct tls_config *config;
	unsigned char noise[600];
	uint64_t rng = 88172645463325252ull;

	new_keys();
	cr_assert_eq(tls_config_open(&s, &config), 0);
	for (unsigned round = 0; round < 300; round++) {
		struct tls *t;
		int r = -EAGAIN;

		cr_assert_eq(tls_open(config, NULL, &t), 0);
		for (unsigned i = 0; i < sizeof noise; i++) {
			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			noise[i] = (unsigned char)rng;
		}
		if (round & 1)
			memcpy(noise, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
		for (unsigned i = 0; i < 100 && r == -EAGAIN; i++)
			r = tls_input(t, noise, sizeof noise - round);
		cr_assert(r && r != -EAGAIN, "round %u: %d", round, r);
		tls_close(t);
	}
	tls_config_close(config);
}

/* Raw handlers of heaps have 128 KiB of stack, and connections are opened in them. */
static void *shake_here(void *arg)
{
	struct tls_options c = {.key = &borrower}, s = {.server = true, .find = find};
	struct pair p;

	open_pair(&p, &c, &s, NULL);
	*(bool *)arg = shake(&p, 4096);
	close_pair(&p);
	return NULL;
}

Test(secure_tls, needs_little_stack)
{
#ifndef INFUSE_SANITIZED
	pthread_attr_t attr;
	pthread_t thread;
	bool good = false;

	new_keys();
	pthread_attr_init(&attr);
	cr_assert_eq(pthread_attr_setstacksize(&attr, 64 << 10), 0);
	cr_assert_eq(pthread_create(&thread, &attr, shake_here, &good), 0);
	pthread_join(thread, NULL);
	cr_assert(good);
#else
	(void)shake_here;
#endif
}

/* --- records --- */

static struct record_key ca, cb, sa, sb; /* client's in and out, server's in and out */

static void open_keys(void)
{
	struct tls_options c = {.key = &borrower}, s = {.server = true, .find = find};
	struct pair p;

	new_keys();
	open_pair(&p, &c, &s, NULL);
	cr_assert(shake(&p, 4096));
	cr_assert_eq(tls_keys(p.client, &ca, &cb), 0);
	cr_assert_eq(tls_keys(p.server, &sa, &sb), 0);
	close_pair(&p);
}

static size_t make(struct record_key *k, unsigned char *buf, size_t n, unsigned what)
{
	memset(buf + RECORD_HEAD, (int)what, n);
	return record_seal(k, buf, n);
}

Test(secure_record, carries_bytes_both_ways_and_changes_keys)
{
	static unsigned char buf[RECORD_ROOM];
	static const size_t sizes[] = {1, 32, 4128, RECORD_PLAIN};

	open_keys();
	cb.update = 5;
	sb.update = 1;
	for (unsigned i = 0; i < 200; i++) {
		struct record_key *out = i & 1 ? &cb : &sb, *in = i & 1 ? &sa : &ca;
		size_t n = sizes[i % 4], all = make(out, buf, n, i), at = 0, got = 0;

		cr_assert_leq(all, sizeof buf);
		while (at < all) {
			unsigned char *plain;
			size_t part;
			long r;

			for (size_t have = 0; have < RECORD_HEAD; have++)
				cr_assert_eq(record_unseal(in, buf + at, have, &plain, &part), 0);
			r = record_unseal(in, buf + at, all - at, &plain, &part);
			cr_assert_gt(r, 0, "record %u: %ld", i, r);
			for (size_t k = 0; k < part; k++)
				cr_assert_eq(plain[k], (unsigned char)i);
			got += part;
			at += (size_t)r;
		}
		cr_assert_eq(got, n);
	}
}

Test(secure_record, sees_what_was_changed_repeated_or_left_out)
{
	static unsigned char first[RECORD_ROOM], second[RECORD_ROOM], copy[RECORD_ROOM];
	unsigned char *plain;
	size_t n, all;

	open_keys();
	all = make(&cb, first, 64, 1);
	for (size_t i = 0; i < all; i++) {
		struct record_key k = sa;
		long r;

		memcpy(copy, first, all);
		copy[i] ^= 1;
		r = record_unseal(&k, copy, all, &plain, &n);
		cr_assert(r == -EBADMSG || r == -EPROTO || r == 0, "byte %zu: %ld", i, r);
		cr_assert_eq(n, 0);
	}
	make(&cb, second, 64, 2);
	{
		struct record_key k = sa;

		memcpy(copy, second, all);
		cr_assert_eq(record_unseal(&k, copy, all, &plain, &n), -EBADMSG, "left out");
	}
	memcpy(copy, first, all);
	cr_assert_eq(record_unseal(&sa, copy, all, &plain, &n), (long)all);
	cr_assert_eq(record_unseal(&sa, first, all, &plain, &n), -EBADMSG, "repeated");
}

Test(secure_record, allocates_nothing)
{
	static unsigned char buf[RECORD_ROOM];
	uint64_t before;

	open_keys();
	cb.update = 10;
	before = secret_allocations();
	for (unsigned i = 0; i < 100; i++) {
		size_t all = make(&cb, buf, 4096, i), n;
		unsigned char *plain;
		long r = record_unseal(&sa, buf, all, &plain, &n);

		cr_assert_gt(r, 0);
		if ((size_t)r < all)
			cr_assert_gt(record_unseal(&sa, buf + r, all - (size_t)r, &plain, &n), 0);
	}
	if (strcmp(aead_name(&cb.aead), "openssl"))
		cr_assert_eq(secret_allocations(), before);
}
