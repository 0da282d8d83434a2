/* SPDX-License-Identifier: MIT */
/*
 * A volume's table of donors, and the connections that are opened with it. The table grows up to
 * PS_MAX_DONORS; a donor's number is its bit in many masks. One that joins later gets its entry here
 * and its connections as one that comes back does (reconnect.c): the maintenance opens them, ports
 * take theirs when they look. An entry whose donor is gone for good and holds nothing is vacant, and
 * given to the next new one.
 */
#include "pagestore/maintain.h"
#include "common/error.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

void volume_donor_error(struct ps_volume *v, unsigned donor, int error)
{
	/* The first one says why; what follows is its consequence. */
	if (!__atomic_load_n(&v->donor[donor].error, __ATOMIC_RELAXED))
		__atomic_store_n(&v->donor[donor].error, error, __ATOMIC_RELAXED);
}

/* --- opening --- */

int volume_connect(struct ps_volume *v, unsigned donor, struct tp_conn *c, struct tp_hello *h)
{
	struct wire_welcome *w = &h->welcome, *known = &v->donor[donor].hello.welcome;
	int r = volume_hello(v, c, h, v->connect_ns);

	if (r)
		return r;
	if (!known->slab_pages)
		return 0;
	if (memcmp(w->boot, known->boot, sizeof w->boot) || w->slab_pages != known->slab_pages) {
		c->t->close(c);
		return err_fail(-EIO, "donor '%s' has restarted: what it held is gone",
				c->addr.text);
	}
	return 0;
}

static int connect_control(struct ps_volume *v, unsigned d)
{
	struct donor *donor = &v->donor[d];
	struct tp_hello h = {0};
	int r;

	memcpy(h.borrower, v->borrower, sizeof h.borrower);
	r = volume_connect(v, d, donor->control, &h);
	if (!r)
		donor->hello = h;
	return r;
}

/*
 * A forked child goes on without those that can't be reached, where others have what they held. Who
 * opens a volume leniently has them join later.
 */
static bool may_miss(struct ps_volume *v, unsigned d)
{
	if (!v->map.slab && v->lenient && d != v->spill) {
		v->donor[d].dead = true;
		__atomic_fetch_or(&v->joining, 1ull << d, __ATOMIC_SEQ_CST);
		return true;
	}
	if (!v->map.slab || v->map.members == v->map.need)
		return false;
	v->donor[d].dead = true;
	__atomic_fetch_or(&v->map.gone, 1ull << d, __ATOMIC_SEQ_CST);
	return true;
}

/* A forked child's port may not have taken the connection that its parent's maintenance offered. */
static int port_conn(struct ps_volume *v, struct ps_port *p, unsigned d)
{
	int r = 0;

	if (!p->conn[d]) {
		r = tp_clone(v->donor[d].control, (uint64_t)(p - v->port) + 1, &p->conn[d]);
		if (!r)
			tp_share(p->conn[d], v->donor[d].control);
	}
	return r;
}

static int connect_port(struct ps_volume *v, struct ps_port *p)
{
	for (unsigned d = 0; d < v->donors; d++) {
		struct core_limits limits = volume_limits(&v->donor[d].hello, v->donor[d].control);
		struct tp_hello h = {0};
		int r;

		if ((map_gone(&v->map) | v->joining) >> d & 1)
			continue;
		memcpy(h.borrower, v->borrower, sizeof h.borrower);
		r = port_conn(v, p, d);
		if (!r)
			r = volume_connect(v, d, p->conn[d], &h);
		if (r && v->map.slab && may_miss(v, d))
			continue;
		if (r)
			return r;
		p->live |= 1ull << d;
		if (p->core.depth && p->core.donor[d].dead)
			core_opened(&p->core, d, &limits);
	}
	return 0;
}

static int check_slabs(const struct ps_volume *v, unsigned d)
{
	const struct donor *a = v->donor, *b = &v->donor[d];

	while (a < b && !a->hello.welcome.slab_pages)
		a++;
	if (!b->hello.welcome.slab_pages ||
	    a->hello.welcome.slab_pages == b->hello.welcome.slab_pages)
		return 0;
	return err_fail(-EINVAL,
			"donor '%s' has slabs of %u pages, donor '%s' of %u; start them with the "
			"same --slab",
			b->control->addr.text, le32toh(b->hello.welcome.slab_pages),
			a->control->addr.text, le32toh(a->hello.welcome.slab_pages));
}

uint32_t volume_first_pages(const struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++)
		if (v->donor[d].hello.welcome.slab_pages)
			return le32toh(v->donor[d].hello.welcome.slab_pages);
	return 0;
}

