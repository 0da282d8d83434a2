/* SPDX-License-Identifier: MIT */
/*
 * Two writers of one volume. The old one, a process of its own, writes without a pause and is
 * stopped wherever it happens to be; a new one takes the volume over, and finds everything that was
 * ever acknowledged. When the old one wakes up nothing that it sends or copies changes a byte, and
 * it ends with a word. Over tcp, unix and shm, with one replica and with two. INFUSE_TAKEOVERS=200
 * is a longer form.
 */
#include "pagestore_donor.h"

#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/mman.h>

#define DONORS 3
#define PAGES  96u /* six slabs of 16 */
#define DEPTH  8u

static struct test_donor donor[DONORS];

/* What the old writer leaves for the test to see, in shared memory. */
struct seen {
	_Atomic uint64_t acked[PAGES]; /* the last value of each page that was acknowledged */
	struct ps_where where[PAGES / 16];
	atomic_int ready, ended; /* ended: the status that it ended with */
	char words[256];
};

static struct seen *seen;

static const unsigned char borrower[16] = {7, 7, 7, 1};

static void start(void)
{
	for (int i = 0; i < DONORS; i++)
		donor_start(&donor[i], "4M", "64K");
	seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(seen, MAP_FAILED);
}

static void stop(void)
{
	for (int i = 0; i < DONORS; i++)
		donor_stop(&donor[i]);
}

TestSuite(takeover, .init = start, .fini = stop, .timeout = 280);

static int open_writer(const char *transport, unsigned replicas, uint64_t epoch,
		       struct ps_volume **ret)
{
	char text[DONORS][160];
	const char *addr[DONORS];
	struct ps_options o = {.name = "writer",
			       .pages = PAGES,
			       .donors = addr,
			       .donors_count = DONORS,
			       .ports = 1,
			       .depth = DEPTH,
			       .replicas = replicas,
			       .deadline_ns = 20 * NSEC_PER_SEC,
			       .suspect_ns = 15 * NSEC_PER_SEC,
			       .connect_ns = 20 * NSEC_PER_SEC,
			       .borrower = borrower,
			       .epoch = epoch,
			       .keep = true};

	for (int i = 0; i < DONORS; i++) {
		bool tcp = !strcmp(transport, "tcp");

		snprintf(text[i], sizeof text[i], "%s%s%s", tcp ? "" : transport, tcp ? "" : ":",
			 tcp ? donor[i].tcp : donor[i].path);
		addr[i] = text[i];
	}
	return ps_open(&o, ret);
}

/* One batch at a time, to its end. */
static int run(struct ps_volume *v, enum ps_kind kind, uint64_t page, uint32_t pages, void *buf)
{
	struct ps_port *p = ps_port(v, 0);
	struct ps_vec vec = {.page = page, .count = pages, .buf = buf};
	struct ps_batch b = {.kind = kind, .vecs = 1, .vec = &vec}, *done;
	int r = ps_submit(p, &b, clock_ns());

	while (!r && !ps_poll(p, clock_ns(), &done, 1))
		ps_wait(p, 100 * NSEC_PER_MSEC);
	return r ? r : b.status;
}

/* A page that tells its number and value in every word. */
static void make_page(uint64_t *to, uint64_t page, uint64_t value)
{
	for (unsigned i = 0; i < PS_PAGE_SIZE / 8; i++)
		to[i] = page << 40 | value;
}

/* Its value, or UINT64_MAX for a mixture. */
static uint64_t value_of(const uint64_t *p, uint64_t page)
{
	for (unsigned i = 1; i < PS_PAGE_SIZE / 8; i++)
		if (p[i] != p[0])
			return UINT64_MAX;
	return p[0] ? p[0] - (page << 40) : 0;
}

