/* SPDX-License-Identifier: MIT */
/*
 * A server's life and its borrowers' comings and goings: the grace, goodbyes, draining, idleness,
 * peers that stop reading, and strangers who talk nonsense.
 */
#include "server_client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct donor d;
static char buf[64 * PAGE];

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_lives, .fini = stop, .timeout = 120);

static void start(const char *const *more)
{
	donor_start(&d, more);
}

#define START(...) start((const char *const[]){__VA_ARGS__, NULL})

Test(server_lives, a_borrower_that_comes_back_within_its_grace_finds_its_pages)
{
	START("--grace", "20s");
	int fd = client_open(&d, false, 1), other = client_open(&d, true, 0);
	struct wire_seg seg;
	uint64_t slab[3];

	cr_assert_eq(client_grant(fd, 3, slab), WIRE_OK);
	seg = client_seg(slab[2], 3, 2);
	fill(buf, 2 * PAGE, 5);
	cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
	close(fd);
	until(le32toh(client_stat(other).sessions) == 1);
	cr_assert_eq(client_slabs_free(other), 61);
	fd = client_open(&d, true, 1);
	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
	cr_assert(is_filled(buf, 2 * PAGE, 5));
}

Test(server_lives, a_borrower_that_does_not_come_back_is_freed_after_its_grace)
{
	START("--grace", "300ms");
	int fd = client_open(&d, false, 1), other = client_open(&d, true, 0);
	uint64_t slab[3];

	cr_assert_eq(client_grant(fd, 3, slab), WIRE_OK);
	client_nap();
	cr_assert_eq(client_slabs_free(other), 61, "no grace while it is connected");
	close(fd);
	until(client_slabs_free(other) == 64);
	cr_assert_eq(le32toh(client_stat(other).borrowers), 0);
}

Test(server_lives, a_transient_borrower_that_hangs_up_is_freed_without_a_grace)
{
	START("--grace", "60s");
	int fd = client_connect(&d, false), other = client_open(&d, true, 0);
	struct wire_header head = client_header(WIRE_HELLO, 0, sizeof(struct wire_hello));
	struct wire_hello hello = client_hello(1);
	struct wire_welcome welcome;
	uint64_t slab[3];

	hello.flags = htole16(WIRE_HELLO_F_TRANSIENT);
	client_send(fd, &head, sizeof head);
	client_send(fd, &hello, sizeof hello);
	cr_assert(client_receive(fd, &head, sizeof head));
	cr_assert_eq(head.status, 0);
	cr_assert(client_receive(fd, &welcome, sizeof welcome));
	cr_assert_eq(client_grant(fd, 3, slab), WIRE_OK);
	cr_assert_eq(client_slabs_free(other), 61);
	close(fd);
	until(client_slabs_free(other) == 64);
}

Test(server_lives, the_grace_of_a_clone_begins_with_the_clone)
{
	START("--grace", "1s");
	int fd = client_open(&d, false, 1), child;
	uint64_t slab[2], kept, lost;

	cr_assert_eq(client_grant(fd, 2, slab), WIRE_OK);
	cr_assert_eq(client_clone(fd, 2, slab, 1, &kept), WIRE_OK);
	cr_assert_eq(client_clone(fd, 3, slab, 1, &lost), WIRE_OK);
	child = client_open(&d, false, 2);
	cr_assert_eq(client_slabs_free(fd), 60);
	until(client_slabs_free(fd) == 61);
	cr_assert_eq(client_free(child, &kept, 1), WIRE_OK);
}

Test(server_lives, a_goodbye_frees_at_once_and_the_next_one_starts_anew)
{
	START("--grace", "60s");
	int fd = client_open(&d, false, 1);
	struct wire_seg seg;
	uint64_t slab[64];

	cr_assert_eq(client_grant(fd, 64, slab), WIRE_OK);
	seg = client_seg(slab[0], 0, 1);
	cr_assert_eq(client_ask(fd, WIRE_GOODBYE, 0, NULL, 0, NULL, NULL), WIRE_OK);
	cr_assert_eq(client_slabs_free(fd), 64);
	cr_assert_eq(client_ask(fd, WIRE_READ, 1, &seg, sizeof seg, NULL, NULL), WIRE_ESLAB);
	cr_assert_eq(client_grant(fd, 64, slab), WIRE_OK);
}

