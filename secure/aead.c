/* SPDX-License-Identifier: MIT */
/*
 * One table of ways to do AES-256-GCM, the fastest that the machine has is taken. Intel's library
 * (intel-ipsec-mb, linked as single functions) needs 0.45 us for a page where OpenSSL 3.0 needs 1.1
 * to 1.7, and works in the caller's memory. OpenSSL is for other machines; its context is one, so
 * threads take turns.
 */
#include "secure/aead.h"
#include "common/lock.h"
#include "secure/secret.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

struct aead_way {
	const char *name;
	bool (*here)(void);
	int (*open)(struct aead *a, const uint8_t *key);
	void (*close)(struct aead *a);
	void (*seal)(struct aead *a, const uint8_t *nonce, const void *aad, size_t aad_bytes,
		     const void *in, void *out, size_t bytes, uint8_t *tag);
	bool (*unseal)(struct aead *a, const uint8_t *nonce, const void *aad, size_t aad_bytes,
		       const void *in, void *out, size_t bytes, const uint8_t *tag);
};

#ifdef AEAD_INTEL
#include <intel-ipsec-mb.h>

_Static_assert(sizeof(struct gcm_key_data) <= sizeof((struct aead){0}.state), "a key fits");

#ifdef AEAD_VAES
/* Exported by the library, though its header has the older ones only. */
void aes_gcm_pre_256_vaes_avx512(const void *key, struct gcm_key_data *ret);
void aes_gcm_enc_256_vaes_avx512(const struct gcm_key_data *k, struct gcm_context_data *c,
				 uint8_t *out, uint8_t const *in, uint64_t len, const uint8_t *iv,
				 const uint8_t *aad, uint64_t aad_len, uint8_t *tag,
				 uint64_t tag_len);
void aes_gcm_dec_256_vaes_avx512(const struct gcm_key_data *k, struct gcm_context_data *c,
				 uint8_t *out, uint8_t const *in, uint64_t len, const uint8_t *iv,
				 const uint8_t *aad, uint64_t aad_len, uint8_t *tag,
				 uint64_t tag_len);
#endif

static void intel_close(struct aead *a)
{
	(void)a;
}

#define INTEL_WAY(way, suffix)                                                                     \
	static int way##_open(struct aead *a, const uint8_t *key)                                  \
	{                                                                                          \
		aes_gcm_pre_256_##suffix(key, (struct gcm_key_data *)(void *)a->state);            \
		return 0;                                                                          \
	}                                                                                          \
	static void way##_seal(struct aead *a, const uint8_t *nonce, const void *aad,              \
			       size_t aad_bytes, const void *in, void *out, size_t bytes,          \
			       uint8_t *tag)                                                       \
	{                                                                                          \
		struct gcm_context_data c;                                                         \
                                                                                                   \
		aes_gcm_enc_256_##suffix((struct gcm_key_data *)(void *)a->state, &c, out, in,     \
					 bytes, nonce, aad, aad_bytes, tag, AEAD_TAG_BYTES);       \
	}                                                                                          \
	static bool way##_unseal(struct aead *a, const uint8_t *nonce, const void *aad,            \
				 size_t aad_bytes, const void *in, void *out, size_t bytes,        \
				 const uint8_t *tag)                                               \
	{                                                                                          \
		struct gcm_context_data c;                                                         \
		uint8_t is[AEAD_TAG_BYTES];                                                        \
                                                                                                   \
		aes_gcm_dec_256_##suffix((struct gcm_key_data *)(void *)a->state, &c, out, in,     \
					 bytes, nonce, aad, aad_bytes, is, sizeof is);             \
		return secret_equal(is, tag, sizeof is);                                           \
	}

INTEL_WAY(aesni, avx_gen4)

static bool aesni_here(void)
{
	unsigned a, b, c, d;

	__asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
	/* AES and PCLMULQDQ */
	return __builtin_cpu_supports("avx2") && c >> 25 & 1 && c >> 1 & 1;
}

#ifdef AEAD_VAES
INTEL_WAY(vaes, vaes_avx512)

static bool vaes_here(void)
{
	unsigned a, b, c, d;

	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
	    !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
		return false;
	__asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
	/* VAES, VPCLMULQDQ, and BMI2 */
	return c >> 9 & 1 && c >> 10 & 1 && b >> 8 & 1 && aesni_here();
}
#endif
#endif

/* --- OpenSSL --- */

struct openssl_state {
	EVP_CIPHER_CTX *seal, *unseal;
	uint32_t lock;
};

static struct openssl_state *openssl_of(struct aead *a)
{
	return (struct openssl_state *)(void *)a->state;
}

