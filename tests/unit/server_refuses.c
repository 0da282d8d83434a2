/* SPDX-License-Identifier: MIT */
/*
 * What a client may not do: each error of the protocol that this server can answer with, and after
 * each the session still works, or is over where the stream can't be trusted any more. Nothing that
 * was refused may have changed a byte.
 */
#include "server_client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct donor d;
static char buf[WIRE_MAX_SEGS * sizeof(struct wire_seg) + (WIRE_MAX_PAGES + 1) * PAGE];

static void start(void)
{
	donor_start(&d, (const char *const[]){"--hello-timeout", "1s", NULL});
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_refuses, .init = start, .fini = stop, .timeout = 60);

static uint32_t ask(int fd, uint16_t op, uint32_t count, size_t bytes)
{
	return client_ask(fd, op, count, buf, bytes, NULL, NULL);
}

static void ping(int fd)
{
	cr_assert_eq(client_ask(fd, WIRE_PING, 0, NULL, 0, NULL, NULL), WIRE_OK);
}

Test(server_refuses, other_versions_with_a_word)
{
	static const struct {
		uint16_t major, minor, minor_min;
		uint32_t status;
		uint16_t spoken;
	} tries[] = {
		{WIRE_MAJOR, WIRE_MINOR, WIRE_MINOR, WIRE_OK, WIRE_MINOR},
		{WIRE_MAJOR, WIRE_MINOR - 1, 0, WIRE_OK, WIRE_MINOR - 1},
		{WIRE_MAJOR, WIRE_MINOR + 5, 0, WIRE_OK, WIRE_MINOR},
		{WIRE_MAJOR, WIRE_MINOR + 5, WIRE_MINOR + 1, WIRE_EVERSION, 0},
		{WIRE_MAJOR, WIRE_MINOR - 1, WIRE_MINOR, WIRE_EVERSION, 0},
		{WIRE_MAJOR + 1, 0, 0, WIRE_EVERSION, 0},
		{0, 0, 0, WIRE_EVERSION, 0},
	};

	for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
		int fd = client_connect(&d, i & 1);
		struct wire_hello h = client_hello(1);
		struct wire_welcome w;
		size_t n = sizeof w;

		h.major = htole16(tries[i].major);
		h.minor = htole16(tries[i].minor);
		h.minor_min = htole16(tries[i].minor_min);
		cr_assert_eq(client_ask(fd, WIRE_HELLO, 0, &h, sizeof h, &w, &n), tries[i].status,
			     "try %u", i);
		if (tries[i].status)
			cr_assert(client_closed(fd));
		else
			cr_assert_eq(le16toh(w.minor), tries[i].spoken);
		close(fd);
	}
}

Test(server_refuses, operations_that_are_newer_than_the_session)
{
	int fd = client_connect(&d, true);
	struct wire_hello h = client_hello(1);
	struct wire_welcome w;
	size_t n = sizeof w;
	struct wire_generation g = {0};
	uint64_t slab;

	h.minor = htole16(1);
	h.minor_min = htole16(1);
	cr_assert_eq(client_ask(fd, WIRE_HELLO, 0, &h, sizeof h, &w, &n), WIRE_OK);
	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	cr_assert_eq(ask(fd, WIRE_TOKEN, 0, 0), WIRE_EOP);
	g.slab = htole64(slab);
	n = 0;
	cr_assert_eq(client_ask(fd, WIRE_GENERATION, 1, &g, sizeof g, NULL, &n), WIRE_EOP);
	cr_assert_eq(client_free(fd, &slab, 1), WIRE_OK);
}

static void hello_is_refused(struct wire_hello h, bool with_answer)
{
	int fd = client_connect(&d, false);
	struct wire_header m = client_header(WIRE_HELLO, 0, sizeof h), a;

	client_send(fd, &m, sizeof m);
	client_send(fd, &h, sizeof h);
	if (with_answer) {
		cr_assert(client_receive(fd, &a, sizeof a));
		cr_assert_eq(le32toh(a.status), WIRE_EPROTO);
	}
	cr_assert(client_closed(fd));
	close(fd);
}

Test(server_refuses, hellos_with_reserved_fields_or_the_wrong_magic)
{
	struct wire_hello h = client_hello(1);

	h.magic ^= 1;
	hello_is_refused(h, false);
	h = client_hello(1);
	h.flags = htole16(0x8000);
	hello_is_refused(h, true);
	h = client_hello(1);
	h.reserved = htole32(0x80000000u);
	hello_is_refused(h, true);
	h = client_hello(1);
	h.token[31] = 1;
	hello_is_refused(h, true);
}

Test(server_refuses, whoever_says_nothing_or_half_a_hello_in_time)
{
	int silent = client_connect(&d, false), half = client_connect(&d, true);
	struct wire_header h = client_header(WIRE_HELLO, 0, sizeof(struct wire_hello));

	client_send(half, &h, sizeof h);
	cr_assert(client_closed(silent));
	cr_assert(client_closed(half));
	until(donor_said(&d, "said no hello in time"));
}