/* The old writer: DEPTH batches of 1 to 4 pages under way all the time, until one fails. */
static int write_on(struct ps_volume *v)
{
	static uint64_t mem[DEPTH][4 * PS_PAGE_SIZE / 8];
	struct ps_port *p = ps_port(v, 0);
	struct ps_batch batch[DEPTH], *done[DEPTH];
	struct ps_vec vec[DEPTH];
	uint64_t value = 1, next = 0;
	unsigned busy = 0;

	memset(batch, 0, sizeof batch);
	for (;;) {
		unsigned n;

		for (unsigned i = 0; i < DEPTH && busy < DEPTH; i++) {
			uint32_t pages = 1 + (uint32_t)value % 4;

			if (batch[i].user)
				continue;
			/* the same page is never under way twice: they go round */
			if (next + pages > PAGES)
				next = 0;
			for (uint32_t k = 0; k < pages; k++)
				make_page(mem[i] + k * PS_PAGE_SIZE / 8, next + k, value);
			vec[i] = (struct ps_vec){.page = next, .count = pages, .buf = mem[i]};
			batch[i] = (struct ps_batch){.kind = PS_WRITE,
						     .vecs = 1,
						     .vec = &vec[i],
						     .user = (void *)(uintptr_t)value};
			next += pages;
			value++;
			if (ps_submit(p, &batch[i], clock_ns()))
				return -EINVAL;
			busy++;
		}
		n = ps_poll(p, clock_ns(), done, DEPTH);
		for (unsigned i = 0; i < n; i++) {
			const struct ps_vec *d = done[i]->vec;

			if (done[i]->status)
				return done[i]->status;
			for (uint32_t k = 0; k < d->count; k++)
				atomic_store(&seen->acked[d->page + k], (uintptr_t)done[i]->user);
			done[i]->user = NULL;
			busy--;
		}
		if (!n)
			ps_wait(p, 100 * NSEC_PER_MSEC);
	}
}

static void old_writer(const char *transport, unsigned replicas, uint64_t epoch)
{
	struct ps_volume *v;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = open_writer(transport, replicas, epoch, &v);
	if (!r)
		r = ps_reserve(v, 0, PAGES);
	if (!r) {
		for (uint64_t i = 0; i < PAGES / 16; i++)
			ps_where(v, i, &seen->where[i]);
		atomic_store(&seen->ready, 1);
		r = write_on(v);
		ps_close(v); /* must not free what is another's */
	}
	snprintf(seen->words, sizeof seen->words, "%s", err_text());
	atomic_store(&seen->ready, 1);
	atomic_store(&seen->ended, r);
	_exit(0);
}

static void nap_us(unsigned us)
{
	nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000l}, NULL);
}

/* The new writer's look at the pages, and its own bytes. */
static void overwrite(struct ps_volume *v, uint64_t *found)
{
	static uint64_t mem[PAGES][PS_PAGE_SIZE / 8];

	cr_assert_eq(run(v, PS_READ, 0, PAGES, mem), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		found[i] = value_of(mem[i], i);
	for (uint64_t i = 0; i < PAGES; i++)
		make_page(mem[i], i, 1ull << 30 | i);
	/* and zeros, which must not be a flag that only this writer knows */
	memset(mem[5], 0, PS_PAGE_SIZE);
	cr_assert_eq(run(v, PS_WRITE, 0, PAGES, mem), 0);
}

static void check_new(struct ps_volume *v)
{
	static uint64_t mem[PAGES][PS_PAGE_SIZE / 8];

	cr_assert_eq(run(v, PS_READ, 0, PAGES, mem), 0);
	for (uint64_t i = 0; i < PAGES; i++)
		cr_assert_eq(value_of(mem[i], i), i == 5 ? 0 : 1ull << 30 | i, "page %lu",
			     (unsigned long)i);
}

/* What a third writer finds, who knows nothing but the places. */
static void check_third(const char *transport, unsigned replicas, uint64_t epoch)
{
	struct ps_taken taken;
	struct ps_volume *v;

	cr_assert_eq(open_writer(transport, replicas, epoch, &v), 0, "%s", err_text());
	cr_assert_eq(ps_take_over(v, seen->where, PAGES / 16, false, &taken), 0, "%s", err_text());
	cr_assert_eq(taken.differed, 0);
	check_new(v);
	cr_assert_eq(ps_release(v, 0, PAGES), 0, "%s", err_text());
	ps_close(v);
}

static void one_round(const char *transport, unsigned replicas, uint64_t epoch, unsigned round)
{
	uint64_t found[PAGES];
	struct ps_taken taken;
	struct ps_volume *v;
	unsigned mixed = 0;
	pid_t old;

	memset(seen, 0, sizeof *seen);
	old = fork();
	cr_assert_geq(old, 0);
	if (!old)
		old_writer(transport, replicas, epoch);
	for (int i = 0; i < 20000 && !atomic_load(&seen->ready); i++)
		nap_us(1000);
	cr_assert(atomic_load(&seen->ready) && !atomic_load(&seen->ended), "%s", seen->words);
	nap_us(2000 + round * 7919 % 30000);
	kill(old, SIGSTOP);
	cr_assert_eq(open_writer(transport, replicas, epoch + 1, &v), 0, "%s", err_text());
	cr_assert_eq(ps_take_over(v, seen->where, PAGES / 16, false, &taken), 0, "%s", err_text());
	cr_assert_eq(taken.slabs, PAGES / 16);
	overwrite(v, found);
	kill(old, SIGCONT);
	for (int i = 0; i < 30000 && !atomic_load(&seen->ended); i++)
		nap_us(1000);
	cr_assert_eq(atomic_load(&seen->ended), -ESTALE, "%s: %s", transport, seen->words);
	cr_assert_eq(waitpid(old, NULL, 0), old);
	/* Whatever it was told is written, before or after it slept, is what was taken over. */
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t acked = atomic_load(&seen->acked[i]);

		mixed += found[i] == UINT64_MAX;
		cr_assert(found[i] >= acked, "%s: page %lu: %lu was acknowledged, %lu is there",
			  transport, (unsigned long)i, (unsigned long)acked,
			  (unsigned long)found[i]);
	}
	cr_assert_leq(mixed, DEPTH, "only writes under way may be mixtures");
	check_new(v);
	ps_close(v);
	check_third(transport, replicas, epoch + 2);
}

