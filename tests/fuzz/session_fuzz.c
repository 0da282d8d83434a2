/* SPDX-License-Identifier: MIT */
/* libFuzzer's way to play; see session_play.h. fuzz-session corpus/ -max_len=4096 */
#include "session_play.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	play(data, size);
	return 0;
}
