/* SPDX-License-Identifier: MIT */
/* Connecting, planning and granting for `infuse attach`; see attach_donors.h. */
#include "cli/attach_donors.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/parse.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_address(struct attach_donor *d, const char *address)
{
	char tcp[RSWAP_TEXT_BYTES];
	const char *colon = strchr(address, ':');
	struct tp_conn *c;
	int r;

	if (!colon || (strncmp(address, "tcp:", 4) && strncmp(address, "rdma:", 5)))
		return err_fail(-EINVAL, "donor '%s': the kernel reaches tcp:HOST:PORT, or "
					 "tcp:HOST:PORT,rdma:HOST:PORT", d->address);
	/* Both are IP addresses; only what is spoken there differs. */
	snprintf(tcp, sizeof tcp, "tcp%s", colon);
	r = tp_create(tcp, &c);
	if (r)
		return r;
	d->data = c->addr;
	snprintf(d->transport, sizeof d->transport, "%.*s", (int)(colon - address), address);
	if (strcmp(d->transport, "tcp") || d->conn)
		tp_free(c);
	else
		d->conn = c;
	return 0;
}

int attach_add_donor(struct attach *a, const char *address)
{
	struct attach_donor *d = &a->donor[a->donors];
	char copy[2 * RSWAP_TEXT_BYTES], *word, *rest = copy;
	int r = 0;

	if (a->donors == RSWAP_MAX_DONORS)
		return err_fail(-E2BIG, "more than %u donors", RSWAP_MAX_DONORS);
	if (strlen(address) >= sizeof d->address)
		return err_fail(-ENAMETOOLONG, "'%s' is too long an address", address);
	a->donors++;
	snprintf(d->address, sizeof d->address, "%s", address);
	snprintf(copy, sizeof copy, "%s", address);
	while (!r && (word = strsep(&rest, ",")))
		r = add_address(d, word);
	if (!r && !d->conn)
		r = err_fail(-EINVAL, "donor '%s': the kernel needs its TCP address too: "
				      "tcp:HOST:PORT,%s", address, address);
	return r;
}

/* --- one operation on a donor's connection --- */

static int run(const struct attach *a, struct attach_donor *d, struct tp_op *op)
{
	uint64_t until = clock_ns() + a->deadline_ns;
	const struct tp_transport *t = d->conn->t;
	struct tp_done done;
	bool sent = false;

	op->tag = 1;
	while (clock_ns() < until) {
		struct pollfd p = {0};
		int r = sent ? 0 : t->submit(d->conn, op, clock_ns());

		if (r && r != -EAGAIN)
			return r;
		sent |= !r;
		r = t->poll(d->conn, clock_ns(), &done, 1);
		if (r < 0)
			return r;
		if (r > 0)
			return done.status;
		p.fd = t->fd(d->conn, &p.events);
		poll(&p, 1, 10);
	}
	return -ETIMEDOUT;
}

static int told(const struct attach_donor *d, int r, const char *what)
{
	return err_fail(r, "donor '%s' %s: %s", d->address, what, strerror(-r));
}

static int connect_donor(struct attach *a, struct attach_donor *d)
{
	int r;

	memcpy(d->hello.borrower, a->borrower, sizeof a->borrower);
	d->hello.tls = a->tls;
	snprintf(d->hello.name, sizeof d->hello.name, "%s", a->name);
	r = d->conn->t->open(d->conn, &d->hello, a->deadline_ns);
	if (r)
		return r;
	d->connected = true;
	for (const struct attach_donor *e = a->donor; e < d; e++)
		if (!memcmp(e->hello.welcome.boot, d->hello.welcome.boot,
			    sizeof e->hello.welcome.boot))
			return err_fail(-EINVAL, "'%s' and '%s' are the same donor", e->address,
					d->address);
	if (d->hello.welcome.slab_pages != a->donor->hello.welcome.slab_pages)
		return err_fail(-EINVAL, "donors '%s' and '%s' have slabs of different sizes; start "
					 "them with the same --slab", a->donor->address, d->address);
	r = run(a, d, &(struct tp_op){.kind = TP_STAT, .stat = &d->stat});
	if (r)
		return told(d, r, "does not tell what it has");
	d->free = le64toh(d->stat.slabs_free);
	return 0;
}

/* --- who gets which slab --- */

static bool same_domain(const struct attach *a, const struct rswap_place *set, unsigned n,
			const struct attach_donor *d)
{
	const uint8_t *domain = d->hello.welcome.domain;

	for (unsigned i = 0; i < n; i++)
		if (*domain && !memcmp(a->donor[set[i].donor].hello.welcome.domain, domain,
				       WIRE_NAME_BYTES))
			return true;
	return false;
}

static bool in_set(const struct rswap_place *set, unsigned n, unsigned donor)
{
	for (unsigned i = 0; i < n; i++)
		if (set[i].donor == donor)
			return true;
	return false;
}

