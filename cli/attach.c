/* SPDX-License-Identifier: MIT */
/*
 * `infuse attach`: takes slabs from the donors for a borrower made up on the spot, hands the map to
 * the kernel module in pieces, and ends once the kernel has connected and the device is there.
 */
#include "cli/attach_donors.h"
#include "cli/donor.h"
#include "cli/donor_key.h"
#include "cli/rswap.h"
#include "cli/verb.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"
#include "secure/key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

struct config {
	struct opt_list donor;
	const char *registry;
	struct donor_keys keys;
	uint64_t size, replicas, deadline_ns;
	bool add;
};

#define FIELD(f) offsetof(struct config, f)

static const struct opt table[] = {
	{.name = "size", .letter = 's', .type = OPT_SIZE, .offset = FIELD(size), .arg = "SIZE",
	 .help = "of the device (8G), rounded up to whole slabs", .min = 1},
	{.name = "replicas", .letter = 'r', .type = OPT_NUMBER, .offset = FIELD(replicas), .arg = "N",
	 .help = "copies of each page, on different donors [1]", .min = 1, .max = RSWAP_MAX_REPLICAS},
	{.name = "donor", .type = OPT_LIST, .offset = FIELD(donor), .arg = "ADDR",
	 .help = "tcp:HOST:PORT, or tcp:HOST:PORT,rdma:HOST:PORT; may be repeated"},
	{.name = "add", .type = OPT_FLAG, .offset = FIELD(add),
	 .help = "let the donors join a device that is there: for replicas that are missing"},
	{.name = "registry", .type = OPT_STRING, .offset = FIELD(registry), .arg = "FILE",
	 .help = "use the donors announced there"},
	{.name = "deadline", .type = OPT_DURATION, .offset = FIELD(deadline_ns), .arg = "TIME",
	 .help = "a donor that does not answer for so long is given up [3s]",
	 .min = 10000000, .max = 600 * NSEC_PER_SEC},
	DONOR_KEY_OPTIONS(struct config, keys),
};

