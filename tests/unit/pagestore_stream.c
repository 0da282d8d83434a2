/* SPDX-License-Identifier: MIT */
/*
 * The wire's client end against servers that answer out of order, in pieces, or lie. The server is
 * this test, at the other end of a socketpair.
 */
#include "common/clock.h"
#include "common/error.h"
#include "pagestore/transport/stream.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE WIRE_PAGE_SIZE

static struct stream s;
static int peer;
static struct tp_hello hello;

static struct wire_welcome good_welcome(void)
{
	return (struct wire_welcome){
		.magic = htole64(WIRE_MAGIC),
		.major = htole16(WIRE_MAJOR),
		.minor = htole16(WIRE_MINOR),
		.slab_pages = htole32(1024),
		.max_segs = htole32(WIRE_MAX_SEGS),
		.max_pages = htole32(WIRE_MAX_PAGES),
		.max_slabs = htole32(WIRE_MAX_SLABS),
		.max_inflight = htole32(WIRE_MAX_INFLIGHT),
	};
}

/* The answer to a hello, said before it is asked. */
static int open_with(const struct wire_header *h, const void *body, size_t bytes)
{
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	peer = fd[1];
	cr_assert_eq(write(peer, h, sizeof *h), (ssize_t)sizeof *h);
	if (bytes)
		cr_assert_eq(write(peer, body, bytes), (ssize_t)bytes);
	s.base.t = &tp_unix;
	strcpy(s.base.addr.text, "unix:test");
	return stream_open(&s, fd[0], &hello, clock_ns() + 200 * NSEC_PER_MSEC);
}

static void open_stream(void)
{
	struct wire_welcome w = good_welcome();
	struct wire_header h = {.op = htole16(WIRE_HELLO),
				.flags = htole16(WIRE_F_REPLY),
				.tag = htole64(1),
				.bytes = htole32(sizeof w)};
	char skip[sizeof(struct wire_header) + sizeof(struct wire_hello)];

	cr_assert_eq(open_with(&h, &w, sizeof w), 0, "%s", err_text());
	cr_assert_eq(read(peer, skip, sizeof skip), (ssize_t)sizeof skip);
}

static void fill(void *page, uint64_t what)
{
	for (unsigned i = 0; i < PAGE / 8; i++)
		((uint64_t *)page)[i] = what * 0x9e3779b97f4a7c15ull + i;
}

static void expect(const void *page, uint64_t what)
{
	static unsigned char want[PAGE];

	fill(want, what);
	cr_assert(!memcmp(page, want, PAGE), "page %lu's bytes", (unsigned long)what);
}

/* One request as the server reads it: a READ's pages are "page + 1000 * slab". */
struct asked {
	struct wire_header h;
	struct wire_seg seg[8];
	uint32_t pages;
};

static struct asked read_request(void)
{
	struct asked a = {0};

	cr_assert_eq(recv(peer, &a.h, sizeof a.h, MSG_WAITALL), (ssize_t)sizeof a.h);
	if (le16toh(a.h.op) != WIRE_READ)
		return a;
	cr_assert_eq(recv(peer, a.seg, a.h.count * sizeof a.seg[0], MSG_WAITALL),
		     (ssize_t)(a.h.count * sizeof a.seg[0]));
	for (uint32_t i = 0; i < a.h.count; i++)
		a.pages += a.seg[i].pages;
	return a;
}

/* The honest answer, into buf. */
static size_t put_answer(const struct asked *a, unsigned char *buf)
{
	struct wire_header h = a->h;
	size_t n = sizeof h;

	h.flags = htole16(WIRE_F_REPLY);
	h.bytes = htole32(a->pages * PAGE);
	h.count = 0;
	memcpy(buf, &h, sizeof h);
	for (uint32_t i = 0; i < a->h.count; i++)
		for (uint32_t k = 0; k < a->seg[i].pages; k++, n += PAGE)
			fill(buf + n, a->seg[i].page + k + 1000 * a->seg[i].slab);
	return n;
}

