/* SPDX-License-Identifier: MIT */
/*
 * A volume whose writer changes hands by the registry: the documents come back as they were put,
 * one of two who claim at once gets it, an overtaken writer can publish nothing, and the next one
 * finds every page by what was published. Over SQLite, or over $INFUSE_TEST_REGISTRY.
 */
#include "pagestore_donor.h"
#include "registry/volumes.h"

#include <pthread.h>
#include <stdatomic.h>

#define PAGES 4800u /* 300 slabs: two documents of the map */
#define SLABS (PAGES / 16)

static char folder[64], url[1024];
static struct registry *reg;

static void start(void)
{
	const char *service = getenv("INFUSE_TEST_REGISTRY");

	strcpy(folder, "/tmp/infuse-volumes.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(url, sizeof url, "%s/registry.db", folder);
	if (service)
		snprintf(url, sizeof url, "%.*s/%s%s", (int)strcspn(service, "?"), service,
			 strrchr(folder, '/') + 1, service + strcspn(service, "?"));
	cr_assert_eq(reg_open(url, &reg), 0, "%s", err_text());
}

static void stop(void)
{
	static const char *const files[] = {"registry.db", "registry.db-wal", "registry.db-shm"};
	char name[128];

	reg_close(reg);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "%s/%s", folder, files[i]);
		unlink(name);
	}
	rmdir(folder);
}

TestSuite(volumes, .init = start, .fini = stop, .timeout = 120);

static struct volume make(const char *name)
{
	struct volume v = {.pages = PAGES, .replicas = 1, .slab_pages = 16, .donors = 2};

	snprintf(v.name, sizeof v.name, "%s", name);
	strcpy(v.donor[0].address, "tcp:10.0.0.1:4770");
	strcpy(v.donor[1].address, "unix:/run/x");
	strcpy(v.donor[0].boot, "00112233445566778899aabbccddeeff");
	return v;
}

Test(volumes, come_back_as_they_were_put_and_once_only)
{
	struct volume v = make("db"), back, other = make("db");
	struct volume_slab slab[SLABS] = {0}, *map;

	cr_assert_eq(volume_create(reg, &v), 0, "%s", err_text());
	cr_assert_eq(volume_create(reg, &other), -EEXIST);
	cr_assert_eq(volume_read(reg, "db", &back), 0, "%s", err_text());
	cr_assert(!memcmp(back.borrower, v.borrower, 16) && back.epoch == 1 && back.pages == PAGES);
	cr_assert_str_eq(back.donor[1].address, "unix:/run/x");
	cr_assert_str_eq(back.donor[0].boot, v.donor[0].boot);
	cr_assert_str_eq(back.writer, v.writer);
	for (unsigned i = 0; i < SLABS; i += 2)
		slab[i] = (struct volume_slab){.generation = i + 1,
					       .members = 2,
					       .donor = {i & 1, 1},
					       .handle = {i * 77ull << 32, UINT64_MAX - i}};
	cr_assert_eq(volume_publish(reg, &v, 0, SLABS, slab), 0, "%s", err_text());
	slab[255].generation = 9;
	slab[255].members = 1;
	slab[256].members = 0;
	slab[256].generation = 0;
	memset(&slab[256], 0, sizeof slab[256]);
	cr_assert_eq(volume_publish(reg, &v, 255, 2, &slab[255]), 0, "%s", err_text());
	cr_assert_eq(volume_map(reg, &back, SLABS, &map), 0, "%s", err_text());
	cr_assert(!memcmp(map, slab, sizeof slab));
	free(map);
	cr_assert_eq(volume_read(reg, "other", &back), -ENOENT);
	cr_assert_eq(volume_read(reg, "a/b", &back), -EINVAL);
	cr_assert_eq(reg_put(reg, "volume/bad", "{\"epoch\":1}", 11, 0, NULL), 0);
	cr_assert_eq(volume_read(reg, "bad", &back), -EBADMSG);
	cr_assert_eq(volume_delete(reg, &v), 0, "%s", err_text());
	cr_assert_eq(volume_read(reg, "db", &back), -ENOENT);
	cr_assert_eq(volume_create(reg, &other), 0, "%s", err_text());
	cr_assert_eq(volume_map(reg, &other, SLABS, &map), 0);
	cr_assert_eq(map[0].generation, 0, "nothing of the old map is left");
	free(map);
}

