# SPDX-License-Identifier: MIT
# System calls on pages that are not local, pins, several heaps, advice, re-use of freed ranges,
# threads that go from CPU to CPU, full donors, touching freed memory: in both modes, over every transport.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

start_donor a --size 128M --lazy
for mode in sigbus handler; do
	for donor in "$donor_a_tcp" "unix:$scratch/a.sock" "shm:$scratch/a.sock"; do
		for what in syscalls pins heaps; do
			exits_with 0 timeout 60 inject-check $what $mode "$donor"
		done
	done
	exits_with 0 timeout 60 inject-check moves $mode "$donor_a_tcp"
	exits_with 0 timeout 60 inject-check full $mode "$donor_a_tcp"
	grep -q "donors have .* free of 128 MiB; 900 MiB asked" "$scratch/out" ||
		fail "full donors said: $(cat "$scratch/out")"
done
# The kernel's own signal in the faulting thread; a real SIGSEGV from a handler.
[ -n "${INFUSE_SANITIZE:-}" ] ||
	exits_with 135 timeout 60 inject-check use-after-free sigbus "$donor_a_tcp"
exits_with 0 timeout 60 inject-check use-after-free handler "$donor_a_tcp"

exits_with 1 inject-check heaps handler tcp:127.0.0.1:1
case $err in *"tcp:127.0.0.1:1"*) ;; *) fail "a donor that is not there: $err" ;; esac
exits_with 1 inject-check heaps handler "shm:$scratch/none.sock"
case $err in *"$scratch/none.sock"*) ;; *) fail "a socket that is not there: $err" ;; esac
exits_with 1 inject-check heaps handler "carrier-pigeon:x"
[ "$(wc -l < "$scratch/err")" -eq 1 ] || fail "more than a line: $err"