struct reading {
	struct tp_op op;
	struct tp_seg seg[3];
	unsigned char data[3 * 4 * PAGE];
};

static uint64_t rng = 99;

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

static void start(struct reading *r, uint64_t tag)
{
	unsigned at = 0;

	memset(r, 0, sizeof *r);
	r->op = (struct tp_op){.kind = draw(5) ? TP_READ : TP_PING, .tag = tag, .seg = r->seg};
	if (r->op.kind == TP_READ)
		r->op.count = 1 + (uint32_t)draw(3);
	for (uint32_t i = 0; i < r->op.count; i++) {
		r->seg[i] = (struct tp_seg){.slab = tag,
					    .page = (uint32_t)draw(1000),
					    .pages = 1 + (uint32_t)draw(4),
					    .buf = r->data + at * PAGE};
		at += r->seg[i].pages;
	}
	cr_assert_eq(stream_submit(&s.base, &r->op, 0), 0);
}

static void check(const struct reading *r)
{
	for (uint32_t i = 0; i < r->op.count; i++)
		for (uint32_t k = 0; k < r->seg[i].pages; k++)
			expect((unsigned char *)r->seg[i].buf + k * PAGE,
			       r->seg[i].page + k + 1000 * r->seg[i].slab);
}

#define READERS 6u

Test(stream, puts_every_byte_where_it_belongs_in_any_order_and_in_any_pieces)
{
	static struct reading r[READERS];
	static struct asked a[READERS];
	static unsigned char wire[READERS * (3 * 4 * PAGE + 256)];

	open_stream();
	for (unsigned round = 0; round < 3000; round++) {
		unsigned n = 1 + (unsigned)draw(READERS), left = n, polls = 0;
		size_t bytes = 0, sent = 0;

		for (unsigned i = 0; i < n; i++) {
			start(&r[i], round * 10 + i + 1);
			a[i] = read_request();
		}
		for (unsigned i = n; i > 0; i--) { /* shuffled, with a notice here and there */
			unsigned pick = (unsigned)draw(i);
			struct asked x = a[pick];
			struct wire_header notice = {.op = htole16(WIRE_RECLAIM),
						     .bytes = htole32(8 * (uint32_t)draw(3))};

			a[pick] = a[i - 1];
			bytes += put_answer(&x, wire + bytes);
			if (draw(4))
				continue;
			memcpy(wire + bytes, &notice, sizeof notice);
			memset(wire + bytes + sizeof notice, 0xee, notice.bytes);
			bytes += sizeof notice + notice.bytes;
		}
		while (left) {
			size_t part = draw(3) ? bytes - sent : draw(bytes - sent + 1);
			struct tp_done done[READERS];
			int got;

			part = part < 60000 ? part : 60000;
			cr_assert_eq(write(peer, wire + sent, part), (ssize_t)part);
			sent += part;
			got = stream_poll(&s.base, 1, done, 1 + (unsigned)draw(READERS));
			cr_assert_geq(got, 0, "round %u: %d", round, got);
			for (int i = 0; i < got; i++, left--) {
				cr_assert_eq(done[i].status, 0);
				check(&r[done[i].tag - round * 10 - 1]);
			}
			cr_assert_lt(++polls, 100000u);
		}
		/* A notice at the end is still in the socket; it is read with what follows. */
		cr_assert_eq(write(peer, wire + sent, bytes - sent), (ssize_t)(bytes - sent));
	}
	stream_close(&s.base);
	close(peer);
}

Test(stream, reads_notices_and_notices_the_end_without_a_request)
{
	struct {
		struct wire_header h;
		struct wire_slab slab[1000];
	} notice = {.h = {.op = htole16(WIRE_RECLAIM), .bytes = htole32(sizeof notice.slab)}};
	const char *bytes = (const char *)&notice;
	uint64_t now = NSEC_PER_SEC;
	struct tp_done done;
	size_t at = 0;

	open_stream();
	while (at < 10 * sizeof notice) {
		size_t part = 1 + draw(3000), here = at % sizeof notice;

		part = part < sizeof notice - here ? part : sizeof notice - here;
		cr_assert_eq(write(peer, bytes + here, part), (ssize_t)part);
		at += part;
		now += 200 * NSEC_PER_MSEC;
		cr_assert_eq(stream_poll(&s.base, now, &done, 1), 0);
	}
	close(peer);
	cr_expect_eq(stream_poll(&s.base, now + NSEC_PER_SEC, &done, 1), -ECONNRESET);
	stream_close(&s.base);
}

