/* SPDX-License-Identifier: MIT */
/*
 * A writer that takes over locks the one before it out, against a real server: whatever the old one
 * has sent or half sent, nothing of it lands any more, and what it has mapped is memory that nobody
 * else looks at.
 */
#include "server_client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct donor d;
static char buf[16 * PAGE], other[16 * PAGE];

static void start(void)
{
	donor_start(&d, NULL);
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_epochs, .init = start, .fini = stop, .timeout = 60);

#define OVER_BOTH(over_unix) for (int over_unix = 0; over_unix < 2; over_unix++)

/* A hello of the writer with this epoch; the status it is answered with in *status. */
static int hello(bool over_unix, unsigned id, uint64_t epoch, unsigned minor, uint32_t *status)
{
	int fd = client_connect(&d, over_unix);
	struct wire_header h = client_header(WIRE_HELLO, 0, sizeof(struct wire_hello)), a;
	struct wire_hello m = client_hello(id);
	struct wire_welcome w;

	h.epoch = htole64(epoch);
	m.minor = m.minor_min = htole16((uint16_t)minor);
	client_send(fd, &h, sizeof h);
	client_send(fd, &m, sizeof m);
	cr_assert(client_receive(fd, &a, sizeof a));
	*status = le32toh(a.status);
	if (!*status)
		cr_assert(client_receive(fd, &w, sizeof w));
	return fd;
}

static int writer(bool over_unix, unsigned id, uint64_t epoch)
{
	uint32_t status = WIRE_EBUSY;
	int fd = -1;

	/* An answer that is here may be pinned there for a moment more. */
	for (int i = 0; i < 500 && status == WIRE_EBUSY; i++) {
		if (fd >= 0) {
			close(fd);
			client_nap();
		}
		fd = hello(over_unix, id, epoch, WIRE_MINOR, &status);
	}
	cr_assert_eq(status, WIRE_OK);
	return fd;
}

Test(server_epochs, an_older_writer_is_refused_everything_and_changes_nothing)
{
	OVER_BOTH(u)
	{
		int old = writer(u, 1, 4), new;
		struct wire_seg seg;
		uint64_t slab, more[2];
		uint32_t status;

		cr_assert_eq(client_grant(old, 1, &slab), WIRE_OK);
		seg = client_seg(slab, 0, 16);
		fill(buf, sizeof buf, 1);
		cr_assert_eq(client_write(old, &seg, 1, buf), WIRE_OK);
		new = writer(u, 1, 5);
		memset(other, 0xee, sizeof other);
		cr_assert_eq(client_write(old, &seg, 1, other), WIRE_EEPOCH);
		cr_assert_eq(client_read(old, &seg, 1, other), WIRE_EEPOCH);
		cr_assert_eq(client_trim(old, &seg, 1), WIRE_EEPOCH);
		cr_assert_eq(client_grant(old, 2, more), WIRE_EEPOCH);
		cr_assert_eq(client_clone(old, 7, &slab, 1, more), WIRE_EEPOCH);
		cr_assert_eq(client_free(old, &slab, 1), WIRE_EEPOCH);
		cr_assert_eq(client_ask(old, WIRE_GOODBYE, 0, NULL, 0, NULL, NULL), WIRE_EEPOCH);
		cr_assert_eq(client_ask(old, WIRE_PING, 0, NULL, 0, NULL, NULL), WIRE_OK);
		cr_assert_eq(client_read(new, &seg, 1, other), WIRE_OK);
		cr_assert(is_filled(other, sizeof other, 1));
		close(hello(u, 1, 4, WIRE_MINOR, &status));
		cr_assert_eq(status, WIRE_EEPOCH);
		close(hello(u, 1, 0, WIRE_MINOR - 1, &status));
		cr_assert_eq(status, WIRE_EEPOCH, "who knows no epochs is the oldest writer");
		cr_assert_eq(client_free(new, &slab, 1), WIRE_OK);
		close(old);
		close(new);
		/* for the next round: its number is free again */
		until(!le32toh(client_stat(client_open(&d, u, 0)).borrowers));
	}
}

