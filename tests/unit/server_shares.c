/* SPDX-License-Identifier: MIT */
/*
 * A greedy borrower beside a small one, on a real server with one thread. Nothing is timed: the
 * server is stopped while both ask, so that it finds all of it at once, and the small one's second
 * request asks how many pages were read up to its turn.
 */
#include "server_client.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREEDY   4  /* connections */
#define REQUESTS 16 /* on each, of a whole message's pages */
#define PAGES    64

static struct donor d;
static char buf[PAGES * PAGE];

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_shares, .fini = stop, .timeout = 60);

struct ask {
	struct wire_header head;
	struct wire_seg seg;
};

static struct ask ask_pages(uint64_t slab, uint32_t pages)
{
	return (struct ask){client_header(WIRE_READ, 1, sizeof(struct wire_seg)),
			    client_seg(slab, 0, pages)};
}

static void halt(void)
{
	int status;

	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
	cr_assert_eq(waitpid(d.pid, &status, WUNTRACED), d.pid);
	cr_assert(WIFSTOPPED(status));
}

static uint64_t pages_read_at_the_turn_of(int fd, uint64_t slab)
{
	struct {
		struct ask read;
		struct wire_header stat;
	} asks = {ask_pages(slab, 1), client_header(WIRE_STAT, 0, 0)};
	struct wire_header a;
	struct wire_stat st;

	client_send(fd, &asks, sizeof asks);
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.status, 0);
	cr_assert(client_receive(fd, buf, PAGE));
	cr_assert(is_filled(buf, PAGE, 2));
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.op, htole16(WIRE_STAT));
	cr_assert(client_receive(fd, &st, sizeof st));
	return le64toh(st.pages_read);
}

static void take_answer(int fd)
{
	struct wire_header a;

	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.status, 0);
	cr_assert_eq(le32toh(a.bytes), sizeof buf);
	memset(buf, 0, sizeof buf);
	cr_assert(client_receive(fd, buf, sizeof buf));
	cr_assert(is_filled(buf, sizeof buf, 1));
}

static void small_beside_greedy(bool over_unix)
{
	int greedy[GREEDY], small;
	uint64_t slab, mine, before, read;
	struct wire_seg seg;

	donor_start(&d, (const char *const[]){"--threads", "1", "--slab", "256K", NULL});
	for (unsigned i = 0; i < GREEDY; i++)
		greedy[i] = client_open(&d, over_unix, 1);
	small = client_open(&d, over_unix, 2);
	cr_assert_eq(client_grant(greedy[0], 1, &slab), WIRE_OK);
	cr_assert_eq(client_grant(small, 1, &mine), WIRE_OK);
	fill(buf, sizeof buf, 1);
	seg = client_seg(slab, 0, PAGES);
	cr_assert_eq(client_write(greedy[0], &seg, 1, buf), WIRE_OK);
	fill(buf, PAGE, 2);
	seg = client_seg(mine, 0, 1);
	cr_assert_eq(client_write(small, &seg, 1, buf), WIRE_OK);
	before = le64toh(client_stat(small).pages_read);

	halt();
	for (unsigned i = 0; i < GREEDY; i++) {
		for (unsigned k = 0; k < REQUESTS; k++) {
			struct ask ask = ask_pages(slab, PAGES);

			client_send(greedy[i], &ask, sizeof ask);
		}
	}
	read = pages_read_at_the_turn_of(small, mine) - before;
	/* One share and the message that goes beyond it, twice if it was asked first in a round:
	 * 16 MiB were wanted. */
	cr_assert_leq(read, 4 * PAGES, "it waited for %llu pages", (unsigned long long)read);
	for (unsigned k = 0; k < REQUESTS; k++)
		for (unsigned i = 0; i < GREEDY; i++)
			take_answer(greedy[i]);
	cr_assert_eq(le64toh(client_stat(small).pages_read) - before,
		     GREEDY * REQUESTS * PAGES + 1);
}

Test(server_shares, a_small_request_does_not_wait_for_all_a_greedy_borrower_asked_for)
{
	small_beside_greedy(false);
}

Test(server_shares, nor_does_it_over_a_unix_socket)
{
	small_beside_greedy(true);
}
