# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by guest scripts after functions.sh: donors in this guest, our device on them.

load_rswap() { modprobe rswap "$@"; }

# start_donor NAME SIZE ADDRESS PORT [rdma]: a memory server, with "rdma" on that port by RDMA as well; its pid in
# donor_pid[NAME], its address as attach takes it in donor[NAME]. The same call starts it again. donor_options: how.
declare -A donor donor_pid
donor_options=(--insecure)
start_donor() {
	local name=$1 listen=(--listen "tcp:$3:$4")
	[ -z "${5-}" ] || listen+=(--listen "rdma:$3:$4")
	rm -f "/run/$name.ready"
	# What a donor lends is locked; a guest has no limit on that.
	infuse-memory-server --name "$name" --size "$2" "${listen[@]}" "${donor_options[@]}" --no-registry \
		--ready-file "/run/$name.ready" > "/run/$name.log" 2>&1 &
	donor_pid[$name]=$!
	donor[$name]=tcp:$3:$4
	[ -z "${5-}" ] || donor[$name]+=,rdma:$3:$4
	until_true 60 test -s "/run/$name.ready"
}

kill_donor() {
	kill -KILL "${donor_pid[$1]}"
	wait "${donor_pid[$1]}" 2> /dev/null || true
}

# counter DEVICE NAME: of /sys/block/DEVICE/rswap.
counter() { cat "/sys/block/$1/rswap/$2"; }

swap_on() { mkswap "/dev/$1" > /dev/null; swapon -d "/dev/$1" 2> /dev/null || swapon "/dev/$1"; }

# nothing_left: the module goes, and the kernel holds what it held before remember_memory.
nothing_left() {
	rmmod rswap
	[ "$(slab_objects rswap)" = 0 ] || fail "slab objects are left: $(grep ^rswap /proc/slabinfo)"
	memory_is_back "$1"
	[ ! -e /dev/rswap0 ] || fail "/dev/rswap0 is still there"
}
