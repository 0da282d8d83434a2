/* SPDX-License-Identifier: MIT */
/* See ranges.h. The list is as long as there are requests, some dozens: it is walked. */
#include "nbdkit-rswap/ranges.h"
#include "common/sys.h"

#include <linux/futex.h>
#include <stdbool.h>

void ranges_init(struct ranges *all)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	/* Held for less than a sleep costs. */
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&all->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	TAILQ_INIT(&all->list);
}

static bool overlap(const struct range *a, const struct range *b)
{
	return a->first <= b->last && b->first <= a->last;
}

void range_take(struct ranges *all, struct range *r, uint64_t first, uint64_t last)
{
	struct range *other;
	uint32_t ahead;

	*r = (struct range){.first = first, .last = last};
	pthread_mutex_lock(&all->lock);
	TAILQ_FOREACH(other, &all->list, link)
		r->ahead += overlap(r, other);
	TAILQ_INSERT_TAIL(&all->list, r, link);
	pthread_mutex_unlock(&all->lock);
	while ((ahead = __atomic_load_n(&r->ahead, __ATOMIC_ACQUIRE)))
		sys_call4(SYS_futex, SYS_PTR(&r->ahead), FUTEX_WAIT_PRIVATE, (long)ahead, 0);
}

void range_drop(struct ranges *all, struct range *r)
{
	struct range *later;

	pthread_mutex_lock(&all->lock);
	for (later = TAILQ_NEXT(r, link); later; later = TAILQ_NEXT(later, link))
		if (overlap(r, later) &&
		    !__atomic_sub_fetch(&later->ahead, 1, __ATOMIC_RELEASE))
			/* Its owner can't be gone: it needs the lock for that. */
			sys_call3(SYS_futex, SYS_PTR(&later->ahead), FUTEX_WAKE_PRIVATE, 1);
	TAILQ_REMOVE(&all->list, r, link);
	pthread_mutex_unlock(&all->lock);
}
