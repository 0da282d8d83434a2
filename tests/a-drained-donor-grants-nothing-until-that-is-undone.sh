# SPDX-License-Identifier: MIT
# infuse drain tells a donor, by its name in the registry or by an address, to grant nothing more; the
# listings show it, new borrowers go elsewhere, and --undo ends it. infuse rebalance computes who
# is to give back what.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires jq

reg="$scratch/registry.db"
start_announced_donor a "$reg" --size 32M --slab 1M
start_announced_donor b "$reg" --size 64M --slab 1M
state() { infuse donors --registry "$reg" --json | jq -r ".donors[] | select(.name == \"$1\") | .$2"; }
both_up() { [ "$(state a state)$(state b state)" = upup ]; }
until_true 20 both_up

exits_with 1 infuse drain --registry "$reg" c
[[ $err == "infuse drain: no donor is called 'c' in $reg; infuse donors lists them" ]] || fail "$err"
exits_with 2 infuse drain
exits_with 0 infuse drain --registry "$reg" --wait a
[ "$(cat "$scratch/out")" = "a is empty" ] || fail "$(cat "$scratch/out")"
[ "$(state a state)/$(state a free_bytes)" = emptying/0 ] || fail "$(infuse donors --registry "$reg")"
exits_with 0 infuse drain --json "unix:$scratch/b.sock"
[ "$(jq -r .state "$scratch/out")" = emptying ] || fail "$(cat "$scratch/out")"
exits_with 0 infuse drain --undo --registry "$reg" b
exits_with 0 infuse drain --undo --registry "$reg" a
[ "$(cat "$scratch/out")" = "a lends again" ] || fail "$(cat "$scratch/out")"
both_up || fail "$(infuse donors --registry "$reg")"

# Nothing is lent: nothing to balance.
exits_with 0 infuse rebalance --dry-run --json --registry "$reg"
[ "$(jq '[.donors[].asked_bytes] | add' "$scratch/out")" = 0 ] || fail "$(cat "$scratch/out")"

exits_with 1 infuse drain "unix:$scratch/nobody.sock"
[ "$(wc -l <<< "$err")" = 1 ] || fail "$err"