Test(stream, needs_one_receive_for_a_page)
{
	static struct reading r;
	static unsigned char wire[PAGE + 64];
	struct asked a;
	struct tp_done done;
	size_t n;

	open_stream();
	r.seg[0] = (struct tp_seg){.slab = 1, .page = 5, .pages = 1, .buf = r.data};
	r.op = (struct tp_op){.kind = TP_READ, .tag = 1, .count = 1, .seg = r.seg};
	cr_assert_eq(stream_submit(&s.base, &r.op, 0), 0);
	cr_assert_null(s.tx_op, "one sendmsg took all of it");
	a = read_request();
	n = put_answer(&a, wire);
	cr_assert_eq(write(peer, wire, n), (ssize_t)n);
	/* Nobody else answers, so a second receive would say that nothing is there. */
	cr_assert_eq(stream_poll(&s.base, 0, &done, 1), 1);
	check(&r);
	cr_expect_eq(s.inflight, 0);
	stream_close(&s.base);
	close(peer);
}

/* --- lies --- */

#define GUARD 0x5a

struct lie {
	const char *name;
	void (*spoil)(struct wire_header *h);
};

static void bad_tag(struct wire_header *h)
{
	h->tag ^= htole64(1ull << 40);
}
static void low_tag(struct wire_header *h)
{
	h->tag = htole64(77);
}
static void notice_of_a_read(struct wire_header *h)
{
	h->tag = 0;
}
static void too_short(struct wire_header *h)
{
	h->bytes = htole32(PAGE - 1);
}
static void too_long(struct wire_header *h)
{
	h->bytes = htole32(3 * PAGE);
}
static void huge(struct wire_header *h)
{
	h->bytes = UINT32_MAX;
}
static void no_reply(struct wire_header *h)
{
	h->flags = 0;
}
static void unknown_flag(struct wire_header *h)
{
	h->flags |= htole16(0x8000);
}
static void other_op(struct wire_header *h)
{
	h->op = htole16(WIRE_WRITE);
}
static void refusal_with_a_body(struct wire_header *h)
{
	h->status = htole32(WIRE_ESLAB);
}
static void reserved_epoch(struct wire_header *h)
{
	h->epoch = htole64(3);
}

Test(stream, ends_the_connection_of_a_server_that_lies)
{
	static const struct lie lies[] = {
		{"a tag of another generation", bad_tag},
		{"a tag that never was", low_tag},
		{"a notice that isn't one", notice_of_a_read},
		{"a short answer", too_short},
		{"a long answer", too_long},
		{"a huge answer", huge},
		{"no reply", no_reply},
		{"an unknown flag", unknown_flag},
		{"another operation", other_op},
		{"a refusal with a body", refusal_with_a_body},
		{"an epoch where there is none", reserved_epoch},
	};
	static unsigned char wire[4 * PAGE], buf[3 * PAGE];

	for (unsigned i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct tp_seg seg = {.slab = 1, .page = 5, .pages = 1, .buf = buf + PAGE};
		struct tp_op op = {.kind = TP_READ, .tag = 9, .count = 1, .seg = &seg};
		struct wire_header h;
		struct asked a;
		struct tp_done done;
		size_t n;

		open_stream();
		memset(buf, GUARD, sizeof buf);
		cr_assert_eq(stream_submit(&s.base, &op, 0), 0);
		a = read_request();
		n = put_answer(&a, wire);
		memcpy(&h, wire, sizeof h);
		lies[i].spoil(&h);
		memcpy(wire, &h, sizeof h);
		cr_assert_eq(write(peer, wire, sizeof wire), (ssize_t)sizeof wire);
		(void)n;
		cr_expect_eq(stream_poll(&s.base, 0, &done, 1), -EPROTO, "%s", lies[i].name);
		for (unsigned k = 0; k < PAGE; k++)
			cr_assert(buf[k] == GUARD && buf[2 * PAGE + k] == GUARD,
				  "%s: a write beside the buffer", lies[i].name);
		cr_expect_eq(stream_submit(&s.base, &op, 0), -EPROTO, "it stays dead");
		cr_expect(!s.up);
		stream_close(&s.base);
		close(peer);
	}
}

