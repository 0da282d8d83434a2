# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the scripts that run inside a guest (". /test/functions.sh"): namespaces joined by a
# wire, rxe, cgroups, what the kernel still holds. A failed check ends the guest with 1 and a line
# "FAIL: ..." on its console.
set -euo pipefail
shopt -s nullglob

fail() { echo "FAIL: $*"; dmesg | tail -n 15; exit 1; }
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
set -E

# step WORDS...: what is shown next, with the guest's time.
step() { echo "== $(cut -d ' ' -f 1 /proc/uptime) $*"; }

# until_true SECONDS COMMAND...: polls; fails the test when time is up.
until_true() {
	local end=$((SECONDS + $1)); shift
	until "$@" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "after waiting: $*"
		sleep 0.1
	done
}

# refused "PART OF A MESSAGE" COMMAND...: it must fail and say that.
refused() {
	local want=$1 said; shift
	if said=$("$@" 2>&1); then fail "this was not refused: $*"; fi
	case $said in *"$want"*) ;; *) fail "'$*' says '$said', not '$want'" ;; esac
}

now_ms() { local up; read -r up _ < /proc/uptime; echo $((${up/./} * 10)); }

mount_once() { grep -q " $2 $1 " /proc/mounts || mount -t "$1" "$1" "$2"; }

load() { local m; for m; do modprobe "$m"; done; }

# join_namespaces A B: network namespaces joined by veth: 10.9.0.1 in A and 10.9.0.2 in B, and 10.9.N.N on
# devices "wire" in both.
join_namespaces() {
	ip netns add "$1"; ip netns add "$2"
	ip link add wire netns "$1" type veth peer name wire netns "$2"
	ip -n "$1" addr add 10.9.0.1/24 dev wire; ip -n "$2" addr add 10.9.0.2/24 dev wire
	ip -n "$1" link set wire up; ip -n "$2" link set wire up
	ip -n "$1" link set lo up; ip -n "$2" link set lo up
}

# Programs that are not in this guest yet (run --late).
unpack_late() {
	modprobe -q virtio_pci || true
	load virtio_blk
	until_true 20 test -b /dev/vda
	tar -xf /dev/vda -C /
}

# The wire between two guests (run --pair): 10.9.0.1 in the guest whose ROLE is 1, 10.9.0.2 in the other.
# Returns when the other one answers.
join_guests() {
	modprobe -q virtio_pci || true
	modprobe -q virtio_net || true
	ip addr add "10.9.0.$ROLE/24" dev eth0
	ip link set eth0 up
	until_true 120 ping -c 1 -W 1 "10.9.0.$((3 - ROLE))"
}

# The wire to the machine that runs this guest (run --host-network), whose loopback is 10.0.2.2.
join_host() {
	modprobe -q virtio_pci || true
	modprobe -q virtio_net || true
	ip addr add 10.0.2.15/24 dev eth0
	ip link set eth0 up
	until_true 60 ping -c 1 -W 1 10.0.2.2
}

# Two guests meet: both return when both are here. Each names its points alike.
meet() {
	local peer=10.9.0.$((3 - ROLE))
	if [ "$ROLE" = 1 ]; then
		echo "$1" | timeout 600 nc -l -p 9009 > /run/met || fail "nobody came to $1"
	else
		until_true 600 eval "echo $1 | nc -w 5 $peer 9009 > /run/met && [ -s /run/met ]"
	fi
	[ "$(cat /run/met)" = "$1" ] || fail "met at '$(cat /run/met)', not '$1'"
}

# add_rxe NETDEV [NAMESPACE]: software RDMA on it, as device rxe_NETDEV; a page is one packet.
add_rxe() {
	ip ${2:+-n "$2"} link set "$1" mtu 4400
	modprobe -q crc32_generic || true
	load rdma_rxe rdma_cm ib_uverbs rdma_ucm
	if [ -n "${2-}" ]; then
		ip netns exec "$2" rdma link add "rxe_$2" type rxe netdev "$1"
	else
		rdma link add "rxe_$1" type rxe netdev "$1"
	fi
}

# in_cgroup LIMIT COMMAND...: with so much memory, and swap for the rest. One at a time.
in_cgroup() {
	local limit=$1 rc=0 group=/sys/fs/cgroup/test.$$; shift
	mount_once cgroup2 /sys/fs/cgroup
	echo +memory > /sys/fs/cgroup/cgroup.subtree_control
	mkdir -p "$group"
	echo "$limit" > "$group/memory.max"
	(echo "$BASHPID" > "$group/cgroup.procs"; exec "$@") || rc=$?
	rmdir "$group" || true
	return "$rc"
}

# slab_objects NAME: objects in use in the slab caches whose names begin so (0 when there are none).
slab_objects() {
	awk -v name="$1" 'index($1, name) == 1 { n += $2 } END { print n + 0 }' /proc/slabinfo
}

meminfo() { awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo; }

# remember_memory / memory_is_back KIBIBYTES: what the kernel holds now, and that it holds no more
# than so much more later. (Debian's kernels have no kmemleak.)
remember_memory() {
	echo 3 > /proc/sys/vm/drop_caches
	remembered=$(($(meminfo SUnreclaim) + $(meminfo VmallocUsed) + $(meminfo Percpu)))
}
memory_is_back() {
	local now i
	for ((i = 0; i < 50; i++)); do
		echo 3 > /proc/sys/vm/drop_caches
		now=$(($(meminfo SUnreclaim) + $(meminfo VmallocUsed) + $(meminfo Percpu)))
		[ $((now - remembered)) -gt "$1" ] || return 0
		sleep 0.2
	done
	fail "the kernel holds $((now - remembered)) KiB more than before (bound: $1)"
}
