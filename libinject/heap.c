/* SPDX-License-Identifier: MIT */
/* Heaps are opened, found and closed here; what happens in them is in the other files. */
#include "libinject/heap.h"
#include "libinject/runtime.h"
#include "common/error.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAP_DEFAULT  (64ull << 30)
#define HEAP_MAX      (UINT64_C(1) << 43) /* page numbers have 31 bits */
#define LOCAL_DEFAULT (256ull << 20)
#define ALIGN_HUGE    (2ul << 20)
#define DEADLINE_NS   3000000000ull
#define SPIN_NS       50000ull

_Atomic(struct inject_heap *) heap_table[MAX_HEAPS];

bool heap_contains(const struct inject_heap *h, const void *p)
{
	const unsigned char *at = p;

	return at >= h->base && at < h->base + ((size_t)h->pages << PAGE_SHIFT);
}

struct inject_heap *heap_of(const void *address)
{
	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *h = atomic_load_explicit(&heap_table[i], memory_order_acquire);

		if (h && heap_contains(h, address))
			return h;
	}
	return NULL;
}

/* Address space for userfaultfd: small pages only, and not inherited by a fork. */
static unsigned char *area_map(size_t bytes, void *at)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED_NOREPLACE : 0);
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_NOHUGEPAGE);
	madvise(p, bytes, MADV_DONTFORK);
	return p;
}

static int base_map(struct inject_heap *h)
{
	size_t bytes = (size_t)h->pages << PAGE_SHIFT;
	unsigned char *p = area_map(bytes + ALIGN_HUGE, NULL);
	size_t skip;

	if (!p)
		return err_fail(-errno, "no address space for a heap of %zu MiB: %s", bytes >> 20,
				strerror(errno));
	skip = (ALIGN_HUGE - ((uintptr_t)p & (ALIGN_HUGE - 1))) & (ALIGN_HUGE - 1);
	if (skip)
		munmap(p, skip);
	if (ALIGN_HUGE - skip)
		munmap(p + skip + bytes, ALIGN_HUGE - skip);
	h->base = p + skip;
	return 0;
}

static int port_attach(struct inject_heap *h, struct port *p, bool child)
{
	unsigned char *stage = area_map(PORT_FRAMES * PAGE, child ? p->stage : NULL);
	int r;

	if (!stage)
		return err_fail(-errno, "no memory for staging: %s", strerror(errno));
	p->stage = stage;
	r = uffd_register(h->uffd, stage, PORT_FRAMES * PAGE);
	if (r)
		return err_fail(r, "userfaultfd can't serve the staging area: %s", strerror(-r));
	return 0;
}

static int uffd_attach(struct inject_heap *h)
{
	int fd = uffd_open(h->dev_fd, h->mode == INJECT_MODE_SIGBUS, &h->caps);

	if (fd < 0)
		return fd;
	h->uffd = fd;
	h->self_fd = (int)sys_call2(SYS_pidfd_open, sys_call0(SYS_getpid), 0);
	return 0;
}

int heap_attach(struct inject_heap *h, bool child)
{
	unsigned char *control;
	int r;

	if (child && !h->raw) {
		sys_call1(SYS_close, h->uffd);
		if (h->self_fd >= 0)
			sys_call1(SYS_close, h->self_fd);
	}
	r = uffd_attach(h);
	if (r)
		return r;
	r = uffd_register(h->uffd, h->base, (size_t)h->pages << PAGE_SHIFT);
	if (r)
		return err_fail(r, "userfaultfd can't serve the heap: %s", strerror(-r));
	control = area_map(PAGE, child ? h->control_page : NULL);
	if (!control || uffd_register(h->uffd, control, PAGE))
		return err_fail(-ENOMEM, "no memory for the control page");
	h->control_page = control;
	for (unsigned i = 0; i < h->ports; i++) {
		r = port_attach(h, h->port[i], child);
		if (r)
			return r;
	}
	r = child ? ps_adopt(h->volume, !h->raw) : ps_open(&h->ps_options, &h->volume);
	for (unsigned i = 0; !r && i < h->ports; i++)
		h->port[i]->ps = ps_port(h->volume, i);
	if (!r)
		h->slab_pages = ps_slab_pages(h->volume);
	return r;
}

static int port_create(struct inject_heap *h, unsigned index)
{
	struct port *p = mem_map(sizeof *p);

	if (!p)
		return err_fail(-ENOMEM, "no memory for a port");
	p->index = index;
	p->heap = h;
	p->arrived_end = &p->arrived;
	h->port[index] = p;
	return 0;
}

