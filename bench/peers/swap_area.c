/* SPDX-License-Identifier: MIT */
/*
 * A swap area made for one measurement: a file on a disk; a compressed RAM disk that is added for
 * it; remote memory as users get it without Infuse: nbdkit's memory plugin, nbdfuse in front of it,
 * a loop device with direct I/O on top; or our plugin and a memory server behind the same chain.
 * Nothing that was there before is used. What was begun is written down before it is done, so that
 * closing undoes it from any point.
 */
#include "bench/peers/peers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRIORITY   32767 /* the highest: our group's pages go to our area */
#define READY_NS   (20 * NSEC_PER_SEC)
#define RETRIES    200 /* of a step that others may hold up for a moment, 10 ms each */
#define LOOP_TRIES 16

static const struct timespec nap = {.tv_nsec = 10 * (long)NSEC_PER_MSEC};

bool peer_has_program(const char *name)
{
	const char *path = getenv("PATH");
	char file[400];

	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
		if (!access(file, X_OK))
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

static const char *disk_folder(void)
{
	const char *tmp = getenv("TMPDIR");

	return tmp && *tmp ? tmp : "/var/tmp";
}

/* Another area of our priority would take half of the pages. */
static int highest_is_free(void)
{
	CLEANUP_FILE FILE *f = fopen("/proc/swaps", "re");
	char line[512], name[300];
	int priority;

	if (!f)
		return err_fail(-ENOENT, "this kernel has no swap");
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%299s %*s %*s %*s %d", name, &priority) == 2 &&
		    priority == PRIORITY)
			return err_fail(-ENOENT, "the swap area %s has the highest priority", name);
	return 0;
}

static bool swap_over_nbd(enum swap_kind kind)
{
	return kind == SWAP_NBD || kind == SWAP_RSWAP_TCP || kind == SWAP_RSWAP_SHM;
}

/* Ours: the plugin beside this program in a build folder, else the one that is installed. */
static const char *rswap_plugin(char *buf, size_t len)
{
	ssize_t n = readlink("/proc/self/exe", buf, len - 1);
	char *slash;

	if (n > 0) {
		buf[n] = 0;
		slash = strrchr(buf, '/');
		snprintf(slash, len - (size_t)(slash - buf), "/../lib/nbdkit-rswap-plugin.so");
		if (!access(buf, R_OK))
			return buf;
	}
	return "rswap";
}

static int rswap_available(void)
{
	char buf[400], command[500];

	snprintf(command, sizeof command, "nbdkit %s --dump-plugin > /dev/null 2>&1",
		 rswap_plugin(buf, sizeof buf));
	return system(command) ? err_fail(-ENOENT, "nbdkit has no plugin rswap") : 0;
}

int swap_area_available(enum swap_kind kind)
{
	int r;

	struct statfs st;

	if (kind == SWAP_DISK && (statfs(disk_folder(), &st) || st.f_type == TMPFS_MAGIC))
		return err_fail(-ENOENT, "%s is on no disk: say where with TMPDIR", disk_folder());
	if (kind == SWAP_ZRAM && access("/sys/class/zram-control/hot_add", R_OK))
		return err_fail(-ENOENT, "the kernel has no zram (modprobe zram)");
	if (swap_over_nbd(kind)) {
		if (!peer_has_program("nbdkit") || !peer_has_program("nbdfuse"))
			return err_fail(-ENOENT, "nbdkit or nbdfuse is not installed");
		if (access("/dev/fuse", R_OK | W_OK) || access("/dev/loop-control", R_OK | W_OK))
			return err_fail(-ENOENT, "/dev/fuse or /dev/loop-control can't be opened");
		r = kind == SWAP_NBD ? 0 : rswap_available();
		if (r)
			return r;
	}
	return highest_is_free();
}