static void openssl_close(struct aead *a)
{
	EVP_CIPHER_CTX_free(openssl_of(a)->seal);
	EVP_CIPHER_CTX_free(openssl_of(a)->unseal);
}

static int openssl_open(struct aead *a, const uint8_t *key)
{
	struct openssl_state *s = openssl_of(a);

	secret_openssl();
	secret_lock();
	s->seal = EVP_CIPHER_CTX_new();
	s->unseal = EVP_CIPHER_CTX_new();
	if (!s->seal || !s->unseal ||
	    EVP_EncryptInit_ex(s->seal, EVP_aes_256_gcm(), NULL, key, NULL) != 1 ||
	    EVP_DecryptInit_ex(s->unseal, EVP_aes_256_gcm(), NULL, key, NULL) != 1) {
		openssl_close(a);
		secret_unlock();
		return -ENOMEM;
	}
	secret_unlock();
	return 0;
}

static bool openssl_here(void)
{
	return true;
}

static void openssl_seal(struct aead *a, const uint8_t *nonce, const void *aad, size_t aad_bytes,
			 const void *in, void *out, size_t bytes, uint8_t *tag)
{
	struct openssl_state *s = openssl_of(a);
	unsigned char end[16];
	int n;
	bool good;

	lock_take(&s->lock);
	good = EVP_EncryptInit_ex(s->seal, NULL, NULL, NULL, nonce) == 1 &&
	       (!aad_bytes ||
		EVP_EncryptUpdate(s->seal, NULL, &n, aad, (int)aad_bytes) == 1) &&
	       EVP_EncryptUpdate(s->seal, out, &n, in, (int)bytes) == 1 &&
	       EVP_EncryptFinal_ex(s->seal, end, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(s->seal, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, tag) == 1;
	lock_give(&s->lock);
	/* There is nothing in it that can fail; plaintext must not leave in place of a seal. */
	if (!good)
		__builtin_trap();
}

static bool openssl_unseal(struct aead *a, const uint8_t *nonce, const void *aad, size_t aad_bytes,
			   const void *in, void *out, size_t bytes, const uint8_t *tag)
{
	struct openssl_state *s = openssl_of(a);
	uint8_t is[AEAD_TAG_BYTES];
	unsigned char end[16];
	bool good;
	int n;

	memcpy(is, tag, sizeof is);
	lock_take(&s->lock);
	good = EVP_DecryptInit_ex(s->unseal, NULL, NULL, NULL, nonce) == 1 &&
	       (!aad_bytes ||
		EVP_DecryptUpdate(s->unseal, NULL, &n, aad, (int)aad_bytes) == 1) &&
	       EVP_DecryptUpdate(s->unseal, out, &n, in, (int)bytes) == 1 &&
	       EVP_CIPHER_CTX_ctrl(s->unseal, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_BYTES, is) == 1 &&
	       EVP_DecryptFinal_ex(s->unseal, end, &n) == 1;
	lock_give(&s->lock);
	return good;
}

/* The fastest first. */
static const struct aead_way ways[] = {
#ifdef AEAD_VAES
	{"vaes", vaes_here, vaes_open, intel_close, vaes_seal, vaes_unseal},
#endif
#ifdef AEAD_INTEL
	{"aesni", aesni_here, aesni_open, intel_close, aesni_seal, aesni_unseal},
#endif
	{"openssl", openssl_here, openssl_open, openssl_close, openssl_seal, openssl_unseal},
};

int aead_open_as(struct aead *a, const char *way, const uint8_t key[AEAD_KEY_BYTES])
{
	memset(a, 0, sizeof *a);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int r;

		if ((way && strcmp(ways[i].name, way)) || !ways[i].here())
			continue;
		r = ways[i].open(a, key);
		if (!r)
			a->way = &ways[i];
		return r;
	}
	return -ENOTSUP;
}

int aead_open(struct aead *a, const uint8_t key[AEAD_KEY_BYTES])
{
	return aead_open_as(a, NULL, key);
}

void aead_close(struct aead *a)
{
	if (a->way)
		a->way->close(a);
	secret_wipe(a, sizeof *a);
}

const char *aead_name(const struct aead *a)
{
	return a->way->name;
}

void aead_seal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const void *aad,
	       size_t aad_bytes, const void *in, void *out, size_t bytes,
	       uint8_t tag[AEAD_TAG_BYTES])
{
	a->way->seal(a, nonce, aad, aad_bytes, in, out, bytes, tag);
}

bool aead_unseal(struct aead *a, const uint8_t nonce[AEAD_NONCE_BYTES], const void *aad,
		 size_t aad_bytes, const void *in, void *out, size_t bytes,
		 const uint8_t tag[AEAD_TAG_BYTES])
{
	return a->way->unseal(a, nonce, aad, aad_bytes, in, out, bytes, tag);
}
