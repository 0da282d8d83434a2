/* SPDX-License-Identifier: MIT */
/*
 * The registry's promises, on real files and with real processes: values and versions,
 * compare-and-swap between processes, leases that end for every reader, watches that wake, and one
 * clear line for each file that can't be used.
 *
 * The suite "registry" runs over any backend: $INFUSE_TEST_REGISTRY is the url of a service in which
 * each test makes a folder of its own. Such a service counts leases in seconds.
 */
#include "registry/registry.h"
#include "common/clock.h"
#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256], path[1024];
static struct registry *reg;
static bool service;

/* A lease that is short for the backend, and when it has surely ended. */
#define LEASE_MS (service ? 2000 : 150)
#define ENDED_MS (service ? 30000 : 2000)

static void set_up(void)
{
	/* In memory, as /run is: thousands of commits on a busy disk are not what is tested. */
	const char *tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	const char *url = getenv("INFUSE_TEST_REGISTRY");

	snprintf(folder, sizeof folder, "%s/infuse-registry.XXXXXX", tmp);
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/run/registry.db", folder);
	service = url;
	if (url) /* the folder's name is a prefix that nobody else has */
		snprintf(path, sizeof path, "%.*s/%s%s", (int)strcspn(url, "?"), url,
			 strrchr(folder, '/') + 1, url + strcspn(url, "?"));
}

static void tear_down(void)
{
	char name[400];

	reg_close(reg);
	for (const char *const *s = (const char *const[]){"run/registry.db", "run/registry.db-wal",
							  "run/registry.db-shm", "run", "", NULL};
	     *s; s++) {
		snprintf(name, sizeof name, "%s/%s", folder, *s);
		remove(name);
	}
}

static struct registry *open_it(void)
{
	struct registry *r = NULL;

	cr_assert_eq(reg_open(path, &r), 0, "%s", err_text());
	return r;
}

static void set_up_open(void)
{
	set_up();
	reg = open_it();
}

static void nap_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

static uint64_t put(const char *key, const char *value, uint64_t lease)
{
	uint64_t version = 0;

	cr_assert_eq(reg_put(reg, key, value, strlen(value), lease, &version), 0, "%s", err_text());
	return version;
}

/* The value, or NULL when the key is not there. Freed with the process. */
static char *get(struct registry *r, const char *key)
{
	struct reg_entry e = {0};
	int err = reg_get(r, key, &e);

	cr_assert(err == 0 || err == -ENOENT, "%s", err_text());
	free(e.key);
	return e.value;
}

static void says(int got, int expected, const char *words)
{
	cr_assert_eq(got, expected, "%d: %s", got, err_text());
	cr_assert(strstr(err_text(), words), "'%s' is not in '%s'", words, err_text());
	cr_assert_not(strchr(err_text(), '\n'));
}

/* Polls until the key is gone; fails the test when it does not go. */
static void goes(struct registry *r, const char *key)
{
	for (int ms = 0; get(r, key); ms += 50) {
		cr_assert_lt(ms, ENDED_MS, "%s is still there", key);
		nap_ms(50);
	}
}

/* Collects children: all must end with 0. */
static void all_well(unsigned n)
{
	for (int status; n; n--) {
		cr_assert(wait(&status) > 0);
		cr_assert(WIFEXITED(status) && !WEXITSTATUS(status), "a child ended with 0x%x",
			  status);
	}
}

TestSuite(registry, .init = set_up_open, .fini = tear_down, .timeout = 60);
TestSuite(registry_file, .init = set_up, .fini = tear_down, .timeout = 60);

Test(registry, a_value_comes_back_with_its_version)
{
	struct reg_entry e;

	cr_assert_eq(put("donor/a", "one", 0), 1);
	cr_assert_eq(put("donor/a", "two", 0), 2);
	cr_assert_eq(reg_get(reg, "donor/a", &e), 0);
	cr_assert_str_eq(e.key, "donor/a");
	cr_assert_str_eq(e.value, "two");
	cr_assert_eq(e.len, 3);
	cr_assert_eq(e.version, 2);
	reg_entry_free(&e);
}

