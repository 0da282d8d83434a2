/* SPDX-License-Identifier: MIT */
/* rswap.conf: what is taken, what is refused and with which words, drop-ins. */
#include "cli/rswap_conf.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct rswap_conf_list list;

static int parse(const char *text)
{
	FILE *f = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
	int r = rswap_conf_parse(f, "file", &list);

	fclose(f);
	return r;
}

static void refused(const char *text, const char *words)
{
	int r = parse(text);

	cr_assert_lt(r, 0, "taken: %s", text);
	cr_assert(strstr(err_text(), words), "'%s' is not in '%s'", words, err_text());
	rswap_conf_free(&list);
}

static struct rswap_conf only(const char *text)
{
	struct rswap_conf c;

	cr_assert_eq(parse(text), 0, "%s", err_text());
	cr_assert_eq(list.count, 1);
	c = list.item[0];
	rswap_conf_free(&list);
	return c;
}

static uint64_t size_of(const char *value)
{
	char text[100];
	struct rswap_conf c;
	uint64_t bytes;

	snprintf(text, sizeof text, "[rswap0]\nsize = %s\n", value);
	c = only(text);
	cr_assert_eq(rswap_conf_size(&c, 10ull << 30, &bytes), 0, "%s", err_text());
	return bytes;
}

Test(rswap_conf, all_settings)
{
	struct rswap_conf c = only("# a comment\n[rswap12]\nsize=8G\nreplicas = 2\npriority = 100\n"
				   "donor = tcp:10.0.0.7:4770\ndonor = tcp:[::1]:4770\nvia = nbd\n"
				   "deadline = 500ms\nregistry = /a b\nkey = /k\nauto = no\n");

	cr_assert_str_eq(c.name, "rswap12");
	cr_assert_eq(c.bytes, 8ull << 30);
	cr_assert_eq(c.replicas, 2);
	cr_assert_eq(c.priority, 100);
	cr_assert_eq(c.donors, 2);
	cr_assert_str_eq(c.donor[1], "tcp:[::1]:4770");
	cr_assert_eq(c.via, RSWAP_VIA_NBD);
	cr_assert_eq(c.deadline_ns, 500000000);
	cr_assert_str_eq(c.registry, "/a b");
	cr_assert_str_eq(c.key, "/k");
	cr_assert(!c.automatic);
}

Test(rswap_conf, defaults)
{
	struct rswap_conf c = only("[rswap0]\nsize = 1G\n");

	cr_assert_eq(c.replicas, 1);
	cr_assert_eq(c.priority, -1);
	cr_assert_eq(c.via, RSWAP_VIA_AUTO);
	cr_assert_eq(c.donors, 0);
	cr_assert(c.automatic);
}

Test(rswap_conf, sizes)
{
	cr_assert_eq(size_of("8G"), 8ull << 30);
	cr_assert_eq(size_of("ram"), 10ull << 30);
	cr_assert_eq(size_of("ram/2"), 5ull << 30);
	cr_assert_eq(size_of("ram/3"), (10ull << 30) / 3 / (1 << 20) * (1 << 20));
	cr_assert_eq(size_of("25%"), (10ull << 30) / 4);
}

Test(rswap_conf, what_makes_no_sense_is_refused)
{
	struct rswap_conf c;
	uint64_t bytes;

	refused("size = 1G\n", "before the first");
	refused("[swap0]\nsize = 1G\n", "'swap0' is not a device's name");
	refused("[rswap]\nsize = 1G\n", "not a device's name");
	refused("[rswap01]\nsize = 1G\n", "not a device's name");
	refused("[rswap0/..]\nsize = 1G\n", "not a device's name");
	refused("[rswap1234]\nsize = 1G\n", "not a device's name");
	refused("[rswap0]\nsize = much\n", "file: [rswap0] size: 'much' is not a size");
	refused("[rswap0]\nsize = ram/0\n", "'ram/0' is not a size");
	refused("[rswap0]\nsize = ram*2\n", "not a size");
	refused("[rswap0]\nreplicas = 0\n", "[rswap0] replicas");
	refused("[rswap0]\nreplicas = 4\n", "[rswap0] replicas");
	refused("[rswap0]\npriority = 40000\n", "[rswap0] priority");
	refused("[rswap0]\nvia = pigeon\n", "'pigeon' is not auto, module or nbd");
	refused("[rswap0]\nauto = maybe\n", "'maybe' is not yes or no");
	refused("[rswap0]\ncolour = blue\n", "[rswap0] colour: there is no such setting");
	refused("[rswap0]\nsize\n", "file:2: not");
	c = only("[rswap0]\nsize = 1000K\n");
	cr_assert_eq(rswap_conf_size(&c, 1 << 30, &bytes), -EINVAL);
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert(f);
	fputs(text, f);
	fclose(f);
}

Test(rswap_conf, drop_ins_change_single_settings)
{
	char folder[] = "/tmp/infuse-test.XXXXXX", path[100], more[100], command[200];
	struct rswap_conf c;

	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/rswap.conf", folder);
	snprintf(more, sizeof more, "%s/rswap.conf.d", folder);
	cr_assert_eq(rswap_conf_read(path, &list), -ENOENT);
	mkdir(more, 0700);
	write_file(folder, "rswap.conf",
		   "[rswap0]\nsize = 8G\nreplicas = 2\ndonor = tcp:a:1\ndonor = tcp:b:1\n");
	write_file(more, "10-more.conf", "[rswap0]\nreplicas = 3\ndonor = tcp:c:1\n[rswap1]\nsize = 1G\n");
	write_file(more, "20-other.conf", "[rswap1]\ndonor =\ndonor = tcp:d:1\n[rswap0]\nsize = ram/2\n");
	write_file(more, "30-not-read", "[rswap0]\nreplicas = 1\n");
	cr_assert_eq(rswap_conf_read(path, &list), 0, "%s", err_text());
	cr_assert_eq(list.count, 2);
	cr_assert_eq(rswap_conf_find(&list, "rswap0", &c), 0);
	cr_assert_eq(c.replicas, 3);
	cr_assert_eq(c.donors, 3);
	cr_assert_eq(c.bytes, 0);
	cr_assert_eq(c.ram_of, 2);
	cr_assert_eq(rswap_conf_find(&list, "rswap1", &c), 0);
	cr_assert_eq(c.donors, 1);
	cr_assert_eq(rswap_conf_find(&list, "rswap2", &c), -ENOENT);
	cr_assert(strstr(err_text(), "rswap0, rswap1"), "%s", err_text());
	rswap_conf_free(&list);
	write_file(more, "40-none.conf", "[rswap2]\nreplicas = 1\n");
	cr_assert_eq(rswap_conf_read(path, &list), -EINVAL);
	cr_assert(strstr(err_text(), "[rswap2] has no size"), "%s", err_text());
	snprintf(command, sizeof command, "rm -r %s", folder);
	cr_assert_eq(system(command), 0);
}
