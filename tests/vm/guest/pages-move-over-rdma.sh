# SPDX-License-Identifier: MIT
. /test/functions.sh
load veth
ip link set lo up
ip link add w0 type veth peer name w1
ip link set w0 up
ip link set w1 up
ip addr add 10.9.0.1/24 dev w0

step no device
refused "no RDMA device (see infuse check)" timeout 20 infuse-memory-server --size 4M --no-registry --listen rdma:10.9.0.1:0 --insecure
add_rxe w0
step a device
infuse check | grep -q 'rxe_w0' || fail "infuse check does not tell the device"
infuse check --json | grep -q '"rdma": *true' || fail "infuse check: $(infuse check --json)"
refused "can't listen on rdma:10.99.0.1:0" timeout 20 infuse-memory-server --size 4M --no-registry --listen rdma:10.99.0.1:0 --insecure

export INFUSE_TEST_RDMA=10.9.0.1
# tests PROGRAM FILTER AT_LEAST: so many must have run, and all passed.
tests() {
	local said ran
	said=$(timeout -s KILL 200 "$1" -j1 --filter "$2" 2>&1) || { echo "$said"; fail "$1 $2"; }
	ran=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) .*/\1/p' <<< "$said")
	[ "${ran:-0}" -ge "$3" ] || { echo "$said"; fail "$1 $2: $ran tests ran, not $3"; }
	if grep -q SKIP <<< "$said"; then echo "$said"; fail "$1: tests were skipped"; fi
	step "$1 $2: $ran tests"
}
tests test-server-rdma 'server_rdma/*' 6
tests test-pagestore-faults 'faults/rdma*' 1
tests test-pagestore-contract 'contract/rdma*' 6
# rxe binds windows, though it does not keep their bounds.
export INFUSE_TEST_RDMA_KEYS=windows
tests test-server-rdma 'server_rdma/lets_in*' 1
tests test-pagestore-contract 'contract/rdma_reads*' 2
step over
