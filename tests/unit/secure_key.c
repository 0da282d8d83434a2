/* SPDX-License-Identifier: MIT */
/* Key files: what is written is read, what others may have read is refused, roles stay apart. */
#include "common/error.h"
#include "secure/key.h"
#include "secure/secret.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[64];

static void write_text(const char *text)
{
	int fd;

	snprintf(path, sizeof path, "/tmp/infuse-key.%d", getpid());
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void refused(const char *text, int err, const char *words)
{
	struct key_set *set = NULL;

	write_text(text);
	cr_expect_eq(key_read(path, &set), err, "%s", text);
	cr_expect(strstr(err_text(), words), "%s", err_text());
	cr_expect(!strstr(err_text(), "deadbeef"), "a secret in an error: %s", err_text());
	unlink(path);
}

Test(secure_key, reads_what_it_wrote)
{
	struct key_set *set = key_set_create(), *back;

	write_text("");
	for (unsigned i = 0; i < KEY_MAX; i++)
		key_generate(&set->key[i], 1000 + i);
	cr_assert_eq(key_derive(&set->key[0], KEY_METRICS, &set->key[1]), 0);
	set->key[2].expires_s = 12345;
	set->count = KEY_MAX;
	cr_assert_eq(key_write(path, set), 0, "%s", err_text());
	cr_assert_eq(key_read(path, &back), 0, "%s", err_text());
	cr_assert_eq(back->count, KEY_MAX);
	cr_assert_arr_eq(back->key, set->key, sizeof set->key);
	key_free(back);
	key_free(set);
	unlink(path);
}

Test(secure_key, refuses_files_that_others_can_read)
{
	static const mode_t open_modes[] = {0640, 0604, 0660, 0666, 0601, 0610, 0777};
	struct key_set *set = key_set_create(), *back;
	struct stat st;

	write_text("");
	key_generate(&set->key[0], 1);
	set->count = 1;
	cr_assert_eq(key_write(path, set), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	for (unsigned i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
		chmod(path, open_modes[i]);
		cr_assert_eq(key_read(path, &back), -EPERM, "%o", open_modes[i]);
		cr_assert(strstr(err_text(), "chmod 600"), "%s", err_text());
	}
	chmod(path, 0400);
	cr_assert_eq(key_read(path, &back), 0);
	key_free(back);
	if (!geteuid()) {
		cr_assert_eq(chown(path, 12345, 0), 0);
		cr_assert_eq(key_read(path, &back), -EPERM);
		cr_assert(strstr(err_text(), "another user"), "%s", err_text());
	}
	unlink(path);
	cr_assert_eq(key_read(path, &back), -ENOENT);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_eq(key_read(path, &back), -EINVAL);
	rmdir(path);
	key_free(set);
}

#define SECRET "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"

Test(secure_key, refuses_what_is_no_key_and_does_not_repeat_it)
{
	static char many[8000];

	refused("", -EINVAL, "has no key");
	refused("# only words\n\n", -EINVAL, "has no key");
	refused(SECRET "\n", -EINVAL, "line 1");
	refused("\n\ninfuse-key-2 0011223344556677 borrower 1 - " SECRET "\n", -EINVAL, "line 3");
	refused("infuse-key-1 0011223344556677 borrower 1 - " SECRET "00\n", -EINVAL, "line 1");
	refused("infuse-key-1 0011223344556677 borrower 1 - " SECRET " x\n", -EINVAL, "line 1");
	refused("infuse-key-1 0011223344556677 king 1 - " SECRET "\n", -EINVAL, "line 1");
	refused("infuse-key-1 00112233445566 borrower 1 - " SECRET "\n", -EINVAL, "line 1");
	refused("infuse-key-1 0011223344556677 borrower x - " SECRET "\n", -EINVAL, "line 1");
	/* A cluster key's id is made of it: a line that was damaged is seen. */
	refused("infuse-key-1 0011223344556677 cluster 1 - " SECRET "\n", -EINVAL, "line 1");
	for (unsigned i = 0; i < KEY_MAX + 1; i++)
		strcat(many, "infuse-key-1 0011223344556677 borrower 1 - " SECRET "\n");
	refused(many, -E2BIG, "more than 16 keys");
}

Test(secure_key, roles_stay_apart)
{
	struct key_set *set = key_set_create();
	struct key role[KEY_ROLES], other;
	char id[KEY_IDENTITY];

	key_generate(&set->key[0], 1);
	for (int r = KEY_CLUSTER; r < KEY_ROLES; r++) {
		cr_assert_eq(key_derive(&set->key[0], (enum key_role)r, &role[r]), 0);
		for (int k = 0; k < r; k++)
			cr_assert(memcmp(role[k].secret, role[r].secret, sizeof role[r].secret));
	}
	cr_assert_eq(key_derive(&role[KEY_METRICS], KEY_BORROWER, &other), -EACCES);
	cr_assert_eq(key_derive(&role[KEY_METRICS], KEY_CLUSTER, &other), -EACCES);
	/* A set with the metrics key only knows nobody else. */
	set->key[0] = role[KEY_METRICS];
	set->count = 1;
	key_identity(&role[KEY_BORROWER], id);
	cr_assert_eq(key_by_identity(set, id, strlen(id), 5, &other), -ENOENT);
	key_identity(&role[KEY_METRICS], id);
	cr_assert_eq(key_by_identity(set, id, strlen(id), 5, &other), 0);
	cr_assert_arr_eq(other.secret, role[KEY_METRICS].secret, sizeof other.secret);
	set->key[0].expires_s = 5;
	cr_assert_eq(key_by_identity(set, id, strlen(id), 5, &other), -ENOENT);
	cr_assert_eq(key_by_identity(set, id, strlen(id), 4, &other), 0);
	key_free(set);
}
