# SPDX-License-Identifier: MIT
# A volume of more than its donor lends: written and read whole, over a file; when its donor is drained all of it is
# in the file, and it goes back afterwards.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/nbd-functions.sh
. "$(dirname "$0")/nbd-functions.sh"
requires nbdcopy
requires jq

start_donor a --size 64M --slab 1M
mkdir "$scratch/spill"
# Somebody else has most of it.
start_nbd other 40M donor="$donor_a_tcp"
start_nbd v 48M donor="$donor_a_tcp" spill="$scratch/spill"
lent() { infuse donors --timeout 10s --donor "$donor_a_tcp" --json | jq '.donors[0].lent_bytes / 1048576 | floor'; }
[ "$(lent)" -eq 64 ] || fail "$(lent) MiB are lent"
head -c 48M /dev/urandom > "$scratch/data"
nbdcopy "$scratch/data" "$(nbd_uri v)"
same() { nbdcopy "$(nbd_uri v)" "$scratch/back" && cmp "$scratch/data" "$scratch/back"; }
same || fail "what was spilled is not what was written"
kill "$nbd_other_pid"
wait "$nbd_other_pid" 2> /dev/null || true
holds() { [ "$(lent)" -eq "$1" ]; }
until_true 60 holds 48
same || fail "what moved up is not what was written"
infuse drain --wait-at-most 60s --timeout 10s "$donor_a_tcp" > "$scratch/drain" || fail "not empty: $(cat "$scratch/drain")"
same || fail "what left the drained donor is not what was written"
infuse drain --undo --timeout 10s "$donor_a_tcp" > /dev/null
until_true 60 holds 48
same || fail "what came back is not what was written"
[ -z "$(ls -A "$scratch/spill")" ] || fail "left behind: $(ls -A "$scratch/spill")"