static int open_file(struct swap_area *a)
{
	CLEANUP_FD int fd = -1;
	int r;

	snprintf(a->file, sizeof a->file, "%s/infuse-bench-swap.%d", disk_folder(), getpid());
	snprintf(a->device, sizeof a->device, "%s", a->file);
	fd = open(a->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = err_fail(-errno, "can't make %s: %s", a->file, strerror(errno));
		a->file[0] = 0;
		return r;
	}
	r = posix_fallocate(fd, 0, (off_t)a->bytes);
	return r ? err_fail(-r, "no room for %s: %s", a->file, strerror(r)) : 0;
}

/* The device's node is udev's or devtmpfs's; where neither made it we make one of our own. */
static int find_node(struct swap_area *a, const char *name)
{
	unsigned major, minor;
	char file[300];
	CLEANUP_FILE FILE *f = NULL;

	snprintf(a->device, sizeof a->device, "/dev/%s", name);
	if (!access(a->device, F_OK))
		return 0;
	snprintf(file, sizeof file, "/sys/block/%s/dev", name);
	f = fopen(file, "re");
	if (!f || fscanf(f, "%u:%u", &major, &minor) != 2)
		return err_fail(-ENODEV, "there is no device %s", name);
	snprintf(a->device, sizeof a->device, "%s/%s", a->folder, name);
	a->node_made = true;
	if (mknod(a->device, S_IFBLK | 0600, makedev(major, minor)))
		return err_fail(-errno, "can't make %s: %s", a->device, strerror(errno));
	return 0;
}

static int put(const char *file, const char *text)
{
	CLEANUP_FD int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_fail(-errno, "can't write %s to %s: %s", text, file, strerror(errno));
	return 0;
}

static int open_zram(struct swap_area *a)
{
	CLEANUP_FILE FILE *f = fopen("/sys/class/zram-control/hot_add", "re");
	char name[32], file[80], size[32];
	int r;

	if (!f || fscanf(f, "%d", &a->zram) != 1)
		return err_fail(-ENODEV, "the kernel adds no zram device");
	snprintf(name, sizeof name, "zram%d", a->zram);
	snprintf(file, sizeof file, "/sys/block/%s/disksize", name);
	snprintf(size, sizeof size, "%llu", (unsigned long long)a->bytes);
	r = put(file, size);
	return r ? r : find_node(a, name);
}

/*
 * The daemons must not be in the limited group, and are pinned where memory servers are. plugin:
 * nbdkit's; donor: its parameter, or NULL.
 */
