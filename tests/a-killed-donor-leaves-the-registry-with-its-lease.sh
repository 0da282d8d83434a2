# SPDX-License-Identifier: MIT
# The announcement of a donor that was killed ends by itself: nobody has to clean up.
. "$(dirname "$0")/functions.sh"

start_announced_donor gone "$scratch/registry.db"
listed() { { infuse donors --registry "$scratch/registry.db" 2>&1 || true; } | grep -q '^gone '; }
until_true 10 listed
kill -KILL "$donor_gone_pid"
listed || fail "it was forgotten at once"
vanished() { ! listed; }
until_true 40 vanished
exits_with 0 infuse donors --registry "$scratch/registry.db"
[[ $(cat "$scratch/out") == "no donor has announced itself in $scratch/registry.db;"* ]] ||
	fail "$(cat "$scratch/out")"
exits_with 0 infuse donors --registry "$scratch/registry.db" --json
grep -q '"donors":\[\]' "$scratch/out" || fail "$(cat "$scratch/out")"
