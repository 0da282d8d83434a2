/* SPDX-License-Identifier: MIT */
/* Tokens for connections that can't speak TLS: who has the key gets them, each another one. */
#include "pagestore_donor.h"
#include "pagestore/transport/token.h"
#include "secure/tls.h"

/* A borrower's TLS by the first key of a file. */
static struct tls_config *config_of(const char *path)
{
	struct key_set *set;
	struct key role;
	struct tls_options o = {.key = &role};
	struct tls_config *c;

	cr_assert_eq(key_read(path, &set), 0, "%s", err_text());
	cr_assert_eq(key_derive(&set->key[0], KEY_BORROWER, &role), 0);
	cr_assert_eq(tls_config_open(&o, &c), 0);
	key_free(set);
	return c;
}

static int take(const struct test_donor *d, struct tls_config *tls, unsigned char token[32])
{
	struct tp_hello h = {.borrower = "a borrower", .name = "test", .tls = tls};
	uint64_t until = clock_ns() + 10 * NSEC_PER_SEC;
	struct stream *giver;
	struct tp_conn *c;
	char address[96];
	int r;

	snprintf(address, sizeof address, "rdma:%s", d->tcp + strlen("tcp:"));
	cr_assert_eq(tp_create(address, &c), 0, "%s", err_text());
	r = token_take(&c->addr, &h, until, &giver);
	memcpy(token, h.token, 32);
	if (!r)
		token_end(giver);
	tp_free(c);
	return r;
}

Test(pagestore_token, are_for_those_with_the_key)
{
	unsigned char a[32] = {0}, b[32] = {0}, none[32] = {0};
	struct tls_config *tls, *other;
	struct test_donor d;

	donors_with_key();
	donor_start(&d, "1M", "64K");
	tls = config_of(test_key);
	cr_assert_eq(take(&d, tls, a), 0, "%s", err_text());
	cr_assert_eq(take(&d, tls, b), 0, "%s", err_text());
	cr_assert(memcmp(a, none, 32) && memcmp(a, b, 32));
	donors_with_key(); /* another one, in the same file */
	other = config_of(test_key);
	cr_assert_eq(take(&d, other, none), -EACCES, "%s", err_text());
	tls_config_close(tls);
	tls_config_close(other);
	donor_stop(&d);
	donors_without_key();
}