static int tables_create(struct inject_heap *h)
{
	h->word = mem_map((size_t)h->pages * sizeof *h->word);
	h->writes = mem_map(((size_t)h->pages >> AREA_SHIFT) + 1);
	h->pins = mem_map((size_t)h->pages * sizeof *h->pins);
	h->extent = mem_map((size_t)h->pages * sizeof *h->extent);
	if (!h->word || !h->writes || !h->pins || !h->extent || residency_init(&h->res, h->pages) ||
	    ranges_init(&h->ranges, h->pages))
		return err_fail(-ENOMEM, "no address space for the tables of a heap");
	for (unsigned i = 0; i < h->ports; i++)
		if (port_create(h, i))
			return -ENOMEM;
	return 0;
}

static int donors_copy(struct inject_heap *h, const struct inject_options *o)
{
	if (!o->donors_count || o->donors_count > PS_MAX_DONORS)
		return err_fail(-EINVAL, "a heap needs 1 to %u donors, not %u", PS_MAX_DONORS,
				o->donors_count);
	for (unsigned i = 0; i < o->donors_count; i++) {
		if (strlen(o->donors[i]) >= sizeof h->donor_text[i])
			return err_fail(-ENAMETOOLONG, "donor '%s': too long", o->donors[i]);
		strcpy(h->donor_text[i], o->donors[i]);
		h->donor[i] = h->donor_text[i];
	}
	if (o->spill && strlen(o->spill) >= sizeof h->spill)
		return err_fail(-ENAMETOOLONG, "spill '%.40s...': too long", o->spill);
	if (o->spill)
		strcpy(h->spill, o->spill);
	h->ps_options = (struct ps_options){
		.name = h->name,
		.pages = h->pages,
		.donors = h->donor,
		.donors_count = o->donors_count,
		.ports = h->ports,
		.depth = PORT_OPS,
		.deadline_ns = h->deadline_ns,
		.suspect_ns = o->suspect_ns,
		.replicas = o->replicas,
		.code_data = o->code_data,
		.code_parity = o->code_parity,
		.spill = o->spill ? h->spill : NULL,
		.spill_bytes = o->spill_bytes,
		.seal = o->seal,
		.key_file = o->key_file,
		.tls_ca = o->tls_ca,
		.tls_cert = o->tls_cert,
		.tls_cert_key = o->tls_cert_key,
		.transient = true,
	};
	return 0;
}

static int options_take(struct inject_heap *h, const struct inject_options *o)
{
	uint64_t bytes = o->heap_bytes ? o->heap_bytes : HEAP_DEFAULT;
	uint64_t local = o->local_bytes ? o->local_bytes : LOCAL_DEFAULT;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int r;

	if (o->size != sizeof *o)
		return err_fail(-EINVAL, "inject_options.size is %zu, this library's is %zu", o->size,
				sizeof *o);
	if (bytes > HEAP_MAX)
		return err_fail(-EINVAL, "heap_bytes is more than 8 TiB");
	if (o->local_percent > 100 || local / PAGE < MIN_LOCAL_PAGES)
		return err_fail(-EINVAL, "the local cache must be %d pages at least, or 1 to 100 percent",
				MIN_LOCAL_PAGES);
	if (o->window_pages > TRAY_FRAMES || o->threads > MAX_PORTS)
		return err_fail(-EINVAL, "window_pages is over %u, or threads over %u", TRAY_FRAMES,
				MAX_PORTS);
	snprintf(h->name, sizeof h->name, "%s", o->name ? o->name : program_invocation_short_name);
	h->pages = (uint32_t)((bytes + PAGE - 1) / PAGE);
	h->ports = o->threads ? o->threads : cores < 1 ? 1 : cores > MAX_PORTS ? MAX_PORTS : (unsigned)cores;
	h->window = o->window_pages ? o->window_pages : TRAY_FRAMES;
	r = prefetch_init(&h->prefetch, o->prefetch, h->pages, h->window);
	if (r)
		return r;
	h->deadline_ns = o->deadline_ns ? o->deadline_ns : DEADLINE_NS;
	h->spin_ns = o->spin_ns ? o->spin_ns : SPIN_NS;
	h->percent = o->local_percent;
	atomic_store(&h->cache.limit, h->percent ? MIN_LOCAL_PAGES : (int64_t)(local / PAGE));
	residency_limit(&h->res, (uint64_t)atomic_load(&h->cache.limit));
	h->failed = o->failed;
	h->failed_arg = o->failed_arg;
	h->uffd = h->self_fd = h->dev_fd = -1;
	return donors_copy(h, o);
}

