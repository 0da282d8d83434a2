# SPDX-License-Identifier: MIT
# While this machine's kernel swaps to a volume with two copies of each page, its three donors are
# killed one after the other and come back empty: the program never reads a wrong byte and is not
# killed, and every time the volume becomes whole again.
. "$(dirname "$0")/functions.sh"
. "$(dirname "$0")/nbd-functions.sh"
. "$(dirname "$0")/swap-functions.sh"
rounds=${INFUSE_ROUNDS:-6}

lines=
for name in a b c; do
	serve "$name"
	lines="$lines
donor = tcp:127.0.0.1:${port[$name]}"
done
make_group $((32 << 20))
swap_up "size = 36M
replicas = 2$lines"
log=$scratch/run/rswap0/log
whole() {
	[ "$(grep -c 'have lost a copy' "$log")" -gt "$1" ] && tail -n 1 "$log" | grep -q 'the volume is whole again'
}

limited timeout -s KILL $((rounds * 30 + 60)) swap-pages 56M $((rounds * 3 + 3)) > "$scratch/out" 2> "$scratch/err" &
work=$!
started+=("$work")
in_use() { [ "$(awk -v d="$device" '$1 == d { print $4 }' /proc/swaps)" -gt 8000 ]; }
until_true 60 in_use
for ((i = 0; i < rounds; i++)); do
	kill -0 "$work" 2> /dev/null || break
	names=(a b c)
	name=${names[i % 3]}
	kill_donor "$name"
	sleep 0.5
	serve "$name"
	until_true 40 whole "$i"
done
wait "$work" || fail "swap-pages: $(cat "$scratch/out" "$scratch/err" "$log")"
cat "$scratch/out"
grep -q ' bad 0$' "$scratch/out" || fail "$(cat "$scratch/out" "$scratch/err")"
[ "$i" -ge 3 ] || fail "only $i donors were killed before the program was done"
! grep -q "can't be" "$log" || fail "an I/O error: $(cat "$log")"
timeout 60 infuse down --run-dir "$scratch/run" rswap0 > "$scratch/out" 2>&1 || fail "$(cat "$scratch/out")"