Test(takeover, nothing_of_a_paused_writer_lands_and_nothing_acknowledged_is_lost)
{
	static const char *const transports[] = {"tcp", "unix", "shm"};
	const char *more = getenv("INFUSE_TAKEOVERS");
	unsigned rounds = more ? (unsigned)atoi(more) : 4;
	uint64_t epoch = 1;

	for (unsigned round = 0; round < rounds; round++)
		for (unsigned t = 0; t < 3; t++)
			for (unsigned replicas = 1; replicas <= 2; replicas++, epoch += 3)
				one_round(transports[t], replicas, epoch, round);
}

Test(takeover, a_member_that_can_not_be_asked_is_told_and_can_be_left_behind)
{
	struct ps_where where[PAGES / 16];
	uint64_t mem[PS_PAGE_SIZE / 8];
	struct ps_taken taken;
	struct ps_volume *v;

	cr_assert_eq(open_writer("unix", 2, 1, &v), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(v, 0, PAGES), 0, "%s", err_text());
	for (uint64_t i = 0; i < PAGES; i++) {
		make_page(mem, i, 77);
		cr_assert_eq(run(v, PS_WRITE, i, 1, mem), 0);
	}
	for (uint64_t i = 0; i < PAGES / 16; i++)
		ps_where(v, i, &where[i]);
	ps_close(v);
	where[2].handle[1] ^= 1ull << 40; /* as after a restart of that donor */
	cr_assert_eq(open_writer("unix", 2, 2, &v), 0, "%s", err_text());
	cr_assert_eq(ps_take_over(v, where, PAGES / 16, false, &taken), -EUCLEAN);
	cr_assert(strstr(err_text(), "slab 2: donor '"), "%s", err_text());
	ps_close(v);
	cr_assert_eq(open_writer("unix", 2, 3, &v), 0, "%s", err_text());
	cr_assert_eq(ps_take_over(v, where, PAGES / 16, true, &taken), 0, "%s", err_text());
	for (uint64_t i = 0; i < PAGES; i++) {
		cr_assert_eq(run(v, PS_READ, i, 1, mem), 0);
		cr_assert_eq(value_of(mem, i), 77);
	}
	/* the same writer twice: the second one is too late */
	cr_assert_eq(open_writer("unix", 2, 2, &v), -ESTALE);
	cr_assert(strstr(err_text(), "a newer writer has the volume"), "%s", err_text());
}
