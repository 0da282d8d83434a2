/* SPDX-License-Identifier: MIT */
/*
 * Sealing: pages leave this process encrypted with AES-256-GCM and come back checked by its tag, so
 * donors, their disks and the wire hold nothing to read. The key is random, the volume's own, and
 * exists in this process only. Beside each page's hash stand 24 bytes: which generation of the page
 * was written last, and its tag; an older one or another page's does not open.
 *
 * A nonce is 48 bits of page and 48 of generation, and no generation comes twice. A forked child
 * has the same pages and generations as its parent: so it reads with the keys there are and writes
 * with a new one (a branch), whose number is in the upper 16 bits of a generation.
 *
 * Nothing allocates or blocks after seal_open(). Any thread that owns the page.
 */
#ifndef PAGESTORE_SEAL_H
#define PAGESTORE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#define SEAL_BRANCHES 64u /* forks of forks; their keys are kept to read what they wrote */

struct seal;

/* [text] For a volume of so many pages whose borrower is id. */
int seal_open(struct seal **ret, uint64_t pages, const unsigned char id[16]);
void seal_close(struct seal *s); /* takes NULL; wipes the keys */
/* [text] A new key for what is written from now on. -EMFILE: too many forks of forks. */
int seal_branch(struct seal *s, const unsigned char id[16]);

/* Seals a page into `to` (not `from`), and remembers its generation and tag. */
void seal_page(struct seal *s, uint64_t page, const void *from, void *to);
/* Opens what a donor sent, in place. False: not what was written last; buf holds nothing of use. */
bool seal_unseal(struct seal *s, uint64_t page, void *buf);
/* Changes with every write of the page. */
uint64_t seal_stamp(const struct seal *s, uint64_t page);
/* The same into another page, which holds nothing of use when it fails. */
bool seal_check(struct seal *s, uint64_t page, const void *sealed, void *scratch);
/* The page will be opened soon: what that takes is brought near meanwhile. */
void seal_prefetch(const struct seal *s, uint64_t page);

#endif
