# SPDX-License-Identifier: MIT
# infuse stat --watch prints each donor once a round, at the pace it was told, as text and as one
# JSON object a line.
. "$(dirname "$0")/functions.sh"

start_donor a
start_donor b
donors=(--donor "$donor_a_tcp" --donor "unix:$scratch/b.sock")

exits_with 0 infuse stat "${donors[@]}"
[ "$(wc -l < "$scratch/out")" -eq 3 ] || fail "$(cat "$scratch/out")"

begun=$(date +%s%N)
exits_with 0 infuse stat --watch 0.2 --rounds 3 "${donors[@]}"
ms=$((($(date +%s%N) - begun) / 1000000))
[ $ms -ge 600 ] && [ $ms -lt 5000 ] || fail "three rounds of 0.2 s took $ms ms"
[ "$(grep -c ' up$' "$scratch/out")" -eq 6 ] || fail "$(cat "$scratch/out")"
[ "$(grep -c '^NAME' "$scratch/out")" -eq 1 ] || fail "$(cat "$scratch/out")"

exits_with 0 infuse stat --json -w0.1 -n 2 "${donors[@]}"
[ "$(wc -l < "$scratch/out")" -eq 2 ] || fail "$(cat "$scratch/out")"
while IFS= read -r line; do
	printf '%s\n' "$line" > "$scratch/line"
	is_json "$scratch/line" || fail "no JSON: $line"
	[[ $line == *'"name":"a"'*'"pages_in_per_s":'*'"name":"b"'* ]] || fail "$line"
done < "$scratch/out"

# A donor that dies meanwhile is shown as such, and the rest goes on.
infuse stat -w0.2 -n 5 "${donors[@]}" > "$scratch/watch" 2> "$scratch/watch.err" &
watch=$!
until_true 10 grep -q '^b .* up$' "$scratch/watch"
kill -KILL "$donor_a_pid"
rc=0
wait $watch || rc=$?
[ $rc -eq 1 ] || fail "the watch ended with $rc"
grep -Eq '^a .* unreachable$' "$scratch/watch" || fail "$(cat "$scratch/watch")"
tail -n 1 "$scratch/watch" | grep -Eq '^b .* up$' || fail "$(cat "$scratch/watch")"