/* o: the spill file is still to be made; NULL: what there is stays. */
static int connect_controls(struct ps_volume *v, const struct ps_options *o)
{
	for (unsigned d = 0; d < v->donors; d++) {
		int r = 0;

		if (d == v->spill && !volume_first_pages(v))
			return -EHOSTUNREACH;
		if (o && d == v->spill)
			r = spill_open(v, o);
		if (!r && !(map_gone(&v->map) >> d & 1))
			r = connect_control(v, d);
		if (r && !may_miss(v, d))
			return r;
		r = check_slabs(v, d);
		if (r)
			return r;
	}
	/* The words are the last one's that was tried. */
	return volume_first_pages(v) ? 0 : -EHOSTUNREACH;
}

int volume_connect_all(struct ps_volume *v, const struct ps_options *o)
{
	int r = connect_controls(v, o);

	for (unsigned i = 0; i < v->ports && !r; i++)
		r = connect_port(v, &v->port[i]);
	return r;
}

struct core_limits volume_limits(const struct tp_hello *h, const struct tp_conn *c)
{
	return (struct core_limits){.max_segs = le32toh(h->welcome.max_segs),
				    .max_pages = le32toh(h->welcome.max_pages),
				    .minor = le16toh(h->welcome.minor),
				    .instant = c->t->instant};
}

/* Donors that say the same word fail together; those that say none are each their own. */
void volume_number_domains(struct ps_volume *v)
{
	for (unsigned d = 0; d < v->donors; d++) {
		const char *domain = (const char *)v->donor[d].hello.welcome.domain;
		unsigned same = 0;

		while (*domain && same < d &&
		       strcmp(domain, (const char *)v->donor[same].hello.welcome.domain))
			same++;
		v->donor[d].domain = *domain ? same : d;
	}
}

/* --- the table --- */

/* Other threads may be reading the entry's old address: they get either, or a mixture that ends. */
static void set_address(struct donor *donor, const char *text)
{
	size_t n = strnlen(text, sizeof donor->address - 1);

	for (size_t i = 0; i < sizeof donor->address; i++)
		__atomic_store_n(&donor->address[i], i < n ? text[i] : 0, __ATOMIC_RELAXED);
}

static void get_address(const struct donor *donor, char text[sizeof donor->address])
{
	for (size_t i = 0; i < sizeof donor->address; i++)
		text[i] = __atomic_load_n(&donor->address[i], __ATOMIC_RELAXED);
}

const char *ps_donor_name(const struct ps_volume *v, int donor)
{
	static _Thread_local char text[256] __attribute__((tls_model("initial-exec")));
	char address[sizeof v->donor->address];
	int error;

	if (donor < 0 || (unsigned)donor >= v->donors)
		return "no donor";
	error = __atomic_load_n(&v->donor[donor].error, __ATOMIC_RELAXED);
	get_address(&v->donor[donor], address);
	if (error)
		snprintf(text, sizeof text, "%s (%s)", address, strerrordesc_np(-error));
	else
		snprintf(text, sizeof text, "%s", address);
	return text;
}

void ps_donor_address(const struct ps_volume *v, unsigned donor, char address[128])
{
	get_address(&v->donor[donor], address);
}

unsigned ps_donors(const struct ps_volume *v)
{
	return v->donors;
}

int volume_create_conns(struct ps_volume *v, const struct ps_options *o)
{
	char spill[128];

	if (o->spill)
		spill_address(o->spill, spill);
	for (unsigned d = 0; d < v->donors; d++) {
		const char *address = d == v->spill ? spill : o->donors[d];
		struct donor *donor = &v->donor[d];
		int r = tp_create(address, &donor->control);

		set_address(donor, address);
		if (!r)
			r = tp_clone(donor->control, UINT32_MAX, &donor->spare);
		for (unsigned i = 0; i <= v->ports && !r; i++) {
			r = tp_clone(donor->control, i + 1, &v->port[i].conn[d]);
			if (!r)
				tp_share(v->port[i].conn[d], donor->control);
		}
		if (r)
			return r;
	}
	return 0;
}

uint32_t volume_donor_pages(const struct ps_volume *v)
{
	return (1u << v->map.slab_shift) / (v->map.parts ? v->map.parts : 1);
}

uint64_t volume_lost(const struct ps_volume *v)
{
	uint64_t mask = map_gone(&v->map);

	for (unsigned d = 0; d < v->donors; d++)
		if (v->donor[d].dead)
			mask |= 1ull << d;
	return mask & ~volume_absent(v);
}

struct tp_conn **donor_old_place(struct donor *donor)
{
	for (unsigned i = 0; i < OLD_CONTROLS; i++)
		if (!donor->old[i])
			return &donor->old[i];
	return NULL;
}

static bool is_at(const struct donor *donor, const char *address)
{
	return !strncmp(donor->address, address, sizeof donor->address - 1);
}

/* The address's entry, or -ENOENT. */
static int find(const struct ps_volume *v, const char *address)
{
	uint64_t vacant = __atomic_load_n(&v->vacant, __ATOMIC_RELAXED);

	for (unsigned d = 0; d < v->donors; d++)
		if (!(vacant >> d & 1) && is_at(&v->donor[d], address))
			return (int)d;
	return -ENOENT;
}