/* The device stays open for children of a fork, who may have fewer rights; out of programs' way. */
static void device_open(struct inject_heap *h)
{
	int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	h->dev_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
	if (h->dev_fd < 0)
		h->dev_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(fd);
}

/* Handlers serve everything, but need the kernel's permission to see its own faults. */
static int mode_choose(struct inject_heap *h, enum inject_mode want)
{
	struct uffd_caps caps;
	int fd;

	h->mode = want;
	if (want == INJECT_MODE_DEFAULT) {
		fd = uffd_open(h->dev_fd, false, &caps);
		h->mode = fd >= 0 ? INJECT_MODE_HANDLER : INJECT_MODE_SIGBUS;
		if (fd >= 0)
			close(fd);
	}
	return h->mode == INJECT_MODE_SIGBUS ? sigbus_install() : 0;
}

static int heap_publish(struct inject_heap *h)
{
	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *none = NULL;

		if (atomic_compare_exchange_strong(&heap_table[i], &none, h))
			return 0;
	}
	return err_fail(-EMFILE, "more than %d heaps are open", MAX_HEAPS);
}

static void heap_destroy(struct inject_heap *h)
{
	size_t bytes = (size_t)h->pages << PAGE_SHIFT;

	ps_close(h->volume);
	if (h->uffd >= 0)
		close(h->uffd);
	if (h->self_fd >= 0)
		close(h->self_fd);
	if (h->dev_fd >= 0)
		close(h->dev_fd);
	for (unsigned i = 0; i < MAX_PORTS && h->port[i]; i++) {
		if (h->port[i]->stage)
			munmap(h->port[i]->stage, PORT_FRAMES * PAGE);
		mem_unmap(h->port[i], sizeof *h->port[i]);
	}
	if (h->control_page)
		munmap(h->control_page, PAGE);
	if (h->base)
		munmap(h->base, bytes);
	mem_unmap(h->word, (size_t)h->pages * sizeof *h->word);
	mem_unmap(h->writes, ((size_t)h->pages >> AREA_SHIFT) + 1);
	mem_unmap(h->pins, (size_t)h->pages * sizeof *h->pins);
	mem_unmap(h->extent, (size_t)h->pages * sizeof *h->extent);
	residency_free(&h->res);
	prefetch_free(&h->prefetch);
	mem_unmap(h->ranges.free, (size_t)h->ranges.max * sizeof *h->ranges.free);
	mem_unmap(h, sizeof *h);
}

static void fork_hooks(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

int heap_open(const struct inject_options *o, unsigned flags, struct inject_heap **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct inject_heap *h = mem_map(sizeof *h);
	int r;

	if (!h)
		return err_fail(-ENOMEM, "no memory for a heap");
	r = options_take(h, o);
	if (r)
		goto fail;
	h->raw = flags & HEAP_RAW_HANDLERS;
	device_open(h);
	r = mode_choose(h, h->raw ? INJECT_MODE_HANDLER : o->mode);
	if (r)
		goto fail;
	r = base_map(h);
	if (r)
		goto fail;
	r = tables_create(h);
	if (r)
		goto fail;
	r = handlers_start(h, false);
	if (r)
		goto fail;
	if (!(flags & HEAP_OWN_FORK_HOOKS))
		pthread_once(&once, fork_hooks);
	r = heap_publish(h);
	if (r) {
		handlers_stop(h);
		goto fail;
	}
	*ret = h;
	return 0;
fail:
	if (!h->raw || !h->base) /* else a handler may still be on its way out */
		heap_destroy(h);
	return r;
}

void heap_donor_file(struct inject_heap *h, const char *path)
{
	__atomic_store_n(&h->donor_file, path, __ATOMIC_RELEASE);
}

void heap_follow(struct inject_heap *h, void (*unfollow)(void *follow), void *follow)
{
	h->follow = follow;
	h->unfollow = unfollow;
}

int heap_update_donors(struct inject_heap *h, const char *const *address, unsigned count)
{
	return ps_update_donors(h->volume, address, count);
}

void inject_close(struct inject_heap *h)
{
	if (!h)
		return;
	if (h->unfollow)
		h->unfollow(h->follow);
	for (unsigned i = 0; i < MAX_HEAPS; i++) {
		struct inject_heap *mine = h;

		atomic_compare_exchange_strong(&heap_table[i], &mine, NULL);
	}
	handlers_stop(h);
	heap_destroy(h);
}
