/* SPDX-License-Identifier: MIT */
/*
 * infuse-memory-server: puts the parts together, in the order in which mistakes are cheapest to
 * find: options, addresses, memory, threads.
 */
#include "server/control.h"
#include "server/listen.h"
#include "server/rdma.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "common/parse.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#ifdef SRV_WITH_REGISTRY
#include "server/announce.h"
#endif
#ifdef SRV_WITH_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

struct server {
	struct srv_control control;
	struct srv_listener listener[OPT_LIST_MAX]; /* control.listeners of them */
	struct srv_rdma *rdma;                      /* NULL: it listens on streams only */
#ifdef SRV_WITH_REGISTRY
	struct srv_announcer *announcer;
#endif
};

static int open_signals(struct server *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Before any thread: they inherit it, so that only signal_fd gets them. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->control.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->control.changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->control.signal_fd < 0 || s->control.changed_fd < 0)
		return err_fail(-errno, "can't set up signals: %s", strerror(errno));
	return 0;
}

static void changed(void *arg)
{
	const struct server *s = arg;
	uint64_t one = 1;

	/* It can only fail when it is full, and then it wakes as well. */
	if (write(s->control.changed_fd, &one, sizeof one) < 0)
		return;
}

static int open_gate(struct server *s)
{
	const struct srv_config *c = &s->control.config;

	struct srv_gate_options o = {
		.key_file = c->key,
		.ca = c->tls_ca,
		.cert = c->tls_cert,
		.cert_key = c->tls_cert_key,
		.allow_plain = c->allow_plain,
	};

	if (c->allow_plain && !c->key)
		return err_fail(-EINVAL, "--allow-plain goes with --key");
	if (!o.key_file && !o.ca && !o.cert && !o.cert_key)
		return 0;
	return srv_gate_open(&o, &s->control.gate);
}

static int listen_rdma(struct server *s, const char *address, struct srv_listener *ret)
{
	const struct srv_config *c = &s->control.config;
	struct srv_rdma_options o = {
		.max_connections = (unsigned)c->max_connections,
		.hello_ns = c->hello_ns,
		.keys = !strcmp(c->rdma_keys, "regions")   ? SRV_RDMA_REGIONS
			: !strcmp(c->rdma_keys, "windows") ? SRV_RDMA_WINDOWS
							   : SRV_RDMA_AUTO,
	};
	int r = s->rdma ? 0 : srv_rdma_open(&o, &s->rdma);

	return r ? r : srv_rdma_listen(s->rdma, address, c->insecure || s->control.gate, ret);
}

static int open_listeners(struct server *s)
{
	const struct srv_config *c = &s->control.config;

	s->control.listener = s->listener;
	for (unsigned i = 0; i < c->listen.count; i++) {
		const char *address = c->listen.item[i];
		struct srv_listener *l = &s->listener[i];
		int r = !strncmp(address, "rdma:", 5) ? listen_rdma(s, address, l)
						      : srv_listen(address, c->insecure || s->control.gate, l);

		if (r)
			return r;
		s->control.listeners++;
	}
	return 0;
}

static int open_lender(struct server *s, uint32_t slabs)
{
	const struct srv_config *c = &s->control.config;
	struct srv_lender_options o = {
		.arena = {.slab_bytes = c->slab_bytes,
			  .slabs = slabs,
			  .fill_threads = (unsigned)c->threads,
			  .hugepages = c->hugepages,
			  .lazy = c->lazy},
		.name = c->name,
		.domain = c->domain,
		.threads = (unsigned)c->threads + (s->rdma ? 1 : 0),
		.now_ns = clock_ns(),
		.changed = changed,
		.changed_arg = s,
	};

	int r = srv_lender_open(&o, &s->control.lender);

	if (!r)
		srv_lender_set_gate(s->control.lender, s->control.gate);
	return r;
}

