/* SPDX-License-Identifier: MIT */
/* See pressure.h. Files are opened at each look: a cgroup's may come, go or change. */
#include "server/pressure.h"
#include "common/cleanup.h"

#include <stdlib.h>
#include <string.h>

#define NO_LIMIT (1ull << 60)

/* The number behind `key` in the line that begins with it; key "": the file's first word. */
static uint64_t number(const char *folder, const char *file, const char *key, uint64_t otherwise)
{
	CLEANUP_FILE FILE *f = NULL;
	char path[640], line[256];

	snprintf(path, sizeof path, "%s/%s", folder, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		char *end, *at = line + strlen(key);
		uint64_t n;

		if (strncmp(line, key, strlen(key)))
			continue;
		n = strtoull(at, &end, 10);
		return end == at ? otherwise : n; /* "max" */
	}
	return otherwise;
}

/* A mount point of a memory hierarchy, and how its root is called from here. */
static bool find_mount(bool v2, char *point, size_t len, char *root)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], at[512], type[32], super[256];

	while (f && fgets(line, sizeof line, f)) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*s %*s %*s %255s %511s", root, at) != 2 ||
		    sscanf(rest, " - %31s %*s %255s", type, super) != 2)
			continue;
		if (v2 ? strcmp(type, "cgroup2")
		       : strcmp(type, "cgroup") || !strstr(super, "memory"))
			continue;
		return snprintf(point, len, "%s", at) < (int)len;
	}
	return false;
}

/* Our path in it, as /proc/self/cgroup has it. */
static bool find_path(bool v2, char *path, size_t len)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512];

	while (f && fgets(line, sizeof line, f)) {
		char *names = strchr(line, ':'), *at = names ? strchr(names + 1, ':') : NULL;

		if (!at)
			continue;
		*at++ = 0;
		at[strcspn(at, "\n")] = 0;
		if (v2 ? !names[1] : !strcmp(names + 1, "memory"))
			return snprintf(path, len, "%s", at) < (int)len;
	}
	return false;
}

static bool find(struct srv_pressure_source *s, bool v2)
{
	char path[512], root[256];
	const char *below = path;

	if (!find_mount(v2, s->group, sizeof s->group, root) || !find_path(v2, path, sizeof path))
		return false;
	/* In a container the root of the mount is our group, or one above it. */
	if (strcmp(root, "/") && !strncmp(path, root, strlen(root)))
		below += strlen(root);
	s->top = strlen(s->group);
	s->v2 = v2;
	if (strcmp(below, "/") && snprintf(s->group + s->top, sizeof s->group - s->top, "%s",
					   below) >= (int)(sizeof s->group - s->top))
		return false;
	return number(s->group, v2 ? "memory.current" : "memory.usage_in_bytes", "", NO_LIMIT) !=
	       NO_LIMIT;
}

void srv_pressure_open(struct srv_pressure_source *s)
{
	memset(s, 0, sizeof *s);
	if (!find(s, true) && !find(s, false))
		s->group[0] = 0;
}

/* The room that one group has left, caches that can go at once included. */
static void look(const struct srv_pressure_source *s, const char *group, struct srv_pressure *p)
{
	uint64_t limit =
		number(group, s->v2 ? "memory.max" : "memory.limit_in_bytes", "", NO_LIMIT);
	uint64_t used = number(group, s->v2 ? "memory.current" : "memory.usage_in_bytes", "", 0);
	uint64_t cache =
		number(group, "memory.stat", s->v2 ? "inactive_file " : "total_inactive_file ", 0);
	uint64_t left;

	if (limit >= NO_LIMIT)
		return;
	used = used > cache ? used - cache : 0;
	left = limit > used ? limit - used : 0;
	if (left < p->available_bytes)
		p->available_bytes = left;
	if (limit < p->total_bytes)
		p->total_bytes = limit;
}

static double some_avg10(const char *folder, const char *file)
{
	CLEANUP_FILE FILE *f = NULL;
	char path[640];
	double avg = -1;

	snprintf(path, sizeof path, "%s/%s", folder, file);
	f = fopen(path, "re");
	if (!f || fscanf(f, "some avg10=%lf", &avg) != 1)
		return -1;
	return avg;
}

void srv_pressure_read(const struct srv_pressure_source *s, struct srv_pressure *ret)
{
	char group[sizeof s->group];
	struct srv_pressure p = {
		.available_bytes = number("/proc", "meminfo", "MemAvailable:", 0) * 1024,
		.total_bytes = number("/proc", "meminfo", "MemTotal:", 0) * 1024,
		.some_avg10 = -1,
	};

	memcpy(group, s->group, sizeof group);
	while (*group) {
		char *slash;

		look(s, group, &p);
		slash = strrchr(group, '/');
		if (!slash || (size_t)(slash - group) < s->top)
			break;
		*slash = 0;
	}
	if (s->v2 && *s->group)
		p.some_avg10 = some_avg10(s->group, "memory.pressure");
	if (p.some_avg10 < 0)
		p.some_avg10 = some_avg10("/proc", "pressure/memory");
	*ret = p;
}
