// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The proof that this borrower's key is known, for donors that want one: HMAC-SHA256 of the donor's
 * challenge and the hello as it was sent. The key stays inside the hash's own memory.
 */
#include "device.h"

int rswap_auth_open(const u8 key[32], struct crypto_shash **ret)
{
	struct crypto_shash *h = crypto_alloc_shash("hmac(sha256)", 0, 0);
	int r;

	if (IS_ERR(h))
		return PTR_ERR(h);
	r = crypto_shash_digestsize(h) == WIRE_AUTH_BYTES ? 0 : -EINVAL;
	if (!r)
		r = crypto_shash_setkey(h, key, 32);
	if (r)
		crypto_free_shash(h);
	else
		*ret = h;
	return r;
}

void rswap_auth_close(struct crypto_shash *hmac)
{
	if (hmac)
		crypto_free_shash(hmac);
}

int rswap_auth_proof(struct crypto_shash *hmac, const struct wire_auth *challenge,
		     const struct wire_hello *hello, struct wire_auth *proof)
{
	SHASH_DESC_ON_STACK(desc, hmac);
	int r;

	desc->tfm = hmac;
	r = crypto_shash_init(desc);
	if (!r)
		r = crypto_shash_update(desc, challenge->word, sizeof challenge->word);
	if (!r)
		r = crypto_shash_finup(desc, (const u8 *)hello, sizeof *hello, proof->word);
	shash_desc_zero(desc);
	return r;
}