Test(server_epochs, a_request_names_its_own_epoch_or_none)
{
	int fd = writer(false, 2, 9);
	struct wire_header h = client_header(WIRE_PING, 0, 0), a;
	static const uint64_t said[] = {0, 9, 8, 10};
	uint32_t status;

	for (int i = 0; i < 4; i++) {
		h.epoch = htole64(said[i]);
		client_send(fd, &h, sizeof h);
		cr_assert(client_receive(fd, &a, sizeof a));
		cr_assert_eq(le32toh(a.status), i < 2 ? WIRE_OK : WIRE_EPROTO);
		cr_assert_eq(a.epoch, 0);
	}
	close(hello(false, 3, 1, WIRE_MINOR - 1, &status));
	cr_assert_eq(status, WIRE_EPROTO, "older protocols have no epochs");
}

/* Sends a WRITE of a whole slab up to `cut` bytes of its pages. */
static struct wire_header half_a_write(int fd, uint64_t slab, size_t cut)
{
	struct wire_seg seg = client_seg(slab, 0, 16);
	struct wire_header h = client_header(WIRE_WRITE, 1, sizeof seg + sizeof buf);

	client_send(fd, &h, sizeof h);
	client_send(fd, &seg, sizeof seg);
	client_send(fd, buf, cut);
	return h;
}

Test(server_epochs, half_a_write_of_an_old_writer_ends_at_the_takeover)
{
	static const size_t cuts[] = {0, 1, PAGE / 2, PAGE, 5 * PAGE + 77, sizeof buf - 1};

	for (unsigned i = 0; i < 2 * sizeof cuts / sizeof *cuts; i++) {
		size_t cut = cuts[i / 2];
		int old = writer(i & 1, 10 + i, 1), new;
		struct wire_seg seg;
		struct wire_header h, a;
		uint64_t slab;

		cr_assert_eq(client_grant(old, 1, &slab), WIRE_OK);
		seg = client_seg(slab, 0, 16);
		memset(buf, 0xaa, sizeof buf);
		h = half_a_write(old, slab, cut);
		client_nap(); /* most often the server has begun to take it in */
		new = writer(!(i & 1), 10 + i, 2);
		fill(other, sizeof other, i);
		cr_assert_eq(client_write(new, &seg, 1, other), WIRE_OK);
		client_send(old, buf + cut, sizeof buf - cut);
		cr_assert(client_receive(old, &a, sizeof a));
		cr_assert_eq(a.tag, h.tag);
		cr_assert_eq(le32toh(a.status), WIRE_EEPOCH);
		cr_assert_eq(client_ask(old, WIRE_PING, 0, NULL, 0, NULL, NULL), WIRE_OK,
			     "the stream is in step");
		memset(other, 0, sizeof other);
		cr_assert_eq(client_read(new, &seg, 1, other), WIRE_OK);
		cr_assert(is_filled(other, sizeof other, i), "cut %zu", cut);
		close(old);
		close(new);
	}
}

struct storm {
	int fd;
	uint64_t slab;
	uint32_t first; /* of the 8 pages that it writes: no two write the same */
	atomic_uint written;
};

/* Writes without a pause, in pieces that end anywhere, until it is refused. */
static void *storm_main(void *arg)
{
	struct storm *s = arg;
	char mine[8 * PAGE];
	struct wire_seg seg = client_seg(s->slab, s->first, 8);

	memset(mine, 0xaa, sizeof mine);
	while (client_write(s->fd, &seg, 1, mine) == WIRE_OK)
		atomic_fetch_add(&s->written, 1);
	return NULL;
}

