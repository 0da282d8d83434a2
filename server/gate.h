/* SPDX-License-Identifier: MIT */
/*
 * Who may come in. A server without a gate lets everybody do everything; one with a gate asks TCP
 * connections for a key (TLS, or AUTH where that is allowed). The keys may be exchanged while
 * sessions run: those that are open stay, new ones need the new keys. Any thread.
 */
#ifndef SERVER_GATE_H
#define SERVER_GATE_H

#include "secure/key.h"
#include <infuse/wire.h>

/* What a session may do; the key that it was opened with says so. */
#define SRV_ROLE_BORROWER 1u
#define SRV_ROLE_ADMIN    2u
#define SRV_ROLE_METRICS  4u
#define SRV_ROLE_ALL      (SRV_ROLE_BORROWER | SRV_ROLE_ADMIN | SRV_ROLE_METRICS)

struct srv_gate;
struct tls;

struct srv_gate_options {
	const char *key_file;             /* NULL: only certificates let anybody in */
	const char *ca, *cert, *cert_key; /* PEM files, all or none */
	bool allow_plain;                 /* AUTH without TLS will do */
};

/* [text] The names of the files stay the caller's. */
int srv_gate_open(const struct srv_gate_options *o, struct srv_gate **ret);
void srv_gate_close(struct srv_gate *g); /* takes NULL */
/* [text] Reads the files again; the keys stay as they were if it can't be. */
int srv_gate_reload(struct srv_gate *g);

bool srv_gate_allows_plain(const struct srv_gate *g);
/* Is it the proof of one of the keys? hello: as it was sent. */
bool srv_gate_proof(struct srv_gate *g, const struct wire_hello *hello,
		    const struct wire_auth *challenge, const struct wire_auth *proof);
/* [text] Begins a handshake, with the keys and certificates of now. */
int srv_gate_handshake(struct srv_gate *g, struct tls **ret);
/* SRV_ROLE_* of bits of key_role. */
uint8_t srv_gate_roles(unsigned bits);

#endif
