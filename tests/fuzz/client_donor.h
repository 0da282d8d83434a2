/* SPDX-License-Identifier: MIT */
/*
 * Donors that can't be trusted: they take the client's frames (and abort if one breaks the
 * protocol), and the moves say how each is answered: rightly, in another order, twice, spoilt, with
 * an error, cut off, never.
 */
#ifndef TESTS_FUZZ_CLIENT_DONOR_H
#define TESTS_FUZZ_CLIENT_DONOR_H

#include "play.h"

#include <stdbool.h>

#define DONOR_SOCKETS 32u

void donor_open(struct moves *m);
/* The client must have closed its sockets. Returns the frames that it sent. */
unsigned donor_end(void);
/* From now on, all is answered rightly: so that the client comes to an end. */
void donor_behave(void);

unsigned donor_socket(void);
long donor_connect(unsigned s, unsigned port);
long donor_send(unsigned s, const void *p, size_t n);
long donor_receive(unsigned s, void *p, size_t n);
short donor_ready(unsigned s, short events);
void donor_close(unsigned s);
/* Somebody does something; false: time passes instead. */
bool donor_move(void);

#endif
