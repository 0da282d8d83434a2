# SPDX-License-Identifier: MIT
# A donor that takes the connection and says nothing costs one timeout, however many there are, and
# the error names it.
. "$(dirname "$0")/functions.sh"

start_donor awake
start_donor asleep
kill -STOP "$donor_asleep_pid"

begun=$(date +%s%N)
exits_with 1 infuse donors --timeout 300ms --donor "$donor_asleep_tcp" \
	--donor "unix:$scratch/asleep.sock" --donor "$donor_awake_tcp" --donor unix:/nowhere
ms=$((($(date +%s%N) - begun) / 1000000))
[ $ms -ge 300 ] && [ $ms -lt 3000 ] || fail "it took $ms ms"
[ "$err" = "infuse donors: $donor_asleep_tcp: no answer within 0.3 s (and 2 more can't be reached)" ] ||
	fail "$err"
[ "$(grep -c ' up$' "$scratch/out")" -eq 1 ] || fail "$(cat "$scratch/out")"
[ "$(grep -c ' unreachable$' "$scratch/out")" -eq 3 ] || fail "$(cat "$scratch/out")"

for verb in volumes stat; do
	exits_with 1 infuse $verb --timeout 200ms --donor "$donor_asleep_tcp"
	[ "$err" = "infuse $verb: $donor_asleep_tcp: no answer within 0.2 s" ] || fail "$err"
done
kill -CONT "$donor_asleep_pid"
exits_with 0 infuse donors --donor "$donor_asleep_tcp"

# What is no address, no donor, or no name.
exits_with 1 infuse donors --donor foo
[ "$err" = "infuse donors: foo: not an address: use tcp:HOST:PORT or unix:PATH" ] || fail "$err"
exits_with 1 infuse donors --donor tcp:localhost:99999
[[ $err == *": not an address: use tcp:HOST:PORT or unix:PATH" ]] || fail "$err"
exits_with 1 infuse donors --donor tcp:no-such-host.invalid:7
[[ $err == "infuse donors: tcp:no-such-host.invalid:7: "* ]] || fail "$err"
