/* SPDX-License-Identifier: MIT */
/*
 * Clones: the contents of the moment, whatever either side does later, and never an error for want
 * of memory once the clone is there. The last test is a model: several borrowers do random things
 * and every page of every slab must always be what a plain array says.
 */
#include "server_client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLABS      64u
#define SLAB_PAGES 16u

static struct donor d;
static char buf[SLAB_PAGES * PAGE];

static void start(void)
{
	donor_start(&d, NULL);
}

static void start_lazy(void)
{
	donor_start(&d, (const char *const[]){"--lazy", NULL});
}

/*
 * A borrower that writes a page and clones its slab at once gets either contents; for
 * ThreadSanitizer that is a race, so the test that does it has one thread.
 */
static void start_single(void)
{
	donor_start(&d, (const char *const[]){"--threads", "1", NULL});
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_clones, .init = start, .fini = stop, .timeout = 120);
TestSuite(server_clones_meanwhile, .init = start_single, .fini = stop, .timeout = 120);
TestSuite(server_clones_lazily, .init = start_lazy, .fini = stop, .timeout = 120);

static void write_pages(int fd, uint64_t slab, uint32_t page, uint32_t pages, uint64_t seed)
{
	struct wire_seg seg = client_seg(slab, page, pages);

	fill(buf, pages * PAGE, seed);
	cr_assert_eq(client_write(fd, &seg, 1, buf), WIRE_OK);
}

static bool holds(int fd, uint64_t slab, uint32_t page, uint32_t pages, uint64_t seed)
{
	struct wire_seg seg = client_seg(slab, page, pages);

	cr_assert_eq(client_read(fd, &seg, 1, buf), WIRE_OK);
	return is_filled(buf, pages * PAGE, seed);
}

Test(server_clones, keep_the_moment_under_writes_of_both_sides)
{
	int a = client_open(&d, false, 1), b = client_open(&d, true, 2);
	uint64_t slab[2], clone[2];

	cr_assert_eq(client_grant(a, 2, slab), WIRE_OK);
	write_pages(a, slab[0], 0, 16, 10);
	write_pages(a, slab[1], 0, 16, 11);
	cr_assert_eq(client_clone(a, 2, slab, 2, clone), WIRE_OK);
	write_pages(a, slab[0], 0, 16, 20);
	cr_assert(holds(b, clone[0], 0, 16, 10));
	write_pages(b, clone[1], 0, 16, 21);
	cr_assert(holds(a, slab[1], 0, 16, 11));
	write_pages(a, slab[1], 3, 1, 30);
	cr_assert(holds(b, clone[1], 0, 16, 21));
	cr_assert(holds(a, slab[0], 0, 16, 20));
	/* neither reaches the other's */
	cr_assert_eq(client_free(a, clone, 1), WIRE_ESLAB);
	cr_assert_eq(client_free(b, slab, 1), WIRE_ESLAB);
}

Test(server_clones, outlive_the_original_and_the_other_way_round)
{
	int a = client_open(&d, false, 1), b = client_open(&d, false, 2);
	uint64_t slab[2], clone[2];

	cr_assert_eq(client_grant(a, 2, slab), WIRE_OK);
	write_pages(a, slab[0], 0, 16, 1);
	write_pages(a, slab[1], 0, 16, 2);
	cr_assert_eq(client_clone(a, 2, slab, 2, clone), WIRE_OK);
	cr_assert_eq(client_free(a, &slab[0], 1), WIRE_OK);
	cr_assert_eq(client_free(b, &clone[1], 1), WIRE_OK);
	cr_assert(holds(b, clone[0], 0, 16, 1));
	cr_assert(holds(a, slab[1], 0, 16, 2));
	write_pages(b, clone[0], 0, 1, 3);
	write_pages(a, slab[1], 0, 1, 4);
	cr_assert_eq(client_slabs_free(a), SLABS - 2);
}

Test(server_clones, always_find_the_room_that_was_set_aside_for_them)
{
	int a = client_open(&d, false, 1), b = client_open(&d, false, 2);
	uint64_t slab[SLABS / 2], clone[SLABS / 2];

	cr_assert_eq(client_grant(a, SLABS / 2, slab), WIRE_OK);
	for (unsigned i = 0; i < SLABS / 2; i++)
		write_pages(a, slab[i], 0, 16, i);
	cr_assert_eq(client_clone(a, 2, slab, SLABS / 2, clone), WIRE_OK);
	cr_assert_eq(client_slabs_free(a), 0);
	cr_assert_eq(client_clone(a, 3, slab, 1, clone), WIRE_ENOSPC);
	for (unsigned i = 0; i < SLABS / 2; i++) {
		write_pages(i & 1 ? a : b, i & 1 ? slab[i] : clone[i], 5, 1, 1000 + i);
		cr_assert(holds(i & 1 ? a : b, i & 1 ? slab[i] : clone[i], 5, 1, 1000 + i));
	}
	cr_assert_eq(client_slabs_free(a), 0);
	cr_assert_eq(client_free(b, clone, SLABS / 2), WIRE_OK);
	cr_assert_eq(client_slabs_free(a), SLABS / 2);
}

