/* SPDX-License-Identifier: MIT */
/* The page store's own hash is linked in. */
#include "bench/bench.h"

const bool bench_hashes = true;
