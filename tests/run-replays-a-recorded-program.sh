# SPDX-License-Identifier: MIT
# The faults of a program are recorded once and followed the next time, with the same output.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/run-functions.sh"

start_donor a --size 256M --lazy
export INFUSE_DONOR="unix:$scratch/a.sock"

seq 400000 | awk '{ print $1 * 7919 % 400009 }' > "$scratch/numbers"
sort -n "$scratch/numbers" > "$scratch/right"
sorted() {
	infuse run --local 4M --prefetch "replay:$1" --stats-file "$scratch/stats" -- \
		sort -n --parallel=1 -S 64M "$scratch/numbers"
}
sorted "$scratch/trace" > "$scratch/first" || fail "recording: status $?"
[ -s "$scratch/trace" ] || fail "nothing was recorded"
[ "$(head -c 8 "$scratch/trace")" = INFTRACE ] || fail "no trace: $(head -c 8 "$scratch/trace")"
cp "$scratch/trace" "$scratch/kept"
sorted "$scratch/trace" > "$scratch/second" || fail "following: status $?"
cmp "$scratch/first" "$scratch/right" || fail "wrong while recording"
cmp "$scratch/second" "$scratch/right" || fail "wrong while following"
cmp "$scratch/trace" "$scratch/kept" || fail "following changed the trace"

echo "somebody's words" > "$scratch/words"
status=0
sorted "$scratch/words" > "$scratch/out" 2> "$scratch/err" || status=$?
[ "$status" -eq 125 ] || fail "a file that is no trace: status $status"
grep -q "no recorded trace" "$scratch/err" || fail "a file that is no trace: $(cat "$scratch/err")"
