/* SPDX-License-Identifier: MIT */
/*
 * What infuse donors makes of peers that are no good: each sends something a memory server would
 * not, on a real socket, and the client ends in time, with the right words and nothing leaked.
 */
#include "cli/donor.h"
#include "common/clock.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static char path[200];

/* One answer of the peer: a header and a body, or bytes as they are. */
struct answer {
	struct wire_header head;
	unsigned char body[2048];
	size_t bytes;
	bool raw;     /* the body alone */
	size_t cut;   /* send so many bytes only, then be silent; 0: all */
	bool hang_up; /* close after it */
};

struct peer {
	int listener;
	struct answer answer[2];
	unsigned answers;
	bool one_by_one; /* a byte a time */
};

static bool send_all(int fd, const void *p, size_t n, bool one_by_one)
{
	for (size_t at = 0; at < n;) {
		ssize_t r = send(fd, (const char *)p + at, one_by_one ? 1 : n - at, MSG_NOSIGNAL);

		if (r <= 0)
			return false;
		at += (size_t)r;
	}
	return true;
}

static void *serve(void *arg)
{
	struct peer *p = arg;
	char request[256];
	int fd = accept(p->listener, NULL, NULL);

	for (unsigned i = 0; i < p->answers; i++) {
		struct answer *a = &p->answer[i];
		unsigned char out[sizeof a->head + sizeof a->body];
		size_t n = a->raw ? 0 : sizeof a->head;

		if (read(fd, request, sizeof request) <= 0)
			break;
		memcpy(out, &a->head, n);
		memcpy(out + n, a->body, a->bytes);
		n += a->bytes;
		if (a->cut && a->cut < n)
			n = a->cut;
		if (!send_all(fd, out, n, p->one_by_one) || a->hang_up)
			break;
	}
	if (!p->answers || !p->answer[p->answers - 1].hang_up)
		while (read(fd, request, sizeof request) > 0)
			;
	close(fd);
	return NULL;
}

static void welcome(struct answer *a)
{
	struct wire_welcome w = {.magic = htole64(WIRE_MAGIC),
				 .major = htole16(WIRE_MAJOR),
				 .minor = htole16(WIRE_MINOR)};

	*a = (struct answer){.head = {.op = htole16(WIRE_HELLO),
				      .flags = htole16(WIRE_F_REPLY),
				      .tag = htole64(WIRE_HELLO),
				      .bytes = htole32(sizeof w)},
			     .bytes = sizeof w};
	memcpy(a->body, &w, sizeof w);
}

static void stat_answer(struct answer *a, const char *name, unsigned borrowers)
{
	struct wire_stat s = {.slabs_total = htole64(16),
			      .slabs_free = htole64(10),
			      .slab_pages = htole32(1024),
			      .pages_read = htole64(7),
			      .pages_written = htole64(9),
			      .borrowers = htole32(borrowers)};
	struct wire_borrower b = {.name = "sort", .pid = htole32(42), .slabs = htole64(6)};

	memcpy(s.name, name, strnlen(name, sizeof s.name));
	*a = (struct answer){.head = {.op = htole16(WIRE_STAT),
				      .flags = htole16(WIRE_F_REPLY),
				      .tag = htole64(WIRE_STAT),
				      .count = htole32(borrowers)}};
	a->bytes = sizeof s + borrowers * sizeof b;
	a->head.bytes = htole32((uint32_t)a->bytes);
	memcpy(a->body, &s, sizeof s);
	for (unsigned i = 0; i < borrowers; i++)
		memcpy(a->body + sizeof s + i * sizeof b, &b, sizeof b);
}

/* Asks the peer; the list's one donor is the result. */
static struct donor_list ask(struct peer *p, uint64_t timeout_ms, unsigned borrowers)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct opt_list given = {.count = 1};
	struct donor_list l;
	char address[220];
	uint64_t begun;
	pthread_t t;

	snprintf(path, sizeof path, "%s/infuse-peer.%d",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
	snprintf(un.sun_path, sizeof un.sun_path, "%.100s", path);
	snprintf(address, sizeof address, "unix:%s", path);
	unlink(path);
	p->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(p->listener, (struct sockaddr *)&un, sizeof un), 0);
	cr_assert_eq(listen(p->listener, 5), 0);
	pthread_create(&t, NULL, serve, p);
	given.item[0] = address;
	cr_assert_eq(donor_find(&given, NULL, &l), 0, "%s", err_text());
	begun = clock_ns();
	donor_ask(&l, borrowers, timeout_ms * NSEC_PER_MSEC);
	cr_assert_lt(clock_ns() - begun, (timeout_ms + 2000) * NSEC_PER_MSEC);
	pthread_join(t, NULL);
	close(p->listener);
	unlink(path);
	return l;
}

