# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The demo's main job on a part of the package index: sqlite3 gives the same answers with a quarter
# of its working set local as it gives plainly, byte for byte.
. "$(dirname "$0")/functions.sh"
requires userfaultfd
requires sqlite3
# shellcheck source=../scripts/demo.d/sqlite.sh
. "${INFUSE_SOURCE:?}/scripts/demo.d/sqlite.sh"

[ -n "$(index_text 2> /dev/null | head -n 1)" ] || skip "this machine has no package index"
start_donor a --size 256M
start_donor b --size 256M
sqlite_prepare "$scratch/sqlite" 20000
sqlite_plain "$scratch/sqlite"
sqlite_remote "$scratch/sqlite" "$(($(cat "$scratch/sqlite/working-set.kib") / 4))K" --donor "${donor_a_tcp:?}" --donor "${donor_b_tcp:?}"
sqlite_compare "$scratch/sqlite" || fail "the answers differ from a plain run's"
[ "$(wc -l < "$scratch/sqlite/plain.txt")" -gt 300 ] || fail "too few answers: $(head -n 5 "$scratch/sqlite/plain.txt")"
cat "$scratch/sqlite/stats.txt"
