/* SPDX-License-Identifier: MIT */
/*
 * Plays texts as what a registry may hold about donors: whatever it is, a borrower gets addresses
 * that are whole or none, from the documents that make sense. The registry itself is this file.
 */
#include "text.h"
#include "registry/donors.h"
#include "registry/registry.h"

#define DOCS 4u

static const char *const templates[] = {
	"{\"name\":\"a\",\"addresses\":[\"tcp:10.0.0.7:4770\",\"unix:/run/infuse/a.sock\"],\"slabs_free\":9}",
	"{\"addresses\":[\"tcp:[::1]:4770\"]}",
	"{\"addresses\":[]}",
	"[1,2.5e3,null,true,{\"a\":\"\\u0041\"}]",
};
static const char *const words[] = {"{", "}", "[", "]", ",", ":", "\"", "\\u0000", "\\ud800", "null",
				    "1e999", "-9223372036854775809", "\"addresses\"", "\"tcp:", "\"unix:/tmp\"",
				    "\xff\xfe", "/*", "true", "0x", "\\"};

static struct text doc[DOCS];
static char key[DOCS][REG_MAX_KEY + 1];
static struct reg_entry entry[DOCS];
static unsigned docs;

int reg_open(const char *url, struct registry **ret)
{
	(void)url;
	*ret = NULL;
	return 0;
}

void reg_close(struct registry *r)
{
	(void)r;
}

const char *reg_default(char *buf, size_t len)
{
	snprintf(buf, len, "nowhere");
	return buf;
}

int reg_list(struct registry *r, const char *prefix, struct reg_list *ret)
{
	(void)r;
	must(!strcmp(prefix, "donor/"));
	*ret = (struct reg_list){entry, docs};
	return 0;
}

void reg_list_free(struct reg_list *l)
{
	must(l->entry == entry);
}

static void check(const struct known_donors *k)
{
	must(k->count <= docs);
	for (size_t i = 0; i < k->count; i++) {
		const struct known_donor *d = &k->donor[i];

		must(memchr(d->name, 0, sizeof d->name) && memchr(d->address, 0, sizeof d->address));
		must(!strncmp(d->address, "tcp:", 4) || !strncmp(d->address, "unix:", 5));
	}
}

unsigned play(const uint8_t *bytes, size_t n)
{
	struct moves m = {bytes, n};
	struct known_donors known;
	unsigned all = 0;

	while (m.n) {
		docs = 1 + take(&m) % DOCS;
		for (unsigned i = 0; i < docs; i++) {
			size_t name = take(&m);

			text_next(&doc[i], &m, templates, sizeof templates / sizeof *templates, words,
				  sizeof words / sizeof *words);
			memset(key[i], 'k', sizeof key[i]);
			memcpy(key[i], "donor/", 6);
			key[i][7 + name % (REG_MAX_KEY - 7)] = 0;
			entry[i] = (struct reg_entry){key[i], doc[i].s, doc[i].len, 1};
		}
		must(!donors_known("anywhere", &known));
		check(&known);
		donors_free(&known);
		all += docs;
	}
	return all;
}

void play_end(void)
{
}
