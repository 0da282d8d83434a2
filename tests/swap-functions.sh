# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced behind nbd-functions.sh: `infuse up` over nbdfuse and a loop device, a memory cgroup that
# makes the kernel swap, and both gone with the test, whatever happens.
[ "$(id -u)" -eq 0 ] || skip "only root may swap"
PATH=$PATH:/usr/sbin:/sbin
requires nbdfuse
requires mkswap
[ -c /dev/fuse ] && [ -c /dev/loop-control ] || skip "there is no /dev/fuse or /dev/loop-control"
[ -r /proc/swaps ] || skip "the kernel has no swap"
# Another area of the highest priority would take half of the pages.
! awk 'NR > 1 && $5 == 32767 { found = 1 } END { exit !found }' /proc/swaps || skip "a swap area has the highest priority"

group=
make_group() { # LIMIT in bytes
	local name=infuse-test.$$
	if [ -d /sys/fs/cgroup/memory ]; then
		group=/sys/fs/cgroup/memory/$name
		mkdir "$group" 2> /dev/null || skip "memory cgroups can't be made here"
		echo "$1" > "$group/memory.limit_in_bytes" || skip "no memory limit can be set"
	else
		group=/sys/fs/cgroup/$name
		grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2> /dev/null ||
			skip "no memory cgroups below /sys/fs/cgroup"
		mkdir "$group" 2> /dev/null || skip "memory cgroups can't be made here"
		echo "$1" > "$group/memory.max" || skip "no memory limit can be set"
	fi
}
# limited COMMAND...: in the group.
limited() { (echo "$BASHPID" > "$group/cgroup.procs" && exec "$@"); }

swap_is_off() { ! grep -qs "^$device " /proc/swaps; }
swap_cleanup() {
	local rc=$? p
	set +e
	trap - EXIT
	if [ -n "$group" ]; then
		while read -r p; do kill -KILL "$p" 2> /dev/null; done < "$group/cgroup.procs"
		for _ in {1..50}; do rmdir "$group" 2> /dev/null && break; sleep 0.1; done
	fi
	if [ -e "$scratch/run/rswap0" ]; then
		timeout 60 infuse down --force --run-dir "$scratch/run" rswap0 > "$scratch/down.log" 2>&1 ||
			{ echo "FAIL: infuse down: $(cat "$scratch/down.log")" >&2; rc=1; }
	fi
	(exit $rc)
	cleanup
}
trap swap_cleanup EXIT

# swap_up LINES: rswap.conf's lines of [rswap0]; sets device.
swap_up() {
	printf '[rswap0]\nvia = nbd\npriority = 32767\n%s\n' "$1" > "$scratch/rswap.conf"
	if ! timeout 100 infuse up --config "$scratch/rswap.conf" --run-dir "$scratch/run" rswap0 > "$scratch/up.log" 2>&1; then
		grep -q "can't swap to\|Operation not permitted\|can't open /dev/loop" "$scratch/up.log" &&
			skip "$(tail -n 1 "$scratch/up.log")"
		fail "infuse up: $(cat "$scratch/up.log")"
	fi
	device=$(cat "$scratch/run/rswap0/device")
	grep -q "^$device " /proc/swaps || fail "$device is not in /proc/swaps"
}
swapped_out() { awk '$1 == "pswpout" { print $2 }' /proc/vmstat; }
