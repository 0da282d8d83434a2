/* SPDX-License-Identifier: MIT */
/* Certificates for tests, made on the spot: a CA's, and what it signs, in PEM files of a folder. */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct authority {
	char dir[200];
	X509 *cert;
	EVP_PKEY *key;
};

static inline void write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	FILE *f = fdopen(fd, "w");

	cr_assert(f);
	if (cert)
		PEM_write_X509(f, cert);
	if (key)
		PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
}

static inline void add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	cr_assert(e);
	X509_add_ext(cert, e, -1);
	X509_EXTENSION_free(e);
}

/* by: NULL: signs itself. names: "DNS:...,IP:..." or NULL. seconds: how long it is good from now. */
static inline X509 *make_cert(const struct authority *by, EVP_PKEY *key, const char *cn,
			      const char *ou, const char *names, long seconds)
{
	static long serial = 1000;
	X509 *c = X509_new();
	X509_NAME *n = X509_get_subject_name(c);

	X509_set_version(c, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(c), -7200);
	X509_gmtime_adj(X509_getm_notAfter(c), seconds);
	X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	if (ou)
		X509_NAME_add_entry_by_txt(n, "OU", MBSTRING_ASC, (const unsigned char *)ou, -1, -1,
					   0);
	X509_set_issuer_name(c, by ? X509_get_subject_name(by->cert) : n);
	X509_set_pubkey(c, key);
	if (!by)
		add_extension(c, NID_basic_constraints, "critical,CA:TRUE");
	if (names)
		add_extension(c, NID_subject_alt_name, names);
	cr_assert(X509_sign(c, by ? by->key : key, EVP_sha256()));
	return c;
}

static inline void authority_open(struct authority *a, const char *dir, const char *name)
{
	char path[256];

	snprintf(a->dir, sizeof a->dir, "%s", dir);
	a->key = EVP_EC_gen("P-256");
	a->cert = make_cert(NULL, a->key, name, NULL, NULL, 3600);
	snprintf(path, sizeof path, "%s/%s.pem", dir, name);
	write_pem(path, a->cert, NULL);
}

/* Writes DIR/NAME.pem and DIR/NAME.key. */
static inline void authority_issue(struct authority *a, const char *name, const char *ou,
				   const char *names, long seconds)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *c = make_cert(a, key, name, ou, names, seconds);
	char path[256];

	snprintf(path, sizeof path, "%s/%s.pem", a->dir, name);
	write_pem(path, c, NULL);
	snprintf(path, sizeof path, "%s/%s.key", a->dir, name);
	write_pem(path, NULL, key);
	X509_free(c);
	EVP_PKEY_free(key);
}

static inline void authority_close(struct authority *a)
{
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
}

#endif
