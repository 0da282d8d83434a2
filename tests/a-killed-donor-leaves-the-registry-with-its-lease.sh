# SPDX-License-Identifier: MIT
# The announcement of a donor that was killed ends by itself: nobody has to clean up.
. "$(dirname "$0")/functions.sh"

start_announced_donor gone "$scratch/registry.db"
# Its status is 1 when a donor does not answer; a listing that failed has no donors either.
look() { infuse donors --registry "$scratch/registry.db" > "$scratch/look" 2> "$scratch/look.log"; }
listed() { look || true; grep -q '^gone ' "$scratch/look"; }
until_true 60 listed
begun=$SECONDS
kill -KILL "$donor_gone_pid"
# Its lease of 15 s has 10 left at least; on a busy machine a look may take as long.
listed || [ $((SECONDS - begun)) -ge 8 ] || fail "it was forgotten at once: $(cat "$scratch/look" "$scratch/look.log")"
forgotten() { look && grep -q "^no donor has announced itself in $scratch/registry.db;" "$scratch/look"; }
until_true 60 forgotten
exits_with 0 infuse donors --registry "$scratch/registry.db" --json
grep -q '"donors":\[\]' "$scratch/out" || fail "$(cat "$scratch/out")"