Test(volumes, belong_to_one_of_those_who_claim_at_once)
{
	struct volume v = make("db"), a, b;
	struct volume_slab slab = {.generation = 1, .members = 1};

	cr_assert_eq(volume_create(reg, &v), 0, "%s", err_text());
	cr_assert_eq(volume_read(reg, "db", &a), 0);
	cr_assert_eq(volume_read(reg, "db", &b), 0);
	cr_assert_eq(volume_claim(reg, &a), 0, "%s", err_text());
	cr_assert_eq(a.epoch, 2);
	cr_assert_eq(volume_claim(reg, &b), -EAGAIN);
	cr_assert_eq(b.epoch, 1, "an output is untouched on failure");
	cr_assert_eq(volume_publish(reg, &a, 0, 1, &slab), 0, "%s", err_text());
	/* the first writer wakes up */
	cr_assert_eq(volume_publish(reg, &v, 0, 1, &slab), -ESTALE);
	cr_assert_eq(volume_update(reg, &v), -ESTALE);
	cr_assert_eq(volume_delete(reg, &v), -ESTALE);
	a.closed = true;
	cr_assert_eq(volume_update(reg, &a), 0, "%s", err_text());
	cr_assert_eq(volume_read(reg, "db", &b), 0);
	cr_assert(b.closed);
}

static struct test_donor donor[2];

/* Opens the page store's volume as this document's writer. */
static struct ps_volume *open_as(const struct volume *v)
{
	const char *addr[2] = {v->donor[0].address, v->donor[1].address};
	struct ps_options o = {.name = v->name,
			       .pages = v->pages,
			       .donors = addr,
			       .donors_count = v->donors,
			       .ports = 1,
			       .replicas = v->replicas,
			       .deadline_ns = 20 * NSEC_PER_SEC,
			       .borrower = v->borrower,
			       .epoch = v->epoch,
			       .keep = true};
	struct ps_volume *p;

	cr_assert_eq(ps_open(&o, &p), 0, "%s", err_text());
	return p;
}

static void publish_all(const struct volume *v, const struct ps_volume *p)
{
	struct volume_slab slab[SLABS] = {0};

	for (uint64_t i = 0; i < SLABS; i++) {
		struct ps_where w;

		ps_where(p, i, &w);
		slab[i].generation = w.generation;
		slab[i].members = w.members;
		memcpy(slab[i].donor, w.donor, sizeof w.donor);
		memcpy(slab[i].handle, w.handle, sizeof w.handle);
	}
	cr_assert_eq(volume_publish(reg, v, 0, SLABS, slab), 0, "%s", err_text());
}

Test(volumes, go_over_to_the_next_writer_with_every_page)
{
	struct volume v = {
		.name = "disk", .pages = PAGES, .replicas = 2, .slab_pages = 16, .donors = 2};
	struct ps_where where[SLABS];
	struct volume_slab *map;
	struct ps_taken taken;
	struct ps_volume *old, *new;
	struct volume next;
	struct ps_batch b;
	uint64_t mem[PS_PAGE_SIZE / 8];
	char text[160];

	for (int i = 0; i < 2; i++) {
		donor_start(&donor[i], "32M", "64K");
		snprintf(v.donor[i].address, sizeof v.donor[i].address, "%.127s",
			 donor_address(&donor[i], i ? "shm" : "tcp", text));
	}
	cr_assert_eq(volume_create(reg, &v), 0, "%s", err_text());
	old = open_as(&v);
	cr_assert_eq(ps_reserve(old, 0, PAGES), 0, "%s", err_text());
	publish_all(&v, old);
	for (uint64_t i = 0; i < PAGES; i += 7) {
		fill_page(mem, i + 1);
		cr_assert_eq(transfer(ps_port(old, 0), PS_WRITE, i, 1, mem, &b), 0);
	}
	/* Elsewhere: all that is known is the volume's name. */
	cr_assert_eq(volume_read(reg, "disk", &next), 0, "%s", err_text());
	cr_assert_eq(volume_claim(reg, &next), 0, "%s", err_text());
	new = open_as(&next);
	cr_assert_eq(volume_map(reg, &next, SLABS, &map), 0, "%s", err_text());
	for (uint64_t i = 0; i < SLABS; i++) {
		where[i].generation = map[i].generation;
		where[i].members = map[i].members;
		memcpy(where[i].donor, map[i].donor, sizeof where[i].donor);
		memcpy(where[i].handle, map[i].handle, sizeof where[i].handle);
	}
	cr_assert_eq(ps_take_over(new, where, SLABS, false, &taken), 0, "%s", err_text());
	cr_assert_eq(taken.slabs, SLABS);
	publish_all(&next, new);
	for (uint64_t i = 0; i < PAGES; i++) {
		cr_assert_eq(transfer(ps_port(new, 0), PS_READ, i, 1, mem, &b), 0);
		cr_assert(page_is(mem, i % 7 ? 0 : i + 1), "page %lu", (unsigned long)i);
	}
	fill_page(mem, 99);
	cr_assert_eq(transfer(ps_port(old, 0), PS_WRITE, 3, 1, mem, &b), -ESTALE);
	cr_assert(ps_is_stale(old));
	cr_assert_eq(volume_update(reg, &v), -ESTALE);
	ps_close(old);
	cr_assert_eq(ps_release(new, 0, PAGES), 0, "%s", err_text());
	ps_close(new);
	cr_assert_eq(volume_delete(reg, &next), 0, "%s", err_text());
	free(map);
	for (int i = 0; i < 2; i++)
		donor_stop(&donor[i]);
}