static int start_nbdfuse(struct swap_area *a, const char *ready, const char *plugin,
			 const char *donor)
{
	uint64_t end = clock_ns() + READY_NS;
	char size[32], mount[220], log[220];
	struct stat st;

	snprintf(mount, sizeof mount, "%s/nbd", a->folder);
	snprintf(a->file, sizeof a->file, "%s/disk", mount);
	snprintf(log, sizeof log, "%s/nbdfuse.log", a->folder);
	snprintf(size, sizeof size, "%llu", (unsigned long long)a->bytes);
	if (mkdir(mount, 0700))
		return err_fail(-errno, "can't make %s: %s", mount, strerror(errno));
	a->nbdfuse = fork();
	if (a->nbdfuse < 0)
		return err_fail(-errno, "can't start nbdfuse: %s", strerror(errno));
	if (!a->nbdfuse) {
		int out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		/* It outlives even us as long as somebody swaps to it. */
		signal(SIGTERM, SIG_DFL);
		cpu_pin(1);
		dup2(out, 1);
		dup2(out, 2);
		execlp("nbdfuse", "nbdfuse", "-P", ready, a->file, "[", "nbdkit",
		       "--exit-with-parent", "--swap", plugin, size, donor ? donor : "]",
		       donor ? "]" : NULL, (char *)NULL);
		_exit(127);
	}
	a->mounted = true;
	while (stat(ready, &st) || !st.st_size) {
		if (waitpid(a->nbdfuse, NULL, WNOHANG) == a->nbdfuse) {
			a->nbdfuse = 0;
			return err_fail(-ECHILD, "nbdfuse ended at once");
		}
		if (clock_ns() > end)
			return err_fail(-ETIMEDOUT, "nbdfuse is not ready after %llu s",
					(unsigned long long)(READY_NS / NSEC_PER_SEC));
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* Released by the kernel with its last user: AUTOCLEAR. */
static int attach_loop(struct swap_area *a)
{
	CLEANUP_FD int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int file = open(a->file, O_RDWR | O_CLOEXEC);
	struct loop_config c = {
		.fd = (__u32)file,
		.block_size = BENCH_PAGE,
		.info = {.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_AUTOCLEAR},
	};

	if (control < 0 || file < 0)
		return err_fail(-errno, "can't open %s: %s", a->file, strerror(errno));
	for (unsigned i = 0; i < LOOP_TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), r;
		char name[32];

		if (n < 0)
			return err_fail(-errno, "no loop device is free: %s", strerror(errno));
		snprintf(name, sizeof name, "loop%d", n);
		r = find_node(a, name);
		if (r)
			return r;
		a->loop_fd = open(a->device, O_RDWR | O_CLOEXEC);
		if (a->loop_fd >= 0 && !ioctl(a->loop_fd, LOOP_CONFIGURE, &c))
			return 0;
		r = errno;
		if (a->loop_fd >= 0)
			close(a->loop_fd);
		a->loop_fd = -1;
		if (r != EBUSY) /* another one took it meanwhile */
			return err_fail(-r, "can't attach %s to %s: %s", a->file, a->device,
					strerror(r));
	}
	return err_fail(-EBUSY, "no loop device is free");
}

static int open_nbd(struct swap_area *a)
{
	char ready[220], plugin[400], donor[200];
	int r = 0;

	snprintf(ready, sizeof ready, "%s/nbdfuse.ready", a->folder);
	if (a->kind == SWAP_NBD) {
		r = start_nbdfuse(a, ready, "memory", NULL);
	} else {
		/* Some room more: slabs are 4 MiB. */
		r = donors_start(&a->donors, a->kind == SWAP_RSWAP_TCP ? "tcp" : "shm", 1,
				 a->bytes + (8u << 20), false);
		if (r)
			return r;
		snprintf(donor, sizeof donor, "donor=%s", a->donors.address[0]);
		r = start_nbdfuse(a, ready, rswap_plugin(plugin, sizeof plugin), donor);
	}
	return r ? r : attach_loop(a);
}

static int open_device(struct swap_area *a)
{
	CLEANUP_FD int fd = open(a->device, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &a->bytes))
		return err_fail(-errno, "can't have %s: %s", a->device, strerror(errno));
	a->bytes = a->bytes / BENCH_PAGE * BENCH_PAGE;
	return 0;
}

/* mkswap: version 1, one page of header whose last ten bytes are the signature. */
static int sign(const struct swap_area *a)
{
	static _Alignas(4096) char page[BENCH_PAGE];
	uint32_t head[3] = {1, (uint32_t)(a->bytes / BENCH_PAGE - 1), 0};
	CLEANUP_FD int fd = open(a->device, O_RDWR | O_CLOEXEC);

	memset(page, 0, sizeof page);
	memcpy(page + 1024, head, sizeof head);
	memcpy(page + BENCH_PAGE - 10, "SWAPSPACE2", 10);
	if (fd < 0 || pwrite(fd, page, sizeof page, 0) != (ssize_t)sizeof page || fsync(fd))
		return err_fail(-errno, "can't write to %s: %s", a->device, strerror(errno));
	return 0;
}