Test(server_lives, told_to_end_it_waits_for_its_borrowers_and_grants_nothing)
{
	START("--drain-timeout", "30s");
	int fd = client_open(&d, false, 1);
	struct wire_seg seg;
	uint64_t slab, clone;

	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	kill(d.pid, SIGTERM);
	until(donor_said(&d, "waiting up to"));
	cr_assert_eq(client_grant(fd, 1, &clone), WIRE_EDRAINING);
	cr_assert_eq(client_clone(fd, 2, &slab, 1, &clone), WIRE_EDRAINING);
	seg = client_seg(slab, 0, 1);
	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK, "data still flows");
	until(access(d.socket, F_OK)); /* nobody new */
	close(fd);
	cr_assert_eq(donor_end(&d, 0), 0);
}

Test(server_lives, told_to_end_it_waits_no_longer_than_it_was_told)
{
	START("--drain-timeout", "300ms");
	int fd = client_open(&d, true, 1);

	cr_assert_eq(donor_end(&d, SIGTERM), 0);
	cr_assert(client_closed(fd));
	cr_assert(donor_said(&d, "1 borrowers are cut off"));
}

Test(server_lives, told_to_end_twice_it_ends_at_once)
{
	START("--drain-timeout", "60s");
	int fd = client_open(&d, true, 1);

	kill(d.pid, SIGTERM);
	until(donor_said(&d, "waiting up to"));
	cr_assert_eq(donor_end(&d, SIGTERM), 1);
	cr_assert(client_closed(fd));
	cr_assert(access(d.socket, F_OK), "the socket file is gone");
}

Test(server_lives, with_exit_idle_it_ends_after_the_last_borrower)
{
	START("--exit-idle", "200ms", "--grace", "100ms");
	int only_asks = client_open(&d, true, 0), fd;

	for (int i = 0; i < 50; i++)
		client_nap();
	cr_assert_eq(kill(d.pid, 0), 0);
	client_stat(only_asks);
	fd = client_open(&d, true, 1);
	for (int i = 0; i < 50; i++)
		client_nap();
	client_stat(only_asks);
	close(fd);
	cr_assert_eq(donor_end(&d, 0), 0);
}