Test(registry, bytes_come_back_as_they_were_put)
{
	static char big[REG_MAX_VALUE];
	struct reg_entry e;

	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 7);
	cr_assert_eq(reg_put(reg, "k", big, sizeof big, 0, NULL), 0, "%s", err_text());
	cr_assert_eq(reg_get(reg, "k", &e), 0);
	cr_assert_eq(e.len, sizeof big);
	cr_assert_arr_eq(e.value, big, sizeof big);
	reg_entry_free(&e);
	cr_assert_eq(reg_put(reg, "k", NULL, 0, 0, NULL), 0, "%s", err_text());
	cr_assert_str_eq(get(reg, "k"), "");
}

Test(registry, keys_and_values_out_of_bounds_are_refused)
{
	static char value[REG_MAX_VALUE + 1];
	char key[REG_MAX_KEY + 2];
	uint64_t lease;

	memset(key, 'k', sizeof key);
	key[REG_MAX_KEY + 1] = 0;
	says(reg_put(reg, key, "", 0, 0, NULL), -EINVAL, "1 to 255 bytes, not 256");
	key[REG_MAX_KEY] = 0;
	cr_assert_eq(reg_put(reg, key, "", 0, 0, NULL), 0, "%s", err_text());
	says(reg_put(reg, "", "", 0, 0, NULL), -EINVAL, "not 0");
	says(reg_put(reg, "two words", "", 0, 0, NULL), -EINVAL, "0x20");
	says(reg_put(reg, "line\n", "", 0, 0, NULL), -EINVAL, "0x0a");
	says(reg_put(reg, "\xc3\xa9", "", 0, 0, NULL), -EINVAL, "0xc3");
	says(reg_put(reg, "k", value, sizeof value, 0, NULL), -EFBIG, "65537 bytes");
	says(reg_lease(reg, 0, &lease), -EINVAL, "0 ms");
	says(reg_lease(reg, UINT64_MAX, &lease), -EINVAL, "a day");
}

Test(registry, a_missing_key_is_named)
{
	struct reg_entry e;

	says(reg_get(reg, "donor/x", &e), -ENOENT, "there is no donor/x");
	says(reg_delete(reg, "donor/x"), -ENOENT, "there is no donor/x");
}

Test(registry, a_deleted_key_is_gone_and_starts_again_at_version_1)
{
	put("k", "a", 0);
	put("k", "b", 0);
	cr_assert_eq(reg_delete(reg, "k"), 0);
	cr_assert_null(get(reg, "k"));
	cr_assert_eq(put("k", "c", 0), 1);
}

Test(registry, cas_takes_the_expected_version_only)
{
	uint64_t v = 77;

	says(reg_cas(reg, "k", 3, "x", 1, 0, &v), -EAGAIN, "version 0, not 3");
	cr_assert_eq(v, 77, "an output is untouched on failure");
	cr_assert_eq(reg_cas(reg, "k", 0, "a", 1, 0, &v), 0);
	cr_assert_eq(v, 1);
	says(reg_cas(reg, "k", 0, "b", 1, 0, &v), -EAGAIN, "version 1, not 0");
	cr_assert_eq(reg_cas(reg, "k", 1, "b", 1, 0, &v), 0);
	cr_assert_eq(v, 2);
	cr_assert_str_eq(get(reg, "k"), "b");
}

Test(registry, list_gives_the_keys_below_a_prefix_sorted)
{
	struct reg_list l;

	put("donor/b", "2", 0);
	put("donor/a", "1", 0);
	put("donor~", "", 0);
	put("donos", "", 0);
	put("donor/~", "3", 0);
	put("volume/a", "", 0);
	cr_assert_eq(reg_list(reg, "donor/", &l), 0);
	cr_assert_eq(l.count, 3);
	cr_assert_str_eq(l.entry[0].key, "donor/a");
	cr_assert_str_eq(l.entry[1].value, "2");
	cr_assert_str_eq(l.entry[2].key, "donor/~");
	reg_list_free(&l);
	cr_assert_eq(reg_list(reg, "", &l), 0);
	cr_assert_eq(l.count, 6);
	reg_list_free(&l);
	cr_assert_eq(reg_list(reg, "x", &l), 0);
	cr_assert_eq(l.count, 0);
}

Test(registry, many_keys_are_listed)
{
	struct reg_list l;
	char key[32];

	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof key, "n/%03d", i);
		put(key, key, 0);
	}
	cr_assert_eq(reg_list(reg, "n/", &l), 0);
	cr_assert_eq(l.count, 100);
	for (int i = 0; i < 100; i++)
		cr_assert_str_eq(l.entry[i].key, l.entry[i].value);
	reg_list_free(&l);
}

