/* SPDX-License-Identifier: MIT */
/*
 * A borrower that speaks wire.h by hand, and a real server beside it, for the tests of the server.
 * Everything is bounded in time, and fails the running test by itself when it does not work.
 */
#ifndef TESTS_SERVER_CLIENT_H
#define TESTS_SERVER_CLIENT_H

#include <infuse/wire.h>
#include <criterion/criterion.h>
#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE WIRE_PAGE_SIZE

struct donor {
	pid_t pid;
	char folder[200];
	char tcp[128];    /* "tcp:127.0.0.1:PORT" */
	char socket[256]; /* the UNIX socket's path */
	char log[256];    /* the file with what it said */
};

/* Starts one with 64 slabs of 64 KiB; more: further options, NULL at the end, or NULL. */
void donor_start(struct donor *d, const char *const *more);
/* Sends the signal (0: none) and waits; returns the exit status, or -1 when it was killed. */
int donor_end(struct donor *d, int sig);
/* Ends it, checks what sanitizers said, and removes its folder. */
void donor_stop(struct donor *d);
bool donor_said(const struct donor *d, const char *words);
/* Polls until the condition holds, at most 10 s. */
#define until(condition)                                                                           \
	do {                                                                                       \
		int tries_ = 1000;                                                                 \
		while (!(condition) && --tries_)                                                   \
			client_nap();                                                              \
		cr_assert(tries_, "never true: %s", #condition);                                   \
	} while (0)
void client_nap(void);

/* A connection without a hello. */
int client_connect(const struct donor *d, bool over_unix);
/* With one. id: what the borrower's number is made of; 0: only asks. */
int client_open(const struct donor *d, bool over_unix, unsigned id);
struct wire_hello client_hello(unsigned id);
void client_id(unsigned id, uint8_t ret[16]);

void client_send(int fd, const void *p, size_t n);
/* False: the other end closed first. */
bool client_receive(int fd, void *p, size_t n);
bool client_closed(int fd);
struct wire_header client_header(uint16_t op, uint32_t count, size_t bytes);

/* Sends a request and takes its answer; up to *answer_bytes of body. Returns the status. */
uint32_t client_ask(int fd, uint16_t op, uint32_t count, const void *body, size_t bytes,
		    void *answer, size_t *answer_bytes);

uint32_t client_grant(int fd, uint32_t n, uint64_t *slabs);
uint32_t client_free(int fd, const uint64_t *slabs, uint32_t n);
uint32_t client_clone(int fd, unsigned owner, const uint64_t *slabs, uint32_t n, uint64_t *ret);
struct wire_seg client_seg(uint64_t slab, uint32_t page, uint32_t pages);
uint32_t client_read(int fd, const struct wire_seg *seg, uint32_t n, void *pages);
uint32_t client_write(int fd, const struct wire_seg *seg, uint32_t n, const void *pages);
uint32_t client_trim(int fd, const struct wire_seg *seg, uint32_t n);
struct wire_stat client_stat(int fd);
uint64_t client_slabs_free(int fd);

/* Bytes that depend on all arguments; the same each time. */
void fill(void *p, size_t n, uint64_t seed);
bool is_filled(const void *p, size_t n, uint64_t seed);
bool is_zero(const void *p, size_t n);
uint64_t random_next(uint64_t *state);

#endif
