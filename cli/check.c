/* SPDX-License-Identifier: MIT */
/*
 * `infuse check`: what this machine can do, line by line, and a verdict in the last line: can
 * `infuse run` work here, and if not, what would help?
 */
#include "cli/json.h"
#include "cli/verb.h"
#include "common/error.h"
#include "common/options.h"
#include "common/parse.h"
#include "common/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct config {
	bool json;
};

static const struct opt table[] = {
	{.name = "json",
	 .type = OPT_FLAG,
	 .offset = offsetof(struct config, json),
	 .help = "print one JSON object"},
};

static const struct opt_command command = {
	.name = "infuse check",
	.usage = "[--json]",
	.summary =
		"Says what this machine can do. Exits with 0 if infuse run can work here, else 1.",
	.table = table,
	.count = sizeof table / sizeof *table,
};

static const char *word(int r)
{
	return r ? strerror(-r) : "works";
}

static void print_text(const struct probe *p, const char *why)
{
	char size[32], free_size[32];
	unsigned n = 0;

	printf("userfaultfd\n");
	printf("  /dev/userfaultfd              %s\n", word(p->device));
	printf("  userfaultfd(2)                %s\n", word(p->syscall));
	printf("  user code's faults only       %s\n", word(p->user_mode));
	printf("  a fault in a system call      %s\n", p->kernel_fault ? "not served" : "served");
	if (p->sysctl < 0)
		printf("  vm.unprivileged_userfaultfd   not there\n");
	else
		printf("  vm.unprivileged_userfaultfd   %d\n", p->sysctl);
	printf("  CAP_SYS_PTRACE                %s\n", p->cap_sys_ptrace ? "yes" : "no");
	printf("features\n");
	for (unsigned i = 0; i < probe_features_count; i++)
		if (strcmp(probe_features[i].use, "not used"))
			printf("  %-10s %-3s                %s\n", probe_features[i].name,
			       p->features & probe_features[i].bit ? "yes" : "no",
			       probe_features[i].use);
		else
			n += !!(p->features & probe_features[i].bit);
	printf("  and %u more that Infuse does not use\n", n);
	printf("machine\n");
	printf("  cores                         %u\n", p->cores);
	printf("  memory                        %s, %s available\n",
	       format_size(p->memory_bytes, size, sizeof size),
	       format_size(p->available_bytes, free_size, sizeof free_size));
	if (p->memlock_bytes == UINT64_MAX || p->cap_ipc_lock)
		printf("  memory that may be locked     no limit%s\n",
		       p->cap_ipc_lock ? " (CAP_IPC_LOCK)" : "");
	else
		printf("  memory that may be locked     %s (ulimit -l)\n",
		       format_size(p->memlock_bytes, size, sizeof size));
	printf("rdma\n");
	if (!p->rdma_devices)
		printf("  devices                       none\n");
	else
		printf("  devices                       %u: %s%s\n", p->rdma_devices, p->rdma_device,
		       p->rdma_devices > 1 ? " and others" : "");
	if (p->rdma_devices)
		printf("  /dev/infiniband/rdma_cm       %s\n",
		       p->rdma == -ENOENT ? "not there (load rdma_ucm)" : word(p->rdma));
	printf("%s%s\n", why ? "infuse run can not work here: " : "infuse run can work here",
	       why ? why : "");
}

static int print_json(const struct probe *p, const char *why)
{
	struct json_object *o = json_object_new_object();
	struct json_object *uffd = json_object_new_object();
	struct json_object *features = json_object_new_object();

	doc_bool(o, "ok", !why);
	if (why)
		doc_text(o, "reason", why);
	doc_bool(uffd, "device", !p->device);
	doc_bool(uffd, "syscall", !p->syscall);
	doc_bool(uffd, "user_mode", !p->user_mode);
	doc_bool(uffd, "kernel_fault", !p->kernel_fault);
	doc_number(uffd, "sysctl", p->sysctl);
	doc_bool(uffd, "cap_sys_ptrace", p->cap_sys_ptrace);
	for (unsigned i = 0; i < probe_features_count; i++)
		doc_bool(features, probe_features[i].name, p->features & probe_features[i].bit);
	json_object_object_add(uffd, "features", features);
	json_object_object_add(o, "userfaultfd", uffd);
	doc_count(o, "cores", p->cores);
	doc_count(o, "page_bytes", p->page_bytes);
	doc_count(o, "memory_bytes", p->memory_bytes);
	doc_count(o, "available_bytes", p->available_bytes);
	doc_bool(o, "cap_ipc_lock", p->cap_ipc_lock);
	if (p->memlock_bytes == UINT64_MAX)
		json_object_object_add(o, "memlock_bytes", NULL);
	else
		doc_count(o, "memlock_bytes", p->memlock_bytes);
	doc_count(o, "rdma_devices", p->rdma_devices);
	doc_bool(o, "rdma", !p->rdma);
	doc_print(o);
	return 0;
}

int verb_check(int argc, char **argv)
{
	struct config c = {0};
	struct probe p;
	int first, r, works;

	r = opt_parse(&command, argc, argv, &c, &first);
	if (r)
		return r > 0 ? 0 : VERB_USAGE;
	r = verb_no_words(argc, argv, first);
	if (r)
		return r;
	works = probe_machine(&p);
	if (c.json)
		print_json(&p, works ? err_text() : NULL);
	else
		print_text(&p, works ? err_text() : NULL);
	return works ? 1 : 0;
}
