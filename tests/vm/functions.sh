# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the tests of this folder, on the host: what they need is there or they are skipped with
# the reason; a guest's console is shown when it fails.
# shellcheck source=tests/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/../functions.sh"

vm=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$vm/../.." && pwd)

# requires_kernels NAME...: fetched, and QEMU and what packs a guest installed.
requires_kernels() {
	local p k
	for p in qemu-system-x86_64 busybox cpio modprobe; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$p" > /dev/null || skip "$p is not installed (scripts/test does it)"
	done
	for k; do
		"$vm/kernels.sh" --there "$k" > /dev/null ||
			skip "the $k kernel was not fetched (tests/vm/kernels.sh $k)"
	done
}

# guest SCRIPT'S NAME [run's options...] [-- ARGUMENTS...]: boots it with guest/NAME.sh, prints its
# steps, fails with its console.
guest() {
	local name=$1 options=() rc=0 log=$scratch/${1}.console; shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
	[ $# -eq 0 ] || shift
	"$vm/run" --quiet --log "$log" "${options[@]}" "$vm/guest/$name.sh" "$@" > "$scratch/run.out" 2>&1 || rc=$?
	if [ "$rc" -ne 0 ]; then
		tail -n 150 "$scratch/run.out"
		fail "the guest $name ended with $rc"
	fi
	[ ! -e "$log.1" ] || grep -aE '^(==|SKIP|MEASURED) ' "$log.1" | sed 's/^/1: /' || true
	grep -aE '^(==|SKIP|MEASURED) ' "$log" || true
}

# module KERNEL: our module for it; warnings and what sparse says are errors.
module() { "$vm/module.sh" --sparse "$1" "$top/kmod-rswap"; }

# Programs of this build that most guests need.
# shellcheck disable=SC2034
ours=(--program "$INFUSE_BUILD/bin/infuse" --program "$INFUSE_BUILD/bin/infuse-memory-server")