Test(registry, two_handles_see_each_others_changes)
{
	struct registry *other = open_it();

	put("k", "mine", 0);
	cr_assert_str_eq(get(other, "k"), "mine");
	cr_assert_eq(reg_put(other, "k", "yours", 5, 0, NULL), 0);
	cr_assert_str_eq(get(reg, "k"), "yours");
	reg_close(other);
	cr_assert_str_eq(get(reg, "k"), "yours");
}

Test(registry, an_unrenewed_leases_keys_vanish_for_every_reader)
{
	struct registry *other = open_it();
	struct reg_list l;
	uint64_t lease;

	cr_assert_eq(reg_lease(reg, LEASE_MS, &lease), 0);
	put("donor/a", "x", lease);
	put("donor/b", "x", 0);
	cr_assert_not_null(get(other, "donor/a"));
	goes(other, "donor/a");
	cr_assert_null(get(reg, "donor/a"));
	cr_assert_eq(reg_list(other, "donor/", &l), 0);
	cr_assert_eq(l.count, 1);
	reg_list_free(&l);
	says(reg_renew(reg, lease), -ENOENT, "has ended");
	says(reg_put(reg, "donor/a", "y", 1, lease, NULL), -ENOENT, "has ended");
	says(reg_delete(reg, "donor/a"), -ENOENT, "there is no");
	cr_assert_eq(reg_cas(reg, "donor/a", 0, "new", 3, 0, NULL), 0, "%s", err_text());
	reg_close(other);
}

Test(registry, a_renewed_lease_keeps_its_keys)
{
	uint64_t lease;

	/* Shorter than all of it, longer than what a service takes to choose another leader. */
	cr_assert_eq(reg_lease(reg, service ? 6000 : 400, &lease), 0);
	put("k", "x", lease);
	for (int i = 0; i < 6; i++) {
		nap_ms(service ? 1400 : 100);
		cr_assert_eq(reg_renew(reg, lease), 0, "%s", err_text());
	}
	cr_assert_not_null(get(reg, "k"));
}

Test(registry, a_revoked_lease_takes_its_keys_along)
{
	uint64_t lease, other;

	cr_assert_eq(reg_lease(reg, 60000, &lease), 0);
	cr_assert_eq(reg_lease(reg, 60000, &other), 0);
	cr_assert_neq(lease, other);
	put("a", "x", lease);
	put("b", "x", other);
	put("c", "x", lease);
	put("c", "for good", 0);
	cr_assert_eq(reg_revoke(reg, lease), 0);
	cr_assert_null(get(reg, "a"));
	cr_assert_not_null(get(reg, "b"));
	cr_assert_str_eq(get(reg, "c"), "for good");
	says(reg_revoke(reg, lease), -ENOENT, "has ended");
	says(reg_revoke(reg, 0), -ENOENT, "has ended");
}

static void *put_later(void *key)
{
	struct registry *r = open_it();

	nap_ms(150);
	cr_assert_eq(reg_put(r, key, "x", 1, 0, NULL), 0);
	reg_close(r);
	return NULL;
}

/* Watches "donor/" while another connection puts key; gives the time it took. */
static uint64_t watch_ms(char *key, uint64_t timeout_ms, int expected)
{
	uint64_t since = 0, begun;
	pthread_t t;

	cr_assert_eq(reg_watch(reg, "donor/", &since, 0), 0);
	cr_assert_neq(since, 0);
	pthread_create(&t, NULL, put_later, key);
	begun = clock_ns();
	cr_assert_eq(reg_watch(reg, "donor/", &since, timeout_ms), expected);
	begun = (clock_ns() - begun) / NSEC_PER_MSEC;
	pthread_join(t, NULL);
	return begun;
}

Test(registry, a_watch_wakes_when_something_changes)
{
	char key[] = "donor/a";
	uint64_t ms = watch_ms(key, service ? 40000 : 10000, 0);

	cr_assert(ms >= 100 && ms < (service ? 30000 : 5000), "it took %llu ms", (unsigned long long)ms);
}

