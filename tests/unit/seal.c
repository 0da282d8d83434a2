/* SPDX-License-Identifier: MIT */
/* Sealed pages: only the last one written, at its place, opens; nothing repeats on the outside. */
#include "common/error.h"
#include "pagestore/seal.h"
#include <infuse/pagestore.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static unsigned char plain[4096], out[3][4096], scratch[4096];
static const unsigned char id[16] = "a borrower";

static struct seal *open_seal(void)
{
	struct seal *s;

	for (unsigned i = 0; i < sizeof plain; i++)
		plain[i] = (unsigned char)(i % 251);
	cr_assert_eq(seal_open(&s, 100, id), 0, "%s", err_text());
	return s;
}

Test(seal, opens_the_last_one_at_its_place_only)
{
	struct seal *s = open_seal();

	seal_page(s, 7, plain, out[0]);
	cr_assert(memcmp(out[0], plain, 4096));
	cr_assert(seal_check(s, 7, out[0], scratch));
	cr_assert_arr_eq(scratch, plain, 4096);
	seal_page(s, 7, plain, out[1]);
	seal_page(s, 8, plain, out[2]);
	cr_assert(memcmp(out[0], out[1], 4096), "the same page twice looks different");
	cr_assert(memcmp(out[1], out[2], 4096), "and at another place too");
	cr_assert(!seal_check(s, 7, out[0], scratch), "an old one");
	cr_assert(!seal_check(s, 7, out[2], scratch), "another page's");
	cr_assert(!seal_check(s, 9, out[2], scratch), "one never written");
	cr_assert(seal_unseal(s, 7, out[1]));
	cr_assert_arr_eq(out[1], plain, 4096);
	seal_close(s);
}

Test(seal, every_bit_that_flips_is_seen)
{
	struct seal *s = open_seal();

	seal_page(s, 1, plain, out[0]);
	for (unsigned bit = 0; bit < 4096 * 8; bit++) {
		out[0][bit / 8] ^= (unsigned char)(1u << bit % 8);
		cr_assert(!seal_check(s, 1, out[0], scratch), "bit %u", bit);
		out[0][bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	cr_assert(seal_check(s, 1, out[0], scratch));
	seal_close(s);
}

/* A parent and its child go on from the same generation: their keys must differ. */
Test(seal, branches_read_what_was_before_and_never_write_alike)
{
	struct seal *s = open_seal();

	seal_page(s, 3, plain, out[0]);
	cr_assert_eq(seal_branch(s, id), 0);
	cr_assert(seal_check(s, 3, out[0], scratch));
	for (unsigned i = 2; i < SEAL_BRANCHES; i++) {
		seal_page(s, 3, plain, out[1]);
		cr_assert(seal_check(s, 3, out[1], scratch));
		cr_assert(!seal_check(s, 3, out[0], scratch));
		cr_assert_eq(seal_branch(s, id), 0);
	}
	cr_assert_eq(seal_branch(s, id), -EMFILE);
	cr_assert(seal_check(s, 3, out[1], scratch));
	seal_close(s);
}

Test(seal, volumes_have_keys_of_their_own)
{
	struct seal *a = open_seal(), *b = open_seal();

	seal_page(a, 3, plain, out[0]);
	seal_page(b, 3, plain, out[1]);
	cr_assert(memcmp(out[0], out[1], 4096));
	cr_assert(!seal_check(b, 3, out[0], scratch));
	seal_close(a);
	seal_close(b);
}
