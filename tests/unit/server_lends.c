/* SPDX-License-Identifier: MIT */
/*
 * What a borrower may rely on, against a real server over TCP and UNIX sockets: zeroed slabs, its
 * own bytes back however requests are cut, packed or ordered, and counters that add up.
 */
#include "server_client.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct donor d;
static char buf[64 * PAGE], other[64 * PAGE];

static void start(void)
{
	donor_start(&d, NULL);
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_lends, .init = start, .fini = stop, .timeout = 60);

#define OVER_BOTH(over_unix) for (int over_unix = 0; over_unix < 2; over_unix++)

Test(server_lends, slabs_that_hold_zeros_also_when_they_were_used_before)
{
	OVER_BOTH(u)
	{
		int fd = client_open(&d, u, 1);
		uint64_t slab[64];

		for (int round = 0; round < 3; round++) {
			cr_assert_eq(client_grant(fd, 64, slab), WIRE_OK);
			for (int i = 0; i < 64; i++) {
				struct wire_seg seg = client_seg(slab[i], 0, 16);

				cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
				cr_assert(is_zero(buf, 16 * PAGE));
				memset(buf, 0xee, 16 * PAGE);
				cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
			}
			cr_assert_eq(client_free(fd, slab, 64), WIRE_OK);
		}
		close(fd);
	}
}

Test(server_lends, pages_that_come_back_as_they_were_written)
{
	OVER_BOTH(u)
	{
		int fd = client_open(&d, u, 2);
		uint64_t slab[4];
		struct wire_seg seg[3], back[2];

		cr_assert_eq(client_grant(fd, 4, slab), WIRE_OK);
		seg[0] = client_seg(slab[3], 15, 1);
		seg[1] = client_seg(slab[0], 0, 16);
		seg[2] = client_seg(slab[1], 7, 3);
		fill(buf, 20 * PAGE, 42);
		cr_assert_eq(client_write(fd, seg, 3, buf), WIRE_OK);
		cr_assert_eq(client_read(fd, seg, 3, other), WIRE_OK);
		cr_assert_arr_eq(buf, other, 20 * PAGE);
		/* in another order and cut */
		back[0] = client_seg(slab[1], 8, 1);
		back[1] = client_seg(slab[3], 15, 1);
		cr_assert_eq(client_read(fd, back, 2, other), WIRE_OK);
		cr_assert_arr_eq(other, buf + 18 * PAGE, PAGE);
		cr_assert_arr_eq(other + PAGE, buf, PAGE);
		/* the neighbours were not touched */
		back[0] = client_seg(slab[1], 0, 7);
		back[1] = client_seg(slab[1], 10, 6);
		cr_assert_eq(client_read(fd, back, 2, other), WIRE_OK);
		cr_assert(is_zero(other, 13 * PAGE));
		cr_assert_eq(client_trim(fd, &seg[2], 1), WIRE_OK);
		cr_assert_eq(client_read(fd, &seg[2], 1, other), WIRE_OK);
		cr_assert(is_zero(other, 3 * PAGE));
		close(fd);
	}
}

/* Sends a conversation in pieces of the given size and takes all answers. */
static void converse(int fd, uint64_t slab, size_t piece)
{
	struct wire_seg seg = client_seg(slab, 3, 2);
	struct wire_header h, a;
	char out[4 * sizeof h + 3 * sizeof seg + 2 * PAGE];
	size_t n = 0;

	h = client_header(WIRE_WRITE, 1, sizeof seg + 2 * PAGE);
	memcpy(out, &h, sizeof h);
	memcpy(out + (n = sizeof h), &seg, sizeof seg);
	fill(out + (n += sizeof seg), 2 * PAGE, piece);
	n += 2 * PAGE;
	for (int i = 0; i < 2; i++) {
		h = client_header(WIRE_READ, 1, sizeof seg);
		memcpy(out + n, &h, sizeof h);
		memcpy(out + (n += sizeof h), &seg, sizeof seg);
		n += sizeof seg;
	}
	h = client_header(WIRE_PING, 0, 0);
	memcpy(out + n, &h, sizeof h);
	n += sizeof h;
	for (size_t at = 0; at < n; at += piece)
		client_send(fd, out + at, at + piece < n ? piece : n - at);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.status, 0);
	for (int i = 0; i < 2; i++) {
		cr_assert(client_receive(fd, &a, sizeof a));
		cr_assert_eq(a.op, htole16(WIRE_READ));
		cr_assert_eq(le32toh(a.bytes), 2 * PAGE);
		cr_assert(client_receive(fd, buf, 2 * PAGE));
		cr_assert(is_filled(buf, 2 * PAGE, piece));
	}
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.tag, h.tag);
}

