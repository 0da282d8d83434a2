/* SPDX-License-Identifier: MIT */
/* Donors' addresses as people write them: what is wrong is said in one line that names the address.
 */
#include "common/clock.h"
#include "common/error.h"
#include "pagestore/transport/transport.h"
#include <infuse/pagestore.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

Test(address, bad_ones_are_refused_with_the_reason)
{
	static const struct {
		const char *address;
		int err;
		const char *words;
	} bad[] = {
		{"", -EINVAL, "empty"},
		{"foo:bar", -EINVAL, "'foo' is not a transport"},
		{"tcp", -EINVAL, "nothing follows 'tcp'"},
		{"tcp:", -EINVAL, "port is missing"},
		{"tcp:localhost", -EINVAL, "port is missing"},
		{"tcp::7000", -EINVAL, "host is missing"},
		{"tcp:localhost:", -EINVAL, "port ''"},
		{"tcp:localhost:99999", -EINVAL, "port '99999' is not between 1 and 65535"},
		{"tcp:localhost:0", -EINVAL, "port '0'"},
		{"tcp:localhost:http", -EINVAL, "port 'http'"},
		{"tcp:no-such-host.invalid:7000", -EADDRNOTAVAIL, "no-such-host.invalid"},
		{"tcp,x=1:localhost:7000", -EINVAL, "'tcp' takes no options"},
		{"rdma:10.0.0.7", -EINVAL, "port is missing"},
		{"rdma:10.0.0.7:0", -EINVAL, "port '0'"},
		{"rdma,x=1:10.0.0.7:4771", -EINVAL, "'rdma' takes no options"},
		{"unix:", -EINVAL, "path is missing"},
		{"shm:", -EINVAL, "path is missing"},
		{"delay,us=200:", -EINVAL, "''"},
		{"delay,us=200", -EINVAL, "nothing follows 'delay'"},
		{"delay,ms=200:unix:/x", -EINVAL, "'ms' is not one of us|jitter|seed"},
		{"delay,us=soon:unix:/x", -EINVAL, "'us=soon'"},
		{"delay,us:unix:/x", -EINVAL, "'us'"},
		{"fail:unix:/x", -EINVAL, "every=N or after=N"},
		{"fail,every=1,after=1:unix:/x", -EINVAL, "every=N or after=N"},
		{"corrupt:unix:/x", -EINVAL, "every=N"},
		{"unix:/0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789",
		 -ENAMETOOLONG, "longer than 107 bytes"},
	};

	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tp_conn *c = NULL;

		cr_expect_eq(tp_create(bad[i].address, &c), bad[i].err, "'%s': %s", bad[i].address,
			     err_text());
		cr_expect_null(c);
		cr_expect(strstr(err_text(), bad[i].words), "'%s': '%s' should say '%s'",
			  bad[i].address, err_text(), bad[i].words);
		cr_expect(!strchr(err_text(), '\n'));
	}
}

Test(address, good_ones_become_chains)
{
	struct tp_conn *c, *d;

	cr_assert_eq(tp_create("delay,us=20,jitter=3:reorder,depth=2:tcp:[::1]:7000", &c), 0, "%s",
		     err_text());
	cr_expect_eq(c->t, &tp_delay);
	cr_expect_eq(c->inner->t, &tp_reorder);
	cr_expect_eq(c->inner->inner->t, &tp_tcp);
	cr_expect_eq(c->inner->inner->addr.family, AF_INET6);
	cr_assert_eq(tp_clone(c, 5, &d), 0);
	cr_expect_eq(d->inner->inner->addr.family, AF_INET6);
	cr_expect_str_eq(d->args, "us=20,jitter=3");
	tp_free(c);
	tp_free(d);
	cr_assert_eq(tp_create("tcp:127.0.0.1:7000", &c), 0);
	cr_expect_eq(c->addr.family, AF_INET);
	tp_free(c);
	cr_assert_eq(tp_create("unix:/a:b", &c), 0, "a path may have a colon");
	cr_expect_str_eq(((struct sockaddr_un *)(void *)c->addr.sockaddr)->sun_path, "/a:b");
	tp_free(c);
	tp_free(NULL);
}

static void expect_no_volume(const char *address, int err, const char *words)
{
	const char *donors[] = {address};
	struct ps_options o = {.pages = 64,
			       .donors = donors,
			       .donors_count = 1,
			       .ports = 1,
			       .connect_ns = 100 * NSEC_PER_MSEC};
	uint64_t begin = clock_ns();
	struct ps_volume *v = NULL;

	cr_expect_eq(ps_open(&o, &v), err, "%s", err_text());
	cr_expect_null(v);
	cr_expect(strstr(err_text(), words), "'%s' should say '%s'", err_text(), words);
	cr_expect(strstr(err_text(), address), "it names the donor");
	cr_expect_lt(clock_ns() - begin, NSEC_PER_SEC);
}

Test(address, a_donor_that_is_not_there_is_named)
{
	char dir[] = "/tmp/infuse-test.XXXXXX", path[64], address[80];
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/sock", dir);
	snprintf(address, sizeof address, "unix:%s", path);
	expect_no_volume(address, -ENOENT, "No such file");
	memcpy(un.sun_path, path, strlen(path) + 1);
	cr_assert_eq(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	expect_no_volume(address, -ECONNREFUSED, "refused");
	/* Somebody listens but never says a word. */
	cr_assert_eq(listen(fd, 1), 0);
	expect_no_volume(address, -ETIMEDOUT, "did not answer the hello");
	close(fd);
	unlink(path);
	rmdir(dir);
}

Test(address, without_an_rdma_device_that_is_said)
{
	/* Where there is one nobody answers on this port, or no way leads there. */
	bool device = !access("/dev/infiniband/rdma_cm", F_OK);

	expect_no_volume("rdma:127.0.0.1:1", -ENODEV,
			 device ? "no RDMA device is on the way" : "no RDMA device (see infuse check)");
}

Test(address, odd_options_are_refused)
{
	const char *donors[] = {"unix:/nowhere"};
	struct ps_options good = {.pages = 64, .donors = donors, .donors_count = 1, .ports = 1}, o;
	struct ps_volume *v = NULL;

	o = good;
	o.pages = 0;
	cr_expect_eq(ps_open(&o, &v), -EINVAL);
	o = good;
	o.donors_count = 0;
	cr_expect_eq(ps_open(&o, &v), -EINVAL);
	o.donors_count = PS_MAX_DONORS + 1;
	cr_expect_eq(ps_open(&o, &v), -E2BIG);
	o = good;
	o.ports = 0;
	cr_expect_eq(ps_open(&o, &v), -EINVAL);
	o = good;
	o.deadline_ns = UINT64_MAX;
	cr_expect_eq(ps_open(&o, &v), -EINVAL);
	o = good;
	o.replicas = 4;
	cr_expect_eq(ps_open(&o, &v), -EINVAL);
	o = good;
	o.replicas = 2;
	cr_expect_eq(ps_open(&o, &v), -ENOSPC, "there is one donor");
	cr_expect_null(v);
	ps_close(NULL);
}
