/* SPDX-License-Identifier: MIT */
/*
 * A million bits are flipped in the memory of real donors, through /proc/PID/mem, beneath whatever the
 * servers know: on every page that one donor (of two copies) or two donors (of 4+2 fragments) hold. Each
 * damaged piece is found by who reads it, the right bytes are returned, and in the end the donors' memory is
 * what it was before, byte for byte. INFUSE_FLIPS says how many bits (1000000).
 */
#include "pagestore_donor.h"

#include <fcntl.h>
#include <sys/stat.h>

#define COPIES    4096u /* pages of a volume with copies */
#define CODED     1024u /* with fragments: each page must be read often until all of its parities were */
#define RUN       16u
#define SLAB_TEXT "64K"
#define SLAB      65536u
#define MOST      6u
#define SLABS     512u /* on one donor at most */
#define LIMIT     (100 * NSEC_PER_SEC)

static struct test_donor donor[MOST];
static uint64_t flips_done, flips_wanted, rng = 0x2545f4914f6cdd1dull;
static uint64_t pages;
static unsigned char buf[RUN][PS_PAGE_SIZE];

/* What a donor's slabs held before they were damaged, and where they are in its memory. */
struct memory {
	int fd;
	unsigned slabs;
	uint64_t at[SLABS];
	unsigned char (*was)[SLAB];
};
static struct memory memory[2];

static uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