Test(server_refuses, messages_whose_header_breaks_the_protocol_and_hangs_up)
{
	for (int i = 0; i < 6; i++) {
		int fd = client_open(&d, i & 1, 1);
		struct wire_header h = client_header(WIRE_PING, 0, 0), a;
		uint32_t status = WIRE_EPROTO;

		if (i == 0)
			h.flags = htole16(WIRE_F_REPLY);
		if (i == 1)
			h.flags = htole16(0x8000);
		if (i == 2)
			h.status = htole32(1);
		if (i == 3)
			h.tag = 0;
		if (i == 4)
			h.op = htole16(WIRE_HELLO);
		if (i == 5) {
			h.bytes = htole32(WIRE_MAX_BODY + 1);
			status = WIRE_ELIMIT;
		}
		client_send(fd, &h, sizeof h);
		cr_assert(client_receive(fd, &a, sizeof a));
		cr_assert_eq(le32toh(a.status), status, "case %d", i);
		cr_assert(client_closed(fd));
		close(fd);
	}
}

Test(server_refuses, messages_that_make_no_sense_and_goes_on)
{
	int fd = client_open(&d, false, 1);
	struct wire_header h = client_header(WIRE_PING, 0, 0), a;

	h.epoch = htole64(1);
	client_send(fd, &h, sizeof h);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(le32toh(a.status), WIRE_EPROTO);

	cr_assert_eq(ask(fd, 0, 0, 0), WIRE_EOP);
	cr_assert_eq(ask(fd, WIRE_RECLAIM, 0, 0), WIRE_EOP);
	cr_assert_eq(ask(fd, 14, 3, 1000), WIRE_EOP);
	cr_assert_eq(ask(fd, WIRE_RKEYS, 1, 8), WIRE_ENOTRDMA);
	cr_assert_eq(ask(fd, 65535, 3, WIRE_MAX_BODY), WIRE_EOP);

	cr_assert_eq(ask(fd, WIRE_READ, 0, 0), WIRE_EPROTO);
	cr_assert_eq(ask(fd, WIRE_FREE, 0, 0), WIRE_EPROTO);
	cr_assert_eq(ask(fd, WIRE_PING, 1, 0), WIRE_EPROTO);
	cr_assert_eq(ask(fd, WIRE_GRANT, 2, 2 * sizeof(struct wire_grant)), WIRE_EPROTO);

	cr_assert_eq(ask(fd, WIRE_PING, 0, 1), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_STAT, 4, 4), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_READ, 1, 15), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_READ, 1, 17), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_READ, 2, 16), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_WRITE, 1, 0), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_WRITE, 1, 16 + 4095), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_GRANT, 1, 31), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_CLONE, 1, 80), WIRE_ELENGTH);

	cr_assert_eq(ask(fd, WIRE_READ, WIRE_MAX_SEGS + 1, 0), WIRE_ELIMIT);
	cr_assert_eq(ask(fd, WIRE_WRITE, UINT32_MAX, 64), WIRE_ELIMIT);
	cr_assert_eq(ask(fd, WIRE_TRIM, 0x10000000, 0), WIRE_ELIMIT);
	cr_assert_eq(ask(fd, WIRE_FREE, WIRE_MAX_SLABS + 1, 8 * (WIRE_MAX_SLABS + 1)), WIRE_ELIMIT);
	cr_assert_eq(ask(fd, WIRE_CLONE, WIRE_MAX_SLABS + 1, 0), WIRE_ELIMIT);
	cr_assert_eq(ask(fd, WIRE_MAP, WIRE_MAX_FDS + 1, 0), WIRE_ELIMIT);
	ping(fd);
	close(fd);
}

static uint32_t grant(int fd, struct wire_grant g)
{
	return client_ask(fd, WIRE_GRANT, 1, &g, sizeof g, NULL, NULL);
}

Test(server_refuses, grants_and_clones_that_can_not_be)
{
	int fd = client_open(&d, true, 1);
	uint64_t slab[64], free_before;

	cr_assert_eq(grant(fd, (struct wire_grant){0}), WIRE_EPROTO);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(1), .flags = 1}), WIRE_EPROTO);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(1), .volume = 1}), WIRE_EPROTO);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(1), .reserved = {[15] = 1}}),
		     WIRE_EPROTO);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(WIRE_MAX_SLABS + 1)}),
		     WIRE_ELIMIT);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(65)}), WIRE_ENOSPC);
	free_before = client_slabs_free(fd);
	cr_assert_eq(free_before, 64, "a refused grant takes nothing");
	cr_assert_eq(client_grant(fd, 40, slab), WIRE_OK);
	cr_assert_eq(client_clone(fd, 2, slab, 25, slab + 32), WIRE_ENOSPC);
	cr_assert_eq(client_clone(fd, 0, slab, 1, slab + 32), WIRE_EPROTO);
	slab[1] ^= 1ull << 40;
	cr_assert_eq(client_clone(fd, 2, slab, 2, slab + 32), WIRE_ESLAB);
	cr_assert_eq(client_slabs_free(fd), 24);
}