Test(server_clones_meanwhile, of_a_slab_under_a_half_sent_write_are_not_changed_by_the_rest)
{
	int a = client_open(&d, false, 1), also_a = client_open(&d, false, 1);
	int b = client_open(&d, false, 2);
	struct wire_seg seg;
	struct wire_header h, answer;
	uint64_t slab, clone;

	cr_assert_eq(client_grant(a, 1, &slab), WIRE_OK);
	write_pages(a, slab, 0, 16, 1);
	seg = client_seg(slab, 0, 16);
	h = client_header(WIRE_WRITE, 1, sizeof seg + sizeof buf);
	fill(buf, sizeof buf, 2);
	client_send(a, &h, sizeof h);
	client_send(a, &seg, sizeof seg);
	client_send(a, buf, 4 * PAGE);
	for (int i = 0; i < 10; i++)
		client_nap(); /* it must have begun to write in place */
	cr_assert_eq(client_clone(also_a, 2, &slab, 1, &clone), WIRE_OK);
	fill(buf, sizeof buf, 2);
	client_send(a, buf + 4 * PAGE, 12 * PAGE);
	cr_assert(client_receive(a, &answer, sizeof answer));
	cr_assert_eq(answer.status, 0);
	cr_assert(holds(a, slab, 0, 16, 2));
	/* the pages that had not been written at the moment of the clone */
	seg = client_seg(clone, 8, 8);
	cr_assert_eq(client_read(b, &seg, 1, buf), WIRE_OK);
	write_pages(a, slab, 0, 16, 1);
	seg = client_seg(slab, 8, 8);
	{
		static char first[8 * PAGE];

		cr_assert_eq(client_read(a, &seg, 1, first), WIRE_OK);
		seg = client_seg(clone, 8, 8);
		cr_assert_eq(client_read(b, &seg, 1, buf), WIRE_OK);
		cr_assert_arr_eq(first, buf, sizeof first);
	}
}

Test(server_clones, of_memory_that_was_handed_over_are_copies_at_once)
{
	int a = client_open(&d, true, 1), b = client_open(&d, false, 2), mem;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct wire_header h;
	struct iovec iov = {&h, sizeof h};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	uint64_t slab, clone, le;

	cr_assert_eq(client_grant(a, 1, &slab), WIRE_OK);
	write_pages(a, slab, 0, 16, 1);
	h = client_header(WIRE_MAP, 1, sizeof le);
	le = htole64(slab);
	client_send(a, &h, sizeof h);
	client_send(a, &le, sizeof le);
	cr_assert_eq(recvmsg(a, &m, MSG_WAITALL), (ssize_t)sizeof h);
	cr_assert_not_null(CMSG_FIRSTHDR(&m));
	memcpy(&mem, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof mem);
	cr_assert_eq(client_clone(a, 2, &slab, 1, &clone), WIRE_OK);
	fill(buf, sizeof buf, 99);
	cr_assert_eq(pwrite(mem, buf, sizeof buf, 0), (ssize_t)sizeof buf);
	cr_assert(holds(b, clone, 0, 16, 1));
	cr_assert(holds(a, slab, 0, 16, 99));
	/* and a clone's memory can be handed over as well: it is its own then */
	cr_assert_eq(client_clone(b, 1, &clone, 1, &le), WIRE_OK);
}

/* --- the model --- */

#define BORROWERS 4

struct slab_model {
	uint64_t handle;
	uint64_t page[SLAB_PAGES]; /* seed of the contents, 0: zeros */
};

static struct slab_model model[BORROWERS][SLABS];
static unsigned held[BORROWERS], total;
static int fds[BORROWERS];

static void check_slab(unsigned who, unsigned i)
{
	const struct slab_model *m = &model[who][i];
	struct wire_seg seg = client_seg(m->handle, 0, SLAB_PAGES);

	cr_assert_eq(client_read(fds[who], &seg, 1, buf), WIRE_OK);
	for (unsigned p = 0; p < SLAB_PAGES; p++)
		cr_assert(m->page[p] ? is_filled(buf + p * PAGE, PAGE, m->page[p])
				     : is_zero(buf + p * PAGE, PAGE),
			  "borrower %u slab %u page %u", who, i, p);
}

