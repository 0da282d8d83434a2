# SPDX-License-Identifier: MIT
# Sourced after functions.sh by the tests of `infuse run`: compares a program's output with that of
# a plain run, and proves that its pages really were with a donor.

[ -z "${INFUSE_SANITIZE:-}" ] || skip "sanitizers bring an allocator of their own"
requires userfaultfd
requires jq

# run LOCAL COMMAND...: under infuse run, with the statistics in $scratch/stats.
run() {
	local local_size=$1; shift
	infuse run --local "$local_size" --donor "shm:$scratch/a.sock" --stats-file "$scratch/stats" -- "$@"
}

# stat_of FIELD: over all processes so far.
stat_of() { jq -s "map(.$1) | add // 0" "$scratch/stats"; }

# went_out PAGES: at least so many pages were written to the donor since the last call.
went_out() {
	local out
	[ -s "$scratch/stats" ] || fail "no process had a heap"
	out=$(stat_of pages_out)
	[ "$out" -ge "$1" ] || fail "only $out pages went to the donor: the test is too small"
	echo "pages out $out, in $(stat_of pages_in), faults $(stat_of faults), lost $(($(stat_of fault_ns) / 1000000)) ms"
	rm -f "$scratch/stats"
}

# equal LOCAL COMMAND...: standard output and status are those of a plain run.
equal() {
	local plain=0 ours=0 start
	"${@:2}" > "$scratch/plain.out" 2> "$scratch/plain.log" || plain=$?
	start=${EPOCHREALTIME/./}
	run "$@" > "$scratch/ours.out" 2> "$scratch/ours.log" || ours=$?
	echo "$2: $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
	[ "$ours" -eq "$plain" ] || fail "$2 ended with $ours instead of $plain: $(tail -n 3 "$scratch/ours.log")"
	cmp "$scratch/plain.out" "$scratch/ours.out" || fail "$2 printed something else"
}

# words SEED COUNT: that many lines of text that don't compress well.
words() {
	awk -v seed="$1" -v n="$2" 'BEGIN { srand(seed); for (i = 0; i < n; i++)
		printf "%08x%08x %d\n", rand() * 4294967296, rand() * 4294967296, i }'
}
