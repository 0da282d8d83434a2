# SPDX-License-Identifier: MIT
# Four threads write, read, free and check a heap that lies on two donors. One is drained meanwhile and is
# empty while the heap is still in use; then it lends again, and gets a share back; not a byte is wrong.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires jq

start_donor a --size 128M --slab 1M --lazy
start_donor b --size 128M --slab 1M --lazy
lent() { infuse donors --timeout 10s --donor "$1" --json | jq '.donors[0].lent_bytes'; }

run() {
	local a=$1 b=$2
	timeout -s KILL 150 inject-stress --threads 4 --time 40s --size 48M --local 4M --seed "$RANDOM" \
		--donor "$a" --donor "$b" > "$scratch/out" 2> "$scratch/stress.log" &
	started+=($!)
	local stress=$!
	has_some() { [ "$(lent "$donor_a_tcp")" -gt 4000000 ]; }
	until_true 30 has_some
	infuse drain --wait-at-most 35s --timeout 10s "$donor_a_tcp" > "$scratch/drain" ||
		fail "not empty: $(cat "$scratch/drain")"
	kill -0 "$stress" || fail "the heap was gone before: $(cat "$scratch/out" "$scratch/stress.log")"
	infuse drain --undo --timeout 10s "$donor_a_tcp" > /dev/null
	wait "$stress" || fail "$(cat "$scratch/out" "$scratch/stress.log")"
	grep -q "differences 0;" "$scratch/out" || fail "$(cat "$scratch/out" "$scratch/stress.log")"
	echo "$a: $(wc -l < "$scratch/drain") steps; $(cat "$scratch/out")"
}

run "$donor_a_tcp" "$donor_b_tcp"
run "shm:$scratch/a.sock" "shm:$scratch/b.sock"