/* An entry for somebody new: the next one, or else a vacant one. */
static int free_entry(struct ps_volume *v)
{
	if (v->donors < PS_MAX_DONORS)
		return (int)v->donors;
	for (uint64_t m = v->vacant; m; m &= m - 1)
		if (donor_old_place(&v->donor[__builtin_ctzll(m)]))
			return __builtin_ctzll(m);
	return err_fail(-E2BIG, "a volume can't have more than %u donors", PS_MAX_DONORS);
}

/* Nothing of an entry's former donor is left but connections that ports have not put away yet. */
static void take_entry(struct ps_volume *v, unsigned d, const char *address, struct tp_conn *control,
		       struct tp_conn *spare)
{
	struct donor *donor = &v->donor[d];
	uint64_t bit = 1ull << d;

	if (donor->control)
		*donor_old_place(donor) = donor->control;
	tp_free(donor->spare);
	donor->control = control;
	donor->spare = spare;
	donor->hello = (struct tp_hello){0};
	donor->stat = (struct wire_stat){0};
	donor->dead = true;
	donor->held = 0;
	donor->retry_ns = donor->backoff_ns = 0;
	__atomic_store_n(&donor->error, 0, __ATOMIC_RELAXED);
	set_address(donor, address);
	v->leaving &= ~bit;
	v->maintain->moving = v->leaving;
	__atomic_fetch_or(&v->map.swept, bit, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&v->map.gone, bit, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&v->joining, bit, __ATOMIC_SEQ_CST);
	/* From here on the maintenance sees it. */
	__atomic_fetch_and(&v->vacant, ~bit, __ATOMIC_SEQ_CST);
	if (d == v->donors)
		v->donors = d + 1;
}

static int add(struct ps_volume *v, const char *address)
{
	struct tp_conn *control = NULL, *spare = NULL;
	int d, r = tp_create(address, &control); /* resolves names: not with the lock */

	if (!r)
		r = tp_clone(control, UINT32_MAX, &spare);
	lock_take(&v->lock);
	d = r ? r : free_entry(v);
	if (d >= 0)
		take_entry(v, (unsigned)d, address, control, spare);
	lock_give(&v->lock);
	if (d < 0) {
		tp_free(control);
		tp_free(spare);
	}
	return d;
}

/* Lost for a volume that keeps nothing twice, it is not waited for; with nothing on it it may come again. */
static void invite(struct ps_volume *v, unsigned d)
{
	struct donor *donor = &v->donor[d];

	if (!donor->dead || donor->held || v->map.members > v->map.need)
		return;
	__atomic_fetch_or(&v->map.gone, 1ull << d, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&v->joining, 1ull << d, __ATOMIC_SEQ_CST);
}

int ps_update_donors(struct ps_volume *v, const char *const *address, unsigned count)
{
	uint64_t listed = 0;
	int error = 0;

	for (unsigned i = 0; i < count; i++) {
		int d;

		lock_take(&v->lock);
		d = find(v, address[i]);
		if (d >= 0)
			invite(v, (unsigned)d);
		lock_give(&v->lock);
		if (d < 0)
			d = add(v, address[i]);
		if (d < 0)
			error = error ? error : d;
		else
			listed |= 1ull << d;
	}
	lock_take(&v->lock);
	v->unlisted = ~listed;
	if (v->file)
		v->unlisted &= ~(1ull << v->spill);
	lock_give(&v->lock);
	return error;
}

static bool is_buried(const struct ps_volume *v, unsigned d)
{
	for (unsigned i = 0; i < v->maintain->graves; i++)
		if (v->maintain->grave[i].donor == d)
			return true;
	return false;
}

static bool is_given_up(const struct ps_volume *v, unsigned d)
{
	const struct donor *donor = &v->donor[d];

	return (donor->dead || map_gone(&v->map) >> d & 1) && !donor->held && !is_buried(v, d) &&
	       !(v->maintain->job.used && v->maintain->job.donor == d);
}

void donors_vacate(struct ps_volume *v)
{
	for (unsigned d = 0; v->unlisted && d < v->donors; d++) {
		uint64_t bit = 1ull << d;

		if (!(v->unlisted & bit) || v->vacant & bit || !is_given_up(v, d))
			continue;
		v->donor[d].dead = true;
		__atomic_fetch_or(&v->map.swept, bit, __ATOMIC_SEQ_CST);
		__atomic_fetch_or(&v->map.gone, bit, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&v->joining, ~bit, __ATOMIC_SEQ_CST);
		__atomic_fetch_or(&v->vacant, bit, __ATOMIC_SEQ_CST);
	}
}

bool donor_is_known(const struct ps_volume *v, unsigned d, const struct tp_hello *h)
{
	for (unsigned i = 0; i < v->donors; i++)
		if (i != d && !(volume_absent(v) >> i & 1) &&
		    !memcmp(v->donor[i].hello.welcome.boot, h->welcome.boot, 16))
			return true;
	return false;
}