Test(registry, a_watch_sleeps_through_changes_elsewhere_and_ends_in_time)
{
	char key[] = "volume/a";
	uint64_t ms = watch_ms(key, 500, -ETIMEDOUT);

	cr_assert(ms >= 500 && ms < (service ? 30000 : 3000), "it took %llu ms", (unsigned long long)ms);
}

Test(registry, a_watch_tells_what_changed_before_it_began)
{
	/* A service's leader may have just been killed. */
	uint64_t since = 0, enough_ms = service ? 30000 : 0;

	cr_assert_eq(reg_watch(reg, "", &since, 0), 0);
	says(reg_watch(reg, "", &since, 0), -ETIMEDOUT, "no change");
	put("a", "x", 0);
	cr_assert_eq(reg_watch(reg, "", &since, enough_ms), 0);
	cr_assert_eq(reg_delete(reg, "a"), 0);
	cr_assert_eq(reg_watch(reg, "", &since, enough_ms), 0);
	cr_assert_eq(reg_watch(reg, "", &since, 0), -ETIMEDOUT);
}

Test(registry_file, a_watch_that_fell_behind_is_told_to_read_again)
{
	uint64_t since = 0;

	reg = open_it();
	cr_assert_eq(reg_watch(reg, "donor/", &since, 0), 0);
	for (int i = 0; i < 1100; i++)
		put("volume/x", "x", 0);
	cr_assert_eq(reg_watch(reg, "donor/", &since, 0), 0);
	cr_assert_eq(reg_watch(reg, "donor/", &since, 0), -ETIMEDOUT);
}

Test(registry, a_watch_wakes_when_a_lease_ends)
{
	uint64_t since = 0, lease;

	cr_assert_eq(reg_lease(reg, LEASE_MS, &lease), 0);
	put("donor/a", "x", lease);
	cr_assert_eq(reg_watch(reg, "donor/", &since, 0), 0);
	cr_assert_eq(reg_watch(reg, "donor/", &since, ENDED_MS), 0, "%s", err_text());
	cr_assert_null(get(reg, "donor/a"));
}

/* A child's work; its exit status says whether all went well. */
static int count_up(unsigned times)
{
	struct registry *r = NULL;
	char text[32];

	if (reg_open(path, &r))
		return 1;
	for (unsigned done = 0; done < times;) {
		struct reg_entry e;
		int err;

		if (reg_get(r, "counter", &e))
			return 2;
		snprintf(text, sizeof text, "%ld", atol(e.value) + 1);
		err = reg_cas(r, "counter", e.version, text, strlen(text), 0, NULL);
		reg_entry_free(&e);
		if (err && err != -EAGAIN) {
			fprintf(stderr, "%s\n", err_text());
			return 3;
		}
		done += !err;
	}
	reg_close(r);
	return 0;
}

Test(registry, increments_by_four_processes_all_count)
{
	put("counter", "0", 0);
	reg_close(reg);
	reg = NULL;
	for (int i = 0; i < 4; i++)
		if (!fork())
			_exit(count_up(service ? 50 : 500));
	all_well(4);
	reg = open_it();
	cr_assert_str_eq(get(reg, "counter"), service ? "200" : "2000");
	cr_assert_eq(put("counter", "0", 0), service ? 202 : 2002);
}

Test(registry_file, processes_that_create_the_file_at_once_get_along)
{
	char key[32];
	int go[2];

	for (int round = 0; round < 5; round++) {
		cr_assert_eq(pipe(go), 0);
		for (int i = 0; i < 6; i++) {
			if (fork())
				continue;
			close(go[1]);
			snprintf(key, sizeof key, "k/%d", i);
			if (read(go[0], key + 31, 1) != 0 || reg_open(path, &reg) ||
			    reg_put(reg, key, "x", 1, 0, NULL)) {
				fprintf(stderr, "%s\n", err_text());
				_exit(1);
			}
			_exit(0);
		}
		close(go[0]);
		nap_ms(20);
		close(go[1]);
		all_well(6);
		reg = open_it();
		for (int i = 0; i < 6; i++) {
			snprintf(key, sizeof key, "k/%d", i);
			cr_assert_not_null(get(reg, key));
		}
		reg_close(reg);
		reg = NULL;
		cr_assert_eq(remove(path), 0);
	}
}

