/* SPDX-License-Identifier: MIT */
/* One-time tokens: whose they are, how often, how long, how many. */
#include "server/token.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t alice[16] = {1, 2, 3}, bob[16] = {4, 5, 6};

Test(server_tokens, let_one_in_once)
{
	struct srv_tokens *t = srv_tokens_create();
	uint8_t a[WIRE_TOKEN_BYTES], b[WIRE_TOKEN_BYTES], who[16];
	uint32_t roles = 0;

	cr_assert_eq(srv_token_make(t, alice, 1, 1000, a), WIRE_OK);
	cr_assert_eq(srv_token_make(t, bob, 3, 1000, b), WIRE_OK);
	cr_assert(memcmp(a, b, sizeof a));
	cr_assert_eq(srv_token_take(t, b, 1001, who, &roles), WIRE_OK);
	cr_assert_arr_eq(who, bob, sizeof who);
	cr_assert_eq(roles, 3);
	cr_assert_eq(srv_token_take(t, b, 1002, who, &roles), WIRE_EAUTH);
	a[31] ^= 1;
	cr_assert_eq(srv_token_take(t, a, 1002, who, &roles), WIRE_EAUTH);
	a[31] ^= 1;
	cr_assert_eq(srv_token_take(t, a, 1002, who, &roles), WIRE_OK);
	cr_assert_arr_eq(who, alice, sizeof who);
	srv_tokens_free(t);
}

Test(server_tokens, of_zeros_are_none)
{
	struct srv_tokens *t = srv_tokens_create();
	uint8_t none[WIRE_TOKEN_BYTES] = {0}, a[WIRE_TOKEN_BYTES], who[16];
	uint32_t roles;

	cr_assert_eq(srv_token_take(t, none, 1, who, &roles), WIRE_EAUTH);
	cr_assert_eq(srv_token_make(t, alice, 1, 1, a), WIRE_OK);
	cr_assert_eq(srv_token_take(t, a, 2, who, &roles), WIRE_OK);
	cr_assert_eq(srv_token_take(t, none, 3, who, &roles), WIRE_EAUTH);
	srv_tokens_free(t);
}

Test(server_tokens, end_after_their_time_and_with_their_borrower)
{
	struct srv_tokens *t = srv_tokens_create();
	uint8_t a[WIRE_TOKEN_BYTES], b[WIRE_TOKEN_BYTES], who[16];
	uint32_t roles;

	cr_assert_eq(srv_token_make(t, alice, 1, 5, a), WIRE_OK);
	cr_assert_eq(srv_token_take(t, a, 5 + SRV_TOKEN_NS, who, &roles), WIRE_EAUTH);
	cr_assert_eq(srv_token_make(t, alice, 1, 5, a), WIRE_OK);
	cr_assert_eq(srv_token_make(t, bob, 1, 5, b), WIRE_OK);
	srv_token_void(t, alice);
	cr_assert_eq(srv_token_take(t, a, 6, who, &roles), WIRE_EAUTH);
	cr_assert_eq(srv_token_take(t, b, 6, who, &roles), WIRE_OK);
	srv_tokens_free(t);
}

Test(server_tokens, are_so_many_a_borrower_and_so_many_in_all)
{
	struct srv_tokens *t = srv_tokens_create();
	uint8_t a[WIRE_TOKEN_BYTES], id[16] = {9};

	for (unsigned i = 0; i < SRV_TOKENS; i++) {
		id[1] = (uint8_t)(i / SRV_TOKENS_OF_BORROWER);
		cr_assert_eq(srv_token_make(t, id, 1, 1, a), WIRE_OK);
		if (i == SRV_TOKENS_OF_BORROWER - 1)
			cr_assert_eq(srv_token_make(t, id, 1, 1, a), WIRE_EBUSY);
	}
	cr_assert_eq(srv_token_make(t, alice, 1, 1, a), WIRE_EBUSY);
	cr_assert_eq(srv_token_make(t, alice, 1, 1 + SRV_TOKEN_NS, a), WIRE_OK);
	srv_tokens_free(t);
}
