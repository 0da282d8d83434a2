/* SPDX-License-Identifier: MIT */
/*
 * Plays texts as the memory server's configuration file: it is taken, or refused with one line of
 * words that names the file; and a size or time that was taken is within its bounds.
 */
#include "text.h"
#include "server/options.h"
#include "common/error.h"

#include <sys/mman.h>
#include <unistd.h>

static const char *const templates[] = {
	"# comment\ngrace = 5s\nspin=0\nlog = verbose\ndrain-timeout = 1m\nexit-idle = 250ms\n",
	"log = quiet ; comment\n",
	"[section]\ngrace = 1\n",
	"",
};
static const char *const words[] = {"grace", "spin", "log", "=", "\n", "[", "]", " ", ";", "#", "\t",
				    "1e9", "99999999999999999999s", "-1", "us", "\r\n", "\xef\xbb\xbf",
				    "drain-timeout", "normal", "0x10"};

static int fd = -1;

unsigned play(const uint8_t *bytes, size_t n)
{
	struct moves m = {bytes, n};
	unsigned texts = 0;
	char path[64];

	if (fd < 0)
		fd = memfd_create("config", MFD_CLOEXEC);
	must(fd >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	while (m.n) {
		struct srv_config c = {.grace_ns = 1};
		struct text t;
		int r;

		text_next(&t, &m, templates, sizeof templates / sizeof *templates, words,
			  sizeof words / sizeof *words);
		must(!ftruncate(fd, 0));
		must(pwrite(fd, t.s, t.len, 0) == (ssize_t)t.len);
		r = srv_config_file(path, &c);
		must(r <= 0);
		must(!r || (strstr(err_text(), path) && !strchr(err_text(), '\n')));
		must(!(c.quiet && c.verbose));
		texts++;
	}
	return texts;
}

void play_end(void)
{
	close(fd);
	fd = -1;
}