Test(registry_file, what_a_killed_process_had_put_is_there)
{
	int status;
	pid_t p = fork();

	if (!p) {
		if (!reg_open(path, &reg) && !reg_put(reg, "k", "x", 1, 0, NULL))
			raise(SIGKILL);
		_exit(1);
	}
	cr_assert_eq(waitpid(p, &status, 0), p);
	cr_assert(WIFSIGNALED(status));
	reg = open_it();
	cr_assert_str_eq(get(reg, "k"), "x");
}

Test(registry_file, a_new_file_and_its_folder_are_the_users_alone)
{
	struct stat st;

	umask(0);
	reg = open_it();
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	*strrchr(path, '/') = 0;
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0700);
}

static void write_file(const void *bytes, size_t n)
{
	char dir[400];
	int fd;

	snprintf(dir, sizeof dir, "%s/run", folder);
	cr_assert(!mkdir(dir, 0700) || errno == EEXIST);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
	close(fd);
}

Test(registry_file, garbage_is_refused_and_left_alone)
{
	char bytes[8192], after[8192];
	int fd;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(i * 31 + 7);
	write_file(bytes, sizeof bytes);
	says(reg_open(path, &reg), -EBADMSG, "is not a registry");
	cr_assert(strstr(err_text(), path));
	fd = open(path, O_RDONLY);
	cr_assert_eq(read(fd, after, sizeof after), (ssize_t)sizeof after);
	cr_assert_arr_eq(bytes, after, sizeof bytes);
	close(fd);
	write_file("short", 5);
	says(reg_open(path, &reg), -EBADMSG, "is not a registry");
}

Test(registry_file, an_empty_file_becomes_a_registry)
{
	write_file("", 0);
	reg = open_it();
	cr_assert_eq(put("k", "x", 0), 1);
}

Test(registry_file, a_damaged_registry_gives_one_clear_line)
{
	char page[4096];
	struct reg_list l;
	int fd, e;

	reg = open_it();
	for (int i = 0; i < 200; i++) {
		snprintf(page, sizeof page, "key/%d", i);
		put(page, "some value that fills a page after a while", 0);
	}
	reg_close(reg);
	reg = NULL;
	fd = open(path, O_RDWR);
	memset(page, 0xa5, sizeof page);
	for (off_t at = 4096; at < 40 * 4096; at += 4096)
		if (lseek(fd, 0, SEEK_END) > at)
			cr_assert_eq(pwrite(fd, page, sizeof page, at), 4096);
	close(fd);
	e = reg_open(path, &reg);
	if (!e)
		e = reg_list(reg, "key/", &l);
	says(e, -EBADMSG, "damaged");
}

Test(registry_file, a_path_that_is_no_file_is_refused)
{
	mode_t made;

	says(reg_open(folder, &reg), -EINVAL, "a folder, not a file");
	snprintf(path, sizeof path, "%s/run", folder);
	made = (mode_t)mkfifo(path, 0600);
	cr_assert_eq(made, 0);
	says(reg_open(path, &reg), -EINVAL, "device or pipe");
	remove(path);
	says(reg_open("/proc/infuse/registry.db", &reg), -ENOENT, "can't make the folder");
	says(reg_open("sqlite:", &reg), -EINVAL, "no path");
	says(reg_open("zookeeper:host", &reg), -EINVAL, "no backend 'zookeeper'");
}

Test(registry_file, a_removed_file_is_noticed)
{
	struct reg_entry e;

	reg = open_it();
	put("k", "x", 0);
	cr_assert_eq(remove(path), 0);
	says(reg_put(reg, "k", "y", 1, 0, NULL), -ESTALE, "removed or replaced");
	says(reg_get(reg, "k", &e), -ESTALE, "removed or replaced");
}

