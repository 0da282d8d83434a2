/* SPDX-License-Identifier: MIT */
/* AES-256-GCM: every way that this machine has gives what the standard's examples say, and the same. */
#include "secure/aead.h"
#include "secure/kdf.h"
#include "secure/secret.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char *const ways[] = {"vaes", "aesni", "openssl"};

static size_t hex(const char *s, uint8_t *ret)
{
	size_t n = 0;

	for (; s[0] && s[1]; s += 2) {
		unsigned v;

		sscanf(s, "%2x", &v);
		ret[n++] = (uint8_t)v;
	}
	return n;
}

/* Test case 16 of the GCM specification. */
Test(secure_aead, does_what_the_standard_says)
{
	uint8_t key[32], iv[12], aad[20], plain[60], want[60], want_tag[16], out[60], tag[16];
	unsigned tried = 0;

	hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", key);
	hex("cafebabefacedbaddecaf888", iv);
	hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", aad);
	hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449"
	    "a6b525b16aedf5aa0de657ba637b39", plain);
	hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056"
	    "828838c5f61e6393ba7a0abcc9f662", want);
	hex("76fc6ece0f4e1768cddf8853bb2d551b", want_tag);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct aead a;

		if (aead_open_as(&a, ways[i], key))
			continue;
		tried++;
		aead_seal(&a, iv, aad, sizeof aad, plain, out, sizeof plain, tag);
		cr_assert_arr_eq(out, want, sizeof out, "%s", ways[i]);
		cr_assert_arr_eq(tag, want_tag, sizeof tag, "%s", ways[i]);
		cr_assert(aead_unseal(&a, iv, aad, sizeof aad, out, out, sizeof out, tag));
		cr_assert_arr_eq(out, plain, sizeof out, "%s", ways[i]);
		aead_close(&a);
	}
	cr_assert(tried >= 1);
}

Test(secure_aead, opens_nothing_that_was_changed)
{
	static uint8_t page[4096], sealed[4096], back[4096];
	uint8_t key[32] = {1}, nonce[12] = {2}, aad[16] = {3}, tag[16];

	for (size_t i = 0; i < sizeof page; i++)
		page[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct aead a;

		if (aead_open_as(&a, ways[i], key))
			continue;
		aead_seal(&a, nonce, aad, 16, page, sealed, sizeof page, tag);
		for (unsigned bit = 0; bit < 4096 * 8; bit += 997) {
			sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert(!aead_unseal(&a, nonce, aad, 16, sealed, back, 4096, tag));
			sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		for (unsigned bit = 0; bit < 16 * 8; bit++) {
			tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert(!aead_unseal(&a, nonce, aad, 16, sealed, back, 4096, tag));
			tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		nonce[11] ^= 1;
		cr_assert(!aead_unseal(&a, nonce, aad, 16, sealed, back, 4096, tag));
		nonce[11] ^= 1;
		aad[0] ^= 1;
		cr_assert(!aead_unseal(&a, nonce, aad, 16, sealed, back, 4096, tag));
		aad[0] ^= 1;
		cr_assert(aead_unseal(&a, nonce, aad, 16, sealed, back, 4096, tag));
		cr_assert_arr_eq(back, page, 4096);
		aead_close(&a);
	}
}

Test(secure_aead, allocates_nothing_once_it_is_open)
{
	static uint8_t page[4096];
	uint8_t key[32] = {1}, nonce[12] = {2}, tag[16];

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct aead a;
		uint64_t before;

		if (aead_open_as(&a, ways[i], key))
			continue;
		before = secret_allocations();
		for (unsigned n = 0; n < 100; n++) {
			nonce[0] = (uint8_t)n;
			aead_seal(&a, nonce, NULL, 0, page, page, sizeof page, tag);
			cr_assert(aead_unseal(&a, nonce, NULL, 0, page, page, sizeof page, tag));
			tag[0] ^= 1;
			aead_unseal(&a, nonce, NULL, 0, page, page, sizeof page, tag);
		}
		cr_assert_eq(secret_allocations(), before, "%s", ways[i]);
		aead_close(&a);
	}
}

/* RFC 5869, test case 1; RFC 4231, test case 2. */
Test(secure_kdf, does_what_the_standards_say)
{
	uint8_t ikm[22], salt[13], want[42], out[42], mac[32];

	memset(ikm, 0x0b, sizeof ikm);
	hex("000102030405060708090a0b0c", salt);
	/* The info of the example is f0..f9. */
	hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865", want);
	kdf_derive(ikm, sizeof ikm, salt, sizeof salt, "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9", out, sizeof out);
	cr_assert_arr_eq(out, want, sizeof out);
	hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", want);
	kdf_hmac("Jefe", 4, "what do ya want ", 16, "for nothing?", 12, mac);
	cr_assert_arr_eq(mac, want, sizeof mac);
}