int swap_area_open(struct swap_area *a, enum swap_kind kind, const char *device, uint64_t bytes)
{
	int (*const open_kind[])(struct swap_area *) = {
		[SWAP_DISK] = open_file,
		[SWAP_ZRAM] = open_zram,
		[SWAP_NBD] = open_nbd,
		[SWAP_RSWAP_TCP] = open_nbd,
		[SWAP_RSWAP_SHM] = open_nbd,
		[SWAP_DEVICE] = open_device,
	};
	const char *tmp = getenv("TMPDIR");
	int r;

	*a = (struct swap_area){.kind = kind, .loop_fd = -1, .zram = -1};
	if (device)
		snprintf(a->device, sizeof a->device, "%s", device);
	a->bytes = (bytes + BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE;
	snprintf(a->folder, sizeof a->folder, "%.150s/infuse-swap.XXXXXX",
		 tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(a->folder)) {
		r = err_fail(-errno, "can't make the folder %s: %s", a->folder, strerror(errno));
		a->folder[0] = 0;
		return r;
	}
	r = open_kind[kind](a);
	if (!r)
		r = sign(a);
	if (r)
		return r;
	a->on = true;
	if (swapon(a->device, SWAP_FLAG_PREFER | (PRIORITY << SWAP_FLAG_PRIO_SHIFT))) {
		r = err_fail(-errno, "can't swap to %s: %s", a->device, strerror(errno));
		a->on = false;
	}
	return r;
}

/* --- and back --- */

static bool insist(int (*step)(struct swap_area *), struct swap_area *a)
{
	for (unsigned i = 0; i < RETRIES; i++) {
		if (!step(a))
			return true;
		nanosleep(&nap, NULL);
	}
	return false;
}

static int step_swapoff(struct swap_area *a)
{
	return swapoff(a->device);
}

static int step_zram(struct swap_area *a)
{
	char file[80], number[16];

	snprintf(file, sizeof file, "/sys/block/zram%d/reset", a->zram);
	snprintf(number, sizeof number, "%d", a->zram);
	if (access(file, F_OK))
		return 0;
	put(file, "1");
	return put("/sys/class/zram-control/hot_remove", number);
}

/* A plain umount: nbdfuse ends by itself then, and nbdkit with it. */
static int step_umount(struct swap_area *a)
{
	char mount[220];

	snprintf(mount, sizeof mount, "%s/nbd", a->folder);
	if (umount(mount) && errno != EINVAL && errno != ENOENT)
		return -errno;
	if (a->nbdfuse && waitpid(a->nbdfuse, NULL, WNOHANG) != a->nbdfuse)
		return -EAGAIN;
	a->nbdfuse = 0;
	return rmdir(mount);
}

static void remove_folder(const struct swap_area *a)
{
	const char *const name[] = {"nbdfuse.ready", "nbdfuse.log"};
	char file[260];

	if (a->node_made)
		unlink(a->device);
	for (unsigned i = 0; i < sizeof name / sizeof *name; i++) {
		snprintf(file, sizeof file, "%s/%s", a->folder, name[i]);
		unlink(file);
	}
	rmdir(a->folder);
}

int swap_area_close(struct swap_area *a)
{
	int r = 0;

	if (!a->folder[0])
		return 0;
	if (a->on && !insist(step_swapoff, a))
		/* What it stands on must stay while it is in use. */
		return err_fail(-EBUSY, "can't stop swapping to %s: %s (swapoff %s)", a->device,
				strerror(errno), a->device);
	a->on = false;
	if (a->loop_fd >= 0)
		close(a->loop_fd);
	if (a->zram >= 0 && !insist(step_zram, a))
		r = err_fail(-EBUSY, "can't remove zram%d", a->zram);
	if (a->mounted && !insist(step_umount, a)) {
		if (a->nbdfuse > 0) {
			kill(a->nbdfuse, SIGKILL);
			waitpid(a->nbdfuse, NULL, 0);
			a->nbdfuse = 0;
		}
		if (step_umount(a))
			r = err_fail(-EBUSY, "can't unmount %s/nbd: %s", a->folder,
				     strerror(errno));
	}
	donors_stop(&a->donors);
	child_exit();
	if (a->kind == SWAP_DISK && a->file[0])
		unlink(a->file);
	remove_folder(a);
	return r;
}