Test(server_lends, the_same_whether_requests_come_byte_by_byte_or_all_at_once)
{
	OVER_BOTH(u)
	{
		int fd = client_open(&d, u, 3);
		uint64_t slab;

		cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
		for (size_t piece = 1; piece < 9000; piece = piece * 3 + 1)
			converse(fd, slab, piece);
		converse(fd, slab, 100000);
		close(fd);
	}
}

/*
 * Reads nothing until everything is sent: what can't be buffered has to wait, not get lost. One
 * send, as a UNIX socket would count many small ones as more than it holds.
 */
Test(server_lends, many_requests_in_flight_to_a_borrower_that_reads_late)
{
	OVER_BOTH(u)
	{
		int fd = client_open(&d, u, 4);
		struct wire_header h, a;
		struct wire_seg seg;
		uint64_t slab[4];
		unsigned n = WIRE_MAX_INFLIGHT;
		static char out[WIRE_MAX_INFLIGHT][sizeof h + sizeof seg];

		cr_assert_eq(client_grant(fd, 4, slab), WIRE_OK);
		for (int i = 0; i < 4; i++) {
			seg = client_seg(slab[i], 0, 16);
			fill(buf, 16 * PAGE, 100 + (unsigned)i);
			cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
		}
		for (unsigned i = 0; i < n; i++) {
			h = client_header(WIRE_READ, 1, sizeof seg);
			h.tag = htole64(i + 1);
			seg = client_seg(slab[i % 4], 0, 16);
			memcpy(out[i], &h, sizeof h);
			memcpy(out[i] + sizeof h, &seg, sizeof seg);
		}
		client_send(fd, out, sizeof out);
		for (unsigned i = 0; i < 20; i++)
			client_nap();
		for (unsigned i = 0; i < n; i++) {
			cr_assert(client_receive(fd, &a, sizeof a));
			cr_assert_eq(a.status, 0);
			cr_assert(client_receive(fd, buf, 16 * PAGE));
			cr_assert(is_filled(buf, 16 * PAGE, 100 + (le64toh(a.tag) - 1) % 4));
		}
		close(fd);
	}
}

Test(server_lends, to_several_connections_of_one_borrower_the_same_slabs)
{
	int a = client_open(&d, false, 5), b = client_open(&d, true, 5);
	struct wire_seg seg;
	uint64_t slab;

	cr_assert_eq(client_grant(a, 1, &slab), WIRE_OK);
	seg = client_seg(slab, 1, 4);
	fill(buf, 4 * PAGE, 7);
	cr_assert_eq(client_write(a, &seg, 1, buf), WIRE_OK);
	cr_assert_eq(client_read(b, &seg, 1, other), WIRE_OK);
	cr_assert_arr_eq(buf, other, 4 * PAGE);
	close(a);
	cr_assert_eq(client_read(b, &seg, 1, other), WIRE_OK);
	close(b);
}

static unsigned receive_fds(int fd, struct wire_header *h, int *fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
	} control;
	struct iovec iov = {h, sizeof *h};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	struct cmsghdr *c;

	cr_assert_eq(recvmsg(fd, &m, MSG_WAITALL), (ssize_t)sizeof *h);
	c = CMSG_FIRSTHDR(&m);
	if (!c)
		return 0;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