Test(registry_file, a_file_or_folder_one_may_not_write_gives_one_clear_line)
{
	char dir[400];

	reg = open_it();
	reg_close(reg);
	reg = NULL;
	snprintf(dir, sizeof dir, "%s/run", folder);
	if (!geteuid()) {
		cr_assert_eq(chmod(folder, 0755), 0);
		cr_assert_eq(chmod(path, 0644), 0);
		cr_assert_eq(chmod(dir, 0755), 0);
		if (!fork()) {
			cr_assert_eq(setresuid(65534, 65534, 65534), 0);
			says(reg_open(path, &reg), -EACCES, "can't read and write the file");
			says(reg_open(dir, &reg), -EINVAL, "a folder");
			strcat(dir, "/new.db");
			says(reg_open(dir, &reg), -EACCES, "can't make the file");
			_exit(0);
		}
		all_well(1);
		cr_assert_eq(chown(path, 65534, 65534), 0);
	}
	cr_assert_eq(chmod(dir, 0555), 0);
	if (!fork()) {
		cr_assert(geteuid() || !setresuid(65534, 65534, 65534));
		cr_assert_lt(reg_open(path, &reg), 0);
		cr_assert(strstr(err_text(), path), "%s", err_text());
		_exit(0);
	}
	all_well(1);
	chmod(dir, 0700);
}

Test(registry_file, a_full_disk_gives_one_clear_line_and_loses_nothing)
{
	static char value[REG_MAX_VALUE];
	char dir[400], key[32];
	int e = 0, n;

	snprintf(dir, sizeof dir, "%s/run", folder);
	cr_assert_eq(mkdir(dir, 0700), 0);
	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		cr_skip_test("no mount namespaces here: %s", strerror(errno));
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
		cr_skip_test("no tmpfs here: %s", strerror(errno));
	reg = open_it();
	/* Changes don't fill it: the log is put into the file long before. */
	for (n = 0; n < 1000; n++)
		cr_assert_eq(reg_put(reg, "same", value, 400, 0, NULL), 0, "%d: %s", n, err_text());
	for (n = 0; !e && n < 100; n++) {
		snprintf(key, sizeof key, "k/%d", n);
		e = reg_put(reg, key, value, sizeof value, 0, NULL);
	}
	says(e, -ENOSPC, "no space left");
	cr_assert_gt(n, 2);
	cr_assert_not_null(get(reg, "k/0"));
	snprintf(key, sizeof key, "k/%d", n - 1);
	cr_assert_null(get(reg, key));
	reg_close(reg);
	reg = NULL;
	umount2(dir, MNT_DETACH);
}

Test(registry_etcd, urls_that_make_no_sense_are_refused_with_a_word)
{
	static const struct {
		const char *url, *words;
	} tries[] = {
		{"etcd:", "no path"},
		{"etcd:ftp://h", "http:// or https://"},
		{"etcd:https://", "not HOST:PORT"},
		{"etcd:https://a,,b", "not HOST:PORT"},
		{"etcd:https://me:secret@h", "belongs in a file"},
		{"etcd:http://h?ca=x", "for https://"},
		{"etcd:https://h?cert=x", "go together"},
		{"etcd:https://h?colour=red", "'colour=red' is not an option"},
		{"etcd:https://h?ca=", "'ca=' is not an option"},
		{"etcd:https://h?token-file=a&user-file=b", "not both"},
		{"etcd:http://a,b,c,d,e,f,g,h,i,j", "more than 9"},
		{"etcd:http://h/a b", "without spaces"},
	};

	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		int r = reg_open(tries[i].url, &reg);

		cr_assert_lt(r, 0, "%s", tries[i].url);
		says(r, r, tries[i].words);
	}
	cr_assert_eq(reg_open("etcd:https://a:1,https://b:2/x?ca=/tmp/ca", &reg), 0, "%s", err_text());
	cr_assert_str_eq(reg_where(reg), "etcd:https://a:1,https://b:2/x");
	reg_close(reg);
	reg = NULL;
}

Test(registry_file, the_default_is_the_environments_then_the_run_folders)
{
	char buf[REG_MAX_URL], dir[2 * REG_MAX_URL];

	setenv("INFUSE_REGISTRY", path, 1);
	cr_assert_null(reg_default(buf, sizeof buf));
	cr_assert_eq(reg_open(NULL, &reg), 0, "%s", err_text());
	cr_assert_str_eq(reg_where(reg), path);
	cr_assert_str_eq(reg_default(buf, sizeof buf), path);
	snprintf(dir, sizeof dir, "sqlite:%s", path);
	setenv("INFUSE_REGISTRY", dir, 1);
	cr_assert_str_eq(reg_default(buf, sizeof buf), path);
	memset(dir, 'x', sizeof dir);
	dir[sizeof dir - 1] = 0;
	setenv("INFUSE_REGISTRY", dir, 1);
	cr_assert_null(reg_default(buf, sizeof buf));
}
