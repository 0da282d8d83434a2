# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# infuse bench on a donor that is not there says so in a line that names it, and soon.
. "$(dirname "$0")/functions.sh"
requires userfaultfd

rc=0
from=$SECONDS
infuse-bench --size 16M --no-floor --donor "unix:$scratch/nobody.sock" seq > "$scratch/out" 2> "$scratch/err" || rc=$?
[ "$rc" -eq 1 ] || fail "exit status $rc"
[ $((SECONDS - from)) -le 5 ] || fail "took $((SECONDS - from)) s"
grep -qF "nobody.sock" "$scratch/err" || fail "names no donor: $(cat "$scratch/err")"
[ "$(wc -l < "$scratch/err")" -eq 1 ] || fail "more than a line: $(cat "$scratch/err")"
