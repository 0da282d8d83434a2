/* SPDX-License-Identifier: MIT */
/* What a seed stands for: how many donors, what network, which faults, how much load. */
#include "sim.h"
#include "kernel.h"

#define LINGER_NS (60 * SIM_SEC) /* longer than every grace, fault and retry */

static void choose_net(enum sim_faults faults)
{
	static const uint64_t delays[] = {5 * SIM_USEC, 50 * SIM_USEC, 2 * SIM_MSEC, 40 * SIM_MSEC};

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

void sim_play(uint64_t seed, bool verbose, struct sim_result *ret)
{
	struct sim_donor_options d = {.service_ns = 10 * SIM_USEC};
	struct sim_load l = {0};
	enum sim_faults faults;
	unsigned n;

	sim_world_open(seed, verbose);
	faults = choose_faults();
	choose_net(faults);
	n = 1 + (unsigned)sim_below(4);
	d.slab_pages = 1u << sim_between(2, 4);
	l.pages = d.slab_pages * sim_between(2, 12);
	d.slabs = (uint32_t)(l.pages / d.slab_pages / n + sim_between(1, 6));
	l.ports = 1 + (unsigned)sim_below(3);
	l.depth = 1 + (unsigned)sim_below(4);
	l.rounds = 20 + (unsigned)sim_below(sim_chance(200000) ? 1500 : 200);
	l.deadline_ns = sim_between(1, 3) * SIM_SEC;
	l.snapshots = sim_chance(200000);
	if (l.snapshots)
		d.slabs *= 2;
	sim_say("seed %llu: %u donors of %u slabs of %u pages; %llu pages, %u ports of %u, faults %d",
		(unsigned long long)seed, n, d.slabs, d.slab_pages, (unsigned long long)l.pages,
		l.ports, l.depth, (int)faults);

	sim_tasks_open();
	sim_kernel_open();
	sim_net_open();
	sim_donors_open(n, &d);
	sim_faults_open(faults, sim_between(5 * SIM_MSEC, 200 * SIM_MSEC) << sim_below(5));
	sim_borrower_open(&l);
	sim_run(LINGER_NS);
	sim_donors_check_empty();
	sim_borrower_count(ret);
	ret->events = sim_events();
	ret->virtual_ns = sim_now();
	ret->faults = sim_faults_count();
	sim_borrower_close();
	sim_donors_close();
	sim_net_close();
}