static void refused(struct peer *p, const char *words)
{
	struct donor_list l = ask(p, 300, 4);

	cr_assert_lt(l.item[0].status, 0);
	cr_assert(strstr(l.item[0].why, words), "'%s' is not in '%s'", words, l.item[0].why);
	cr_assert_eq(donor_verdict(&l), -EHOSTUNREACH);
	cr_assert_str_eq(err_text(), l.item[0].why);
	donor_list_free(&l);
}

TestSuite(donor_client, .timeout = 30);

Test(donor_client, a_good_answer_is_understood_even_byte_by_byte)
{
	struct peer p = {.answers = 2, .one_by_one = true};
	struct donor_list l;

	welcome(&p.answer[0]);
	stat_answer(&p.answer[1], "alpha", 2);
	l = ask(&p, 5000, 4);
	cr_assert_eq(l.item[0].status, 0, "%s", l.item[0].why);
	cr_assert_str_eq(l.item[0].name, "alpha");
	cr_assert_eq(l.item[0].stat.slab_bytes, 4 << 20);
	cr_assert_eq(l.item[0].stat.slabs_free, 10);
	cr_assert_eq(l.item[0].stat.pages_written, 9);
	cr_assert_eq(l.item[0].borrowers, 2);
	cr_assert_str_eq(l.item[0].borrower[1].name, "sort");
	cr_assert_eq(l.item[0].borrower[1].pid, 42);
	cr_assert_eq(donor_verdict(&l), 0);
	donor_list_free(&l);
}

Test(donor_client, names_can_not_spoil_a_terminal_or_json)
{
	struct peer p = {.answers = 2};
	struct donor_list l;

	welcome(&p.answer[0]);
	stat_answer(&p.answer[1], "a\033[31m\xff\xc3\xa9\xc2\x9b\n\xe2\x82", 0);
	l = ask(&p, 5000, 0);
	cr_assert_eq(l.item[0].status, 0, "%s", l.item[0].why);
	cr_assert_str_eq(l.item[0].name, "a?[31m?\xc3\xa9???"
					 "??");
	donor_list_free(&l);
}

Test(donor_client, silence_ends_in_time)
{
	struct peer p = {0};

	refused(&p, "no answer within 0.3 s");
}

Test(donor_client, half_an_answer_ends_in_time)
{
	struct peer p = {.answers = 2};

	welcome(&p.answer[0]);
	p.answer[0].cut = 100;
	refused(&p, "no answer within 0.3 s");
	p.answer[0].cut = 0;
	stat_answer(&p.answer[1], "a", 2);
	p.answer[1].cut = 300;
	refused(&p, "no answer within 0.3 s");
	p.answer[1].hang_up = true;
	refused(&p, "it closed the connection");
}

Test(donor_client, another_protocol_is_told_as_such)
{
	struct peer p = {.answers = 1};

	p.answer[0] = (struct answer){.raw = true, .bytes = 40, .hang_up = true};
	memcpy(p.answer[0].body, "HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", 40);
	refused(&p, "not a memory server");
	memset(p.answer[0].body, 0xff, 40);
	refused(&p, "not a memory server");
	welcome(&p.answer[0]);
	p.answer[0].body[0] ^= 1;
	refused(&p, "it speaks another protocol");
	welcome(&p.answer[0]);
	p.answer[0].head.bytes = htole32(100);
	p.answer[0].bytes = 100;
	refused(&p, "its welcome breaks the protocol");
}

Test(donor_client, a_refusal_is_told_in_words)
{
	struct peer p = {.answers = 1};

	welcome(&p.answer[0]);
	p.answer[0].head.status = htole32(WIRE_EVERSION);
	p.answer[0].head.bytes = 0;
	p.answer[0].bytes = 0;
	refused(&p, "no common protocol version");
	p.answer[0].head.status = htole32(9999);
	refused(&p, "an error this program doesn't know");
}

Test(donor_client, lengths_that_lie_are_refused)
{
	struct peer p = {.answers = 2};

	welcome(&p.answer[0]);
	stat_answer(&p.answer[1], "a", 2);
	p.answer[1].head.count = htole32(1);
	refused(&p, "its answer breaks the protocol");
	p.answer[1].head.count = htole32(0xffffffffu);
	refused(&p, "its answer breaks the protocol");
	stat_answer(&p.answer[1], "a", 5);
	refused(&p, "its answer breaks the protocol"); /* more than it was asked for */
	stat_answer(&p.answer[1], "a", 0);
	p.answer[1].head.bytes = htole32(0x7fffffff);
	refused(&p, "not a memory server");
	stat_answer(&p.answer[1], "a", 0);
	p.answer[1].head.tag = htole64(77);
	refused(&p, "not a memory server");
}
