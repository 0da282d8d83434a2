/* SPDX-License-Identifier: MIT */
#include "common/probe.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define DEVICE      "/dev/userfaultfd"
#define TRIAL_BYTES 4096
#define TRIAL_MS    2000

/* Debian 12's headers are those of Linux 6.1. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

const struct probe_feature probe_features[] = {
	{"WP", 1ull << 0, "write-protect faults: writing back pages that others may write"},
	{"EVENT_FORK", 1ull << 1, "not used"},
	{"EVENT_REMAP", 1ull << 2, "not used"},
	{"EVENT_REMOVE", 1ull << 3, "not used"},
	{"MISSING_HUGETLBFS", 1ull << 4, "not used"},
	{"MISSING_SHMEM", 1ull << 5, "not used"},
	{"EVENT_UNMAP", 1ull << 6, "not used"},
	{"SIGBUS", 1ull << 7, "heaps that serve faults in the faulting thread"},
	{"THREAD_ID", 1ull << 8, "tells the streams of threads apart"},
	{"MINOR_HUGETLBFS", 1ull << 9, "not used"},
	{"MINOR_SHMEM", 1ull << 10, "not used"},
	{"EXACT_ADDRESS", 1ull << 11, "not used"},
	{"WP_HUGETLBFS_SHMEM", 1ull << 12, "not used"},
	{"WP_UNPOPULATED", 1ull << 13, "not used"},
	{"POISON", 1ull << 14, "not used"},
	{"WP_ASYNC", 1ull << 15, "finds changed pages without faults"},
	{"MOVE", 1ull << 16, "moves pages in and out without copying (Linux 6.8)"},
};
const unsigned probe_features_count = sizeof probe_features / sizeof *probe_features;

static int from_device(void)
{
	CLEANUP_FD int dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	int fd;

	if (dev < 0)
		return -errno;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int from_syscall(int flags)
{
	long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	return fd < 0 ? -errno : (int)fd;
}

static int close_or_error(int fd)
{
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static bool has_cap(unsigned cap)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &head, data))
		return false;
	return data[cap / 32].effective & 1u << cap % 32;
}

static void read_limits(struct probe *p)
{
	CLEANUP_FILE FILE *sysctl = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	CLEANUP_FILE FILE *meminfo = fopen("/proc/meminfo", "re");
	unsigned long long kib;
	struct rlimit lock;
	char line[128];
	cpu_set_t cpus;

	p->sysctl = -1;
	if (sysctl && fscanf(sysctl, "%d", &p->sysctl) != 1)
		p->sysctl = -1;
	while (meminfo && fgets(line, sizeof line, meminfo)) {
		if (sscanf(line, "MemTotal: %llu", &kib) == 1)
			p->memory_bytes = kib * 1024;
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			p->available_bytes = kib * 1024;
	}
	p->cap_sys_ptrace = has_cap(CAP_SYS_PTRACE);
	p->cap_ipc_lock = has_cap(CAP_IPC_LOCK);
	if (!getrlimit(RLIMIT_MEMLOCK, &lock))
		p->memlock_bytes = lock.rlim_cur == RLIM_INFINITY ? UINT64_MAX : lock.rlim_cur;
	p->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	p->cores = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : (unsigned)CPU_COUNT(&cpus);
}

struct trial {
	char *page;
	int zeros; /* /dev/zero: reading it makes the kernel write to the page */
	int error;
};

static void *touch_in_a_system_call(void *arg)
{
	struct trial *t = arg;

	t->error = read(t->zeros, t->page, 1) == 1 ? 0 : -errno;
	return NULL;
}

/* Serves the one fault of the trial's thread. */
static int serve(int fd, char *page)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct uffdio_zeropage zero = {.range = {(__u64)(uintptr_t)page, TRIAL_BYTES}};
	struct uffd_msg msg;

	if (poll(&pfd, 1, TRIAL_MS) != 1)
		return -ETIMEDOUT;
	if (read(fd, &msg, sizeof msg) != sizeof msg || msg.event != UFFD_EVENT_PAGEFAULT)
		return -EIO;
	return ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
}

