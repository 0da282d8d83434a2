/* SPDX-License-Identifier: MIT */
/* Certificates in PEM files. Under secret_lock(). */
#ifndef SECURE_TLS_FILES_H
#define SECURE_TLS_FILES_H

#include <openssl/ssl.h>

/* [text] ca: who is believed; cert: ours, with the chain behind it; cert_key: its key, mode 0600. */
int tls_files_load(SSL_CTX *ctx, const char *ca, const char *cert, const char *cert_key);
/*
 * Bits (a key_role each) of what the certificate's holder may do: its OUs "borrower", "admin",
 * "metrics"; without any of these it borrows. peer: its common name.
 */
unsigned tls_files_roles(X509 *cert, char *peer, size_t room);

#endif
