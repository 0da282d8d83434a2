/* SPDX-License-Identifier: MIT */
/* Memory servers for one measurement: real ones, as child processes, on a CPU that the client does
 * not use unless --same-core says so. */
#include "bench/bench.h"
#include "common/clock.h"
#include "common/error.h"
#include "secure/key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define READY_NS (60 * NSEC_PER_SEC) /* big arenas are touched before they are served */

/* "tcp:127.0.0.1:PORT" as the server said it; the UNIX socket by the transport's name. */
static int read_address(const char *ready, const char *transport, char *ret, size_t len)
{
	FILE *f = fopen(ready, "re");
	bool tcp = !strcmp(transport, "tcp") || !strcmp(transport, "tls");
	char line[160];

	ret[0] = 0;
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, " \n")] = 0;
		if (tcp && !strncmp(line, "tcp:", 4))
			snprintf(ret, len, "%s", line);
		else if (!tcp && !strncmp(line, "unix:", 5))
			snprintf(ret, len, "%.8s:%.140s", transport, line + 5);
	}
	if (f)
		fclose(f);
	return ret[0] ? 0 : err_fail(-EPROTO, "%s names no %s address", ready, transport);
}

/* All of them share what the client leaves. */
static unsigned cpu_away(unsigned i)
{
	return cpu_count() > 1 ? 1 + i % (cpu_count() - 1) : 0;
}

static int start_one(struct donors *d, unsigned i, const char *transport, uint64_t bytes,
		     bool same_core)
{
	char server[300], name[32], size[32], listen[300], ready[300];
	const char *dir;
	int r = child_folder(&dir);

	if (r)
		return r;
	snprintf(name, sizeof name, "donor-%u", i);
	snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
	snprintf(ready, sizeof ready, "%s/%s.ready", dir, name);
	unlink(ready);
	if (!strcmp(transport, "tcp") || !strcmp(transport, "tls"))
		snprintf(listen, sizeof listen, "tcp:127.0.0.1:0");
	else
		snprintf(listen, sizeof listen, "unix:%s/%s.sock", dir, name);

	const char *const argv[] = {child_program("infuse-memory-server", server, sizeof server),
				    "--name",
				    name,
				    "--listen",
				    listen,
				    "--size",
				    size,
				    "--no-registry",
				    "--ready-file",
				    ready,
				    *d->key_file ? "--key" : NULL,
				    d->key_file,
				    NULL};
	r = child_start(name, argv, same_core ? 0 : cpu_away(i), &d->pid[i]);
	if (r)
		return r;
	d->count = i + 1;
	r = child_wait(name, d->pid[i], ready, READY_NS);
	if (r) {
		if (r == -ECHILD)
			d->pid[i] = 0;
		return r;
	}
	d->list[i] = d->address[i];
	return read_address(ready, transport, d->address[i], sizeof d->address[i]);
}

/* One that is good for this measurement. */
static int make_key(struct donors *d)
{
	struct key_set *set = key_set_create();
	const char *dir;
	int r = set ? child_folder(&dir) : err_fail(-ENOMEM, "no memory for keys");

	if (!r) {
		snprintf(d->key_file, sizeof d->key_file, "%s/key", dir);
		key_generate(&set->key[0], (uint64_t)time(NULL));
		set->count = 1;
		r = key_write(d->key_file, set);
	}
	key_free(set);
	return r;
}

int donors_start(struct donors *d, const char *transport, unsigned count, uint64_t bytes,
		 bool same_core)
{
	int ready = 0;

	*d = (struct donors){0};
	if (!strcmp(transport, "tls"))
		ready = make_key(d);
	if (ready)
		return ready;
	for (unsigned i = 0; i < count; i++) {
		int r = start_one(d, i, transport, bytes, same_core);

		if (r) {
			donors_stop(d);
			return r;
		}
	}
	return 0;
}

void donors_stop(struct donors *d)
{
	for (unsigned i = 0; i < d->count; i++)
		child_stop(d->pid[i]);
	d->count = 0;
}
