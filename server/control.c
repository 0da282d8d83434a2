/* SPDX-License-Identifier: MIT */
/* See control.h. */
#include "server/control.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "common/parse.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Between two looks at this machine's memory; a program may take gigabytes in a second. */
#define LOOK_NS      NSEC_PER_SEC
#define LOOK_SOON_NS (50 * NSEC_PER_MSEC)

#ifdef SRV_WITH_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

void srv_control_log(const struct srv_config *c)
{
	log_open(SRV_COMMAND, c->verbose ? LOG_DEBUG : c->quiet ? LOG_WARN : LOG_INFO);
}

static void drain(struct srv_control *c, uint64_t now_ns)
{
	uint64_t ever;

	c->draining = true;
	c->drain_end_ns = now_ns + c->config.drain_ns;
#ifdef SRV_WITH_SYSTEMD
	sd_notify(0, "STOPPING=1");
#endif
	srv_lender_drain(c->lender);
	srv_workers_unaccept(c->workers);
	for (unsigned i = 0; i < c->listeners; i++)
		srv_unlisten(&c->listener[i]);
	if (srv_lend_borrowers(c->lender, &ever))
		log_info("ending; waiting up to %.1f s for borrowers",
			 (double)c->config.drain_ns / NSEC_PER_SEC);
}

