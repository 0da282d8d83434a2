# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Every test that docs/guarantees.md names is registered, and it names no fewer than twenty.
. "$(dirname "$0")/functions.sh"
requires ctest
ctest --test-dir "$INFUSE_BUILD" -N | sed -n 's/^ *Test *#[0-9]*: //p' | sort > "$scratch/there"
sed -n 's/^| [^|]* |\(.*\)|$/\1/p' "$INFUSE_SOURCE/docs/guarantees.md" | grep -o '`[^`]*`' | tr -d '`' |
	sort -u > "$scratch/named"
[ "$(wc -l < "$scratch/named")" -ge 20 ] || fail "only $(wc -l < "$scratch/named") tests are named"
missing=$(comm -23 "$scratch/named" "$scratch/there")
[ -z "$missing" ] || fail "no such tests: $missing"
