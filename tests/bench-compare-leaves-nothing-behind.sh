# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Swap areas, loop and zram devices, mounts, cgroups, processes and files that infuse bench compare
# makes for the kernel's swap are gone when it ends: by itself, by a signal in the middle, by SIGKILL.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires jq
[ "$(id -u)" -eq 0 ] || skip "swap areas and memory limits want root"

# What others have is no matter of ours: what was there before is left out.
swaps() { awk 'NR > 1 { print $1 }' /proc/swaps; }
zrams() { ls -d /sys/block/zram* 2> /dev/null; }
groups_of_the_dead() {
	local g
	find /sys/fs/cgroup -maxdepth 6 -type d -name 'infuse-bench.*' 2> /dev/null | while read -r g; do
		kill -0 "${g##*.}" 2> /dev/null || echo "$g"
	done
}
nothing_left() {
	[ "$(swaps)" = "$swaps_before" ] && [ "$(zrams)" = "$zrams_before" ] || return 1
	! grep -q "$scratch" /proc/mounts || return 1
	! grep -qs "$scratch" /sys/block/loop*/loop/backing_file || return 1
	! pgrep -f "$scratch/tmp" > /dev/null || return 1
	[ -z "$(ls "$scratch/tmp")" ] && [ -z "$(groups_of_the_dead)" ]
}
swapping() { [ "$(swaps)" != "$swaps_before" ] && [ "$(awk 'NR > 1 { s += $4 } END { print s + 0 }' /proc/swaps)" -gt 1000 ]; }
gone() { ! kill -0 "$1" 2> /dev/null; }

swaps_before=$(swaps)
zrams_before=$(zrams)
mkdir "$scratch/tmp"
export TMPDIR=$scratch/tmp
peers=(--peer swap-disk --peer swap-zram --peer swap-nbd --peer swap-rswap-tcp --peer swap-rswap-shm)
infuse-bench --json --no-floor --size 16M --local 4M --runs 1 --touches 2000 "${peers[@]}" compare random > "$scratch/json" 2> "$scratch/bench.log" ||
	fail "compare: $(cat "$scratch/bench.log")"
jq -r 'select(.skipped != null) | "\(.transport): \(.skipped)"' "$scratch/json"
until_true 10 nothing_left
ran=$(jq -r 'select(.factor_tcp > 0 and .pages_in > 1000) | .transport' "$scratch/json")
[ -n "$ran" ] || skip "no kind of swap can be measured here"

for peer in $ran; do
	signals=TERM
	case $peer in
	swap-disk) signals="TERM INT" ;;
	swap-nbd | swap-rswap-tcp) signals="TERM KILL" ;;
	swap-rswap-shm) signals= ;; # as the one before it
	esac
	for signal in $signals; do
		infuse-bench --no-floor --size 32M --local 8M --touches 100000 --runs 1 --peer "$peer" compare random \
			> "$scratch/bench.log" 2>&1 &
		bench=$!
		started+=("$bench")
		until_true 90 swapping
		kill -s "$signal" "$bench"
		until_true 40 gone "$bench"
		# A killed one can't remove its own folder; its keeper's is another.
		if [ "$signal" = KILL ]; then rm -rf "$scratch/tmp"/infuse-bench.*; fi
		until_true 30 nothing_left
	done
done
