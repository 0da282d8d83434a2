/* SPDX-License-Identifier: MIT */
/* See control.h. */
#include "server/control.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

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
	srv_lender_set_grace(c->lender, fresh.grace_ns);
	srv_workers_set_spin(c->workers, fresh.spin_ns);
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
	bool over = false;

	for (;;) {
		uint64_t next = look(c, now_ns, &over);
		struct timespec t = {0, 0};

		if (over)
			return 0;
		if (next > now_ns) {
			t.tv_sec = (time_t)((next - now_ns) / NSEC_PER_SEC);
			t.tv_nsec = (long)((next - now_ns) % NSEC_PER_SEC);
		}
		if (ppoll(p, 2, next == UINT64_MAX ? NULL : &t, NULL) < 0 && errno != EINTR)
			return 1;
		now_ns = clock_ns();
		if (p[1].revents && read(c->changed_fd, &count, sizeof count) < 0 &&
		    errno != EAGAIN)
			return 1;
		if (p[0].revents && take_signals(c, now_ns))
			return 1;
	}
}
