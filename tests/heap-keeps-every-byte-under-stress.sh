# SPDX-License-Identifier: MIT
# Four threads read, write, free and discard in a heap, and find every byte as they left it: local
# caches from 64 pages to a quarter, both modes, every transport, every prefetcher, slow and
# reordered answers. INFUSE_STRESS_SECONDS says how long in all.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

start_donor a --size 256M --lazy
start_donor b --size 256M --lazy
# A sanitizer makes the same steps many times slower: the checks stay, the time is shorter.
seconds=${INFUSE_STRESS_SECONDS:-$([ -n "${INFUSE_SANITIZE:-}" ] && echo 20 || echo 60)}
each=$(awk "BEGIN { print $seconds / 12 }")s

stress() {
	timeout -s KILL 120 inject-stress --threads 4 --time "$each" "$@" >"$scratch/out" 2>"$scratch/err" ||
		fail "inject-stress $*: status $?, $(cat "$scratch/out" "$scratch/err")"
	grep -q "differences 0;" "$scratch/out" || fail "no result: $(cat "$scratch/out")"
	echo "$*: $(cat "$scratch/out")"
}

tcp=(--donor "$donor_a_tcp" --donor "$donor_b_tcp")
unix=(--donor "unix:$scratch/a.sock" --donor "unix:$scratch/b.sock")
shm=(--donor "shm:$scratch/a.sock" --donor "shm:$scratch/b.sock")
late=(--donor "delay,us=150,jitter=100:$donor_a_tcp" --donor "reorder,depth=4:unix:$scratch/b.sock")
seed=1
for mode in sigbus handler; do
	stress --mode $mode --seed $((seed++)) --size 32M --local 256K "${tcp[@]}"
	stress --mode $mode --seed $((seed++)) --size 64M --local 16M "${unix[@]}"
	stress --mode $mode --seed $((seed++)) --size 64M --local 4M --prefetch none "${shm[@]}"
	stress --mode $mode --seed $((seed++)) --size 48M --local 2M --prefetch sequential "${late[@]}"
	stress --mode $mode --seed $((seed++)) --size 64M --local 12M --prefetch majority "${shm[@]}"
	stress --mode $mode --seed $((seed++)) --size 16M --local 1M "${tcp[@]}" "${unix[@]}"
done