Test(server_lives, a_borrower_that_reads_nothing_stops_nobody_else)
{
	START("--threads", "1");
	int lazy = client_open(&d, false, 1), busy = client_open(&d, false, 2);
	struct wire_header h;
	struct wire_seg seg, mine;
	uint64_t slab, other;
	ssize_t n;

	cr_assert_eq(client_grant(lazy, 1, &slab), WIRE_OK);
	cr_assert_eq(client_grant(busy, 1, &other), WIRE_OK);
	/* It asks for more and more and takes nothing, until nothing more can be sent. */
	seg = client_seg(slab, 0, 16);
	do {
		h = client_header(WIRE_READ, 1, sizeof seg);
		memcpy(buf, &h, sizeof h);
		memcpy(buf + sizeof h, &seg, sizeof seg);
		n = send(lazy, buf, sizeof h + sizeof seg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n > 0);
	mine = client_seg(other, 0, 1);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(client_read(busy, &mine, 1, buf), WIRE_OK);
	/* It frees the slab under its own unsent answers by another connection; nobody else's bytes
	 * may turn up in them. */
	int again = client_open(&d, false, 1);

	cr_assert_eq(client_free(again, &slab, 1), WIRE_OK);
	cr_assert_eq(client_grant(busy, 1, &other), WIRE_OK);
	mine = client_seg(other, 0, 16);
	memset(buf, 0x5a, 16 * PAGE);
	cr_assert_eq(client_write(busy, &mine, 1, buf), WIRE_OK);
	for (int i = 0; i < 100; i++) {
		struct wire_header a;

		cr_assert(client_receive(lazy, &a, sizeof a));
		if (a.status) {
			cr_assert_eq(le32toh(a.status), WIRE_ESLAB);
			break;
		}
		cr_assert(client_receive(lazy, buf, 16 * PAGE));
		cr_assert(is_zero(buf, 16 * PAGE));
	}
}

/* Streams of noise, of noise behind a good hello, and of good messages that end in the middle. */
static void stranger(uint64_t *rnd)
{
	int fd = client_connect(&d, random_next(rnd) & 1);
	size_t n = random_next(rnd) % 3000;
	struct wire_hello hello = client_hello(7 + (unsigned)(random_next(rnd) % 3));
	struct wire_header h = client_header(WIRE_HELLO, 0, sizeof hello);
	char noise[3008];

	fill(noise, sizeof noise, random_next(rnd));
	if (random_next(rnd) % 2) {
		memcpy(noise, &h, sizeof h);
		memcpy(noise + sizeof h, &hello, sizeof hello);
		n += sizeof h + sizeof hello;
		if (random_next(rnd) % 2) { /* a grant that is never given back */
			struct wire_grant g = {.slabs = htole32(2)};
			char *at = noise + sizeof h + sizeof hello;

			h = client_header(WIRE_GRANT, 1, sizeof g);
			memcpy(at, &h, sizeof h);
			memcpy(at + sizeof h, &g, sizeof g);
			n += sizeof h + sizeof g;
			if (random_next(rnd) % 2) { /* then a header that looks right */
				h = client_header((uint16_t)(1 + random_next(rnd) % 13),
						  (uint32_t)(random_next(rnd) % 8),
						  random_next(rnd) % 100000);
				memcpy(at + sizeof h + sizeof g, &h, sizeof h);
			}
		}
	}
	if (n > sizeof noise)
		n = sizeof noise;
	send(fd, noise, n, MSG_NOSIGNAL);
	if (random_next(rnd) % 2)
		shutdown(fd, SHUT_WR);
	if (random_next(rnd) % 4 == 0)
		(void)recv(fd, noise, sizeof noise, MSG_DONTWAIT);
	close(fd);
}

Test(server_lives, a_thousand_streams_of_garbage_leave_a_good_borrower_alone_and_leak_nothing)
{
	START("--grace", "100ms");
	int fd = client_open(&d, false, 1);
	uint64_t rnd = 4711, slab[4];
	struct wire_seg seg[4];

	cr_assert_eq(client_grant(fd, 4, slab), WIRE_OK);
	for (int i = 0; i < 4; i++) {
		seg[i] = client_seg(slab[i], 0, 16);
		fill(buf, 16 * PAGE, 50 + (unsigned)i);
		cr_assert_eq(client_write(fd, &seg[i], 1, buf), WIRE_OK);
	}
	for (int i = 0; i < 1000; i++)
		stranger(&rnd);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(client_read(fd, &seg[i], 1, buf), WIRE_OK);
		cr_assert(is_filled(buf, 16 * PAGE, 50 + (unsigned)i));
	}
	until(le32toh(client_stat(fd).sessions) == 1);
	until(client_slabs_free(fd) == 60);
	cr_assert(donor_said(&d, "closed "));
	cr_assert_gt(le64toh(client_stat(fd).refused), 100);
}

Test(server_lives, no_more_connections_than_it_was_told_and_says_so)
{
	START("--max-connections", "2");
	int a = client_open(&d, false, 1), b = client_open(&d, true, 0), c;

	c = client_connect(&d, false);
	cr_assert(client_closed(c));
	until(donor_said(&d, "--max-connections"));
	close(a);
	until(le32toh(client_stat(b).sessions) == 1);
	a = client_open(&d, false, 1);
	client_stat(a);
	close(c);
}

Test(server_lives, settings_change_on_sighup_and_stay_when_the_file_is_wrong)
{
	char path[300];
	FILE *f;

	START("--verbose"); /* without a file SIGHUP changes nothing */
	kill(d.pid, SIGHUP);
	until(donor_said(&d, "settings read again"));
	donor_stop(&d);

	snprintf(path, sizeof path, "/tmp/infuse-conf.%d", (int)getpid());
	f = fopen(path, "w");
	fputs("grace = 1h\nspin = 0\n", f);
	fclose(f);
	START("--config", path);
	int fd = client_open(&d, false, 1), other = client_open(&d, true, 0);
	uint64_t slab;

	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	close(fd);
	until(le32toh(client_stat(other).sessions) == 1);
	f = fopen(path, "w");
	fputs("grace = soon\n", f);
	fclose(f);
	kill(d.pid, SIGHUP);
	until(donor_said(&d, "'soon' is not a time"));
	cr_assert_eq(client_slabs_free(other), 63);
	f = fopen(path, "w");
	fputs("grace = 10ms\n", f);
	fclose(f);
	kill(d.pid, SIGHUP);
	until(client_slabs_free(other) == 64);
	remove(path);
}
