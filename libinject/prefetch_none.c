/* SPDX-License-Identifier: MIT */
/* Never prefetches. */
#include "libinject/prefetch.h"

static unsigned none_fault(struct prefetch_state *s, struct prefetch_fault *f,
			   struct prefetch_run *run)
{
	(void)s;
	(void)f;
	(void)run;
	return 0;
}

const struct prefetcher prefetch_none = {"none", none_fault, NULL, NULL};
