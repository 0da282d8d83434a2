/* SPDX-License-Identifier: MIT */
/*
 * What RDMA borrowers may not do: a real server, a real device (INFUSE_TEST_RDMA names its address),
 * and the page store's own transport, whose keys are exchanged behind its back.
 */
#include "server_client.h"
#include "common/clock.h"
#include "common/error.h"
#include "pagestore/transport/rdma.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLAB_PAGES 16u

static struct donor d;
static char address[160];

static void start(void)
{
	char arg[128], path[256], line[128];
	const char *kind = getenv("INFUSE_TEST_RDMA_KEYS");
	char keys[64];
	const char *more[] = {arg, "--insecure", keys, NULL};
	FILE *f;

	if (!getenv("INFUSE_TEST_RDMA"))
		cr_skip_test("INFUSE_TEST_RDMA names no RDMA device's address");
	snprintf(arg, sizeof arg, "--listen=rdma:%s:0", getenv("INFUSE_TEST_RDMA"));
	snprintf(keys, sizeof keys, "--rdma-keys=%s", kind ? kind : "auto");
	donor_start(&d, more);
	snprintf(path, sizeof path, "%s/ready", d.folder);
	f = fopen(path, "r");
	cr_assert(f);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "rdma:", 5))
			snprintf(address, sizeof address, "%.*s", (int)strcspn(line, "\n"), line);
	fclose(f);
	cr_assert(address[0]);
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_rdma, .init = start, .fini = stop, .timeout = 120);

static int try_open(unsigned id, const void *token, struct tp_conn **ret)
{
	struct tp_hello h = {.name = "test"};
	int r;

	client_id(id, h.borrower);
	if (token)
		memcpy(h.token, token, sizeof h.token);
	cr_assert_eq(tp_create(address, ret), 0, "%s", err_text());
	r = (*ret)->t->open(*ret, &h, 10 * NSEC_PER_SEC);
	if (r) {
		tp_free(*ret);
		*ret = NULL;
	}
	return r;
}

static struct tp_conn *open_conn(unsigned id)
{
	struct tp_conn *c;

	cr_assert_eq(try_open(id, NULL, &c), 0, "%s", err_text());
	return c;
}

/* The op's status, or why the connection ended. */
static int run(struct tp_conn *c, struct tp_op *op)
{
	uint64_t end = clock_ns() + 30 * NSEC_PER_SEC;
	struct tp_done done;
	int r;

	op->tag = 7;
	r = c->t->submit(c, op, clock_ns());
	while (!r && !(r = c->t->poll(c, clock_ns(), &done, 1))) {
		cr_assert_lt(clock_ns(), end, "no answer");
		c->t->due(c);
		client_nap();
	}
	return r == 1 ? done.status : r;
}

static uint64_t grant(struct tp_conn *c)
{
	uint64_t slab = 0;
	struct tp_op op = {.kind = TP_GRANT, .count = 1, .slabs = &slab};

	cr_assert_eq(run(c, &op), 0);
	return slab;
}

static int move(struct tp_conn *c, enum tp_kind kind, uint64_t slab, uint32_t page, void *buf)
{
	struct tp_seg seg = {.slab = slab, .page = page, .pages = 1, .buf = buf};
	struct tp_op op = {.kind = kind, .count = 1, .seg = &seg};

	return run(c, &op);
}

static unsigned char page[PAGE], other[PAGE];

/* Tokens go with their borrower: the session that asked is left open. */
static int get_token(unsigned id, struct wire_token *ret)
{
	int fd = client_open(&d, true, id);
	size_t n = sizeof *ret;

	cr_assert_eq(client_ask(fd, WIRE_TOKEN, 0, NULL, 0, ret, &n), WIRE_OK);
	cr_assert_eq(n, sizeof *ret);
	return fd;
}

Test(server_rdma, lets_in_with_a_token_once)
{
	struct wire_token t;
	struct tp_conn *c, *again;
	int fd = get_token(1, &t);

	cr_assert_eq(try_open(1, t.token, &c), 0, "%s", err_text());
	cr_expect_eq(move(c, TP_WRITE, grant(c), 0, page), 0);
	cr_expect_lt(try_open(1, t.token, &again), 0);
	cr_expect(strstr(err_text(), "a key is needed, or it was the wrong one"), "%s", err_text());
	tp_free(c);
	close(fd);
	until(donor_said(&d, "a token that is wrong, used or too old"));
}

