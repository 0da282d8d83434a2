/* SPDX-License-Identifier: MIT */
/*
 * Do these bytes stand somewhere in a file, or in a process's memory? has-bytes PATH|PID HEX...
 * Prints how often each of them does; 0: one does; 1: none; 3: it can't be read.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (4u << 20)
#define MOST  256u

struct pattern {
	unsigned char bytes[MOST];
	size_t n;
	unsigned long count;
};

static struct pattern *pattern;
static int patterns;
static unsigned long read_bytes;

static void take_hex(const char *s, struct pattern *p)
{
	unsigned v;

	for (; s[0] && s[1] && p->n < MOST; s += 2)
		if (sscanf(s, "%2x", &v) == 1)
			p->bytes[p->n++] = (unsigned char)v;
}

/* What is found twice at the border of two chunks is counted twice: it is only asked for none. */
static void search(int fd, unsigned long from, unsigned long to)
{
	static unsigned char buf[CHUNK + MOST];

	while (from < to) {
		size_t want = to - from < sizeof buf ? to - from : sizeof buf;
		ssize_t n = pread(fd, buf, want, (off_t)from);

		if (n <= 0) {
			from += 4096; /* a page that can't be read */
			continue;
		}
		read_bytes += (unsigned long)n;
		for (int i = 0; i < patterns; i++) {
			const unsigned char *at = buf;

			while ((at = memmem(at, (size_t)(buf + n - at), pattern[i].bytes,
					    pattern[i].n))) {
				pattern[i].count++;
				at++;
			}
		}
		if ((size_t)n <= MOST)
			return;
		from += (size_t)n == want && want < sizeof buf ? (size_t)n : (size_t)n - MOST;
	}
}

static int search_process(const char *pid)
{
	char path[64], line[512];
	FILE *maps;
	int fd;

	snprintf(path, sizeof path, "/proc/%s/maps", pid);
	maps = fopen(path, "r");
	snprintf(path, sizeof path, "/proc/%s/mem", pid);
	fd = open(path, O_RDONLY);
	if (!maps || fd < 0)
		return 3;
	while (fgets(line, sizeof line, maps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx r", &from, &to) == 2 && !strstr(line, "[v"))
			search(fd, from, to);
	}
	fclose(maps);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long found = 0;
	int r = 0;

	if (argc < 3)
		return 2;
	patterns = argc - 2;
	pattern = calloc((size_t)patterns, sizeof *pattern);
	for (int i = 0; i < patterns; i++)
		take_hex(argv[2 + i], &pattern[i]);
	if (isdigit((unsigned char)*argv[1])) {
		r = search_process(argv[1]);
	} else {
		int fd = open(argv[1], O_RDONLY);
		off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

		if (end < 0)
			r = 3;
		else
			search(fd, 0, (unsigned long)end);
	}
	if (r || !read_bytes)
		return 3;
	for (int i = 0; i < patterns; i++) {
		printf("%lu%s", pattern[i].count, i + 1 < patterns ? " " : "\n");
		found += pattern[i].count;
	}
	return !found;
}