static const struct opt_command command = {
	.name = "infuse attach",
	.usage = "DEVICE --size SIZE [--replicas N] [--donor ADDR]... [OPTIONS]",
	.summary = "Makes a block device of the kernel module whose pages lie at donors.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

/* --- donors --- */

/* Of a donor that announced itself: the first TCP address. */
static const char *tcp_address(const struct donor *d)
{
	for (unsigned i = 0; i < d->addresses; i++)
		if (!strncmp(d->address[i].text, "tcp:", 4))
			return d->address[i].text;
	return NULL;
}

static int add_announced(struct attach *a, const struct config *c)
{
	struct donor_list l;
	int r = donor_find(&c->donor, c->registry, &l);

	if (r)
		return r;
	for (size_t i = 0; i < l.count && !r; i++) {
		const char *address = tcp_address(&l.item[i]);

		if (address)
			r = attach_add_donor(a, address);
	}
	donor_list_free(&l);
	if (!r && !a->donors)
		r = err_fail(-ENOENT, "no donor announced a tcp: address, and the kernel needs one");
	return r;
}

static int add_donors(struct attach *a, const struct config *c)
{
	int r = 0;

	if (!c->donor.count)
		return add_announced(a, c);
	for (unsigned i = 0; i < c->donor.count && !r; i++)
		r = attach_add_donor(a, c->donor.item[i]);
	return r;
}

/* --- the key --- */

/* The borrower's own key, made of the first in the file that can borrow. false: none is given. */
static int find_key(const struct config *c, const struct attach *a, uint8_t key[KDF_KEY_BYTES],
		    bool *ret)
{
	const char *path = c->keys.key ? c->keys.key : getenv(KEY_FILE_VARIABLE);
	struct key_set *set;
	int r;

	*ret = false;
	if (!path || !*path)
		return 0;
	r = key_read(path, &set);
	if (r)
		return r;
	for (unsigned i = 0; i < set->count && !*ret; i++) {
		struct key role;

		if (key_expired(&set->key[i], (uint64_t)time(NULL)) ||
		    key_derive(&set->key[i], KEY_BORROWER, &role))
			continue;
		key_borrower(role.secret, a->borrower, key);
		explicit_bzero(&role, sizeof role);
		*ret = true;
	}
	key_free(set);
	return *ret ? 0 : err_fail(-EACCES, "'%s' holds no key that may borrow", path);
}

/* --- handing over --- */

static int send_device(struct rswap_socket *s, const struct attach *a, const uint8_t *key)
{
	struct nlmsghdr *m = rswap_message(s, RSWAP_CMD_DEVICE_NEW);

	mnl_attr_put_strz(m, RSWAP_A_NAME, a->name);
	mnl_attr_put_u64(m, RSWAP_A_SLABS, a->slabs);
	mnl_attr_put_u32(m, RSWAP_A_SLAB_PAGES, a->slab_pages);
	mnl_attr_put_u32(m, RSWAP_A_REPLICAS, a->replicas);
	mnl_attr_put(m, RSWAP_A_BORROWER, sizeof a->borrower, a->borrower);
	mnl_attr_put_u32(m, RSWAP_A_DEADLINE_MS, (uint32_t)(a->deadline_ns / 1000000));
	mnl_attr_put_strz(m, RSWAP_A_VOLUME, a->name);
	if (key)
		mnl_attr_put(m, RSWAP_A_KEY, KDF_KEY_BYTES, key);
	return rswap_call(s, m, a->name);
}

static int send_donor(struct rswap_socket *s, const struct attach *a, uint32_t i, bool add)
{
	const struct attach_donor *d = &a->donor[i];
	const struct tp_addr *tcp = &d->conn->addr;
	struct nlmsghdr *m = rswap_message(s, RSWAP_CMD_DONOR_ADD);

	mnl_attr_put_strz(m, RSWAP_A_NAME, a->name);
	if (!add)
		mnl_attr_put_u32(m, RSWAP_A_DONOR, i);
	mnl_attr_put_strz(m, RSWAP_A_ADDRESS, d->address);
	mnl_attr_put_strz(m, RSWAP_A_TRANSPORT, d->transport);
	mnl_attr_put(m, RSWAP_A_SOCKADDR, tcp->len, tcp->sockaddr);
	mnl_attr_put(m, RSWAP_A_DATA_SOCKADDR, d->data.len, d->data.sockaddr);
	if (add)
		return rswap_call(s, m, a->name);
	mnl_attr_put(m, RSWAP_A_BOOT, sizeof d->hello.welcome.boot, d->hello.welcome.boot);
	mnl_attr_put_strz(m, RSWAP_A_DONOR_NAME, (const char *)d->hello.welcome.name);
	mnl_attr_put_strz(m, RSWAP_A_DOMAIN, (const char *)d->hello.welcome.domain);
	return rswap_call(s, m, a->name);
}

static int send_map(struct rswap_socket *s, const struct attach *a)
{
	int r = 0;

	for (uint64_t at = 0; at < a->slabs && !r;) {
		uint64_t n = a->slabs - at < RSWAP_MAP_SLABS ? a->slabs - at : RSWAP_MAP_SLABS;
		struct nlmsghdr *m = rswap_message(s, RSWAP_CMD_MAP_ADD);

		mnl_attr_put_strz(m, RSWAP_A_NAME, a->name);
		mnl_attr_put_u64(m, RSWAP_A_FIRST, at);
		mnl_attr_put(m, RSWAP_A_MAP, n * a->replicas * sizeof *a->map,
			     &a->map[at * a->replicas]);
		r = rswap_call(s, m, a->name);
		at += n;
	}
	return r;
}

static int hand_over(struct rswap_socket *s, const struct attach *a, const uint8_t *key)
{
	struct nlmsghdr *m;
	int r = send_device(s, a, key);

	for (uint32_t i = 0; i < a->donors && !r; i++)
		r = send_donor(s, a, i, false);
	if (!r)
		r = send_map(s, a);
	if (r)
		return r;
	m = rswap_message(s, RSWAP_CMD_START);
	mnl_attr_put_strz(m, RSWAP_A_NAME, a->name);
	return rswap_call(s, m, a->name);
}

/* udev makes the node, a moment after the kernel told it. */
static void wait_for_node(const char *name)
{
	const struct timespec pause = {0, 10000000};
	char path[64];

	snprintf(path, sizeof path, "/dev/%s", name);
	for (int i = 0; i < 200 && access(path, F_OK); i++)
		nanosleep(&pause, NULL);
}

/* The module connects to them by itself; infuse devices tells whether it could. */
static int add_to_device(struct rswap_socket *s, struct attach *a, const struct config *c)
{
	int r = add_donors(a, c);

	for (uint32_t i = 0; i < a->donors && !r; i++)
		r = send_donor(s, a, i, true);
	return r;
}

static int attach(struct rswap_socket *s, struct attach *a, const struct config *c)
{
	uint8_t key[KDF_KEY_BYTES];
	bool has_key;
	int r = add_donors(a, c);

	if (!r)
		r = donor_secure(&c->keys, KEY_BORROWER);
	if (!r)
		r = find_key(c, a, key, &has_key);
	a->tls = donor_tls();
	if (!r)
		r = attach_grant(a, c->size);
	if (!r)
		r = hand_over(s, a, has_key ? key : NULL);
	explicit_bzero(key, sizeof key);
	return r;
}

int verb_attach(int argc, char **argv)
{
	struct config c = {.replicas = 1, .deadline_ns = 3 * NSEC_PER_SEC};
	struct rswap_socket *s;
	struct attach *a;
	int first, r;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	if (first >= argc)
		return err_fail(VERB_USAGE, "which device? For example: infuse attach rswap0 --size 8G");
	if (c.add && !c.donor.count)
		return err_fail(VERB_USAGE, "--add needs a --donor");
	if (!c.size && !c.add)
		return err_fail(VERB_USAGE, "--size says how large the device is to be");
	r = verb_no_words(argc, argv, first + 1);
	if (r)
		return r;
	a = calloc(1, sizeof *a);
	if (!a)
		return err_fail(-ENOMEM, "no memory");
	a->name = rswap_device_name(argv[first]);
	a->replicas = (unsigned)c.replicas;
	a->deadline_ns = c.deadline_ns;
	if (!a->name) {
		free(a);
		return VERB_USAGE;
	}
	if (getrandom(a->borrower, sizeof a->borrower, 0) != (ssize_t)sizeof a->borrower)
		abort(); /* it can't fail for 16 bytes */
	a->borrower[0] |= 1;
	r = rswap_open(&s);
	if (!r) {
		r = c.add ? add_to_device(s, a, &c) : attach(s, a, &c);
		rswap_close(s);
	}
	if (!r && !c.add)
		wait_for_node(a->name);
	attach_release(a, r != 0);
	free(a);
	return r;
}