Test(server_rdma, refuses_tokens_that_are_anothers_or_none)
{
	struct wire_token t = {.token = "made up"};
	struct wire_stat s;
	struct tp_conn *c;
	int fd = client_open(&d, true, 9), owner;

	cr_expect_lt(try_open(1, t.token, &c), 0);
	cr_expect(strstr(err_text(), "wrong one"), "%s", err_text());
	owner = get_token(1, &t);
	cr_expect_lt(try_open(2, t.token, &c), 0);
	cr_expect(strstr(err_text(), "wrong one"), "%s", err_text());
	cr_expect_lt(try_open(1, t.token, &c), 0, "shown by another it is used up");
	s = client_stat(fd);
	cr_expect_geq(le64toh(s.refused), 3, "they are counted");
	close(owner);
	close(fd);
}

Test(server_rdma, keys_are_no_use_to_another_borrower)
{
	struct tp_conn *a = open_conn(1), *b = open_conn(2);
	uint64_t slab = grant(a);
	struct rdma_key stolen;

	fill(page, PAGE, 5);
	cr_assert_eq(move(a, TP_WRITE, slab, 3, page), 0);
	cr_expect_eq(move(b, TP_READ, slab, 3, other), -EIO, "asked for, they are not given");
	stolen = *rdma_keys_find((struct rdma *)(void *)a, slab);
	rdma_keys_put((struct rdma *)(void *)b, &stolen);
	memset(other, 0, PAGE);
	cr_expect_lt(move(b, TP_READ, slab, 3, other), 0);
	cr_expect(is_zero(other, PAGE));
	tp_free(b);
	b = open_conn(2);
	rdma_keys_put((struct rdma *)(void *)b, &stolen);
	cr_expect_lt(move(b, TP_WRITE, slab, 3, other), 0);
	tp_free(b);
	cr_assert_eq(move(a, TP_READ, slab, 3, other), 0);
	cr_expect(is_filled(other, PAGE, 5), "the owner is not disturbed");
	tp_free(a);
}

Test(server_rdma, keys_end_where_the_slab_ends)
{
	struct tp_conn *c = open_conn(1);
	uint64_t slab = grant(c);
	struct rdma_key key;

	cr_assert_eq(move(c, TP_WRITE, slab, SLAB_PAGES - 1, page), 0);
	cr_expect_eq(move(c, TP_READ, slab, SLAB_PAGES, other), -EIO, "the transport says no");
	key = *rdma_keys_find((struct rdma *)(void *)c, slab);
	key.addr += PAGE / 2;
	rdma_keys_put((struct rdma *)(void *)c, &key);
	cr_expect_lt(move(c, TP_READ, slab, SLAB_PAGES - 1, other), 0, "and so does the device");
	tp_free(c);
	c = open_conn(1);
	key.addr -= PAGE;
	rdma_keys_put((struct rdma *)(void *)c, &key);
	cr_expect_lt(move(c, TP_WRITE, slab, 0, other), 0);
	tp_free(c);
}

Test(server_rdma, keys_end_with_the_slab)
{
	struct tp_conn *c = open_conn(1), *e;
	int fd = client_open(&d, true, 1);
	uint64_t slab = grant(c), fresh;

	fill(page, PAGE, 6);
	cr_assert_eq(move(c, TP_WRITE, slab, 0, page), 0);
	cr_assert_eq(client_free(fd, &slab, 1), WIRE_OK, "freed over another connection");
	cr_expect_lt(move(c, TP_WRITE, slab, 0, page), 0);
	tp_free(c);
	/* Lent again the memory is clean, and stays so. */
	e = open_conn(2);
	for (unsigned i = 0; i < 64; i++) {
		fresh = grant(e);
		memset(other, 1, PAGE);
		cr_assert_eq(move(e, TP_READ, fresh, 0, other), 0);
		cr_assert(is_zero(other, PAGE));
	}
	tp_free(e);
	close(fd);
}

Test(server_rdma, keys_end_when_a_newer_writer_comes)
{
	struct tp_conn *c = open_conn(1);
	uint64_t slab = grant(c);
	struct wire_header h = client_header(WIRE_HELLO, 0, sizeof(struct wire_hello)), a;
	struct wire_hello hello = client_hello(1);
	struct wire_welcome w;
	struct wire_seg seg = client_seg(slab, 0, 1);
	int fd = client_connect(&d, true);

	fill(page, PAGE, 7);
	cr_assert_eq(move(c, TP_WRITE, slab, 0, page), 0);
	h.epoch = htole64(1);
	client_send(fd, &h, sizeof h);
	client_send(fd, &hello, sizeof hello);
	cr_assert(client_receive(fd, &a, sizeof a));
	cr_assert_eq(a.status, 0);
	cr_assert(client_receive(fd, &w, sizeof w));
	fill(page, PAGE, 8);
	cr_expect_lt(move(c, TP_WRITE, slab, 0, page), 0, "the old writer is locked out");
	cr_assert_eq(client_read(fd, &seg, 1, other), WIRE_OK);
	cr_expect(is_filled(other, PAGE, 7));
	tp_free(c);
	close(fd);
}
