/* SPDX-License-Identifier: MIT */
/* See key.h. */
#include "secure/key.h"
#include "common/error.h"
#include "common/sys.h"
#include "secure/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BYTES 8192u
#define WORD       "infuse-key-1"

static const char *const role_names[KEY_ROLES] = {"cluster", "borrower", "admin", "metrics"};

const char *key_role_name(enum key_role role)
{
	return role_names[role];
}

int key_role_of(const char *name)
{
	for (int i = 0; i < KEY_ROLES; i++)
		if (!strcmp(role_names[i], name))
			return i;
	return -1;
}

bool key_expired(const struct key *k, uint64_t now_s)
{
	return k->expires_s && k->expires_s <= now_s;
}

struct key_set *key_set_create(void)
{
	return secret_map(sizeof(struct key_set));
}

void key_free(struct key_set *set)
{
	secret_unmap(set, sizeof *set);
}

/* --- making keys --- */

static void name_key(struct key *k)
{
	kdf_derive(k->secret, sizeof k->secret, NULL, 0, "infuse key id", k->id, sizeof k->id);
}

void key_generate(struct key *ret, uint64_t now_s)
{
	*ret = (struct key){.role = KEY_CLUSTER, .created_s = now_s};
	secret_random(ret->secret, sizeof ret->secret);
	name_key(ret);
}

int key_derive(const struct key *k, enum key_role role, struct key *ret)
{
	char info[32] = "infuse role ";

	if (k->role == role) {
		*ret = *k;
		return 0;
	}
	if (k->role != KEY_CLUSTER)
		return -EACCES;
	strcat(info, role_names[role]);
	*ret = *k;
	ret->role = role;
	kdf_derive(k->secret, sizeof k->secret, NULL, 0, info, ret->secret, sizeof ret->secret);
	return 0;
}

void key_borrower(const uint8_t role[KDF_KEY_BYTES], const uint8_t borrower[16],
		  uint8_t ret[KDF_KEY_BYTES])
{
	kdf_derive(role, KDF_KEY_BYTES, borrower, 16, "infuse borrower", ret, KDF_KEY_BYTES);
}

/* --- names --- */