Test(server_epochs, no_write_of_an_old_writer_lands_after_the_takeover_however_it_is_timed)
{
	for (unsigned round = 0; round < 60; round++) {
		struct storm s[2] = {{.fd = writer(round & 1, 100 + round, 1)}};
		struct wire_seg seg;
		pthread_t t[2];
		int new;

		cr_assert_eq(client_grant(s[0].fd, 1, &s[0].slab), WIRE_OK);
		s[1].fd = writer(!(round & 1), 100 + round, 1);
		s[1].slab = s[0].slab;
		s[1].first = 8;
		for (int i = 0; i < 2; i++)
			pthread_create(&t[i], NULL, storm_main, &s[i]);
		while (atomic_load(&s[0].written) < 2 + round % 7)
			;
		new = writer(round & 2, 100 + round, 2);
		seg = client_seg(s[0].slab, 0, 16);
		fill(buf, sizeof buf, round);
		cr_assert_eq(client_write(new, &seg, 1, buf), WIRE_OK);
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		cr_assert_eq(client_read(new, &seg, 1, other), WIRE_OK);
		cr_assert(is_filled(other, sizeof other, round), "round %u", round);
		cr_assert_eq(client_ask(new, WIRE_GOODBYE, 0, NULL, 0, NULL, NULL), WIRE_OK);
		close(new);
		close(s[0].fd);
		close(s[1].fd);
	}
}

/* The slab's memfd, as shm has it. */
static void *map_slab(int fd, uint64_t slab)
{
	struct wire_slab w = {htole64(slab)};
	struct wire_header h = client_header(WIRE_MAP, 1, sizeof w), a;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {&a, sizeof a};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	void *p;
	int mem;

	client_send(fd, &h, sizeof h);
	client_send(fd, &w, sizeof w);
	cr_assert_eq(recvmsg(fd, &m, MSG_WAITALL), sizeof a);
	cr_assert_eq(a.status, 0);
	cr_assert(m.msg_controllen >= sizeof control.align);
	memcpy(&mem, CMSG_DATA(&control.align), sizeof mem);
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	cr_assert_neq(p, MAP_FAILED);
	close(mem);
	return p;
}

Test(server_epochs, what_an_old_writer_has_mapped_is_its_own_from_then_on)
{
	int old = writer(true, 4, 1), again, new;
	uint64_t slab[64];
	struct wire_seg seg;
	char *mapped, *fresh;

	/* every slab there is: copies must not need room beside them */
	cr_assert_eq(client_grant(old, 64, slab), WIRE_OK);
	seg = client_seg(slab[5], 0, 16);
	mapped = map_slab(old, slab[5]);
	fill(mapped, 16 * PAGE, 5);
	again = writer(true, 4, 1);
	memset(mapped, 0x11, PAGE);
	cr_assert_eq(client_read(again, &seg, 1, buf), WIRE_OK);
	cr_assert_eq(buf[7], 0x11, "the same writer's other connection sees its memory");
	fill(mapped, 16 * PAGE, 5);
	new = writer(true, 4, 2);
	memset(mapped, 0x22, 16 * PAGE);
	cr_assert_eq(client_read(new, &seg, 1, buf), WIRE_OK);
	cr_assert(is_filled(buf, sizeof buf, 5));
	fresh = map_slab(new, slab[5]);
	cr_assert(is_filled(fresh, 16 * PAGE, 5));
	memset(mapped, 0x33, 16 * PAGE);
	cr_assert(is_filled(fresh, 16 * PAGE, 5));
	cr_assert_eq(client_ask(old, WIRE_MAP, 1, (struct wire_slab[]){{htole64(slab[5])}}, 8, NULL,
				NULL),
		     WIRE_EEPOCH);
	cr_assert_eq(client_ask(new, WIRE_GOODBYE, 0, NULL, 0, NULL, NULL), WIRE_OK);
	until(client_slabs_free(new) == 64);
	munmap(mapped, 16 * PAGE);
	munmap(fresh, 16 * PAGE);
	close(old);
	close(again);
	close(new);
}
