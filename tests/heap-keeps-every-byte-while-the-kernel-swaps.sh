# SPDX-License-Identifier: MIT
# A heap's local pages are the kernel's to swap: while it does so all the time, every byte is as
# four threads left it, in both modes, beside shared memory and over sockets. Linux 6.17 and 6.18
# move such pages and don't count them. Every wait is bounded: the swap file never outlives the test.
. "$(dirname "$0")/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" -eq 0 ] || skip "only root may swap to a file"
requires userfaultfd
requires mkswap
requires swapon

swap="$scratch/swap"
swap_off() {
	local rc=$?
	set +e
	[ ! -e "$swap" ] || timeout 20 swapoff "$swap" 2> "$scratch/swapoff.log"
	if grep -qF "${swap#"${scratch%/*}"}" /proc/swaps; then
		echo "FAIL: still swapping to $swap: $(cat "$scratch/swapoff.log")" >&2
		rc=1
	fi
	(exit "$rc")
	cleanup
}
trap swap_off EXIT

# Not fallocate: not every filesystem lets the kernel swap to what has no blocks yet.
(umask 077; timeout 20 dd if=/dev/zero of="$swap" bs=1M count=512 status=none) 2> "$scratch/err" ||
	skip "no room for a swap file: $(tail -n 1 "$scratch/err")"
timeout 10 mkswap "$swap" > /dev/null 2> "$scratch/err" || skip "mkswap: $(tail -n 1 "$scratch/err")"
timeout 10 swapon "$swap" 2> "$scratch/err" || skip "swapon: $(tail -n 1 "$scratch/err")"

swapped_out() { awk '$1 == "pswpout" { print $2 }' /proc/vmstat; }

start_donor a --size 256M --lazy
start_donor b --size 256M --lazy

# stress OPTIONS...: the kernel takes all that is local, again and again.
stress() {
	local before rc=0
	before=$(swapped_out)
	# Bounded all together, so that ctest never has to kill this script while the file is in use.
	timeout -s KILL $((SECONDS < 90 ? 95 - SECONDS : 5)) inject-stress --threads 4 --time 6s --size 64M --local 24M --page-out 20ms \
		"$@" > "$scratch/out" 2> "$scratch/err" || rc=$?
	[ $rc -eq 0 ] || fail "inject-stress $*: status $rc, $(cat "$scratch/out" "$scratch/err")"
	grep -q "differences 0;" "$scratch/out" || fail "no result: $(cat "$scratch/out")"
	[ "$(swapped_out)" -gt "$before" ] || skip "the kernel did not swap"
	echo "$*: swapped out $(($(swapped_out) - before)) pages; $(cat "$scratch/out")"
}

# Without pause and with few pages local, so that evictions are likely to meet pages on their way to
# swap. Not every run does.
stress --mode handler --seed 1 --local 2M --page-out 1us --donor "shm:$scratch/a.sock" \
	--donor "unix:$scratch/b.sock"
for mode in sigbus handler; do
	stress --mode $mode --seed 1 --donor "shm:$scratch/a.sock" --donor "unix:$scratch/b.sock"
	stress --mode $mode --seed 2 --donor "$donor_a_tcp" --donor "$donor_b_tcp"
done
