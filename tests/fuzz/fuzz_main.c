/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer's way to play; see play.h. `fuzz-session FOUND/ corpus-session/` goes on for ever;
 * FUZZ_FRAMES=N in the environment ends it well after so many frames.
 */
#include "play.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned long frames, most, strings;
	const char *limit = getenv("FUZZ_FRAMES");

	if (!most)
		most = limit ? strtoul(limit, NULL, 10) : (unsigned long)-1;
	frames += play(data, size);
	strings++;
	if (frames < most)
		return 0;
	play_end();
	fprintf(stderr, "%lu frames in %lu strings\n", frames, strings);
	_exit(0); /* exit() is a crash to libFuzzer */
}
