/* SPDX-License-Identifier: MIT */
/* What goes wrong and when: one fault after another, each with its end, drawn from the seed. */
#include "sim.h"

static enum sim_faults kind;
static uint64_t every, count;
static unsigned most, under_way, calm;
static bool going, heals;

#define HEAL_NS (200 * SIM_MSEC)
#define HEALED  5u /* looks */

uint64_t sim_faults_count(void)
{
	return count;
}

static void restart(void *arg, uint64_t n)
{
	struct sim_donor *d = arg;

	(void)n;
	under_way--;
	if (!sim_donor_up(d))
		sim_donor_start(d);
}

static void thaw(void *arg, uint64_t n)
{
	(void)n;
	under_way--;
	sim_donor_freeze(arg, false);
}

static void quick(void *arg, uint64_t n)
{
	(void)n;
	under_way--;
	sim_donor_slow(arg, 1);
}

static void join(void *arg, uint64_t n)
{
	(void)n;
	under_way--;
	sim_net_cut(arg, false);
	sim_say("donor %u can be reached again", sim_donor_index(arg));
}

static void crash(struct sim_donor *d)
{
	if (!sim_donor_up(d))
		return;
	sim_donor_crash(d, sim_chance(300000));
	if (heals || sim_chance(800000)) {
		under_way++;
		sim_at(sim_now() + sim_between(SIM_MSEC, 20 * SIM_SEC), restart, d, 0);
	}
}

static void rough(struct sim_donor *d, uint64_t which)
{
	uint64_t end = sim_now() + sim_between(10 * SIM_MSEC, 8 * SIM_SEC);
	struct sim_conn *c;

	sim_donor_hurts(d, SIM_HURT_CONN);
	under_way += which > 0;
	switch (which) {
	case 0:
		c = sim_net_pick(d);
		if (c)
			sim_conn_reset(c);
		break;
	case 1:
		sim_donor_freeze(d, true);
		sim_at(end, thaw, d, 0);
		break;
	case 2:
		sim_donor_slow(d, sim_between(10, 20000));
		sim_at(end, quick, d, 0);
		break;
	default:
		sim_say("donor %u can't be reached", sim_donor_index(d));
		sim_net_cut(d, true);
		sim_at(end, join, d, 0);
	}
}

/* Not more than may be at once: another one that was hurt before, or a new one. */
static bool may_hurt(const struct sim_donor *d)
{
	unsigned hurt = 0;

	for (unsigned i = 0; i < sim_donors(); i++)
		hurt += sim_donor_hurt(i) != SIM_HURT_NOT;
	return hurt < most || sim_donor_hurt(sim_donor_index(d)) != SIM_HURT_NOT;
}

static void next(void *arg, uint64_t n)
{
	struct sim_donor *d = sim_donor((unsigned)sim_below(sim_donors()));
	uint64_t which = sim_below(kind == SIM_DEADLY ? 7 : 4);

	(void)arg;
	(void)n;
	if (!going)
		return;
	sim_at(sim_now() + sim_between(every / 4, every * 2), next, NULL, 0);
	if (!may_hurt(d))
		return;
	count++;
	if (which < 4)
		rough(d, which);
	else if (which == 4)
		crash(d);
	else
		sim_donor_flip(d);
}

static void heal(void *arg, uint64_t n)
{
	(void)arg;
	(void)n;
	if (!going)
		return;
	/* For a while: what has just come back may still leave some sets. */
	calm = !under_way && sim_net_sound() && sim_borrowers_whole() ? calm + 1 : 0;
	if (calm >= HEALED)
		sim_donors_heal();
	sim_at(sim_now() + HEAL_NS, heal, NULL, 0);
}

void sim_faults_open(enum sim_faults what, uint64_t every_ns, unsigned at_most, bool do_heal)
{
	most = at_most;
	heals = do_heal;
	under_way = calm = 0;
	kind = what;
	every = every_ns;
	count = 0;
	going = what != SIM_CALM;
	if (going)
		sim_at(sim_now() + sim_below(2 * every), next, NULL, 0);
	if (going && heals)
		sim_at(sim_now() + HEAL_NS, heal, NULL, 0);
}

void sim_faults_stop(void)
{
	going = false;
}
