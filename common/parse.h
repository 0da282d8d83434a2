/* SPDX-License-Identifier: MIT */
/* Reads what people write: sizes, times, numbers. 0 or a negative errno with err_text() set. */
#ifndef COMMON_PARSE_H
#define COMMON_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* Outputs are untouched on failure. */

/* "4096", "64K", "1.5G", "2GiB": powers of 1024, in bytes, below 8 EiB. */
int parse_size(const char *s, uint64_t *bytes);
/* "25%" gives 25 in percent and 0 in bytes; a size gives bytes and 0 in percent. */
int parse_share(const char *s, uint64_t *bytes, unsigned *percent);
/* "250us", "30ms", "10s", "2m"; a bare number means seconds. In ns. */
int parse_duration(const char *s, uint64_t *ns);
/* "4+2": an erasure code's fragments and parities, 2, 4 or 8 and 1 to 8. */
int parse_code(const char *s, unsigned *data, unsigned *parity);
/* Decimal, or hexadecimal after 0x. */
int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *value);
/* Writes "1.5 GiB" and the like (24 bytes hold any); returns buf. */
const char *format_size(uint64_t bytes, char *buf, size_t len);

#endif