static void random_write(unsigned who, struct slab_model *m, uint64_t *rnd)
{
	uint32_t first = (uint32_t)(random_next(rnd) % SLAB_PAGES);
	uint32_t n = 1 + (uint32_t)(random_next(rnd) % (SLAB_PAGES - first));
	struct wire_seg seg = client_seg(m->handle, first, n);
	bool trim = random_next(rnd) % 4 == 0;

	for (uint32_t p = 0; p < n; p++) {
		m->page[first + p] = trim ? 0 : random_next(rnd) | 1;
		if (!trim)
			fill(buf + p * PAGE, PAGE, m->page[first + p]);
	}
	if (trim)
		cr_assert_eq(client_trim(fds[who], &seg, 1), WIRE_OK);
	else
		cr_assert_eq(client_write(fds[who], &seg, 1, buf), WIRE_OK);
}

static void random_clone(unsigned who, uint64_t *rnd)
{
	unsigned n = 1 + (unsigned)(random_next(rnd) % 4),
		 to = (unsigned)(random_next(rnd) % BORROWERS);
	uint64_t from[4], made[4];
	unsigned pick[4];

	for (unsigned i = 0; i < n; i++) {
		pick[i] = (unsigned)(random_next(rnd) % held[who]);
		from[i] = model[who][pick[i]].handle;
	}
	if (total + n > SLABS) {
		cr_assert_eq(client_clone(fds[who], to + 1, from, n, made), WIRE_ENOSPC);
		return;
	}
	cr_assert_eq(client_clone(fds[who], to + 1, from, n, made), WIRE_OK);
	for (unsigned i = 0; i < n; i++) {
		struct slab_model *m = &model[to][held[to]++];

		*m = model[who][pick[i]];
		m->handle = made[i];
	}
	total += n;
}

static void random_grant(unsigned who, uint64_t *rnd)
{
	unsigned n = 1 + (unsigned)(random_next(rnd) % 3);
	uint64_t made[3];

	if (total + n > SLABS) {
		cr_assert_eq(client_grant(fds[who], n, made), WIRE_ENOSPC);
		return;
	}
	cr_assert_eq(client_grant(fds[who], n, made), WIRE_OK);
	for (unsigned i = 0; i < n; i++) {
		struct slab_model *m = &model[who][held[who]++];

		memset(m, 0, sizeof *m);
		m->handle = made[i];
	}
	total += n;
}

static void random_free(unsigned who, uint64_t *rnd)
{
	unsigned i = (unsigned)(random_next(rnd) % held[who]);

	cr_assert_eq(client_free(fds[who], &model[who][i].handle, 1), WIRE_OK);
	model[who][i] = model[who][--held[who]];
	total--;
}

static void random_walk(unsigned steps)
{
	uint64_t rnd = 20261123;

	for (unsigned i = 0; i < BORROWERS; i++)
		fds[i] = client_open(&d, i & 1, i + 1);
	for (unsigned step = 0; step < steps; step++) {
		unsigned who = (unsigned)(random_next(&rnd) % BORROWERS);
		unsigned what = (unsigned)(random_next(&rnd) % 100);

		if (!held[who] || what < 8)
			random_grant(who, &rnd);
		else if (what < 20)
			random_free(who, &rnd);
		else if (what < 40)
			random_clone(who, &rnd);
		else if (what < 75)
			random_write(who, &model[who][random_next(&rnd) % held[who]], &rnd);
		else
			check_slab(who, (unsigned)(random_next(&rnd) % held[who]));
		if (step % 500 == 0)
			cr_assert_eq(client_slabs_free(fds[0]), SLABS - total);
	}
	for (unsigned who = 0; who < BORROWERS; who++) {
		for (unsigned i = 0; i < held[who]; i++)
			check_slab(who, i);
		cr_assert_eq(client_ask(fds[who], WIRE_GOODBYE, 0, NULL, 0, NULL, NULL), WIRE_OK);
	}
	cr_assert_eq(client_slabs_free(fds[0]), SLABS);
}

Test(server_clones, random_grants_writes_clones_trims_and_frees_equal_a_plain_array)
{
	random_walk(8000);
}

Test(server_clones_lazily, random_grants_writes_clones_trims_and_frees_equal_a_plain_array)
{
	random_walk(4000);
}