Test(server_refuses, pages_that_are_not_there)
{
	int fd = client_open(&d, false, 1);
	static char page[1100 * PAGE];
	struct wire_seg seg[2];
	uint64_t slab[2];

	cr_assert_eq(client_grant(fd, 2, slab), WIRE_OK);
	seg[0] = client_seg(slab[0], 0, 1);
	memset(page, 0x77, sizeof page);
	static const struct {
		uint32_t page, pages, status;
	} tries[] = {
		{16, 1, WIRE_ERANGE},         {15, 2, WIRE_ERANGE},
		{0, 17, WIRE_ERANGE},         {UINT32_MAX, 1, WIRE_ERANGE},
		{UINT32_MAX, 2, WIRE_ERANGE}, {0, 0, WIRE_EPROTO},
		{0, 1024, WIRE_ELIMIT},       {3, 1, WIRE_OK},
	};
	for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
		seg[1] = client_seg(slab[1], tries[i].page, tries[i].pages);
		if (tries[i].status == WIRE_OK)
			continue;
		cr_assert_eq(client_write(fd, seg, 2, page), tries[i].status, "try %u", i);
		cr_assert_eq(client_trim(fd, seg, 2), tries[i].status);
		cr_assert_eq(client_ask(fd, WIRE_READ, 2, seg, sizeof seg, NULL, NULL),
			     tries[i].status);
		/* the good segment was not touched either */
		cr_assert_eq(client_read(fd, seg, 1, buf), WIRE_OK);
		cr_assert(is_zero(buf, PAGE));
	}
	/* segments that promise fewer pages than the message carries */
	seg[1] = client_seg(slab[1], 0, 1);
	memcpy(buf, seg, sizeof seg);
	cr_assert_eq(ask(fd, WIRE_WRITE, 2, sizeof seg + 3 * PAGE), WIRE_ELENGTH);
	cr_assert_eq(ask(fd, WIRE_WRITE, 2, sizeof seg + PAGE), WIRE_ELENGTH);
	ping(fd);
}

static void nothing_works(int fd, uint64_t slab)
{
	static char page[PAGE] = "not mine";
	struct wire_seg seg = client_seg(slab, 0, 1);
	uint64_t out;

	cr_assert_eq(client_ask(fd, WIRE_READ, 1, &seg, sizeof seg, NULL, NULL), WIRE_ESLAB);
	cr_assert_eq(client_write(fd, &seg, 1, page), WIRE_ESLAB);
	cr_assert_eq(client_trim(fd, &seg, 1), WIRE_ESLAB);
	cr_assert_eq(client_free(fd, &slab, 1), WIRE_ESLAB);
	cr_assert_eq(client_clone(fd, 9, &slab, 1, &out), WIRE_ESLAB);
}

Test(server_refuses, slabs_of_others_and_slabs_of_the_past)
{
	int mine = client_open(&d, false, 1), other = client_open(&d, false, 2);
	struct wire_seg seg;
	uint64_t slab[2], again[64], twice[2];

	cr_assert_eq(client_grant(mine, 2, slab), WIRE_OK);
	nothing_works(other, slab[0]);
	nothing_works(mine, slab[0] ^ 1ull << 32);
	nothing_works(mine, slab[0] | 0xffffffffu);
	nothing_works(mine, 0);
	twice[0] = twice[1] = slab[1];
	cr_assert_eq(client_free(mine, twice, 2), WIRE_ESLAB);
	seg = client_seg(slab[1], 0, 1);
	cr_assert_eq(client_read(mine, &seg, 1, buf), WIRE_OK, "a refused FREE frees nothing");
	cr_assert_eq(client_free(mine, slab, 1), WIRE_OK);
	nothing_works(mine, slab[0]);
	/* also when its memory and its slot are in use again */
	cr_assert_eq(client_grant(mine, 63, again), WIRE_OK);
	nothing_works(mine, slab[0]);
	nothing_works(other, slab[0]);
}

Test(server_refuses, those_who_only_ask_to_borrow)
{
	int fd = client_open(&d, true, 0);
	struct wire_stat st = client_stat(fd);

	cr_assert_eq(le32toh(st.borrowers), 0);
	ping(fd);
	cr_assert_eq(grant(fd, (struct wire_grant){.slabs = htole32(1)}), WIRE_EDENIED);
	cr_assert_eq(ask(fd, WIRE_READ, 1, 16), WIRE_EDENIED);
	cr_assert_eq(ask(fd, WIRE_WRITE, 1, 16 + PAGE), WIRE_EDENIED);
	cr_assert_eq(ask(fd, WIRE_GOODBYE, 0, 0), WIRE_EDENIED);
	ping(fd);
}

Test(server_refuses, to_hand_memory_over_tcp)
{
	int fd = client_open(&d, false, 1);
	uint64_t slab, le;

	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	le = htole64(slab);
	cr_assert_eq(client_ask(fd, WIRE_MAP, 1, &le, sizeof le, NULL, NULL), WIRE_ENOTUNIX);
}