/* The donor with most room that is not in the set; of another failure domain if there is one. */
static int pick(const struct attach *a, const struct rswap_place *set, unsigned n)
{
	int best = -1;
	bool best_same = false;

	for (unsigned i = 0; i < a->donors; i++) {
		const struct attach_donor *d = &a->donor[i];
		bool same;

		if (!d->free || in_set(set, n, i))
			continue;
		same = same_domain(a, set, n, d);
		if (best >= 0 &&
		    (same > best_same || (same == best_same && d->free <= a->donor[best].free)))
			continue;
		best = (int)i;
		best_same = same;
	}
	return best;
}

static int no_room(const struct attach *a)
{
	uint64_t slab = (uint64_t)a->slab_pages * WIRE_PAGE_SIZE, free = 0;
	char have[32], want[32];

	for (unsigned i = 0; i < a->donors; i++)
		free += le64toh(a->donor[i].stat.slabs_free);
	format_size(free * slab, have, sizeof have);
	format_size(a->slabs * slab, want, sizeof want);
	if (a->donors < a->replicas)
		return err_fail(-ENOSPC, "%u replicas need as many donors; there are %u", a->replicas,
				a->donors);
	return err_fail(-ENOSPC, "%s in %u replicas on different donors: %u donors have %s free, which "
				 "is not enough", want, a->replicas, a->donors, have);
}

static int plan(struct attach *a)
{
	a->map = calloc(a->slabs * a->replicas, sizeof *a->map);
	if (!a->map)
		return err_fail(-ENOMEM, "no memory for the map of %llu slabs",
				(unsigned long long)a->slabs);
	for (uint64_t i = 0; i < a->slabs; i++) {
		struct rswap_place *set = &a->map[i * a->replicas];

		for (unsigned k = 0; k < a->replicas; k++) {
			int d = pick(a, set, k);

			if (d < 0)
				return no_room(a);
			a->donor[d].free--;
			a->donor[d].wanted++;
			set[k].donor = (uint32_t)d;
		}
		/* The first one is read: each donor's turn comes. */
		for (unsigned k = 0; k < i % a->replicas; k++) {
			struct rswap_place first = set[0];

			memmove(set, set + 1, (a->replicas - 1) * sizeof *set);
			set[a->replicas - 1] = first;
		}
	}
	return 0;
}

static int grant_from(const struct attach *a, struct attach_donor *d)
{
	uint32_t most = le32toh(d->hello.welcome.max_slabs);

	if (!d->wanted)
		return 0;
	d->slabs = calloc(d->wanted, sizeof *d->slabs);
	if (!d->slabs)
		return err_fail(-ENOMEM, "no memory for the slabs of '%s'", d->address);
	for (uint64_t at = 0; at < d->wanted;) {
		uint64_t left = d->wanted - at;
		struct tp_op op = {.kind = TP_GRANT,
				   .count = left < most ? (uint32_t)left : most,
				   .slabs = d->slabs + at};
		int r = run(a, d, &op);

		if (r)
			return told(d, r, "did not grant its slabs");
		at += op.count;
	}
	return 0;
}

int attach_grant(struct attach *a, uint64_t bytes)
{
	uint64_t slab;
	int r = 0;

	for (unsigned i = 0; i < a->donors && !r; i++)
		r = connect_donor(a, &a->donor[i]);
	if (r)
		return r;
	a->slab_pages = le32toh(a->donor->hello.welcome.slab_pages);
	slab = (uint64_t)a->slab_pages * WIRE_PAGE_SIZE;
	a->slabs = (bytes + slab - 1) / slab;
	/* A wish for more than there is must not cost memory first. */
	for (unsigned i = 0; i < a->donors; i++)
		if (le64toh(a->donor[i].stat.slabs_free) > UINT32_MAX)
			a->donor[i].free = UINT32_MAX;
	if (a->slabs > (uint64_t)UINT32_MAX * RSWAP_MAX_DONORS)
		return no_room(a);
	r = plan(a);
	for (unsigned i = 0; i < a->donors && !r; i++)
		r = grant_from(a, &a->donor[i]);
	for (uint64_t i = 0; !r && i < a->slabs * a->replicas; i++) {
		struct attach_donor *d = &a->donor[a->map[i].donor];

		a->map[i].slab = d->slabs[d->given++];
	}
	return r;
}

void attach_release(struct attach *a, bool give_back)
{
	for (unsigned i = 0; i < a->donors; i++) {
		struct attach_donor *d = &a->donor[i];

		if (give_back && d->connected)
			run(a, d, &(struct tp_op){.kind = TP_GOODBYE});
		tp_free(d->conn);
		free(d->slabs);
	}
	free(a->map);
	explicit_bzero(a, sizeof *a);
}
