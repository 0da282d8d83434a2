/* SPDX-License-Identifier: MIT */
/*
 * Which donors take new slabs: a pure function from what is known of the donors to a plan. Donors
 * that the volume doesn't use yet come first (its bandwidth grows with them), then the better of
 * two picked at random by free memory (Mitzenmacher's two choices: nearly as even as looking at
 * all, and borrowers that decide at the same moment don't all run to the same donor).
 */
#ifndef PAGESTORE_PLACEMENT_H
#define PAGESTORE_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

struct place_donor {
	uint64_t free; /* slabs; falls as the plan takes them */
	bool used;     /* holds slabs of this volume; set as the plan uses it */
};

/*
 * plan[i] becomes the donor of slab i. False, and nothing is planned, when the donors have not
 * room for count slabs. rng: state of the generator, not 0; moved on.
 */
bool place_slabs(struct place_donor *donor, unsigned donors, uint64_t count, uint64_t *rng,
		 uint8_t *plan);

#endif
