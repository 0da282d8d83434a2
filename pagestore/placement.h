/* SPDX-License-Identifier: MIT */
/*
 * Which donors take new slabs: a pure function from what is known of the donors to a plan. Donors
 * that the volume doesn't use yet come first (its bandwidth grows with them), then the better of
 * two picked at random by free memory (Mitzenmacher's two choices: nearly as even as looking at
 * all, and borrowers that decide at the same moment don't all run to the same donor). The members of
 * one slab go to different donors, and to different failure domains where there are enough.
 */
#ifndef PAGESTORE_PLACEMENT_H
#define PAGESTORE_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

struct place_donor {
	uint64_t free;   /* slabs; falls as the plan takes them */
	bool used;       /* holds slabs of this volume; set as the plan uses it */
	unsigned last;   /* not 0: taken where no others are left (the spill file), for so many members
			    of a slab at most: as many as are needed to read it */
	unsigned domain; /* donors with the same number fail together */
};

#define PLACE_NONE UINT8_MAX

/*
 * plan[i * members + j] becomes the donor of slab i's member j. False, and nothing is planned, when
 * the donors have not room for count slabs on different ones. rng: state of the generator, not 0;
 * moved on. A slab with as many members in the spill file as are needed may lack others: PLACE_NONE,
 * after those it has.
 */
bool place_slabs(struct place_donor *donor, unsigned donors, uint64_t count, unsigned members,
		 uint64_t *rng, uint8_t *plan);

/*
 * One more donor for a slab whose other members are on the donors in `taken` (a bit each) and
 * have the domains in `domains` (a bit each). -1: there is none. Donors in `taken` are never picked;
 * the spill file only when it alone is left.
 */
int place_one(const struct place_donor *donor, unsigned donors, uint64_t taken, uint64_t domains,
	      uint64_t *rng);

#endif
