/* SPDX-License-Identifier: MIT */
/* What a verb shows donors on other machines: the options, and what they come to. */
#ifndef CLI_DONOR_KEY_H
#define CLI_DONOR_KEY_H

#include "common/options.h"
#include "secure/tls.h"

struct donor_keys {
	const char *key, *ca, *cert, *cert_key;
};

/* For a verb's table; keys: the field of its config. */
#define DONOR_KEY_OPTIONS(config, keys)                                                            \
	{.name = "key",                                                                            \
	 .letter = 'k',                                                                            \
	 .type = OPT_STRING,                                                                       \
	 .offset = offsetof(config, keys.key),                                                     \
	 .arg = "FILE",                                                                            \
	 .help = "know donors by a key of this file, and speak TLS [$INFUSE_KEY_FILE]"},           \
		{.name = "tls-ca",                                                                 \
		 .type = OPT_STRING,                                                               \
		 .offset = offsetof(config, keys.ca),                                              \
		 .arg = "FILE",                                                                    \
		 .help = "or know them by certificates of this CA (PEM)"},                         \
		{.name = "tls-cert",                                                               \
		 .type = OPT_STRING,                                                               \
		 .offset = offsetof(config, keys.cert),                                            \
		 .arg = "FILE",                                                                    \
		 .help = "and show this one"},                                                     \
	{                                                                                          \
		.name = "tls-cert-key", .type = OPT_STRING,                                        \
		.offset = offsetof(config, keys.cert_key), .arg = "FILE",                          \
		.help = "with its private key"                                                     \
	}

/*
 * [text] From now on donors are asked by TLS over TCP, as the options or the environment say: as
 * `role`, or as what the key file is for if it is a role's. Neither: plainly.
 */
int donor_secure(const struct donor_keys *k, enum key_role role);
/* NULL: plainly. */
struct tls_config *donor_tls(void);
/* Sets the variables by which a program that is started finds the same files. 0 or -errno. */
int donor_keys_export(const struct donor_keys *k);

#endif
