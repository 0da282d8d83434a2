/* SPDX-License-Identifier: MIT */
/* What a seed stands for: how many donors, what network, which faults, how much load. */
#include "sim.h"
#include "kernel.h"

#define LINGER_NS (60 * SIM_SEC) /* longer than every grace, fault and retry */

struct scenario {
	unsigned donors, borrowers;
	enum sim_faults faults;
	unsigned most_hurt;
	bool heals;
	struct sim_donor_options donor;
	struct sim_load load[SIM_MAX_BORROWERS];
};

static void choose_net(enum sim_faults faults)
{
	static const uint64_t delays[] = {5 * SIM_USEC, 50 * SIM_USEC, 2 * SIM_MSEC, 20 * SIM_MSEC};

	sim_net = (struct sim_net){
		.delay_min_ns = 2 * SIM_USEC,
		.delay_max_ns = delays[sim_below(4)],
		.spike_ppm = sim_chance(500000) ? sim_below(20000) : 0,
		.spike_ns = 100 * SIM_MSEC,
		.flip_ppm = faults == SIM_DEADLY && sim_chance(300000) ? sim_below(5000) : 0,
		.yield_ppm = sim_chance(500000) ? sim_below(300000) : 0,
		.window = sim_chance(300000) ? 20000 : 1u << 19,
		.choppy = sim_chance(400000),
	};
}

static enum sim_faults choose_faults(void)
{
	uint64_t n = sim_below(10);

	return n < 2 ? SIM_CALM : n < 5 ? SIM_ROUGH : SIM_DEADLY;
}

/* Copies, or fragments: on not more donors than there are. */
static void choose_members(struct sim_load *l, unsigned donors)
{
	static const unsigned data[] = {2, 4};

	l->replicas = 1 + (unsigned)sim_below(donors < 3 ? donors : 3);
	if (donors < 3 || !sim_chance(300000))
		return;
	l->code_data = data[sim_below(donors > 4 ? 2 : 1)];
	l->code_parity = 1 + (unsigned)sim_below(donors - l->code_data);
	if (l->code_parity > 2)
		l->code_parity = 2;
}

/* How many members of a slab may be lost. */
static unsigned spare(const struct sim_load *l)
{
	return l->code_data ? l->code_parity : l->replicas - 1;
}

static void choose_load(struct sim_load *l, const struct scenario *s)
{
	unsigned parts;

	choose_members(l, s->donors);
	parts = l->code_data ? l->code_data : 1;
	l->pages = (uint64_t)s->donor.slab_pages * parts * sim_between(2, 10);
	l->ports = 1 + (unsigned)sim_below(3);
	l->depth = 1 + (unsigned)sim_below(4);
	l->rounds = 20 + (unsigned)sim_below(sim_chance(200000) ? 1500 : 200);
	l->deadline_ns = sim_between(1, 3) * SIM_SEC;
	l->suspect_ns = sim_between(200, 900) * SIM_MSEC;
	l->snapshots = sim_chance(200000);
	l->seal = sim_chance(200000);
	l->maintained = sim_chance(700000);
	l->evacuates = sim_chance(300000);
}

static void choose(struct scenario *s)
{
	uint64_t slabs = 0;

	s->faults = choose_faults();
	choose_net(s->faults);
	s->donors = 1 + (unsigned)sim_below(sim_chance(300000) ? 8 : 4);
	s->borrowers = sim_chance(250000) ? 2 : 1;
	s->donor.slab_pages = 1u << sim_between(2, 4);
	s->donor.service_ns = 10 * SIM_USEC;
	s->most_hurt = s->donors;
	s->heals = true;
	for (unsigned i = 0; i < s->borrowers; i++) {
		struct sim_load *l = &s->load[i];
		unsigned members;

		choose_load(l, s);
		members = l->code_data ? l->code_data + l->code_parity : l->replicas;
		slabs += l->pages / s->donor.slab_pages * members * (l->snapshots ? 2 : 1);
		s->heals &= l->maintained && spare(l);
		if (spare(l) && spare(l) < s->most_hurt)
			s->most_hurt = spare(l);
	}
	/* Mostly as much as must be survived without an error; now and then more. */
	if (sim_chance(300000))
		s->most_hurt = s->donors;
	else
		sim_net.flip_ppm = 0; /* those hit any donor */
	s->donor.slabs = (uint32_t)(slabs + sim_between(1, 6));
}

/*
 * Every fourth seed: donors have not room for all, and volumes spill. Nothing is drawn for it, so the other
 * seeds mean what they always did.
 */
static void choose_spill(struct scenario *s, uint64_t seed)
{
	uint64_t mixed = (seed + 1) * 0x9e3779b97f4a7c15ull;

	if (mixed >> 62)
		return;
	s->donor.slabs = 1 + (uint32_t)(mixed >> 32) % (s->donor.slabs / s->donors + 1);
	for (unsigned i = 0; i < s->borrowers; i++) {
		s->load[i].spill = true;
		s->load[i].snapshots = false;
	}
}

void sim_play(uint64_t seed, uint64_t fail_at, bool verbose, struct sim_result *ret)
{
	struct scenario s = {0};

	sim_world_open(seed, fail_at, verbose);
	sim_memory_open(fail_at);
	choose(&s);
	choose_spill(&s, seed);
	sim_say("seed %llu: %u donors of %u slabs of %u pages, faults %d at %u at most",
		(unsigned long long)seed, s.donors, s.donor.slabs, s.donor.slab_pages,
		(int)s.faults, s.most_hurt);
	for (unsigned i = 0; i < s.borrowers; i++)
		sim_say("%u: %llu pages, %u replicas, code %u+%u, %u ports of %u%s%s%s%s", i,
			(unsigned long long)s.load[i].pages, s.load[i].replicas,
			s.load[i].code_data, s.load[i].code_parity, s.load[i].ports,
			s.load[i].depth, s.load[i].seal ? ", sealed" : "",
			s.load[i].snapshots ? ", snapshots" : "",
			s.load[i].maintained ? ", maintained" : "", s.load[i].spill ? ", spilling" : "");

	sim_tasks_open();
	sim_kernel_open();
	sim_disk_open();
	sim_net_open();
	sim_donors_open(s.donors, &s.donor);
	sim_faults_open(s.faults, sim_between(5 * SIM_MSEC, 200 * SIM_MSEC) << sim_below(5),
			s.most_hurt, s.heals);
	sim_borrowers_open(s.borrowers, s.load);
	sim_run(LINGER_NS);
	sim_donors_check_empty();
	if (sim_kernel_open_sockets())
		sim_fail("%u sockets are open after the volumes' end", sim_kernel_open_sockets());
	sim_borrowers_count(ret);
	ret->events = sim_events();
	ret->virtual_ns = sim_now();
	ret->faults = sim_faults_count();
	ret->allocations = sim_memory_asked();
	sim_borrowers_close();
	sim_donors_close();
	sim_net_close();
	if (sim_memory_living())
		sim_fail("%lld allocations were not given back", (long long)sim_memory_living());
}