static bool all_zeros(const unsigned char *p, size_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

static void memory_open(struct memory *m, pid_t pid)
{
	char name[64], line[512];
	unsigned long from, to;
	FILE *f;

	m->slabs = 0;
	if (!m->was)
		m->was = calloc(SLABS, SLAB);
	cr_assert(m->was);
	snprintf(name, sizeof name, "/proc/%d/mem", (int)pid);
	m->fd = open(name, O_RDWR | O_CLOEXEC);
	if (m->fd < 0)
		cr_skip_test("can't write to another process's memory here");
	snprintf(name, sizeof name, "/proc/%d/maps", (int)pid);
	f = fopen(name, "r");
	cr_assert(f);
	while (fgets(line, sizeof line, f)) {
		if (!strstr(line, "memfd:infuse-slab") || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		/* Neighbours may be shown as one. */
		for (; from < to; from += SLAB) {
			cr_assert_lt(m->slabs, SLABS);
			cr_assert_eq(pread(m->fd, m->was[m->slabs], SLAB, (off_t)from), SLAB);
			if (!all_zeros(m->was[m->slabs], SLAB))
				m->at[m->slabs++] = from;
		}
	}
	fclose(f);
	cr_assert_gt(m->slabs, 0);
}

/* Different bits of a piece of memory. */
static void flip(unsigned char *p, unsigned bytes, unsigned bits)
{
	static unsigned char before[PS_PAGE_SIZE];

	memcpy(before, p, bytes);
	while (bits) {
		unsigned at = (unsigned)draw(bytes * 8);

		if ((p[at / 8] ^ before[at / 8]) >> at % 8 & 1)
			continue;
		p[at / 8] ^= (unsigned char)(1u << at % 8);
		bits--;
		flips_done++;
	}
}

/* Every piece (a page, or a fragment of one) that the donor has. Returns how many. */
static uint64_t damage(struct memory *m, unsigned piece)
{
	static unsigned char now[SLAB];
	uint64_t n = 0;

	for (unsigned i = 0; i < m->slabs; i++) {
		memcpy(now, m->was[i], SLAB);
		for (unsigned at = 0; at < SLAB; at += piece, n++) {
			cr_assert_not(all_zeros(now + at, piece), "a slab that is not written whole");
			/* One bit, or many: both are damage. */
			flip(now + at, piece, draw(4) ? 1 + (unsigned)draw(350) : 1);
		}
		cr_assert_eq(pwrite(m->fd, now, SLAB, (off_t)m->at[i]), SLAB);
	}
	return n;
}

static uint64_t still_damaged(const struct memory *m, unsigned piece)
{
	static unsigned char now[SLAB];
	uint64_t n = 0;

	for (unsigned i = 0; i < m->slabs; i++) {
		cr_assert_eq(pread(m->fd, now, SLAB, (off_t)m->at[i]), SLAB);
		for (unsigned at = 0; at < SLAB; at += piece)
			n += memcmp(now + at, m->was[i] + at, piece) != 0;
	}
	return n;
}

/*
 * A volume for which the target answers soonest, so that its bytes are read. Of fragments some are asked of
 * everybody, and all of them now and then.
 */
static struct ps_volume *open_on(unsigned donors, unsigned first, unsigned targets, struct ps_options o)
{
	struct ps_volume *v = NULL;
	char text[MOST][160];
	const char *list[MOST];

	for (unsigned i = 0; i < donors; i++)
		donor_start(&donor[i], "32M", SLAB_TEXT);
	for (unsigned i = 0; i < donors; i++) {
		unsigned d = (first + i) % donors;

		list[d] = donor_address(&donor[d], i < targets || o.code_data ? "tcp" : "delay,us=400:tcp", text[d]);
	}
	o.name = "test";
	o.pages = pages = o.code_data ? CODED : COPIES;
	o.donors = list;
	o.donors_count = donors;
	o.ports = 1;
	/* Machines are busy. */
	o.deadline_ns = 20 * NSEC_PER_SEC;
	o.suspect_ns = 10 * NSEC_PER_SEC;
	cr_assert_eq(ps_open(&o, &v), 0, "%s", err_text());
	cr_assert_eq(ps_reserve(v, 0, pages), 0, "%s", err_text());
	return v;
}

static void write_all(struct ps_volume *v)
{
	struct ps_batch b;

	for (uint64_t page = 0; page < pages; page += RUN) {
		for (unsigned i = 0; i < RUN; i++)
			fill_page(buf[i], page + i + 1);
		cr_assert_eq(transfer(ps_port(v, 0), PS_WRITE, page, RUN, buf, &b), 0);
	}
}

static void read_all(struct ps_volume *v)
{
	struct ps_batch b;

	/* Not always the same runs, so that now and then another member is asked for each page. */
	for (uint64_t page = 0, n; page < pages; page += n) {
		n = 1 + draw(RUN);
		n = n < pages - page ? n : pages - page;
		memset(buf, 0, sizeof buf);
		cr_assert_eq(transfer(ps_port(v, 0), PS_READ, page, (uint32_t)n, buf, &b), 0,
			     "page %lu: %s", (unsigned long)b.page, strerror(-b.status));
		for (unsigned i = 0; i < n; i++)
			cr_assert(page_is(buf[i], page + i + 1), "page %lu is another",
				  (unsigned long)(page + i));
	}
}

static void turn(unsigned donors, unsigned first, unsigned targets, struct ps_options o)
{
	struct ps_volume *v = open_on(donors, first, targets, o);
	unsigned piece = PS_PAGE_SIZE / (o.code_data ? o.code_data : 1), passes = 0;
	uint64_t end = clock_ns() + LIMIT;
	uint64_t damaged = 0, left, before = flips_done;
	struct ps_counters c;

	write_all(v);
	for (unsigned i = 0; i < targets; i++)
		memory_open(&memory[i], donor[(first + i) % donors].pid);
	for (unsigned i = 0; i < targets; i++)
		damaged += damage(&memory[i], piece);
	do {
		read_all(v);
		left = 0;
		for (unsigned i = 0; i < targets; i++)
			left += still_damaged(&memory[i], piece);
		passes++;
		cr_assert_lt(clock_ns(), end, "%lu of %lu pieces are still damaged", (unsigned long)left,
			     (unsigned long)damaged);
	} while (left);
	ps_counters(v, &c);
	fprintf(stderr, "%u copies, %u+%u%s: %lu bits flipped on %lu pieces of %u bytes of %u of %u donors; "
		"%lu found, %lu mended, in %u passes\n", o.replicas, o.code_data, o.code_parity,
		o.seal ? ", sealed" : "", (unsigned long)(flips_done - before), (unsigned long)damaged, piece,
		targets, donors, (unsigned long)c.bad_hashes, (unsigned long)c.repairs, passes);
	cr_expect_eq(c.errors, 0);
	cr_expect_eq(c.dropped, 0);
	cr_expect_geq(c.bad_hashes, damaged);
	cr_expect_geq(c.repairs, damaged);
	/* Unless a page was read from two at once each is found and mended once. */
	if (!o.code_data && !c.hedges) {
		cr_expect_eq(c.bad_hashes, damaged);
		cr_expect_eq(c.repairs, damaged);
	}
	for (unsigned i = 0; i < targets; i++)
		close(memory[i].fd);
	ps_close(v);
	for (unsigned i = 0; i < donors; i++)
		donor_stop(&donor[i]);
}

Test(flips, are_found_and_mended)
{
	const char *s = getenv("INFUSE_FLIPS");

	flips_wanted = s ? strtoull(s, NULL, 10) : 1000000;
	for (unsigned i = 0; flips_done < flips_wanted; i++) {
		turn(3, i % 3, 1, (struct ps_options){.replicas = 2, .seal = i % 2});
		turn(6, 2 * i % 6, 2,
		     (struct ps_options){.code_data = 4, .code_parity = 2, .seal = i % 2});
	}
	fprintf(stderr, "%lu bits in all\n", (unsigned long)flips_done);
}