static uint32_t quota_slabs(const struct srv_control *c, uint64_t bytes)
{
	uint64_t n = bytes / srv_arena_slab_bytes(srv_lender_arena(c->lender));

	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static int apply_quotas(struct srv_control *c)
{
	const struct srv_config *o = &c->config;
	struct srv_quota list[SRV_QUOTAS];

	for (unsigned i = 0; i < o->quotas; i++) {
		memset(&list[i], 0, sizeof list[i]);
		memcpy(list[i].name, o->quota[i].name, strlen(o->quota[i].name));
		list[i].slabs = quota_slabs(c, o->quota[i].bytes);
	}
	return srv_lender_set_quotas(c->lender, list, o->quotas,
				     o->quota_bytes ? quota_slabs(c, o->quota_bytes) : UINT32_MAX);
}

static uint64_t share_of(const struct opt_share *s, uint64_t total)
{
	return s->percent ? total / 100 * s->percent : s->bytes;
}

int srv_control_apply(struct srv_control *c)
{
	struct srv_reclaim_policy *p = &c->reclaim;
	struct srv_pressure now;
	char a[24], b[24];
	uint64_t below, target;

	if (!c->pressure.group[0])
		srv_pressure_open(&c->pressure);
	srv_pressure_read(&c->pressure, &now);
	below = share_of(&c->config.reclaim_below, now.total_bytes);
	target = share_of(&c->config.reclaim_target, now.total_bytes);
	if (target <= below)
		return err_fail(-EINVAL, "--reclaim-target (%s) must be above --reclaim-below (%s)",
				format_size(target, a, sizeof a), format_size(below, b, sizeof b));
	p->below_bytes = below;
	p->target_bytes = target;
	p->some_percent = (unsigned)c->config.reclaim_pressure;
	srv_lender_set_grace(c->lender, c->config.grace_ns);
	srv_workers_set_spin(c->workers, c->config.spin_ns);
	return apply_quotas(c);
}

static void reload(struct srv_control *c)
{
	struct srv_config fresh;

	if (srv_config_read(c->argc, c->argv, &fresh)) {
		log_error("settings stay as they were: %s", err_text());
		return;
	}
	if (c->gate && srv_gate_reload(c->gate))
		log_error("the keys stay as they were: %s", err_text());
	c->config.grace_ns = fresh.grace_ns;
	c->config.drain_ns = fresh.drain_ns;
	c->config.spin_ns = fresh.spin_ns;
	c->config.exit_idle_ns = fresh.exit_idle_ns;
	c->config.reclaim_below = fresh.reclaim_below;
	c->config.reclaim_target = fresh.reclaim_target;
	c->config.reclaim_pressure = fresh.reclaim_pressure;
	c->config.quota_bytes = fresh.quota_bytes;
	memcpy(c->config.quota, fresh.quota, sizeof fresh.quota);
	c->config.quotas = fresh.quotas;
	if (srv_control_apply(c))
		log_error("not all settings hold: %s", err_text());
	srv_control_log(&fresh);
	log_info("settings read again");
}

/* Returns 1 when the server is to end at once. */
static int take_signals(struct srv_control *c, uint64_t now_ns)
{
	struct signalfd_siginfo si;

	while (read(c->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGHUP) {
			reload(c);
		} else if (c->draining) {
			log_warn("told to end again: borrowers are cut off");
			return 1;
		} else {
			drain(c, now_ns);
		}
	}
	return 0;
}

/* What changed since the last look, for people; told once a change, not once a look. */
static void tell_memory(struct srv_control *c, uint64_t now_ns)
{
	uint64_t slab = srv_arena_slab_bytes(srv_lender_arena(c->lender));
	uint32_t wanted = srv_reclaim_tick(c->lender, now_ns);
	struct srv_arena_state a;
	char size[24];

	srv_arena_state(srv_lender_arena(c->lender), &a);
	if (a.away > c->away)
		log_info("this machine needs memory: %s are not lent any more",
			 format_size(a.away * slab, size, sizeof size));
	else if (!a.away && c->away)
		log_info("all memory is lent again");
	c->away = a.away;
	if (wanted > c->wanted)
		log_info("borrowers are asked to give %s back",
			 format_size(wanted * slab, size, sizeof size));
	else if (!wanted && c->wanted)
		log_info("what was asked back is here");
	c->wanted = wanted;
}

static bool is_short(const struct srv_control *c, const struct srv_pressure *now)
{
	const struct srv_reclaim_policy *p = &c->reclaim;

	return now->available_bytes < p->target_bytes + 4 * (p->target_bytes - p->below_bytes);
}

/* Looks at this machine's memory, more often where it is short. Returns when to do it again. */
static uint64_t look_at_memory(struct srv_control *c, uint64_t now_ns, bool changed)
{
	struct srv_arena *arena = srv_lender_arena(c->lender);
	struct srv_arena_state a;
	struct srv_pressure now = {.available_bytes = UINT64_MAX};
	int64_t slabs;

	if (now_ns < c->tick_ns && !changed)
		return c->tick_ns;
	if (!c->config.no_reclaim && !c->config.hugepages) {
		srv_pressure_read(&c->pressure, &now);
		srv_arena_state(arena, &a);
		slabs = srv_reclaim_decide(&c->reclaim, &now, &a, srv_arena_slab_bytes(arena),
					   now_ns);
		srv_reclaim_change(c->lender, slabs);
		changed |= slabs != 0;
	}
	c->tick_ns = now_ns + (is_short(c, &now) ? LOOK_SOON_NS : LOOK_NS);
	if (changed || now_ns >= c->tell_ns) {
		tell_memory(c, now_ns);
		c->tell_ns = now_ns + LOOK_NS;
	}
	return c->tick_ns;
}

/* Frees what is due. Returns when to look again; sets *over when the server may end. */
static uint64_t look(struct srv_control *c, uint64_t now_ns, bool *over)
{
	uint64_t next = srv_lend_reap(c->lender, now_ns, c->draining), ever;
	unsigned borrowers = srv_lend_borrowers(c->lender, &ever);

	if (c->draining) {
		*over = !borrowers || now_ns >= c->drain_end_ns;
		if (*over && borrowers)
			log_warn("%u borrowers are cut off", borrowers);
		return c->drain_end_ns;
	}
	if (borrowers || !ever) {
		c->idle_since_ns = 0;
	} else if (!c->idle_since_ns || ever != c->seen_ever) {
		c->idle_since_ns = now_ns;
		c->seen_ever = ever;
	}
	if (c->config.exit_idle_ns && c->idle_since_ns) {
		uint64_t end = c->idle_since_ns + c->config.exit_idle_ns;

		*over = now_ns >= end;
		next = end < next ? end : next;
	}
	return next;
}

int srv_control_run(struct srv_control *c)
{
	struct pollfd p[2] = {{.fd = c->signal_fd, .events = POLLIN},
			      {.fd = c->changed_fd, .events = POLLIN}};
	uint64_t now_ns = clock_ns(), count;
	bool over = false, changed = false;

	for (;;) {
		uint64_t next = look(c, now_ns, &over), memory = look_at_memory(c, now_ns, changed);
		struct timespec t = {0, 0};

		if (over)
			return 0;
		next = memory < next ? memory : next;
		if (next > now_ns) {
			t.tv_sec = (time_t)((next - now_ns) / NSEC_PER_SEC);
			t.tv_nsec = (long)((next - now_ns) % NSEC_PER_SEC);
		}
		if (ppoll(p, 2, &t, NULL) < 0 && errno != EINTR)
			return 1;
		now_ns = clock_ns();
		changed = p[1].revents;
		if (p[1].revents && read(c->changed_fd, &count, sizeof count) < 0 &&
		    errno != EAGAIN)
			return 1;
		if (p[0].revents && take_signals(c, now_ns))
			return 1;
	}
}