static int try_kernel_fault(int fd, char *page)
{
	CLEANUP_FD int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct uffdio_register reg = {.range = {(__u64)(uintptr_t)page, TRIAL_BYTES},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};
	struct trial t = {.page = page, .zeros = zeros};
	pthread_t thread;
	int r;

	if (zeros < 0 || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -errno;
	r = pthread_create(&thread, NULL, touch_in_a_system_call, &t);
	if (r)
		return -r;
	r = serve(fd, page);
	/* Whatever went wrong, the thread must not wait for a page that never comes. */
	if (r)
		ioctl(fd, UFFDIO_UNREGISTER, &reg.range);
	pthread_join(thread, NULL);
	return r ? r : t.error;
}

/* What the kernel knows; a descriptor is asked once, and can be used after that. */
static int ask(int fd, uint64_t *features)
{
	struct uffdio_api api = {.api = UFFD_API};

	if (ioctl(fd, UFFDIO_API, &api))
		return -errno;
	*features = api.features;
	return 0;
}

/* Takes a fault in a system call. */
static int try_descriptor(int fd, uint64_t *features)
{
	void *page;
	int r = ask(fd, features);

	if (r)
		return r;
	page = mmap(NULL, TRIAL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -errno;
	r = try_kernel_fault(fd, page);
	munmap(page, TRIAL_BYTES);
	return r;
}

static int say_why(const struct probe *p)
{
	if (p->page_bytes != TRIAL_BYTES)
		return err_fail(-ENOTSUP, "pages have %llu bytes here; Infuse needs 4096",
				(unsigned long long)p->page_bytes);
	if (p->syscall == -ENOSYS)
		return err_fail(-ENOSYS, "this kernel has no userfaultfd (CONFIG_USERFAULTFD)");
	if (!p->device || !p->syscall)
		return err_fail(
			p->kernel_fault,
			"userfaultfd opens, but a fault in a system call was not served: %s",
			strerror(-p->kernel_fault));
	if (p->syscall == -EPERM && (p->cap_sys_ptrace || p->sysctl == 1))
		return err_fail(-EPERM,
				"userfaultfd is refused in spite of %s: a container's filter "
				"(seccomp) or user namespace forbids it; %s",
				p->sysctl == 1 ? "the sysctl" : "CAP_SYS_PTRACE",
				p->device == -ENOENT ? "this kernel has no " DEVICE " (Linux 6.1)"
						     : "give the container " DEVICE);
	if (p->device == -ENOENT || p->device == -ENXIO)
		return err_fail(-EPERM, "no permission for userfaultfd: set sysctl "
					"vm.unprivileged_userfaultfd=1, or run with CAP_SYS_PTRACE "
					"(" DEVICE " is not there)");
	return err_fail(-EPERM,
			"no permission for userfaultfd: let this user read and write " DEVICE
			", or set sysctl vm.unprivileged_userfaultfd=1, or run with "
			"CAP_SYS_PTRACE");
}

/* By the kernel's own words: this library needs no libibverbs for it. */
static void probe_rdma(struct probe *p)
{
	DIR *d = opendir("/sys/class/infiniband");
	const struct dirent *e;
	int fd;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (!p->rdma_devices++)
			snprintf(p->rdma_device, sizeof p->rdma_device, "%.63s", e->d_name);
	}
	if (d)
		closedir(d);
	p->rdma = -ENODEV;
	if (!p->rdma_devices)
		return;
	fd = open("/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC);
	p->rdma = close_or_error(fd < 0 ? -errno : fd);
}

int probe_machine(struct probe *ret)
{
	int device, full, user;

	*ret = (struct probe){.kernel_fault = -EPERM};
	read_limits(ret);
	probe_rdma(ret);
	device = from_device();
	full = from_syscall(0);
	user = from_syscall(UFFD_USER_MODE_ONLY);
	if (device >= 0 || full >= 0)
		ret->kernel_fault = try_descriptor(device >= 0 ? device : full, &ret->features);
	else if (user >= 0)
		ask(user, &ret->features);
	ret->device = close_or_error(device);
	ret->syscall = close_or_error(full);
	ret->user_mode = close_or_error(user);
	if (!ret->kernel_fault && ret->page_bytes == TRIAL_BYTES)
		return 0;
	return say_why(ret);
}