Test(stream, fails_what_is_in_flight_when_the_server_goes_in_mid_message)
{
	static unsigned char wire[2 * PAGE], buf[PAGE];

	for (size_t cut = 0; cut < sizeof(struct wire_header) + PAGE; cut += 517) {
		struct tp_seg seg = {.slab = 1, .page = 5, .pages = 1, .buf = buf};
		struct tp_op op = {.kind = TP_READ, .tag = 9, .count = 1, .seg = &seg};
		struct asked a;
		struct tp_done done;

		open_stream();
		cr_assert_eq(stream_submit(&s.base, &op, 0), 0);
		a = read_request();
		put_answer(&a, wire);
		cr_assert_eq(write(peer, wire, cut), (ssize_t)cut);
		close(peer);
		cr_expect_eq(stream_poll(&s.base, 0, &done, 1), -ECONNRESET);
		cr_expect_eq(stream_poll(&s.base, 0, &done, 1), -ECONNRESET);
		stream_close(&s.base);
	}
}

Test(stream, tells_a_refusal_by_its_number)
{
	static unsigned char buf[PAGE];
	struct tp_seg seg = {.slab = 1, .page = 5, .pages = 1, .buf = buf};
	struct tp_op op = {.kind = TP_READ, .tag = 9, .count = 1, .seg = &seg};
	struct wire_header h;
	struct tp_done done;

	open_stream();
	cr_assert_eq(stream_submit(&s.base, &op, 0), 0);
	h = read_request().h;
	h.flags = htole16(WIRE_F_REPLY);
	h.bytes = 0;
	h.count = 0;
	h.status = htole32(WIRE_ESLAB);
	cr_assert_eq(write(peer, &h, sizeof h), (ssize_t)sizeof h);
	cr_assert_eq(stream_poll(&s.base, 0, &done, 1), 1);
	cr_expect_eq(done.tag, 9);
	cr_expect_eq(done.status, -EIO);
	cr_expect_eq(done.wire, WIRE_ESLAB);
	stream_close(&s.base);
	close(peer);
}

Test(stream, refuses_a_grant_of_another_size)
{
	uint64_t slabs[4] = {1, 2, 3, 4};
	struct tp_op op = {.kind = TP_GRANT, .tag = 9, .count = 2, .slabs = slabs};
	struct {
		struct wire_header h;
		struct wire_grant g;
	} asked;
	struct {
		struct wire_header h;
		struct wire_slab slab[3];
	} said = {0};
	struct tp_done done;

	open_stream();
	cr_assert_eq(stream_submit(&s.base, &op, 0), 0);
	cr_assert_eq(recv(peer, &asked, sizeof asked, MSG_WAITALL), (ssize_t)sizeof asked);
	cr_expect_eq(le32toh(asked.g.slabs), 2);
	said.h = asked.h;
	said.h.flags = htole16(WIRE_F_REPLY);
	said.h.count = htole32(3);
	said.h.bytes = htole32(sizeof said.slab);
	cr_assert_eq(write(peer, &said, sizeof said), (ssize_t)sizeof said);
	cr_expect_eq(stream_poll(&s.base, 0, &done, 1), -EPROTO);
	cr_expect_eq(slabs[2], 3);
	stream_close(&s.base);
	close(peer);
}

