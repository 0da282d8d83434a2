# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Each workload's result on a heap of remote memory is what it must be, over every transport and in
# both modes. infuse bench checks every byte itself and fails if one is wrong.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

# measured ARGUMENTS...: prints the JSON object
measured() {
	infuse-bench --json --no-floor --runs 1 "$@" > "$scratch/json" 2> "$scratch/bench.log" ||
		fail "infuse-bench $*: $(cat "$scratch/bench.log")"
}

# said FIELD: a number of the last result
said() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$scratch/json"; }

for transport in tcp unix shm; do
	for mode in sigbus handler; do
		for workload in seq random "seq --write" "random --write"; do
			# shellcheck disable=SC2086 # the option is a word of its own
			measured --size 8M --local 1M --touches 1000 --transport "$transport" --mode "$mode" $workload
			[ "$(said pages_in)" -gt 500 ] || fail "$transport $mode $workload: $(cat "$scratch/json")"
		done
	done
	measured --size 64M --local 32M --transport "$transport" transpose
	[ "$(said pages_in)" -gt 4000 ] || fail "$transport transpose: $(cat "$scratch/json")"
	measured --size 16M --transport "$transport" --donors 2 stencil
	[ "$(said pages_out)" -gt 1000 ] || fail "$transport stencil: $(cat "$scratch/json")"
done
measured --size 16M --threads 2 --donors 2 stencil
measured --size 16M --threads 2 --mode handler random
