/* SPDX-License-Identifier: MIT */
/*
 * The spill tier: what no donor has room for goes to a file, and not before; it moves up when room appears;
 * a full disk is an error to whoever asks for more, and to nobody else. Real donors, real filesystems;
 * every byte is checked.
 */
#include "pagestore_donor.h"
#include "pagestore/transport/file_store.h"
#include "pagestore/volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define PAGES  512u
#define SLAB   16u /* pages */
#define SLABS  (PAGES / SLAB)
#define MOST   6u

static struct test_donor donor[MOST];
static unsigned donors;
static char address[MOST][160], folder[64], bin[512];
static struct ps_volume *volume;
static uint64_t what[PAGES];
static atomic_bool maintain_stop, work_stop;
static pthread_t maintainer, worker;

static void donors_start(unsigned n, const char *size)
{
	ssize_t r = readlink("/proc/self/exe", bin, sizeof bin - 1);

	cr_assert_gt(r, 0);
	*strrchr(bin, '/') = 0;
	donors = n;
	for (unsigned i = 0; i < n; i++) {
		donor_start(&donor[i], size, "64K");
		donor_address(&donor[i], "unix", address[i]);
	}
	strcpy(folder, "/tmp/infuse-test-spill.XXXXXX");
	cr_assert(mkdtemp(folder));
}

static void donors_stop(void)
{
	for (unsigned i = 0; i < donors; i++)
		donor_stop(&donor[i]);
	cr_expect_eq(rmdir(folder), 0, "something was left in %s", folder);
}

static int try_spill(struct ps_options o, struct ps_volume **ret)
{
	const char *list[MOST];

	for (unsigned i = 0; i < donors; i++)
		list[i] = address[i];
	o.name = "test";
	o.pages = o.pages ? o.pages : PAGES;
	o.ports = 2;
	o.donors = list;
	o.donors_count = donors;
	o.deadline_ns = 20 * NSEC_PER_SEC;
	o.suspect_ns = 5 * NSEC_PER_SEC;
	o.spill = o.spill ? o.spill : folder;
	return ps_open(&o, ret);
}

static struct ps_volume *open_spill(struct ps_options o)
{
	struct ps_volume *v = NULL;

	cr_assert_eq(try_spill(o, &v), 0, "%s", err_text());
	return v;
}

static void write_pages(unsigned port, uint64_t first, uint64_t end, uint64_t number)
{
	static _Thread_local unsigned char buf[SLAB][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t page = first; page < end; page += SLAB) {
		for (unsigned i = 0; i < SLAB; i++) {
			what[page + i] = number + page + i;
			fill_page(buf[i], what[page + i]);
		}
		cr_assert_eq(transfer(ps_port(volume, port), PS_WRITE, page, SLAB, buf, &b), 0,
			     "%d at %s", b.status, ps_donor_name(volume, b.donor));
	}
}

static void check_pages(unsigned port, uint64_t first, uint64_t end)
{
	static _Thread_local unsigned char buf[SLAB][PS_PAGE_SIZE];
	struct ps_batch b;

	for (uint64_t page = first; page < end; page += SLAB) {
		memset(buf, 0xa5, sizeof buf);
		cr_assert_eq(transfer(ps_port(volume, port), PS_READ, page, SLAB, buf, &b), 0,
			     "page %lu: %d at %s", (unsigned long)page, b.status,
			     ps_donor_name(volume, b.donor));
		for (unsigned i = 0; i < SLAB; i++)
			cr_assert(page_is(buf[i], what[page + i]), "page %lu is wrong",
				  (unsigned long)(page + i));
	}
}

static void *maintain_loop(void *arg)
{
	(void)arg;
	while (!atomic_load(&maintain_stop)) {
		uint64_t ns = ps_maintain(volume, clock_ns());

		ps_maintain_wait(volume, ns < 5 * NSEC_PER_MSEC ? ns : 5 * NSEC_PER_MSEC);
	}
	return NULL;
}

/* Writes and checks all pages over and over through port 1. */
static void *work_loop(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; !atomic_load(&work_stop); n++) {
		uint64_t page = n * 7 % SLABS * SLAB;

		if (n % 3)
			check_pages(1, page, page + SLAB);
		else
			write_pages(1, page, page + SLAB, n << 20);
	}
	return NULL;
}

static void maintenance_start(void)
{
	atomic_store(&maintain_stop, false);
	pthread_create(&maintainer, NULL, maintain_loop, NULL);
}