Test(stream, sends_a_large_write_in_pieces_without_losing_a_byte)
{
	static unsigned char data[1024 * PAGE], got[1024 * PAGE + 1024];
	struct tp_seg seg[2] = {{.slab = 1, .page = 0, .pages = 300, .buf = data},
				{.slab = 2, .page = 7, .pages = 724, .buf = data + 300 * PAGE}};
	struct tp_op op = {.kind = TP_WRITE, .tag = 3, .count = 2, .seg = seg};
	size_t head = sizeof(struct wire_header) + 2 * sizeof(struct wire_seg), at = 0;
	struct wire_header h;
	struct tp_done done;

	open_stream();
	for (unsigned i = 0; i < 1024; i++)
		fill(data + i * PAGE, i);
	cr_assert_eq(stream_submit(&s.base, &op, 0), 0);
	cr_assert(s.tx_op, "a socket doesn't take 4 MiB at once");
	cr_expect_eq(stream_submit(&s.base, &op, 0), -EAGAIN);
	while (at < head + sizeof data) {
		ssize_t n = recv(peer, got + at, sizeof got - at, MSG_DONTWAIT);

		if (n > 0)
			at += (size_t)n;
		cr_assert_eq(stream_poll(&s.base, 0, &done, 1), 0);
	}
	cr_assert_eq(at, head + sizeof data);
	cr_expect(!memcmp(got + head, data, sizeof data));
	memcpy(&h, got, sizeof h);
	cr_expect_eq(le32toh(h.bytes), 2 * sizeof(struct wire_seg) + sizeof data);
	h.flags = htole16(WIRE_F_REPLY);
	h.bytes = h.count = 0;
	cr_assert_eq(write(peer, &h, sizeof h), (ssize_t)sizeof h);
	cr_assert_eq(stream_poll(&s.base, 0, &done, 1), 1);
	cr_expect_eq(done.status, 0);
	stream_close(&s.base);
	close(peer);
}

/* --- hellos --- */

static void expect_no_hello(struct wire_header h, struct wire_welcome w, size_t bytes, int err,
			    const char *words)
{
	cr_expect_eq(open_with(&h, &w, bytes), err, "%s", words);
	cr_expect(strstr(err_text(), words), "'%s' should say '%s'", err_text(), words);
	cr_expect(strstr(err_text(), "unix:test"), "it names the donor");
	close(peer);
}

Test(stream, tells_in_one_line_why_a_hello_failed)
{
	struct wire_header h = {.op = htole16(WIRE_HELLO),
				.flags = htole16(WIRE_F_REPLY),
				.tag = htole64(1),
				.bytes = htole32(sizeof(struct wire_welcome))};
	struct wire_header refused = h, text;
	struct wire_welcome w = good_welcome(), other = w;

	refused.status = htole32(WIRE_EVERSION);
	refused.bytes = 0;
	expect_no_hello(refused, w, 0, -EPROTONOSUPPORT, "no common protocol version");
	memcpy(&text, "HTTP/1.1 400 Bad Request\r\n\r\n....", sizeof text);
	expect_no_hello(text, w, 0, -EPROTO, "is not a memory server");
	other.magic = 1;
	expect_no_hello(h, other, sizeof w, -EPROTO, "is not a memory server");
	other = w;
	other.major = htole16(2);
	expect_no_hello(h, other, sizeof w, -EPROTONOSUPPORT, "speaks protocol 2.");
	other = w;
	other.minor = htole16(WIRE_MINOR + 1);
	expect_no_hello(h, other, sizeof w, -EPROTONOSUPPORT, "speaks protocol 1.");
	other = w;
	other.slab_pages = htole32(1000);
	expect_no_hello(h, other, sizeof w, -EPROTO, "limits");
	other = w;
	other.max_inflight = htole32(WIRE_MAX_INFLIGHT + 1);
	expect_no_hello(h, other, sizeof w, -EPROTO, "limits");
	other = w;
	other.max_segs = 0;
	expect_no_hello(h, other, sizeof w, -EPROTO, "limits");
	expect_no_hello(h, w, sizeof w - 1, -ETIMEDOUT, "did not answer the hello");
}
