/* SPDX-License-Identifier: MIT */
/* See tls_files.h. Files are read by system calls: libc's streams take memory from malloc. */
#include "secure/tls_files.h"
#include "common/error.h"
#include "secure/key.h"
#include "secure/secret.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#define PEM_BYTES (256u * 1024)

/* The file's text; its length, or an error. */
static long read_pem(const char *path, bool secret, char **ret)
{
	char *text = secret_map(PEM_BYTES);
	long n;

	if (!text)
		return err_fail(-ENOMEM, "no memory for '%s'", path);
	n = key_read_file(path, secret, text, PEM_BYTES);
	if (n < 0)
		secret_unmap(text, PEM_BYTES);
	else
		*ret = text;
	return n;
}

static int bad(const char *path, const char *what)
{
	ERR_clear_error();
	return err_fail(-EINVAL, "'%s' has no %s in PEM form, or one that doesn't fit", path, what);
}

static int load_ca(SSL_CTX *ctx, const char *path)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	char *text;
	long n = read_pem(path, false, &text);
	unsigned count = 0;
	X509 *cert;
	BIO *b;

	if (n < 0)
		return (int)n;
	b = BIO_new_mem_buf(text, (int)n);
	while (b && (cert = PEM_read_bio_X509(b, NULL, NULL, NULL))) {
		count += X509_STORE_add_cert(store, cert) == 1;
		X509_free(cert);
	}
	BIO_free(b);
	secret_unmap(text, PEM_BYTES);
	ERR_clear_error();
	return count ? 0 : bad(path, "certificate");
}

static int load_cert(SSL_CTX *ctx, const char *path)
{
	char *text;
	long n = read_pem(path, false, &text);
	X509 *cert = NULL, *link;
	bool good;
	BIO *b;

	if (n < 0)
		return (int)n;
	b = BIO_new_mem_buf(text, (int)n);
	if (b)
		cert = PEM_read_bio_X509(b, NULL, NULL, NULL);
	good = cert && SSL_CTX_use_certificate(ctx, cert) == 1;
	X509_free(cert);
	while (good && (link = PEM_read_bio_X509(b, NULL, NULL, NULL))) {
		good = SSL_CTX_add1_chain_cert(ctx, link) == 1;
		X509_free(link);
	}
	BIO_free(b);
	secret_unmap(text, PEM_BYTES);
	ERR_clear_error();
	return good ? 0 : bad(path, "certificate");
}

static int no_password(char *buf, int size, int rw, void *arg)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)arg;
	return 0; /* or OpenSSL would ask at the terminal */
}

static int load_key(SSL_CTX *ctx, const char *path)
{
	char *text;
	long n = read_pem(path, true, &text);
	EVP_PKEY *key = NULL;
	bool good;
	BIO *b;

	if (n < 0)
		return (int)n;
	b = BIO_new_mem_buf(text, (int)n);
	if (b)
		key = PEM_read_bio_PrivateKey(b, NULL, no_password, NULL);
	good = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
	EVP_PKEY_free(key);
	BIO_free(b);
	secret_unmap(text, PEM_BYTES);
	return good ? 0 : bad(path, "private key");
}

int tls_files_load(SSL_CTX *ctx, const char *ca, const char *cert, const char *cert_key)
{
	int r;

	if (!ca || !cert || !cert_key)
		return err_fail(-EINVAL, "certificates need three files: the CA's, one's own, and "
					 "its key");
	r = load_ca(ctx, ca);
	if (!r)
		r = load_cert(ctx, cert);
	return r ? r : load_key(ctx, cert_key);
}

unsigned tls_files_roles(X509 *cert, char *peer, size_t room)
{
	X509_NAME *name = X509_get_subject_name(cert);
	unsigned roles = 0;

	if (X509_NAME_get_text_by_NID(name, NID_commonName, peer, (int)room) < 0)
		strcpy(peer, "?");
	for (char *c = peer; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?'; /* it is shown to people */
	for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_organizationalUnitName, at)) >=
			  0;) {
		const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));

		for (int role = KEY_BORROWER; role < KEY_ROLES; role++) {
			const char *word = key_role_name((enum key_role)role);

			if (ASN1_STRING_length(s) == (int)strlen(word) &&
			    !memcmp(ASN1_STRING_get0_data(s), word, strlen(word)))
				roles |= 1u << role;
		}
	}
	return roles ? roles : 1u << KEY_BORROWER;
}