static void put_hex(const uint8_t *p, size_t n, char *to)
{
	for (size_t i = 0; i < n; i++) {
		to[2 * i] = "0123456789abcdef"[p[i] >> 4];
		to[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
	}
	to[2 * n] = 0;
}

void key_id_text(const struct key *k, char ret[KEY_ID_TEXT])
{
	put_hex(k->id, sizeof k->id, ret);
}

void key_identity(const struct key *k, char ret[KEY_IDENTITY])
{
	key_id_text(k, ret);
	strcat(ret, ":");
	strcat(ret, role_names[k->role]);
}

int key_by_identity(const struct key_set *set, const char *identity, size_t bytes, uint64_t now_s,
		    struct key *ret)
{
	int found = -ENOENT;

	for (unsigned i = 0; i < set->count; i++) {
		for (int role = KEY_BORROWER; role < KEY_ROLES; role++) {
			char is[KEY_IDENTITY];
			struct key k;

			if (key_expired(&set->key[i], now_s) ||
			    key_derive(&set->key[i], (enum key_role)role, &k))
				continue;
			key_identity(&k, is);
			if (strlen(is) == bytes && secret_equal(is, identity, bytes)) {
				*ret = k;
				found = 0;
			}
			secret_wipe(&k, sizeof k);
		}
	}
	return found;
}

/* --- files --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(const char *s, uint8_t *ret, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int a = hex_digit(s[2 * i]), b = a < 0 ? -1 : hex_digit(s[2 * i + 1]);

		if (b < 0)
			return false;
		ret[i] = (uint8_t)(a << 4 | b);
	}
	return !s[2 * n];
}

static bool take_time(const char *s, uint64_t *ret)
{
	*ret = 0;
	if (!strcmp(s, "-"))
		return true;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || *ret > UINT64_MAX / 100)
			return false;
		*ret = *ret * 10 + (uint64_t)(*s - '0');
	}
	return *ret;
}

/* One line, cut into words in place. */
static bool take_line(char *line, struct key *k)
{
	char *word[6];
	unsigned n = 0;
	int role;

	for (char *s = line; *s;) {
		while (*s == ' ' || *s == '\t')
			*s++ = 0;
		if (!*s)
			break;
		if (n == 6)
			return false;
		word[n++] = s;
		while (*s && *s != ' ' && *s != '\t')
			s++;
	}
	if (n != 6 || strcmp(word[0], WORD))
		return false;
	role = key_role_of(word[2]);
	k->role = (enum key_role)role;
	return role >= 0 && take_hex(word[1], k->id, sizeof k->id) &&
	       take_time(word[3], &k->created_s) && take_time(word[4], &k->expires_s) &&
	       take_hex(word[5], k->secret, sizeof k->secret);
}

static bool id_fits(const struct key *k)
{
	struct key named = *k;
	bool fits;

	if (k->role != KEY_CLUSTER)
		return true; /* its id is the cluster's, and that can't be told from it */
	name_key(&named);
	fits = !memcmp(named.id, k->id, sizeof k->id);
	secret_wipe(&named, sizeof named);
	return fits;
}

static int parse(const char *path, char *text, struct key_set *set)
{
	unsigned number = 0;

	for (char *line = text, *next; *line; line = next) {
		char *end = strchr(line, '\n');

		number++;
		next = end ? end + 1 : line + strlen(line);
		if (end)
			*end = 0;
		if (!*line || *line == '#')
			continue;
		if (set->count == KEY_MAX)
			return err_fail(-E2BIG, "key file '%s': more than %u keys", path, KEY_MAX);
		/* What is in the line is not to be told. */
		if (!take_line(line, &set->key[set->count]) || !id_fits(&set->key[set->count]))
			return err_fail(-EINVAL,
					"key file '%s': line %u is no key; make one with "
					"'infuse key gen'",
					path, number);
		set->count++;
	}
	if (!set->count)
		return err_fail(-EINVAL, "key file '%s' has no key; make one with 'infuse key gen'",
				path);
	return 0;
}

static int check_file(const char *path, int fd)
{
	struct stat st;
	long uid = sys_call0(SYS_geteuid);
	int r = (int)sys_call2(SYS_fstat, fd, SYS_PTR(&st));

	if (r)
		return err_fail(r, "key file '%s': %s", path, strerrordesc_np(-r));
	if (!S_ISREG(st.st_mode))
		return err_fail(-EINVAL, "key file '%s' is not a file", path);
	if (st.st_uid && st.st_uid != (uid_t)uid)
		return err_fail(-EPERM, "key file '%s' belongs to another user (uid %u): chown it",
				path, st.st_uid);
	if (st.st_mode & 077)
		return err_fail(-EPERM,
				"key file '%s' is open to others (mode %04o): chmod 600 '%s', and "
				"if others may have read it, 'infuse key rotate' it",
				path, st.st_mode & 07777, path);
	return 0;
}

static long read_all(const char *path, int fd, char *buf, size_t room)
{
	size_t n = 0;

	for (;;) {
		long r = sys_call3(SYS_read, fd, SYS_PTR(buf + n), (long)(room - n));

		if (r == -EINTR)
			continue;
		if (r < 0)
			return err_fail((int)r, "'%s': %s", path, strerrordesc_np(-(int)r));
		n += (size_t)r;
		if (!r)
			return (long)n;
		if (n == room)
			return err_fail(-E2BIG, "'%s' is too long", path);
	}
}

long key_read_file(const char *path, bool secret, char *buf, size_t room)
{
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(path),
				O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	long r;

	if (fd < 0)
		return err_fail(fd, "'%s': %s", path, strerrordesc_np(-fd));
	r = secret ? check_file(path, fd) : 0;
	if (!r)
		r = read_all(path, fd, buf, room);
	sys_call1(SYS_close, fd);
	return r;
}

int key_read(const char *path, struct key_set **ret)
{
	struct key_set *set = key_set_create();
	char *text = secret_map(FILE_BYTES + 1);
	long n;
	int r;

	n = set && text ? key_read_file(path, true, text, FILE_BYTES)
			: err_fail(-ENOMEM, "no memory for keys");
	if (n >= 0 && memchr(text, 0, (size_t)n))
		n = err_fail(-EINVAL, "key file '%s' is no text", path);
	r = n < 0 ? (int)n : parse(path, text, set);
	secret_unmap(text, FILE_BYTES + 1);
	if (r)
		key_free(set);
	else
		*ret = set;
	return r;
}

static size_t put_key(const struct key *k, char *to, size_t room)
{
	char id[KEY_ID_TEXT], secret[2 * KDF_KEY_BYTES + 1], expires[24] = "-";
	int n;

	key_id_text(k, id);
	put_hex(k->secret, sizeof k->secret, secret);
	if (k->expires_s)
		snprintf(expires, sizeof expires, "%llu", (unsigned long long)k->expires_s);
	n = snprintf(to, room, WORD " %s %s %llu %s %s\n", id, role_names[k->role],
		     (unsigned long long)k->created_s, expires, secret);
	secret_wipe(secret, sizeof secret);
	return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

static int write_fd(int fd, const char *text, size_t n)
{
	while (n) {
		long r = sys_call3(SYS_write, fd, SYS_PTR(text), (long)n);

		if (r < 0 && r != -EINTR)
			return (int)r;
		if (r > 0) {
			text += r;
			n -= (size_t)r;
		}
	}
	return (int)sys_call1(SYS_fsync, fd);
}

int key_write(const char *path, const struct key_set *set)
{
	char fresh[4096], *text = secret_map(FILE_BYTES);
	size_t n = 0;
	int fd, r;

	if (!text)
		return err_fail(-ENOMEM, "no memory for keys");
	for (unsigned i = 0; i < set->count; i++)
		n += put_key(&set->key[i], text + n, FILE_BYTES - n);
	if (snprintf(fresh, sizeof fresh, "%s.%ld", path, sys_call0(SYS_getpid)) >=
	    (int)sizeof fresh) {
		secret_unmap(text, FILE_BYTES);
		return err_fail(-ENAMETOOLONG, "key file '%.60s...': the name is too long", path);
	}
	fd = (int)sys_call4(SYS_openat, AT_FDCWD, SYS_PTR(fresh),
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? fd : write_fd(fd, text, n);
	secret_unmap(text, FILE_BYTES);
	if (fd >= 0)
		sys_call1(SYS_close, fd);
	if (!r)
		r = (int)sys_call5(SYS_renameat2, AT_FDCWD, SYS_PTR(fresh), AT_FDCWD, SYS_PTR(path),
				   0);
	if (r && fd >= 0)
		sys_call3(SYS_unlinkat, AT_FDCWD, SYS_PTR(fresh), 0);
	return r ? err_fail(r, "can't write key file '%s': %s", path, strerrordesc_np(-r)) : 0;
}