Test(server_lends, the_memory_itself_over_a_unix_socket_and_never_the_same_again)
{
	int fd = client_open(&d, true, 6), fds[WIRE_MAX_FDS];
	struct wire_header h[3], a;
	uint64_t slab[64], le[2];
	struct wire_seg seg;
	char *mem[2];

	cr_assert_eq(client_grant(fd, 64, slab), WIRE_OK);
	/* between two other requests, so that the descriptors must find their message */
	h[0] = client_header(WIRE_PING, 0, 0);
	h[1] = client_header(WIRE_MAP, 2, sizeof le);
	h[2] = client_header(WIRE_PING, 0, 0);
	le[0] = htole64(slab[5]);
	le[1] = htole64(slab[6]);
	memcpy(buf, h, 2 * sizeof *h);
	memcpy(buf + 2 * sizeof *h, le, sizeof le);
	memcpy(buf + 2 * sizeof *h + sizeof le, &h[2], sizeof *h);
	client_send(fd, buf, 3 * sizeof *h + sizeof le);
	cr_assert_eq(receive_fds(fd, &a, fds), 0);
	cr_assert_eq(receive_fds(fd, &a, fds), 2);
	cr_assert_eq(a.tag, h[1].tag);
	cr_assert_eq(a.status, 0);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.tag, h[2].tag);

	for (int i = 0; i < 2; i++) {
		mem[i] = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		cr_assert_neq(mem[i], MAP_FAILED);
		cr_assert_eq(ftruncate(fds[i], 0), -1, "a borrower can't take the server's memory");
	}
	fill(mem[0], 16 * PAGE, 1);
	seg = client_seg(slab[5], 0, 16);
	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
	cr_assert(is_filled(buf, 16 * PAGE, 1));
	seg = client_seg(slab[6], 2, 1);
	fill(buf, PAGE, 2);
	cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
	cr_assert_arr_eq(mem[1] + 2 * PAGE, buf, PAGE);

	/* All slabs go around; the old mapping must show nothing of the new borrower's. */
	cr_assert_eq(client_free(fd, slab, 64), WIRE_OK);
	cr_assert_eq(client_grant(fd, 64, slab), WIRE_OK);
	for (int i = 0; i < 64; i++) {
		seg = client_seg(slab[i], 0, 16);
		memset(buf, 0xdd, 16 * PAGE);
		memset(mem[0], 0x11, 16 * PAGE);
		cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
		cr_assert(is_zero(buf, 16 * PAGE));
	}
	cr_assert_eq(mem[0][5], 0x11);
	close(fd);
}

Test(server_lends, and_counts_it)
{
	int fd = client_open(&d, false, 8), quiet = client_open(&d, true, 0);
	struct {
		struct wire_stat st;
		struct wire_borrower b[4];
	} all;
	struct wire_seg seg;
	uint64_t slab[3];
	size_t n = sizeof all;

	cr_assert_eq(client_grant(fd, 3, slab), WIRE_OK);
	seg = client_seg(slab[0], 0, 5);
	cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
	cr_assert_eq(client_ask(quiet, WIRE_STAT, 4, NULL, 0, &all, &n), WIRE_OK);
	cr_assert_eq(n, sizeof all.st + sizeof all.b[0]);
	cr_assert_eq(le64toh(all.st.slabs_total), 64);
	cr_assert_eq(le64toh(all.st.slabs_free), 61);
	cr_assert_eq(le32toh(all.st.slab_pages), 16);
	cr_assert_eq(le32toh(all.st.borrowers), 1);
	cr_assert_eq(le32toh(all.st.sessions), 2);
	cr_assert_eq(le64toh(all.st.pages_read), 10);
	cr_assert_eq(le64toh(all.st.pages_written), 5);
	cr_assert_str_eq((char *)all.b[0].name, "borrower 8");
	cr_assert_eq(le32toh(all.b[0].pid), (uint32_t)getpid());
	cr_assert_eq(le32toh(all.b[0].sessions), 1);
	cr_assert_eq(le64toh(all.b[0].slabs), 3);
	cr_assert_eq(le64toh(all.b[0].pages_read), 10);
	cr_assert_eq(le64toh(all.b[0].pages_written), 5);
	close(fd);
	close(quiet);
}
