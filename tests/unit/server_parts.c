/* SPDX-License-Identifier: MIT */
/*
 * Parts of pages and slabs' generations, against a real server: a part changes what it names and
 * nothing beside it, and a generation only rises.
 */
#include "server_client.h"

#include <string.h>

static struct donor d;

static void start(void)
{
	donor_start(&d, NULL);
}

static void stop(void)
{
	donor_stop(&d);
}

TestSuite(server_parts, .init = start, .fini = stop, .timeout = 60);

#define SECTORS (WIRE_PAGE_SIZE / WIRE_SECTOR)

static struct wire_part part(uint64_t slab, uint32_t sector, uint32_t sectors)
{
	return (struct wire_part){htole64(slab), htole32(sector), htole32(sectors)};
}

static uint32_t write_parts(int fd, const struct wire_part *p, uint32_t n, const void *data,
			    size_t bytes)
{
	static unsigned char m[8 * PAGE];
	size_t none = 0;

	memcpy(m, p, n * sizeof *p);
	memcpy(m + n * sizeof *p, data, bytes);
	return client_ask(fd, WIRE_WRITEPART, n, m, n * sizeof *p + bytes, NULL, &none);
}

Test(server_parts, that_change_nothing_beside_them)
{
	static unsigned char page[2 * PAGE], data[5 * WIRE_SECTOR], got[2 * PAGE];

	for (int over_unix = 0; over_unix < 2; over_unix++) {
		int fd = client_open(&d, over_unix, 3);
		struct wire_part p[2];
		size_t n = sizeof got;
		struct wire_seg seg;
		uint64_t slab;

		cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
		seg = client_seg(slab, 2, 2);
		fill(page, sizeof page, 1);
		fill(data, sizeof data, 2);
		cr_assert_eq(client_write(fd, &seg, 1, page), WIRE_OK);
		p[0] = part(slab, 2 * SECTORS + 1, 2);
		p[1] = part(slab, 2 * SECTORS + 7, 3); /* over the page's end */
		cr_assert_eq(write_parts(fd, p, 2, data, sizeof data), WIRE_OK);
		memcpy(page + WIRE_SECTOR, data, 2 * WIRE_SECTOR);
		memcpy(page + 7 * WIRE_SECTOR, data + 2 * WIRE_SECTOR, 3 * WIRE_SECTOR);
		cr_assert_eq(client_read(fd, &seg, 1, got), WIRE_OK);
		cr_expect(!memcmp(got, page, sizeof page));
		cr_assert_eq(client_ask(fd, WIRE_READPART, 2, p, sizeof p, got, &n), WIRE_OK);
		cr_assert_eq(n, sizeof data);
		cr_expect(!memcmp(got, data, sizeof data));
		cr_assert_eq(client_free(fd, &slab, 1), WIRE_OK);
	}
}

Test(server_parts, beyond_what_there_is_are_refused)
{
	int fd = client_open(&d, false, 3);
	static unsigned char data[2 * PAGE];
	struct wire_part p;
	uint64_t slab;
	size_t n = 0;

	cr_assert_eq(client_grant(fd, 1, &slab), WIRE_OK);
	p = part(slab, 16 * SECTORS - 1, 2);
	cr_expect_eq(client_ask(fd, WIRE_READPART, 1, &p, sizeof p, data, &n), WIRE_ERANGE);
	cr_expect_eq(write_parts(fd, &p, 1, data, 2 * WIRE_SECTOR), WIRE_ERANGE);
	p = part(slab + 1, 0, 1);
	cr_expect_eq(client_ask(fd, WIRE_READPART, 1, &p, sizeof p, data, &n), WIRE_ESLAB);
	p = part(slab, 0, 0);
	cr_expect_eq(client_ask(fd, WIRE_READPART, 1, &p, sizeof p, data, &n), WIRE_EPROTO);
	p = part(slab, 0, WIRE_MAX_PAGES * SECTORS + 1);
	cr_expect_eq(client_ask(fd, WIRE_READPART, 1, &p, sizeof p, data, &n), WIRE_ELIMIT);
	p = part(slab, 0, 3);
	cr_expect_eq(write_parts(fd, &p, 1, data, 2 * WIRE_SECTOR), WIRE_ELENGTH);
	cr_expect_eq(write_parts(fd, &p, 1, data, 100), WIRE_ELENGTH);
}

static uint32_t generations(int fd, struct wire_generation *g, uint32_t n)
{
	size_t bytes = n * sizeof *g;

	return client_ask(fd, WIRE_GENERATION, n, g, bytes, g, &bytes);
}

Test(server_parts, generations_only_rise)
{
	int fd = client_open(&d, false, 3), stranger = client_open(&d, false, 4);
	struct wire_generation g[2];
	uint64_t slab[2], clone;

	cr_assert_eq(client_grant(fd, 2, slab), WIRE_OK);
	for (int i = 0; i < 2; i++)
		g[i] = (struct wire_generation){.slab = htole64(slab[i])};
	cr_assert_eq(generations(fd, g, 2), WIRE_OK);
	cr_expect(!g[0].generation && !g[1].generation);
	g[0].generation = htole64(7);
	cr_assert_eq(generations(fd, g, 2), WIRE_OK);
	cr_expect(le64toh(g[0].generation) == 7 && !g[1].generation);
	g[0].generation = htole64(6);
	cr_assert_eq(generations(fd, g, 1), WIRE_OK);
	cr_expect_eq(le64toh(g[0].generation), 7);
	cr_expect_eq(generations(stranger, g, 1), WIRE_ESLAB);
	/* One that isn't there: nothing changes. */
	g[0].generation = htole64(9);
	g[1].slab = htole64(slab[1] + 77);
	cr_expect_eq(generations(fd, g, 2), WIRE_ESLAB);
	g[0].generation = 0;
	cr_assert_eq(generations(fd, g, 1), WIRE_OK);
	cr_expect_eq(le64toh(g[0].generation), 7);
	/* A clone is another slab. */
	cr_assert_eq(client_clone(fd, 5, slab, 1, &clone), WIRE_OK);
	g[0] = (struct wire_generation){.slab = htole64(clone)};
	cr_assert_eq(generations(client_open(&d, false, 5), g, 1), WIRE_OK);
	cr_expect_eq(le64toh(g[0].generation), 0);
}