static int open_workers(struct server *s)
{
	const struct srv_config *c = &s->control.config;
	struct srv_workers_options o = {
		.lender = s->control.lender,
		.threads = (unsigned)c->threads,
		.max_connections = (unsigned)c->max_connections,
		.hello_ns = c->hello_ns,
	};
	int r = srv_workers_start(&o, &s->control.workers);

	if (r)
		return r;
	r = srv_control_apply(&s->control);
	if (r)
		return r;
	srv_workers_accept(s->control.workers, s->listener, s->control.listeners);
	if (!s->rdma)
		return 0;
	/* The last of the lender's threads. */
	return srv_rdma_start(s->rdma, s->listener, s->control.listeners, s->control.lender,
			      srv_lender_counters(s->control.lender, (unsigned)c->threads));
}

/* Whoever waits for the file finds it whole. */
static int write_ready(const struct server *s)
{
	const char *path = s->control.config.ready_file;
	CLEANUP_FILE FILE *f = NULL;
	char fresh[4096];

	if (!path)
		return 0;
	if (snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid()) >= (int)sizeof fresh)
		return err_fail(-ENAMETOOLONG, "--ready-file: '%s' is too long", path);
	f = fopen(fresh, "we");
	if (!f)
		return err_fail(-errno, "can't write %s: %s", path, strerror(errno));
	for (unsigned i = 0; i < s->control.listeners; i++)
		fprintf(f, "%s\n", s->listener[i].actual);
	if (fflush(f) || rename(fresh, path))
		return err_fail(-errno, "can't write %s: %s", path, strerror(errno));
	return 0;
}

static int announce(struct server *s)
{
	const struct srv_config *c = &s->control.config;

	if (c->no_registry)
		return 0;
#ifdef SRV_WITH_REGISTRY
	struct srv_announce_options o = {
		.lender = s->control.lender,
		.url = c->registry,
		.name = c->name,
		.domain = c->domain,
		.listeners = s->listener,
		.listeners_count = s->control.listeners,
	};
	return srv_announce_start(&o, &s->announcer);
#else
	return 0;
#endif
}

static void say_ready(const struct server *s)
{
	const struct srv_config *c = &s->control.config;
	char size[32], slab[32];

	log_info("%s lends %s in slabs of %s", c->name,
		 format_size(c->size_bytes, size, sizeof size),
		 format_size(c->slab_bytes, slab, sizeof slab));
	for (unsigned i = 0; i < s->control.listeners; i++)
		log_info("listening on %s", s->listener[i].actual);
#ifdef SRV_WITH_SYSTEMD
	sd_notifyf(0, "READY=1\nSTATUS=lends %s", size);
#endif
}

static int start(struct server *s)
{
	uint32_t slabs = 0;
	int r = srv_config_fit(&s->control.config, &slabs);

	if (!r)
		r = open_signals(s);
	if (!r)
		r = open_gate(s);
	if (!r)
		r = open_listeners(s);
	if (!r)
		r = open_lender(s, slabs);
	if (!r)
		r = open_workers(s);
	if (!r)
		r = write_ready(s);
	if (!r)
		r = announce(s);
	return r;
}

static void end(struct server *s)
{
#ifdef SRV_WITH_REGISTRY
	srv_announce_stop(s->announcer);
#endif
	if (s->control.workers)
		srv_workers_unaccept(s->control.workers);
	for (unsigned i = 0; i < s->control.listeners; i++)
		srv_unlisten(&s->listener[i]);
	srv_rdma_stop(s->rdma);
	srv_workers_stop(s->control.workers);
	srv_lender_close(s->control.lender);
	srv_gate_close(s->control.gate);
}

int main(int argc, char **argv)
{
	static struct server s;
	int r = srv_config_read(argc, argv, &s.control.config);

	if (r > 0)
		return 0;
	log_open(SRV_COMMAND, LOG_INFO);
	s.control.argc = argc;
	s.control.argv = argv;
	if (!r) {
		srv_control_log(&s.control.config);
		r = start(&s);
	}
	if (r) {
		log_error("%s", err_text());
		end(&s);
		return 1;
	}
	say_ready(&s);
	r = srv_control_run(&s.control);
	end(&s);
	return r;
}
