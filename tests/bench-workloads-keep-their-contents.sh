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

# reads MINIMUM: at least so many pages came from the donors in each of the last results.
reads() {
	sed -n 's/.*"pages_in":\([0-9]*\).*/\1/p' "$scratch/json" | while read -r n; do
		[ "$n" -ge "$1" ] || fail "only $n pages in: $(cat "$scratch/json")"
	done
}

# The rest over tcp in the thread and over shm in handlers, there by two threads.
patterns=(zipf chase join sort spmv bfs scans turn)
measured --size 8M --local 1M --touches 2000 "${patterns[@]}"
[ "$(wc -l < "$scratch/json")" -eq ${#patterns[@]} ] || fail "results are missing: $(cat "$scratch/json")"
reads 500
measured --size 8M --local 1M --touches 2000 --threads 2 "${patterns[@]}"
reads 500
measured --size 8M --local 1M --touches 2000 --threads 2 --write-percent 50 \
	--transport shm --mode handler "${patterns[@]}" random seq
reads 500
measured --size 8M --local 1M --touches 4000 --transport shm --node 64 chase
measured --size 64M --local 16M --transport shm --block 64 --threads 2 transpose
measured --size 16M --threads 2 --donors 2 stencil
measured --size 16M --threads 2 --mode handler random
