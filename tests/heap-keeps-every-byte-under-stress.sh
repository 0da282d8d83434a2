# SPDX-License-Identifier: MIT
# Four threads read, write, free and discard in a heap, and find every byte as they left it: local
# caches from 64 pages to a quarter, both modes, every transport; and every prefetcher with answers that
# come late and in another order, replay both while it records and while it follows.
# INFUSE_STRESS_SECONDS says how long in all.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

start_donor a --size 256M --lazy
start_donor b --size 256M --lazy
# A sanitizer makes the same steps many times slower: the checks stay, the time is shorter.
seconds=${INFUSE_STRESS_SECONDS:-$([ -n "${INFUSE_SANITIZE:-}" ] && echo 24 || echo 60)}
each=$(awk "BEGIN { print $seconds / 22 }")s
seed=1

# stress ARGUMENTS...: of inject-stress; the mode is $mode.
stress() {
	timeout -s KILL 120 inject-stress --mode "$mode" --seed $((seed++)) --threads 4 --time "$each" "$@" \
		>"$scratch/out" 2>"$scratch/err" ||
		fail "inject-stress --mode $mode $*: status $?, $(cat "$scratch/out" "$scratch/err")"
	grep -q "differences 0;" "$scratch/out" || fail "no result: $(cat "$scratch/out")"
	echo "$mode $*: $(cat "$scratch/out")"
}

tcp=(--donor "$donor_a_tcp" --donor "$donor_b_tcp")
unix=(--donor "unix:$scratch/a.sock" --donor "unix:$scratch/b.sock")
shm=(--donor "shm:$scratch/a.sock" --donor "shm:$scratch/b.sock")
late=(--donor "delay,us=150,jitter=100:$donor_a_tcp" --donor "reorder,depth=4:unix:$scratch/b.sock")
for mode in sigbus handler; do
	stress --size 32M --local 256K "${tcp[@]}"
	stress --size 64M --local 16M "${unix[@]}"
	stress --size 64M --local 4M "${shm[@]}"
	stress --size 16M --local 1M "${tcp[@]}" "${unix[@]}"
	for prefetch in none sequential stride majority auto "replay:$scratch/$mode" "replay:$scratch/$mode"; do
		stress --size 48M --local 2M --prefetch "$prefetch" "${late[@]}"
	done
	[ -s "$scratch/$mode" ] || fail "replay recorded nothing in $mode mode"
done