static void maintenance_end(void)
{
	atomic_store(&maintain_stop, true);
	pthread_join(maintainer, NULL);
}

static void work_start(void)
{
	atomic_store(&work_stop, false);
	pthread_create(&worker, NULL, work_loop, NULL);
}

static void work_end(void)
{
	atomic_store(&work_stop, true);
	pthread_join(worker, NULL);
}

static struct ps_health health(void)
{
	struct ps_health h;

	ps_health(volume, &h);
	return h;
}

static uint64_t members(unsigned d)
{
	struct ps_donor_health h;

	cr_assert_eq(ps_donor_health(volume, (int)d, &h), 0);
	return h.members;
}

/* Until so many slabs have a member in the file. */
static void wait_spilled(uint64_t least, uint64_t most)
{
	uint64_t end = clock_ns() + 60 * NSEC_PER_SEC;

	for (;;) {
		uint64_t n = health().spilled;

		if (n >= least && n <= most)
			return;
		cr_assert_lt(clock_ns(), end, "%lu slabs are spilled", (unsigned long)n);
		usleep(10000);
	}
}

static uint64_t file_blocks(void)
{
	struct stat st;

	cr_assert_eq(fstat(volume->file->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static int infuse(const char *words, const char *addr)
{
	char line[1024];

	snprintf(line, sizeof line, "%s/infuse %s %s > /dev/null", bin, words, addr);
	return system(line);
}

TestSuite(spill, .timeout = 200);

Test(spill, takes_what_no_donor_has_room_for_and_no_more)
{
	struct stat st;

	donors_start(2, "512K"); /* 8 slabs each */
	volume = open_spill((struct ps_options){0});
	cr_assert_eq(ps_reserve(volume, 0, 15 * SLAB), 0, "%s", err_text());
	cr_expect_eq(health().spilled, 0);
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	cr_expect_eq(health().spilled, SLABS - 16);
	cr_expect_eq(members(0), 8);
	cr_expect_eq(members(1), 8);
	cr_expect_eq(members(2), SLABS - 16);
	cr_expect_geq(file_blocks(), (uint64_t)(SLABS - 16) * SLAB * PS_PAGE_SIZE);
	write_pages(0, 0, PAGES, 1000);
	check_pages(1, 0, PAGES);
	/* Nobody else can open it, and it goes with the process. */
	cr_assert_eq(fstat(volume->file->fd, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
	cr_expect_eq(st.st_nlink, 0);
	cr_assert_eq(ps_release(volume, 0, PAGES), 0);
	cr_expect_eq(health().slabs, 0);
	cr_expect_lt(file_blocks(), (uint64_t)SLAB * PS_PAGE_SIZE);
	/* Slots are used again, and hold nothing of what was there. */
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	memset(what, 0, sizeof what);
	check_pages(0, 0, PAGES);
	ps_close(volume);
	donors_stop();
}

Test(spill, moves_up_when_others_go)
{
	struct ps_volume *other;
	struct ps_counters c;

	donors_start(2, "2M"); /* 32 slabs each */
	other = open_spill((struct ps_options){.pages = 60 * SLAB});
	cr_assert_eq(ps_reserve(other, 0, 60 * SLAB), 0, "%s", err_text());
	volume = open_spill((struct ps_options){0});
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	cr_expect_eq(health().spilled, SLABS - 4);
	write_pages(0, 0, PAGES, 1000);
	maintenance_start();
	work_start();
	/* Half of it, then all. */
	cr_assert_eq(ps_release(other, 0, 16 * SLAB), 0);
	wait_spilled(SLABS - 20, SLABS - 20);
	ps_close(other);
	wait_spilled(0, 0);
	work_end();
	check_pages(0, 0, PAGES);
	maintenance_end();
	ps_counters(volume, &c);
	cr_expect_eq(c.moved_slabs, SLABS - 4);
	cr_expect_gt(c.spill_out, 0);
	cr_expect_gt(c.spill_in, 0);
	cr_expect_eq(c.errors, 0);
	cr_expect_eq(members(2), 0);
	ps_close(volume);
	donors_stop();
}

static void drained_donors(unsigned replicas)
{
	donors_start(replicas, "4M");
	volume = open_spill((struct ps_options){.replicas = replicas});
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	write_pages(0, 0, PAGES, 5000);
	cr_expect_eq(health().spilled, 0);
	maintenance_start();
	work_start();
	for (unsigned i = 0; i < replicas; i++)
		cr_assert_eq(infuse("drain --timeout 20s", donor[i].tcp), 0);
	wait_spilled(SLABS, SLABS);
	/* Of two copies the last one stays where it is if the file has the other: both can't go. */
	if (replicas == 1)
		cr_assert_eq(infuse("drain --wait-at-most 30s --timeout 20s", donor[0].tcp), 0);
	for (unsigned i = 0; i < replicas; i++)
		cr_assert_eq(infuse("drain --undo --timeout 20s", donor[i].tcp), 0);
	wait_spilled(0, 0);
	work_end();
	check_pages(0, 0, PAGES);
	maintenance_end();
	ps_close(volume);
	donors_stop();
}

Test(spill, takes_what_a_drained_donor_has_and_gives_it_back)
{
	drained_donors(1);
}

/* Where the test may mount: a disk of so many bytes at `folder`, gone with this process. */
static void small_disk(const char *bytes)
{
	char options[64];

	snprintf(options, sizeof options, "size=%s,mode=0700", bytes);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", folder, "tmpfs", 0, options)) {
		donors_stop();
		cr_skip_test("this process may not mount");
	}
}

Test(spill, a_full_disk_is_an_error_to_who_asks_for_more)
{
	unsigned had;

	donors_start(1, "512K");
	small_disk("1M"); /* 16 slabs */
	volume = open_spill((struct ps_options){0});
	had = 8 + 12;
	cr_assert_eq(ps_reserve(volume, 0, had * SLAB), 0, "%s", err_text());
	write_pages(0, 0, had * SLAB, 1000);
	/* Somebody else fills the disk. */
	cr_assert_eq(ps_reserve(volume, 0, PAGES), -ENOSPC);
	cr_expect(strstr(err_text(), folder), "%s", err_text());
	cr_expect(strstr(err_text(), "No space left on device"), "%s", err_text());
	check_pages(0, 0, had * SLAB);
	cr_expect_eq(health().slabs, had);
	/* What is there can be written without a word still, and what is left can be had. */
	write_pages(1, 0, had * SLAB, 7000);
	cr_assert_eq(ps_reserve(volume, had * SLAB, 3 * SLAB), 0, "%s", err_text());
	write_pages(0, had * SLAB, (had + 3) * SLAB, 7000);
	cr_assert_eq(ps_release(volume, 0, had * SLAB), 0);
	cr_assert_eq(ps_reserve(volume, 0, 16 * SLAB), 0, "%s", err_text());
	write_pages(0, 0, 16 * SLAB, 9000);
	check_pages(1, 0, 16 * SLAB);
	check_pages(1, had * SLAB, (had + 3) * SLAB);
	ps_close(volume);
	umount2(folder, MNT_DETACH);
	donors_stop();
}

Test(spill, is_bounded_by_its_option)
{
	donors_start(1, "512K");
	volume = open_spill((struct ps_options){.spill_bytes = 4 * SLAB * PS_PAGE_SIZE});
	cr_expect_eq(ps_reserve(volume, 0, 13 * SLAB), -ENOSPC);
	cr_expect(strstr(err_text(), folder) && strstr(err_text(), "256 KiB"), "%s", err_text());
	cr_assert_eq(ps_reserve(volume, 0, 12 * SLAB), 0, "%s", err_text());
	write_pages(0, 0, 12 * SLAB, 1);
	check_pages(1, 0, 12 * SLAB);
	ps_close(volume);
	donors_stop();
}

/* One donor has room, the other one doesn't: the second copy is in the file, and survives the first. */
Test(spill, has_the_second_copy_when_one_donor_alone_has_room)
{
	donors_start(2, "4M");
	donor_stop(&donor[1]);
	donor_start(&donor[1], "512K", "64K");
	donor_address(&donor[1], "unix", address[1]);
	volume = open_spill((struct ps_options){.replicas = 2});
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	cr_expect_eq(health().spilled, SLABS - 8);
	cr_expect_eq(health().degraded, 0);
	write_pages(0, 0, PAGES, 100);
	maintenance_start();
	work_start();
	usleep(300000);
	donor_kill(&donor[0]);
	wait_spilled(SLABS - 8, SLABS);
	usleep(300000);
	work_end();
	check_pages(0, 0, PAGES);
	/* It comes back, empty: all have two copies again, no more than is needed in the file. */
	donor_run(&donor[0]);
	for (uint64_t end = clock_ns() + 60 * NSEC_PER_SEC; health().degraded;) {
		cr_assert_lt(clock_ns(), end, "%lu are degraded", (unsigned long)health().degraded);
		usleep(20000);
	}
	check_pages(1, 0, PAGES);
	maintenance_end();
	ps_close(volume);
	donors_stop();
}

Test(spill, two_copies_of_drained_donors)
{
	drained_donors(2);
}

/* As many fragments as are needed to read, and not one more: then no donor is needed. */
static void fragments(unsigned k, unsigned m, bool seal)
{
	uint64_t pages = 16 * SLAB * k < PAGES ? 16 * SLAB * k : PAGES, slabs = pages / SLAB / k;

	donors_start(k + m, "512K");
	volume = open_spill((struct ps_options){
		.pages = 2 * pages, .code_data = k, .code_parity = m, .seal = seal});
	cr_assert_eq(ps_reserve(volume, 0, pages), 0, "%s", err_text());
	cr_expect_eq(health().slabs, slabs);
	write_pages(0, 0, pages, 100);
	/* All that is left of the donors' memory is taken, and more. */
	cr_assert_eq(ps_reserve(volume, 0, 2 * pages), 0, "%s", err_text());
	cr_expect_gt(health().spilled, 0);
	cr_expect_leq(members(k + m), k * health().spilled);
	if (2 * pages <= PAGES)
		write_pages(0, 0, 2 * pages, 900);
	check_pages(1, 0, pages);
	ps_close(volume);
	donors_stop();
}

Test(spill, fragments_of_two_and_one)
{
	fragments(2, 1, false);
}

Test(spill, sealed_fragments_of_four_and_two)
{
	fragments(4, 2, true);
}

static bool contains(const unsigned char *mem, size_t n, const void *word, size_t len)
{
	return memmem(mem, n, word, len) != NULL;
}

static void looks_at_the_file(bool seal)
{
	size_t bytes = (size_t)SLABS * SLAB * PS_PAGE_SIZE;
	unsigned char *mem = malloc(bytes), page[PS_PAGE_SIZE];
	char name[64];
	int fd;

	cr_assert(mem);
	donors_start(1, "512K");
	volume = open_spill((struct ps_options){.seal = seal});
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	write_pages(0, 0, PAGES, 1);
	snprintf(name, sizeof name, "/proc/self/fd/%d", volume->file->fd);
	fd = open(name, O_RDONLY);
	cr_assert_geq(fd, 0);
	cr_assert_gt(read(fd, mem, bytes), 1 << 20);
	close(fd);
	fill_page(page, what[PAGES - 1]);
	cr_expect_eq(contains(mem, bytes, page, 64), !seal);
	check_pages(0, 0, PAGES);
	free(mem);
	ps_close(volume);
	donors_stop();
}

Test(spill, has_no_plaintext_of_sealed_pages)
{
	looks_at_the_file(true);
	looks_at_the_file(false); /* the search would find it */
}

/* The child: all is there as it was, and what it writes is its own. Returns what is wrong. */
static int child(bool inherited, uint64_t number)
{
	unsigned char buf[PS_PAGE_SIZE];
	struct ps_batch b;

	if (!inherited) {
		/* As where the parent's descriptors are in another table: only this one came along. */
		int keep = ps_snapshot_carried(volume);

		close_range(3, (unsigned)keep - 1, 0);
		close_range((unsigned)keep + 1, ~0u, 0);
	}
	if (ps_adopt(volume, inherited)) {
		fprintf(stderr, "%s\n", err_text());
		return 2;
	}
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < PAGES / 2; i += 3) {
			uint64_t is = round && !(i % 2) ? 42 + i : number + i;

			if (transfer(ps_port(volume, 0), PS_READ, i, 1, buf, &b) || !page_is(buf, is))
				return 3;
			fill_page(buf, 42 + i);
			if (!(i % 2) && transfer(ps_port(volume, 1), PS_WRITE, i, 1, buf, &b))
				return 4;
		}
	/* More is to be had, too: of its own file. */
	if (ps_reserve(volume, PAGES / 2, 4 * SLAB) ||
	    transfer(ps_port(volume, 0), PS_WRITE, PAGES / 2, 1, buf, &b))
		return 5;
	ps_close(volume);
	return 0;
}

Test(spill, forked_children_have_files_of_their_own)
{
	/* A part in the file, and a donor with room for copies of the rest. */
	donors_start(1, "2M");
	volume = open_spill((struct ps_options){0});
	cr_assert_eq(ps_reserve(volume, 0, PAGES / 4), 0, "%s", err_text());
	cr_assert_eq(ps_evacuate(volume, 0, true), 0);
	cr_assert_eq(ps_reserve(volume, PAGES / 4, PAGES / 4), 0, "%s", err_text());
	cr_expect_eq(health().spilled, SLABS / 4);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t number = 1000 * (round + 1), end = clock_ns() + 60 * NSEC_PER_SEC;
		int status;
		pid_t pid;

		write_pages(0, 0, PAGES / 2, number);
		if (!round) {
			/* One that nobody takes leaves nothing. */
			cr_assert_eq(ps_snapshot(volume), 0, "%s", err_text());
			cr_assert_eq(ps_snapshot_carry(volume), 0, "%s", err_text());
			ps_snapshot_drop(volume, false);
			cr_expect_eq(ps_snapshot_carried(volume), -1);
		}
		cr_assert_eq(ps_snapshot(volume), 0, "%s", err_text());
		cr_assert_eq(ps_snapshot_carry(volume), 0, "%s", err_text());
		cr_expect_geq(ps_snapshot_carried(volume), 0);
		pid = fork();
		if (!pid)
			_exit(child(round != 1, number));
		ps_snapshot_drop(volume, true);
		do {
			write_pages(0, 0, PAGES / 2, 500000);
			cr_assert_lt(clock_ns(), end);
		} while (!waitpid(pid, &status, WNOHANG));
		cr_expect(WIFEXITED(status) && !WEXITSTATUS(status), "round %u: status %x", round,
			  status);
		check_pages(1, 0, PAGES / 2);
	}
	ps_close(volume);
	donors_stop();
}

Test(spill, an_error_of_the_disk_is_an_error_for_its_pages_only)
{
	unsigned char buf[PS_PAGE_SIZE];
	unsigned failed = 0, good = 0;
	char spill[128];
	struct ps_batch b;

	donors_start(1, "512K");
	snprintf(spill, sizeof spill, "fail,every=5:file:%s", folder);
	volume = open_spill((struct ps_options){.spill = spill});
	cr_assert_eq(ps_reserve(volume, 0, PAGES), 0, "%s", err_text());
	for (unsigned i = 0; i < PAGES; i++) {
		fill_page(buf, 1 + i);
		if (!transfer(ps_port(volume, 0), PS_WRITE, i, 1, buf, &b)) {
			what[i] = 1 + i;
			good++;
			continue;
		}
		cr_expect_eq(b.status, -EIO);
		cr_expect_eq(b.page, i);
		cr_expect_eq(b.donor, 1);
		cr_expect(strstr(ps_donor_name(volume, b.donor), folder), "%s",
			  ps_donor_name(volume, b.donor));
		what[i] = 0;
		failed++;
	}
	cr_expect_eq(failed, (PAGES - 8 * SLAB) / 5);
	/* Those that were lost say so, the others are all there (each fifth read fails as well). */
	for (unsigned i = 0; i < PAGES; i++) {
		int r = transfer(ps_port(volume, 0), PS_READ, i, 1, buf, &b);

		if (r && what[i])
			r = transfer(ps_port(volume, 0), PS_READ, i, 1, buf, &b);
		cr_assert_eq(r, what[i] ? 0 : -EIO, "page %u: %d", i, r);
		cr_assert(r || page_is(buf, what[i]));
	}
	cr_expect_eq(good + failed, PAGES);
	ps_close(volume);
	donors_stop();
}

Test(spill, says_what_can_not_be)
{
	char file[80], missing[80];
	struct ps_volume *v = NULL;
	int fd;

	donors_start(1, "512K");
	snprintf(file, sizeof file, "%s/file", folder);
	snprintf(missing, sizeof missing, "%s/missing", folder);
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	close(fd);
	cr_expect_eq(try_spill((struct ps_options){.spill = file}, &v), -ENOTDIR);
	cr_expect(strstr(err_text(), file) && strstr(err_text(), "folder"), "%s", err_text());
	unlink(file);
	cr_expect_eq(try_spill((struct ps_options){.spill = missing}, &v), -ENOENT);
	cr_expect(strstr(err_text(), missing), "%s", err_text());
	cr_expect_eq(try_spill((struct ps_options){.spill_bytes = 4096}, &v), -EINVAL);
	cr_expect(strstr(err_text(), "64 KiB"), "%s", err_text());
	cr_expect_eq(try_spill((struct ps_options){.epoch = 1}, &v), -EINVAL);
	cr_expect_eq(try_spill((struct ps_options){.keep = true}, &v), -EINVAL);
	cr_expect_eq(try_spill((struct ps_options){.spill = "/proc"}, &v), -ENOENT);
	cr_expect_null(v);
	donors_stop();
}
